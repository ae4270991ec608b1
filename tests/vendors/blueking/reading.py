"""Reads a BlueKing source over any network: a recorded one, or a simulated site."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from exporter.model.alert import Alert, Severity
from exporter.model.reading import Window
from tests.vendors.reading import Reader as AnyReader

NOW = datetime(2024, 6, 10, 7, 20, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "blueking",
    "endpoint": "https://bk.test/site",
    "bk_biz_ids": [2],
    "auth": {"app_code": "app", "app_secret": "s3cret", "username": "reader"},
    "max_requests_per_second": 1000,
}


class Reader(AnyReader):
    """The source with settings that suffice, and others over them."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__("blueking", network, {**BASIC, **settings}, lambda: NOW)


def a_window(*open_alerts: str, end: datetime = NOW, first: bool = False, counted_from: datetime = NOW) -> Window:
    known = {key: Alert(key=key, severity=Severity.WARNING, started_at=None) for key in open_alerts}
    start = end - timedelta(hours=2)
    return Window(start=start, end=end, counted_from=counted_from, first=first, open_alerts=known)
