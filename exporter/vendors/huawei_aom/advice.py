"""Advice for AOM operators: remedies in the words of the console, and the requests a day costs."""

from collections.abc import Mapping
from datetime import timedelta
from math import ceil

from exporter.errors import Reason
from exporter.vendorkit.contract import DAY, Load
from exporter.vendors.huawei_aom.auth import USED_LIFE
from exporter.vendors.huawei_aom.client import PAGE_SIZE
from exporter.vendors.huawei_aom.config import HuaweiAomConfig, Password

REMEDIES = {
    Reason.AUTH: "compare the access key with My Credentials > Access Keys; after more than five bad signatures AOM "
    "locks it for five minutes, so wait before you try again",
    Reason.PERMISSION: 'grant the IAM user "AOM ReadOnlyAccess" in the project itself (IAM > Users > Authorize); '
    "authorization by enterprise project is not enough",
    Reason.NOT_FOUND: "check `endpoint` (https://aom.REGION.myhuaweicloud.com) and `project_id` (My Credentials > "
    "Projects): both belong to one region",
    Reason.CLOCK_SKEW: "synchronise the clock of this machine (NTP): AOM refuses signatures that are 15 minutes off",
}

# Notices are asked for at once and after 1, 2, 4, 8 and 15 minutes, when an alarm is new and when it has ended.
_ASKED_PER_ALARM = 12
_TOKEN_LIFE = timedelta(hours=24)


def requests_per_day(config: HuaweiAomConfig, load: Load) -> Mapping[str, float]:
    """Returns the requests a day by endpoint that these settings cost at this load."""
    polls = DAY / config.interval
    expected = {"list_events": polls * (max(1, ceil(load.open / PAGE_SIZE)) + 1 + config.events)}
    if config.notices:
        expected["list_notified_histories"] = load.new_per_day * _ASKED_PER_ALARM
    if isinstance(config.auth, Password):
        expected["create_token"] = DAY / (_TOKEN_LIFE * USED_LIFE)
    return expected
