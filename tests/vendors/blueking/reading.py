"""Reads a BlueKing source over any network: a recorded one, or a simulated site."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from exporter.errors import FetchError
from exporter.model.alert import Alert, Severity
from exporter.model.reading import Happened, Reading, Window
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors.blueking import VENDOR

NOW = datetime(2024, 6, 10, 7, 20, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "blueking",
    "endpoint": "https://bk.test/site",
    "bk_biz_ids": [2],
    "auth": {"app_code": "app", "app_secret": "s3cret", "username": "reader"},
    "max_requests_per_second": 1000,
}


class Reader:
    """A source on a network, and what its attempts were."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        self.attempts: list[Attempt] = []
        config = VENDOR.config.model_validate({**BASIC, **settings})
        clock = VendorClock(lambda: NOW, anyio.current_time)
        client = client_for(
            VENDOR, config, network=network, clock=clock, take_permit=_at_once, observe=self.attempts.append
        )
        self.http = Http(client, config.endpoint)
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

    def calls(self, endpoint: str) -> int:
        """How many attempts there were for an endpoint."""
        return sum(attempt.endpoint == endpoint for attempt in self.attempts)


async def _at_once() -> None:
    """No pacing."""


def a_window(*open_alerts: str, end: datetime = NOW, first: bool = False, counted_from: datetime = NOW) -> Window:
    known = {key: Alert(key=key, severity=Severity.WARNING, started_at=None) for key in open_alerts}
    start = end - timedelta(hours=2)
    return Window(start=start, end=end, counted_from=counted_from, first=first, open_alerts=known)


def records_of(readings: list[Reading], kind: type[Any]) -> list[Any]:
    happened = [record for reading in readings if isinstance(reading, Happened) for record in reading.records]
    return [record for record in happened if isinstance(record, kind)]
