"""Recorded answers in, expected readings out: every case is a file with the manual's own JSON or a variation of it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.model.alert import Alert
from exporter.model.reading import OpenAlerts
from exporter.model.records import Convergence, Notice
from exporter.vendorkit.http import ATTEMPTS
from tests.vendors.baidu_bls.reading import Reader, RecordedNetwork, a_window
from tests.vendors.reading import open_in, records_in, rejected_in, unfinished_in

pytestmark = pytest.mark.anyio

CASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (Path(__file__).parent / "cases").glob("*.json")
}
ERRORS = json.loads((Path(__file__).parent / "cases" / "errors" / "answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(CASES))
async def test_recorded_answers_give_the_expected_readings(name: str) -> None:
    case = CASES[name]
    reader = Reader(RecordedNetwork(case["lists"], case["details"]), **case.get("settings", {}))

    readings, error = await reader.read(a_window(*case.get("open_alerts", ())))

    expected = case["expected"]
    assert ([type(error).__name__, str(error.reason)] if error else None) == expected.get("error")
    opened = [alert for reading in readings if isinstance(reading, OpenAlerts) for alert in reading.alerts]
    assert opened == msgspec.convert(expected.get("open", []), list[Alert])
    assert records_in(readings, Alert) == msgspec.convert(expected.get("ended", []), list[Alert])
    assert records_in(readings, Notice) == msgspec.convert(expected.get("notices", []), list[Notice])
    assert records_in(readings, Convergence) == msgspec.convert(expected.get("convergences", []), list[Convergence])
    rejected = rejected_in(readings)
    assert (len(rejected) if isinstance(expected.get("rejected"), int) else rejected) == expected.get("rejected", [])
    unsure = sorted(key for reading in readings if isinstance(reading, OpenAlerts) for key in reading.unsure)
    assert unsure == expected.get("unsure", [])
    assert unfinished_in(readings) == ([tuple(expected["unfinished"])] if "unfinished" in expected else [])


@pytest.mark.parametrize("answer", ERRORS, ids=lambda answer: f"{answer['http']}-{json.dumps(answer['body'])[:40]}")
async def test_every_documented_error_has_its_reason_and_is_no_reading(answer: dict[str, Any]) -> None:
    reader = Reader(RecordedNetwork({"*": [answer["http"], answer["body"]]}, {}))

    readings, error = await reader.read(a_window("a-1"))

    assert readings == []
    assert [type(error).__name__, str(error.reason)] == answer["expected"] if error else False
    assert "secret" not in str(error)


@pytest.mark.parametrize("code", ["InternalError", "ServiceUnavailable"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_failure_of_the_vendors_server_is_asked_again(status: int, code: str) -> None:
    network = RecordedNetwork({"*": [status, {"success": False, "code": code}]}, {})

    _, error = await Reader(network).read(a_window())

    assert error is not None
    assert len(network.asked) == ATTEMPTS


@pytest.mark.parametrize(("total", "pages"), [("2", 2), (2.0, 2), ("two", 1), (-1, 1), ([2], 1)])
async def test_a_total_is_read_as_number_or_text_and_does_without_nonsense(total: Any, pages: int) -> None:
    lists = [[200, {"success": True, "result": {"alarms": [{"id": key}], "totalCount": total}}] for key in "ab"]
    network = RecordedNetwork({"ALERT": lists}, {"a": [404, None], "b": [404, None]})

    readings, error = await Reader(network).read(a_window())

    assert error is None
    assert sorted(alert.key for alert in open_in(readings).alerts) == sorted("ab"[:pages])


def test_there_are_cases() -> None:
    assert len(CASES) > 25
    assert len(ERRORS) > 20
