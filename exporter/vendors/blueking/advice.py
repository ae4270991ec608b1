"""Advice for BlueKing operators: remedies in the words of its consoles, and the requests a day costs."""

from collections.abc import Mapping
from math import ceil

from exporter.errors import Reason
from exporter.vendorkit.contract import DAY, Load
from exporter.vendors.blueking.client import PAGE_SIZE
from exporter.vendors.blueking.config import Api, BluekingConfig

REMEDIES = {
    Reason.AUTH: "compare app_code and app_secret with the application's page in the developer centre; by ESB the "
    "user must be named, and the application exempt from user authentication if only `username` is given",
    Reason.PERMISSION: "apply for the API under cloud API permissions on the application's page in the "
    "developer centre",
    Reason.NOT_FOUND: "check `endpoint` and `api`: ESB is found at https://PAAS-HOST, the gateway at the host of "
    "bkapi, and `gateway_stage` is prod or stage",
}

# Readings of a log: when the alert is new, after its notices, when it has ended, after those notices, and once more.
_LOGS_PER_ALERT = 5


def requests_per_day(config: BluekingConfig, load: Load) -> Mapping[str, float]:
    """Returns the requests a day by endpoint that these settings cost at this load."""
    polls = DAY / config.interval
    expected = {"search_alert": polls * (max(1, ceil(load.open / PAGE_SIZE)) + 1)}
    if config.notices:
        expected["search_action"] = polls * 2
    if config.operations and config.api is Api.ESB:
        again = DAY / config.detail_interval
        expected["get_event_log"] = load.open * again + load.new_per_day * _LOGS_PER_ALERT
    return expected
