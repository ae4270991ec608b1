"""Reads a Baidu BLS source over any network: a recorded one, or a simulated region."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from exporter.errors import FetchError
from exporter.model.alert import Alert, Severity
from exporter.model.reading import Happened, OpenAlerts, Reading, Unfinished, Window
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for
from exporter.vendors.baidu_bls import VENDOR

NOW = datetime(2025, 11, 1, 12, 0, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "baidu_bls",
    "endpoint": "https://bls-log.bj.baidubce.com",
    "auth": {"access_key": "ak", "secret_key": "sk"},
}


class Reader:
    """A source on a network."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        config = VENDOR.config.model_validate({**BASIC, **settings})
        clock = VendorClock(lambda: NOW, anyio.current_time)
        client = client_for(
            VENDOR, config, network=network, clock=clock, take_permit=_at_once, observe=lambda _attempt: None
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


async def _at_once() -> None:
    """No pacing."""


class RecordedNetwork(httpx.AsyncBaseTransport):
    """Answers lists by the state asked for and details by id, each with (status, JSON or text); notes what was asked.

    A list of answers is played by page number; one answer is given to every page.
    """

    def __init__(self, lists: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._lists = lists
        self._details = details

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/alarm/record/list":
            asked = json.loads(request.content)
            answer = self._lists.get(asked["state"], self._lists.get("*", _NOTHING))
            if isinstance(answer[0], list):
                answer = answer[asked["pageNo"] - 1]
        else:
            assert request.url.path == "/v1/alarm/record"
            assert not request.content
            asked = dict(request.url.params)
            answer = self._details[next(iter(asked.values()))]
        self.asked.append(asked)
        status, body = answer
        content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return httpx.Response(status, content=content)


_NOTHING = [200, {"success": True, "code": "OK", "message": "", "result": {"alarms": None, "totalCount": 0}}]


def a_window(*open_alerts: str, end: datetime = NOW, minutes: float = 24 * 60, **changes: Any) -> Window:
    known = {key: Alert(key=key, severity=Severity.INFO, started_at=None) for key in open_alerts}
    start = end - timedelta(minutes=minutes)
    given = {"start": start, "end": end, "counted_from": start, "first": False, "open_alerts": known}
    return Window(**{**given, **changes})


def open_in(readings: list[Reading]) -> OpenAlerts:
    return next(reading for reading in readings if isinstance(reading, OpenAlerts))


def told_in(readings: list[Reading], kind: type[Any]) -> list[Any]:
    happened = [record for reading in readings if isinstance(reading, Happened) for record in reading.records]
    return [record for record in happened if isinstance(record, kind)]


def rejected_in(readings: list[Reading]) -> list[str]:
    listed = [reading for reading in readings if isinstance(reading, OpenAlerts | Happened)]
    counted = [(why, reading.rejected.counts[kind]) for reading in listed for kind, why in reading.rejected.why.items()]
    return [why for why, count in counted for _ in range(count)]


def unfinished_in(readings: list[Reading]) -> list[tuple[int, int]]:
    return [(one.failed, one.waiting) for one in readings if isinstance(one, Unfinished)]
