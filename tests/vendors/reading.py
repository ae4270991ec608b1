"""A source of any vendor read over any network, a recorded or a simulated one, and what its readings say."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import anyio
import httpx

from exporter.errors import FetchError
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, OpenAlerts, Reading, Supplied, Window
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors import load_all

R = TypeVar("R")


class Reader:
    """A source on a network, and what its attempts were. `now` is our own clock."""

    def __init__(
        self, vendor: str, network: httpx.AsyncBaseTransport, settings: Mapping[str, Any], now: Callable[[], datetime]
    ) -> None:
        self.attempts: list[Attempt] = []
        made = load_all()[vendor]
        config = made.config.model_validate(settings)
        self.clock = VendorClock(now, anyio.current_time)
        self.client = client_for(
            made, config, network=network, clock=self.clock, take_permit=_at_once, observe=self.attempts.append
        )
        self.http = Http(self.client, config.endpoint)
        self.source: Source = made.source(config, self.http)

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


def of_type(readings: Iterable[Reading], kind: type[R]) -> list[R]:
    return [reading for reading in readings if isinstance(reading, kind)]


def open_in(readings: list[Reading]) -> OpenAlerts:
    return of_type(readings, OpenAlerts)[0]


def records_in(readings: list[Reading], kind: type[R]) -> list[R]:
    happened = [record for reading in of_type(readings, Happened) for record in reading.records]
    return [record for record in happened if isinstance(record, kind)]


def rejected_in(readings: list[Reading]) -> list[str]:
    """Why each item could not be read."""
    listed = [reading for reading in readings if isinstance(reading, OpenAlerts | Happened)]
    counted = [(why, reading.rejected.counts[kind]) for reading in listed for kind, why in reading.rejected.why.items()]
    return [why for why, count in counted for _ in range(count)]


def unfinished_in(readings: list[Reading]) -> list[tuple[int, int]]:
    """How many detail calls failed and how many alerts wait, of all endpoints together; nothing where all are read."""
    details = of_type(readings, Details)
    found = (sum(sum(each.failed.values()) for each in details), sum(each.waiting for each in details))
    return [found] if any(found) else []


def backlog_in(readings: list[Reading]) -> int:
    return sum(each.waiting for each in of_type(readings, Details))


def facts_in(readings: list[Reading]) -> frozenset[Fact]:
    """What the source says it can supply."""
    return of_type(readings, Supplied)[-1].facts if of_type(readings, Supplied) else frozenset()
