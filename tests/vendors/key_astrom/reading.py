"""Reads a Key-ASTROM source over any network: a recorded one, or a simulated environment."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from exporter.model.alert import Alert, Severity
from exporter.model.reading import Window
from tests.vendors.reading import Reader as AnyReader

NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "key_astrom",
    "endpoint": "https://astrom.test/e/env-1",
    "auth": {"api_token": "dt0c01.PUBLIC.SECRET"},
    "max_requests_per_second": 1000,
}


class Reader(AnyReader):
    """The source with settings that suffice, and others over them."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__("key_astrom", network, {**BASIC, **settings}, lambda: NOW)


def a_window(*open_alerts: str, end: datetime = NOW, first: bool = False) -> Window:
    known = {key: Alert(key=key, severity=Severity.MINOR, started_at=None) for key in open_alerts}
    start = end - timedelta(minutes=10)
    return Window(start=start, end=end, counted_from=start, first=first, open_alerts=known)
