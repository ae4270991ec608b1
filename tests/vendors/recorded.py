"""Networks that play the answers of a recorded case, one for each vendor, and note what was asked."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import httpx


class Recorded(httpx.AsyncBaseTransport, ABC):
    """Plays what `pick` picks for a request."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        self.case = case
        self.asked: list[Any] = []
        self._played: dict[str, int] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, body = self.pick(request)
        content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return httpx.Response(status, content=content)

    @abstractmethod
    def pick(self, request: httpx.Request) -> tuple[int, Any]:
        """The status and the JSON, or the text, of the answer."""

    def in_turn(self, name: str, answers: list[Any]) -> Any:
        """The answers under a name in order, the last one for ever."""
        number = self._played.get(name, 0)
        self._played[name] = number + 1
        return answers[min(number, len(answers) - 1)]


class BaiduBls(Recorded):
    """Lists by the state asked for, a list of answers by page number, counts by state and level, and details by id."""

    def pick(self, request: httpx.Request) -> tuple[int, Any]:
        if request.url.path == "/v1/alarm/record/list":
            asked = json.loads(request.content)
            name = f"{asked['state']} {asked.get('level', 'all')}" if asked["pageSize"] == 1 else asked["state"]
            answer = self.case["lists"].get(name, self.case["lists"].get("*", _NO_ALARMS))
            if isinstance(answer[0], list):
                answer = answer[asked["pageNo"] - 1]
        else:
            assert request.url.path == "/v1/alarm/record"
            assert not request.content
            asked = dict(request.url.params)
            answer = self.case["details"][next(iter(asked.values()))]
        self.asked.append(asked)
        return answer[0], answer[1]


_NO_ALARMS = [200, {"success": True, "code": "OK", "message": "", "result": {"alarms": None, "totalCount": 0}}]


class Blueking(Recorded):
    """The lists in order, the last answer for ever, and the flow logs by alert."""

    esb = "/site/api/c/compapi/v2/monitor_v3/"
    paths: Mapping[str, str] = {
        esb + "search_alert/": "search_alert",
        esb + "search_action/": "search_action",
        esb + "get_event_log/": "get_event_log",
        "/site/api/bk-monitor/stage/app/alert/search/": "search_alert",
        "/site/api/bk-monitor/stage/app/action/search/": "search_action",
    }

    def pick(self, request: httpx.Request) -> tuple[int, Any]:
        endpoint = self.paths[request.url.path]
        assert request.method == ("GET" if endpoint == "get_event_log" else "POST")
        answers = self.case["answers"][endpoint]
        if b"parent_action_id" in request.content:
            nothing = {"result": True, "code": 200, "data": {"total": 0, "actions": []}}
            answer = self.case["answers"].get("skipped_parents", nothing)
        elif endpoint == "get_event_log":
            answer = answers.get(request.url.params["id"], {"result": True, "code": 200, "data": []})
        else:
            answer = self.in_turn(endpoint, answers)
        if isinstance(answer, dict) and "status" in answer:
            return answer["status"], answer["json"]
        return 200, answer["text"] if isinstance(answer, dict) and "text" in answer else answer


class HuaweiAom(Recorded):
    """Each list, and the histories of each serial number, in order, the last answer for ever."""

    def pick(self, request: httpx.Request) -> tuple[int, Any]:
        parameters = dict(request.url.params)
        project = "/v2/0123456789abcdef0123456789abcdef"
        if request.url.path == f"{project}/alarm-notified-histories":
            name = parameters["event_sn"]
        else:
            counts = request.url.path == f"{project}/events/statistic"
            assert request.method == "POST"
            assert counts or request.url.path == f"{project}/events"
            body = json.loads(request.content)
            (relation,) = body["metadata_relation"]
            assert counts or body["sort"] == {"order_by": ["starts_at"], "order": "asc"}
            name = "counts" if counts else parameters.get("type", "event")
            self.asked.append([name, parameters, body["time_range"], *relation["value"]])
        answer = self.in_turn(name, self.case["answers"].get(name) or [_NO_EVENTS])
        return answer["status"], answer["json"] if "json" in answer else answer["text"]


_NO_EVENTS = {"status": 200, "json": {"events": [], "page_info": {"next_marker": ""}}}


class KeyAstrom(Recorded):
    """Each endpoint's answers in order, the last one for ever."""

    endpoints: Mapping[str, str] = {"eventTypes": "event_types", "events": "events", "problems": "problems"}

    def pick(self, request: httpx.Request) -> tuple[int, Any]:
        assert request.url.path.startswith("/e/env-1/api/v2/")
        endpoint = self.endpoints[request.url.path.rpartition("/")[2]]
        self.asked.append([endpoint, dict(request.url.params)])
        answer = self.in_turn(endpoint, self.case["answers"][endpoint])
        return answer["status"], answer["json"] if "json" in answer else answer["text"]


NETWORKS: Mapping[str, type[Recorded]] = {
    "baidu_bls": BaiduBls,
    "blueking": Blueking,
    "huawei_aom": HuaweiAom,
    "key_astrom": KeyAstrom,
}
