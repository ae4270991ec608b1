"""Recorded answers in, expected readings out: every case is a file with the manual's own JSON."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from exporter.model.alert import Alert
from exporter.model.reading import Happened, OpenAlerts
from exporter.model.records import Convergence, Event
from tests.vendors.key_astrom.reading import Reader, a_window
from tests.vendors.reading import facts_in, records_in, unfinished_in

pytestmark = pytest.mark.anyio

CASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "cases").glob("*.json"))
}
ENDPOINTS = {"eventTypes": "event_types", "events": "events", "problems": "problems"}


class RecordedNetwork(httpx.AsyncBaseTransport):
    """Plays each endpoint's answers in order, the last one for ever; notes what was asked."""

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.asked: list[list[Any]] = []
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path.startswith("/e/env-1/api/v2/")
        endpoint = ENDPOINTS[request.url.path.rpartition("/")[2]]
        before = sum(1 for asked, _ in self.asked if asked == endpoint)
        self.asked.append([endpoint, dict(request.url.params)])
        answers = self._answers[endpoint]
        answer = answers[min(before, len(answers) - 1)]
        body = json.dumps(answer["json"]) if "json" in answer else answer["text"]
        return httpx.Response(answer["status"], content=body.encode())


@pytest.mark.parametrize("name", CASES)
async def test_recorded_answers_give_the_expected_readings(name: str) -> None:
    case = CASES[name]
    network = RecordedNetwork(case["answers"])
    reader = Reader(network, **case.get("settings", {}))

    readings, error = await reader.read(a_window(*case.get("open_alerts", ())))

    expected = case["expected"]
    alerts = records_in(readings, Alert)
    opened = [alert for reading in readings if isinstance(reading, OpenAlerts) for alert in reading.alerts]
    assert ([type(error).__name__, str(error.reason)] if error else None) == expected.get("error")
    assert opened == msgspec.convert(expected.get("open", []), list[Alert])
    assert alerts == msgspec.convert(expected.get("ended", []), list[Alert])
    assert records_in(readings, Event) == msgspec.convert(expected.get("events", []), list[Event])
    assert records_in(readings, Convergence) == msgspec.convert(expected.get("convergences", []), list[Convergence])
    listed = [reading for reading in readings if isinstance(reading, OpenAlerts | Happened)]
    assert sum(len(reading.rejected) for reading in listed) == expected.get("rejected", 0)
    unsure = [key for reading in readings if isinstance(reading, OpenAlerts) for key in reading.unsure]
    assert unsure == expected.get("unsure", [])
    unfinished = [list(found) for found in unfinished_in(readings)]
    assert unfinished == ([expected["unfinished"]] if "unfinished" in expected else [])
    assert not facts_in(readings) & set(expected.get("without", ()))
    if "requests" in expected:
        assert network.asked == expected["requests"]


def test_there_are_cases() -> None:
    assert len(CASES) > 30
