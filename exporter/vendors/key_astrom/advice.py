"""Advice for Key-ASTROM operators: remedies in the words of the console, and the requests a day costs."""

from collections.abc import Mapping
from math import ceil

from exporter.errors import Reason
from exporter.vendorkit.contract import DAY, Load
from exporter.vendors.key_astrom.config import KeyAstromConfig

REMEDIES = {
    Reason.AUTH: "create an API token under Access tokens and copy it whole, with its prefix",
    Reason.PERMISSION: "give the API token the scope events.read (Read events), and with `problems: true` "
    "problems.read",
    Reason.NOT_FOUND: "check `endpoint`: https://HOST/e/ENVIRONMENT-ID with a cluster, https://HOST without one",
    Reason.TLS: "a cluster often has a certificate of its own authority: name that in `tls.ca_file`",
}

_EVENTS_PER_PAGE = 1000
_PROBLEMS_PER_PAGE = 500


def requests_per_day(config: KeyAstromConfig, load: Load) -> Mapping[str, float]:
    """Returns the requests a day by endpoint that these settings cost at this load."""
    polls = DAY / config.interval
    expected = {"events": polls * (max(1, ceil(load.open / _EVENTS_PER_PAGE)) + 1), "event_types": 24.0}
    if config.problems:
        expected["problems"] = polls * max(1, ceil(load.open / _PROBLEMS_PER_PAGE))
    return expected
