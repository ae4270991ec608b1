"""Reads a Key-ASTROM source over any network: a recorded one, or a simulated environment."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from exporter.errors import FetchError
from exporter.model.alert import Alert, Severity
from exporter.model.reading import OpenAlerts, Reading, Window
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors.key_astrom import VENDOR

NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "key_astrom",
    "endpoint": "https://astrom.test/e/env-1",
    "auth": {"api_token": "dt0c01.PUBLIC.SECRET"},
    "max_requests_per_second": 1000,
}


class Reader:
    """A source on a network, and what its attempts were."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        self.attempts: list[Attempt] = []
        config = VENDOR.config.model_validate({**BASIC, **settings})
        clock = VendorClock(lambda: NOW, anyio.current_time)
        self._client = client_for(
            VENDOR, config, network=network, clock=clock, take_permit=_at_once, observe=self.attempts.append
        )
        self.http = Http(self._client, config.endpoint)
        self.source: Source = VENDOR.source(config, self.http)

    async def read(self, window: Window) -> tuple[list[Reading], FetchError | None]:
        """What was read of the window, and what ended it early."""
        readings: list[Reading] = []
        try:
            async for reading in self.source.read(window):
                readings.append(reading)  # noqa: PERF401 what came before an error has to stay
        except FetchError as error:
            return readings, error
        return readings, None


async def _at_once() -> None:
    """No pacing."""


def a_window(*open_alerts: str, end: datetime = NOW, first: bool = False) -> Window:
    known = {key: Alert(key=key, severity=Severity.MINOR, started_at=None) for key in open_alerts}
    start = end - timedelta(minutes=10)
    return Window(start=start, end=end, counted_from=start, first=first, open_alerts=known)


def open_in(readings: list[Reading]) -> OpenAlerts:
    return next(reading for reading in readings if isinstance(reading, OpenAlerts))
