"""Errors as ESB, the gateway and the monitor word them; what is sent."""

import json
from typing import Any

import anyio
import httpx
import pytest

from exporter.errors import FetchError, SourceThrottled
from tests.vendors.blueking.reading import NOW, Reader, a_window

pytestmark = pytest.mark.anyio

HTML = "<html>\r\n<head><title>502 Bad Gateway</title></head><body></body></html>"
AUTH = "User authentication failed, please provide a valid user identity, such as bk_token, bk_username"
ERRORS: list[tuple[int, Any, dict[str, str], str, int]] = [
    # ESB, and the monitor behind it: HTTP 200.
    (200, {"result": False, "code": 1306000, "data": None, "message": AUTH}, {}, "auth", 1),
    (200, {"result": False, "code": "1306000", "message": "APP Code [bk_app_code] cannot be empty"}, {}, "auth", 1),
    (200, {"result": False, "code": 1306000, "message": "System error"}, {}, "api_error", 1),
    (200, {"result": False, "code": 1306401, "message": "You must specify the current operator"}, {}, "auth", 1),
    (200, {"result": False, "code": 1306402, "message": "User permission is insufficient"}, {}, "permission", 1),
    (200, {"result": False, "code": 1306403, "message": "APP permission is insufficient"}, {}, "permission", 1),
    (200, {"result": False, "code": 1306404, "message": "Not found, component class not found"}, {}, "not_found", 1),
    (200, {"result": False, "code": 1306405, "message": "Not found, inactive channel"}, {}, "api_error", 1),
    (200, {"result": False, "code": 1306406, "message": "Parameters error"}, {}, "api_error", 1),
    (200, {"result": False, "code": 1306406, "message": "X-Bkapi-Authorization is wrong"}, {}, "auth", 1),
    (200, {"result": False, "code": 1306429, "message": "Access frequency limit"}, {}, "rate_limited", 5),
    (200, {"result": False, "code": 1306201, "data": None, "message": "not the JSON format"}, {}, "server_error", 5),
    (200, {"result": False, "code": 1306203, "message": "SSL error"}, {}, "server_error", 1),
    (200, {"result": False, "code": 500, "name": None, "message": "系统错误", "data": {}}, {}, "api_error", 1),
    (200, {"result": False, "code": 500, "message": "Result window is too large", "data": {}}, {}, "truncated", 1),
    (200, {"result": False, "code": 500, "message": "…", "data": {"alerts": [], "total": 0}}, {}, "api_error", 1),
    (200, {"result": False, "code": 3300002, "message": "请求参数格式错误", "data": {}}, {}, "api_error", 1),
    (200, {"result": False, "code": 3324003, "message": "syntax", "data": {}}, {}, "api_error", 1),
    (200, {"result": False, "code": 9900403, "message": "no permission", "data": {}}, {}, "permission", 1),
    (200, {"result": False, "code": None, "message": None, "data": None}, {}, "api_error", 1),
    (200, {"result": False, "data": None, "message": "…"}, {}, "api_error", 1),
    (200, {"result": False, "code": [1], "message": {"a": 1}, "data": []}, {}, "api_error", 1),
    (200, {"detail": "Not found."}, {}, "bad_response", 1),
    (200, {"result": None, "code": 200, "data": {"alerts": [], "total": 0}}, {}, "bad_response", 1),
    (200, {"result": True, "code": 200, "data": {}}, {}, "bad_response", 1),
    (200, {"result": True, "code": 200, "data": None}, {}, "bad_response", 1),
    (200, {"result": True, "code": 200, "data": {"alerts": None, "total": 0}}, {}, "bad_response", 1),
    (200, [1, 2], {}, "bad_response", 1),
    (200, HTML, {"Content-Type": "text/html"}, "bad_response", 1),
    (200, "", {}, "bad_response", 1),
    (404, {"result": False, "data": None, "message": "The content does not exist"}, {}, "not_found", 1),
    (500, {"result": False, "data": None, "message": "System error"}, {}, "server_error", 1),
    # The gateway: HTTP statuses, which an old plugin turns into 200.
    (400, {"code": 1640001, "code_name": "INVALID_ARGS", "message": "…", "result": False}, {}, "auth", 1),
    (400, {"code": 1640099, "message": "…", "result": False}, {}, "api_error", 1),
    (401, {"code": 1640101, "message": "…", "result": False}, {}, "auth", 1),
    (403, {"code": 1640301, "message": "…", "result": False}, {}, "permission", 1),
    (404, {"code": 1640401, "message": "…", "result": False}, {}, "not_found", 1),
    (413, {"code": 1641301, "message": "…", "result": False}, {}, "api_error", 1),
    (
        429,
        {"code": 1642902, "code_name": "RATE_LIMIT_RESTRICTION", "data": None, "result": False},
        {},
        "rate_limited",
        5,
    ),
    (
        200,
        {"code": 1642902, "code_name": "RATE_LIMIT_RESTRICTION", "data": None, "result": False},
        {},
        "rate_limited",
        5,
    ),
    (200, {"code": 1640102, "message": "…"}, {}, "auth", 1),
    (200, {"result": True, "data": {"alerts": [], "total": 0}}, {"X-Bkapi-Error-Code": "1640101"}, "auth", 1),
    (200, HTML, {"X-Bkapi-Error-Code": "1650401"}, "server_error", 5),
    (200, HTML, {"X-Bkapi-Error-Code": "odd"}, "api_error", 1),
    (500, {"code": 1650000, "message": "…"}, {}, "server_error", 1),
    (502, {"code": 1650200, "message": "…"}, {"X-Bkapi-Error-Code": "1650200"}, "server_error", 5),
    (503, HTML, {"Content-Type": "text/html"}, "server_error", 5),
    (508, {"code": 1650801, "message": "…"}, {}, "server_error", 1),
    (403, "tenant missing", {}, "permission", 1),
]


def answered(status: int, body: Any, headers: dict[str, str]) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(status, headers=headers, content=content)


async def error_of(status: int, body: Any, headers: dict[str, str]) -> tuple[FetchError, int]:
    """What such an answer is to us, and how often it was asked for."""
    reader = Reader(httpx.MockTransport(lambda _request: answered(status, body, headers)))
    readings, error = await reader.read(a_window())
    assert not readings
    assert error is not None
    return error, len(reader.attempts)


@pytest.mark.parametrize(("status", "body", "headers", "reason", "attempts"), ERRORS)
async def test_an_error_has_the_documented_meaning_and_is_repeated_where_that_can_help(
    status: int, body: Any, headers: dict[str, str], reason: str, attempts: int
) -> None:
    error, asked = await error_of(status, body, headers)

    assert (str(error.reason), asked) == (reason, attempts)


async def test_an_error_names_the_code_and_never_the_vendors_text() -> None:
    body = {"result": False, "code": 1306403, "message": "canary-person was not granted canary-secret"}

    error, _ = await error_of(200, body, {})

    assert "1306403" in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize("status", [200, 429])
async def test_the_gateway_says_by_a_header_of_its_own_when_its_limit_ends(status: int) -> None:
    headers = {"X-Bkapi-Error-Code": "1642902", "X-Bkapi-RateLimit-Reset": "70"}
    answer = answered(status, {"code": 1642902, "result": False}, headers)
    reader = Reader(httpx.MockTransport(lambda _request: answer))

    reader.http.begin(anyio.current_time() + 60)
    _, error = await reader.read(a_window())

    assert isinstance(error, SourceThrottled)
    assert (error.retry_after, len(reader.attempts)) == (70, 1)


async def test_lists_are_asked_for_with_businesses_a_window_that_reaches_now_and_nothing_costly() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path.split("/")[-2], json.loads(request.content)))
        empty = {"alerts": [], "actions": [], "total": 0}
        return httpx.Response(200, json={"result": True, "code": 200, "data": empty})

    _, error = await Reader(httpx.MockTransport(answer), bk_biz_ids=[-1]).read(a_window())

    assert error is None
    now = int(NOW.timestamp())
    common = {
        "bk_biz_ids": [-1],
        "start_time": now - 7200,
        "end_time": now + 1,
        "page": 1,
        "page_size": 500,
        "show_overview": False,
        "show_aggs": False,
    }
    every = ["running", "success", "partial_success", "failure", "partial_failure", "skipped", "shield", "blocked"]
    parents = [
        {"key": "action_plugin_type", "value": ["notice"], "method": "eq"},
        {"key": "parent_action_id", "value": [0], "method": "eq"},
    ]
    assert asked == [
        ("search_alert", {**common, "status": ["ABNORMAL"], "conditions": []}),
        ("search_alert", {**common, "status": ["RECOVERED", "CLOSED"], "conditions": []}),
        ("search_action", {**common, "status": every, "conditions": []}),
        ("search_action", {**common, "status": ["skipped"], "conditions": parents}),
    ]
