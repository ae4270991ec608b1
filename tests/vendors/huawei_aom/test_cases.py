"""Recorded answers in, expected readings out: every case is a file with the manual's own JSON."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from exporter.model.alert import Alert
from exporter.model.reading import Happened, OpenAlerts
from exporter.model.records import Event, Notice
from tests.vendors.huawei_aom.reading import PROJECT_ID, Reader, a_window
from tests.vendors.reading import facts_in, open_in, records_in, unfinished_in

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent / "cases"
CASES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
ERRORS = CASES.pop("errors")
NOTHING = {"status": 200, "json": {"events": [], "page_info": {"next_marker": ""}}}


class RecordedNetwork(httpx.AsyncBaseTransport):
    """Plays the answers of each list, or for each serial number, in order, the last one for ever."""

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.lists: list[list[Any]] = []
        self._answers = {name: iter(played) for name, played in answers.items()}
        self._last: dict[str, dict[str, Any]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        parameters = dict(request.url.params)
        if request.url.path == f"/v2/{PROJECT_ID}/alarm-notified-histories":
            name = parameters["event_sn"]
        else:
            assert (request.method, request.url.path) == ("POST", f"/v2/{PROJECT_ID}/events")
            body = json.loads(request.content)
            (relation,) = body["metadata_relation"]
            assert body["sort"] == {"order_by": ["starts_at"], "order": "asc"}
            name = parameters.get("type", "event")
            self.lists.append([name, parameters, body["time_range"], *relation["value"]])
        answer = self._last[name] = next(self._answers.get(name, iter(())), self._last.get(name, NOTHING))
        body = json.dumps(answer["json"]) if "json" in answer else answer["text"]
        return httpx.Response(answer["status"], content=body.encode())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_recorded_answers_give_the_expected_readings(case: dict[str, Any]) -> None:
    network = RecordedNetwork(case["answers"])
    reader = Reader(network, **case.get("settings", {}))

    readings, error = await reader.read(a_window(*case.get("open_alerts", ())))

    expected = case["expected"]
    assert ([type(error).__name__, str(error.reason)] if error else None) == expected.get("error")
    if "open" in expected:
        assert list(open_in(readings).alerts) == msgspec.convert(expected["open"], list[Alert])
        assert list(open_in(readings).unsure) == expected.get("unsure", [])
    else:
        assert readings == []
    assert records_in(readings, Alert) == msgspec.convert(expected.get("ended", []), list[Alert])
    assert records_in(readings, Event) == msgspec.convert(expected.get("events", []), list[Event])
    assert records_in(readings, Notice) == msgspec.convert(expected.get("notices", []), list[Notice])
    listed = [reading for reading in readings if isinstance(reading, OpenAlerts | Happened)]
    assert sum(len(reading.rejected) for reading in listed) == expected.get("rejected", 0)
    unfinished = [list(found) for found in unfinished_in(readings)]
    assert unfinished == ([expected["unfinished"]] if "unfinished" in expected else [])
    assert not facts_in(readings) & set(expected.get("without", ()))
    if "requests" in expected:
        assert network.lists == expected["requests"]


@pytest.mark.parametrize("recorded", ERRORS, ids=lambda recorded: f"{recorded['status']}-{recorded['code']}")
async def test_an_error_is_judged_by_its_status_and_told_by_its_code_alone(recorded: dict[str, Any]) -> None:
    body = recorded["body"]
    answer = {"status": recorded["status"], **({"text": body} if isinstance(body, str) else {"json": body})}
    reader = Reader(RecordedNetwork({"active_alert": [answer]}))

    readings, error = await reader.read(a_window())

    assert readings == []
    assert error is not None
    assert error.reason == recorded["reason"]
    assert str(error).startswith(f"HTTP {recorded['status']}")
    assert f"({recorded['code']})" in str(error) or not recorded["code"]
    assert len(reader.codes()) == recorded["requests"]


def test_there_are_cases() -> None:
    assert len(CASES) > 30
    assert len(ERRORS) > 10
