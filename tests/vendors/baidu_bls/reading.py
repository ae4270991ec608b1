"""Reads a Baidu BLS source over any network: a recorded one, or a simulated region."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from exporter.model.alert import Alert, Severity
from exporter.model.reading import Window
from tests.vendors.reading import Reader as AnyReader

NOW = datetime(2025, 11, 1, 12, 0, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "baidu_bls",
    "endpoint": "https://bls-log.bj.baidubce.com",
    "auth": {"access_key": "ak", "secret_key": "sk"},
}


class Reader(AnyReader):
    """The source with settings that suffice, and others over them."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__("baidu_bls", network, {**BASIC, **settings}, lambda: NOW)


def a_window(*open_alerts: str, end: datetime = NOW, minutes: float = 24 * 60, **changes: Any) -> Window:
    known = {key: Alert(key=key, severity=Severity.INFO, started_at=None) for key in open_alerts}
    start = end - timedelta(minutes=minutes)
    given = {"start": start, "end": end, "counted_from": start, "first": False, "open_alerts": known}
    return Window(**{**given, **changes})
