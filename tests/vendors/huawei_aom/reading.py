"""Reads an AOM source over any network: a recorded one, or the simulated project."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from exporter.errors import FetchError
from exporter.model.alert import Alert, Severity
from exporter.model.reading import Happened, OpenAlerts, Reading, Window
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors.huawei_aom import VENDOR

NOW = datetime(2026, 1, 2, 3, 10, tzinfo=UTC)
PROJECT_ID = "0123456789abcdef0123456789abcdef"
BASIC: Mapping[str, Any] = {
    "vendor": "huawei_aom",
    "endpoint": "https://aom.cn-north-4.myhuaweicloud.com",
    "project_id": PROJECT_ID,
    "auth": {"access_key": "EXAMPLEAK0123456789A", "secret_key": "ExampleSecretKey0123456789abcdefABCDEF00"},
}


class Reader:
    """A source on a network, and what its attempts were. `now` is our own clock."""

    def __init__(self, network: httpx.AsyncBaseTransport, now: Any = lambda: NOW, **settings: Any) -> None:
        self.attempts: list[Attempt] = []
        config = VENDOR.config.model_validate({**BASIC, **settings})
        self.clock = VendorClock(now, anyio.current_time)
        self.client = client_for(
            VENDOR, config, network=network, clock=self.clock, take_permit=_at_once, observe=self.attempts.append
        )
        self.source: Source = VENDOR.source(config, Http(self.client, config.endpoint))

    async def read(self, window: Window) -> tuple[list[Reading], FetchError | None]:
        """What was read of the window, and what ended it early."""
        readings: list[Reading] = []
        try:
            async for reading in self.source.read(window):
                readings.append(reading)  # noqa: PERF401 what came before an error has to stay
        except FetchError as error:
            return readings, error
        return readings, None

    def calls(self) -> list[str]:
        """The endpoint and code of each attempt since this was last asked."""
        calls = [f"{attempt.endpoint} {attempt.code}" for attempt in self.attempts]
        self.attempts.clear()
        return calls


async def _at_once() -> None:
    """No pacing."""


def a_window(*open_alerts: str, end: datetime = NOW, **changes: Any) -> Window:
    began = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)
    known = {key: Alert(key=key, severity=Severity.MINOR, started_at=began) for key in open_alerts}
    start = end - timedelta(minutes=10)
    return Window(
        **{"start": start, "end": end, "counted_from": start, "first": False, "open_alerts": known, **changes}
    )


def open_in(readings: list[Reading]) -> OpenAlerts:
    return next(reading for reading in readings if isinstance(reading, OpenAlerts))


def records_in(readings: list[Reading], kind: type[Any]) -> list[Any]:
    happened = [record for reading in readings if isinstance(reading, Happened) for record in reading.records]
    return [record for record in happened if isinstance(record, kind)]
