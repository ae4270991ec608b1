"""Recorded answers in, expected readings out: every case is a file with the vendor's own JSON."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from exporter.model.alert import Alert
from exporter.model.reading import Happened, OpenAlerts
from exporter.model.records import Notice, Operation
from tests.vendors.blueking.reading import Reader, a_window
from tests.vendors.reading import facts_in, records_in, unfinished_in

pytestmark = pytest.mark.anyio

CASES = [
    pytest.param(json.loads(path.read_text(encoding="utf-8")), id=path.stem)
    for path in sorted((Path(__file__).parent / "cases").glob("*.json"))
]
ESB = "/site/api/c/compapi/v2/monitor_v3/"
PATHS = {
    ESB + "search_alert/": "search_alert",
    ESB + "search_action/": "search_action",
    ESB + "get_event_log/": "get_event_log",
    "/site/api/bk-monitor/stage/app/alert/search/": "search_alert",
    "/site/api/bk-monitor/stage/app/action/search/": "search_action",
}


class RecordedNetwork(httpx.AsyncBaseTransport):
    """Plays the answers of the lists in order, the last one for ever, and the flow logs by alert."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        endpoint = PATHS[request.url.path]
        assert request.method == ("GET" if endpoint == "get_event_log" else "POST")
        answers = self._answers[endpoint]
        if b"parent_action_id" in request.content:
            nothing = {"result": True, "code": 200, "data": {"total": 0, "actions": []}}
            answers = [self._answers.get("skipped_parents", nothing)]
        if endpoint == "get_event_log":
            answer = answers.get(request.url.params["id"], {"result": True, "code": 200, "data": []})
        else:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, dict) and "status" in answer:
            return httpx.Response(answer["status"], json=answer["json"])
        if isinstance(answer, dict) and "text" in answer:
            return httpx.Response(200, content=answer["text"])
        return httpx.Response(200, json=answer)


@pytest.mark.parametrize("case", CASES)
async def test_recorded_answers_give_the_expected_readings(case: dict[str, Any]) -> None:
    reader = Reader(RecordedNetwork(case["answers"]), **case.get("settings", {}))

    readings, error = await reader.read(a_window(*case.get("open_alerts", ())))

    expected = case["expected"]
    opened = [alert for reading in readings if isinstance(reading, OpenAlerts) for alert in reading.alerts]
    assert ([type(error).__name__, str(error.reason)] if error else None) == expected.get("error")
    assert opened == msgspec.convert(expected.get("open", []), list[Alert])
    assert records_in(readings, Alert) == msgspec.convert(expected.get("ended", []), list[Alert])
    assert _without_digests(records_in(readings, Notice)) == msgspec.convert(expected.get("notices", []), list[Notice])
    operations = [{"key": "", **operation} for operation in expected.get("operations", [])]
    assert _without_digests(records_in(readings, Operation)) == msgspec.convert(operations, list[Operation])
    listed = [reading for reading in readings if isinstance(reading, OpenAlerts | Happened)]
    assert sum(len(reading.rejected) for reading in listed) == expected.get("rejected", 0)
    unsure = [key for reading in readings if isinstance(reading, OpenAlerts) for key in reading.unsure]
    assert unsure == expected.get("unsure", [])
    unfinished = [list(found) for found in unfinished_in(readings)]
    assert unfinished == ([expected["unfinished"]] if "unfinished" in expected else [])
    assert not facts_in(readings) & set(expected.get("without", ()))


def _without_digests(records: list[Any]) -> list[Any]:
    """Flow rows have no id of their own: their key is a digest, which other tests look at."""
    assert len({record.key for record in records}) == len(records)
    return [
        record if record.key.startswith("action:") else msgspec.structs.replace(record, key="") for record in records
    ]


def test_there_are_cases() -> None:
    assert len(CASES) >= 25
