"""Reads a Baidu BLS source over any network: a recorded one, or a simulated region."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from exporter.model.alert import Alert, Severity
from exporter.model.reading import Window
from tests.vendors.reading import Reader as AnyReader

NOW = datetime(2025, 11, 1, 12, 0, tzinfo=UTC)
BASIC: Mapping[str, Any] = {
    "vendor": "baidu_bls",
    "endpoint": "https://bls-log.bj.baidubce.com",
    "auth": {"access_key": "ak", "secret_key": "sk"},
}


class Reader(AnyReader):
    """The source with settings that suffice, and others over them."""

    def __init__(self, network: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__("baidu_bls", network, {**BASIC, **settings}, lambda: NOW)


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
