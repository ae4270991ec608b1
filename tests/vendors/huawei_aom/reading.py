"""Reads an AOM source over any network: a recorded one, or the simulated project."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from exporter.model.alert import Alert, Severity
from exporter.model.reading import Window
from tests.vendors.reading import Reader as AnyReader

NOW = datetime(2026, 1, 2, 3, 10, tzinfo=UTC)
PROJECT_ID = "0123456789abcdef0123456789abcdef"
BASIC: Mapping[str, Any] = {
    "vendor": "huawei_aom",
    "endpoint": "https://aom.cn-north-4.myhuaweicloud.com",
    "project_id": PROJECT_ID,
    "auth": {"access_key": "EXAMPLEAK0123456789A", "secret_key": "ExampleSecretKey0123456789abcdefABCDEF00"},
}


class Reader(AnyReader):
    """The source with settings that suffice, and others over them."""

    def __init__(self, network: httpx.AsyncBaseTransport, now: Any = lambda: NOW, **settings: Any) -> None:
        super().__init__("huawei_aom", network, {**BASIC, **settings}, now)

    def codes(self) -> list[str]:
        """The endpoint and code of each attempt since this was last asked."""
        calls = [f"{attempt.endpoint} {attempt.code}" for attempt in self.attempts]
        self.attempts.clear()
        return calls


def a_window(*open_alerts: str, end: datetime = NOW, **changes: Any) -> Window:
    began = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)
    known = {key: Alert(key=key, severity=Severity.MINOR, started_at=began) for key in open_alerts}
    start = end - timedelta(minutes=10)
    return Window(
        **{"start": start, "end": end, "counted_from": start, "first": False, "open_alerts": known, **changes}
    )
