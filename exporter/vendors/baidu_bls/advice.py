"""Advice for BLS operators: remedies in the words of the console, and the requests a day costs."""

from collections.abc import Mapping
from math import ceil

from exporter.errors import Reason
from exporter.vendorkit.contract import DAY, Load
from exporter.vendors.baidu_bls.client import PAGE_SIZE
from exporter.vendors.baidu_bls.config import BaiduBlsConfig

REMEDIES = {
    Reason.AUTH: "compare the access key with Security Authentication > Access Key in the console; temporary keys need "
    "`session_token` too",
    Reason.PERMISSION: "grant the IAM user the permission to read BLS (Multi-user access control > Policies)",
    Reason.NOT_FOUND: "check `endpoint`: https://bls-log.REGION.baidubce.com, and not bls.REGION",
    Reason.CLOCK_SKEW: "synchronise the clock of this machine (NTP): a signature is good for 30 minutes",
}

# A detail is read when an alarm is new, and three times around its end.
_DETAILS_PER_ALARM = 4
_STATES = 3


def requests_per_day(config: BaiduBlsConfig, load: Load) -> Mapping[str, float]:
    """Returns the requests a day by endpoint that these settings cost at this load."""
    polls = DAY / config.interval
    return {
        "list_alarm_record": polls * (max(1, ceil(load.open / PAGE_SIZE)) + _STATES - 1),
        "describe_alarm_record": load.open * DAY / config.detail_interval + load.new_per_day * _DETAILS_PER_ALARM,
    }
