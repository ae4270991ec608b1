"""Errors as the Log Service and the platform's authentication write them, and odd answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.vendorkit.http import ATTEMPTS
from tests.vendors.baidu_bls.reading import Reader, a_window
from tests.vendors.reading import open_in
from tests.vendors.recorded import BaiduBls

pytestmark = pytest.mark.anyio

ERRORS = json.loads((Path(__file__).parent / "errors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("answer", ERRORS, ids=lambda answer: f"{answer['http']}-{json.dumps(answer['body'])[:40]}")
async def test_every_documented_error_has_its_reason_and_is_no_reading(answer: dict[str, Any]) -> None:
    reader = Reader(BaiduBls({"lists": {"*": [answer["http"], answer["body"]]}, "details": {}}))

    readings, error = await reader.read(a_window("a-1"))

    assert readings == []
    assert [type(error).__name__, str(error.reason)] == answer["expected"] if error else False
    assert "secret" not in str(error)


@pytest.mark.parametrize("code", ["InternalError", "ServiceUnavailable"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_failure_of_the_vendors_server_is_asked_again(status: int, code: str) -> None:
    network = BaiduBls({"lists": {"*": [status, {"success": False, "code": code}]}, "details": {}})

    _, error = await Reader(network).read(a_window())

    assert error is not None
    assert len(network.asked) == ATTEMPTS


@pytest.mark.parametrize(("total", "pages"), [("2", 2), (2.0, 2), ("two", 1), (-1, 1), ([2], 1)])
async def test_a_total_is_read_as_number_or_text_and_does_without_nonsense(total: Any, pages: int) -> None:
    lists = [[200, {"success": True, "result": {"alarms": [{"id": key}], "totalCount": total}}] for key in "ab"]
    network = BaiduBls({"lists": {"ALERT": lists}, "details": {"a": [404, None], "b": [404, None]}})

    readings, error = await Reader(network).read(a_window())

    assert error is None
    assert sorted(alert.key for alert in open_in(readings).alerts) == sorted("ab"[:pages])


def test_there_are_errors() -> None:
    assert len(ERRORS) > 20
