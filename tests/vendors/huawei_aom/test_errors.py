"""Errors as AOM, its gateway and IAM write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vendors.huawei_aom.reading import Reader, a_window
from tests.vendors.recorded import HuaweiAom

pytestmark = pytest.mark.anyio

ERRORS = json.loads((Path(__file__).parent / "errors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("recorded", ERRORS, ids=lambda recorded: f"{recorded['status']}-{recorded['code']}")
async def test_an_error_is_judged_by_its_status_and_told_by_its_code_alone(recorded: dict[str, Any]) -> None:
    body = recorded["body"]
    answer = {"status": recorded["status"], **({"text": body} if isinstance(body, str) else {"json": body})}
    reader = Reader(HuaweiAom({"answers": {"active_alert": [answer]}}))

    readings, error = await reader.read(a_window())

    assert readings == []
    assert error is not None
    assert error.reason == recorded["reason"]
    assert str(error).startswith(f"HTTP {recorded['status']}")
    assert f"({recorded['code']})" in str(error) or not recorded["code"]
    assert len(reader.codes()) == recorded["requests"]


def test_there_are_errors() -> None:
    assert len(ERRORS) > 10
