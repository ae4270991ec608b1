"""Answers as BlueKing Monitor would, by ESB and by API gateway, from the simulated world."""

import json
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason, Suppression
from exporter.simulation.truth import Since, Truth, truth_of
from exporter.simulation.wire import Quirk, Request, Response, json_response
from exporter.simulation.world import Entry, Form, Incident, Tell, Traits, World

TRAITS = Traits(
    severities=(Severity.CRITICAL, Severity.WARNING, Severity.INFO),
    endings=(CloseReason.RECOVERED, CloseReason.CLOSED),
    resolution=timedelta(seconds=1),
    channels=(Channel.EMAIL, Channel.SMS, Channel.PHONE, Channel.IM),
    failures=(
        (FailureReason.TIMEOUT, "sms gateway timeout"),
        (FailureReason.NO_RECEIVER, "接收人为空"),
        (FailureReason.THROTTLED, "发送频率超过上限"),
        (FailureReason.REJECTED, "request rejected by provider"),
        (FailureReason.INTERNAL, "internal error"),
        (FailureReason.OTHER, "发送失败"),
        (FailureReason.UNKNOWN, ""),
    ),
    suppressions=(Suppression.CONVERGED, Suppression.SHIELDED, Suppression.BLOCKED, Suppression.FREQUENCY),
    acknowledges=True,
    shields=True,
    changes_severity=True,
    converges=True,
    forms=frozenset(Form),
    backdates=True,
)

APP_CODE = "alert-exporter"
USERNAME = "exporter-user"
TOKEN = "simulated-bk-token"  # noqa: S105 what the simulator accepts
ACCESS_TOKEN = "simulated-access-token"  # noqa: S105

_ZONE = timezone(timedelta(hours=8))  # the server's own, Asia/Shanghai
_BUSINESSES = {"prod": 2, "staging": 3, "payments": 4}
_LEVELS = {Severity.CRITICAL: 1, Severity.WARNING: 2, Severity.INFO: 3}
_STATES = {None: "ABNORMAL", CloseReason.RECOVERED: "RECOVERED", CloseReason.CLOSED: "CLOSED"}
# A channel has as many ways as senders were added over the years (bkmonitor/utils/send.py, constants/action.py).
_WAYS = {
    Channel.EMAIL: ("mail", "bkchat|mail"),
    Channel.SMS: ("sms",),
    Channel.PHONE: ("voice",),
    Channel.IM: ("bkchat|WEWORK", "rtx", "wecom_robot", "wxwork-bot", "weixin"),
}
# Senders to group robots collect their errors in a list, which is stored as it is.
_ROBOTS = {"wecom_robot", "wxwork-bot"}
_OPERATES = {
    "created": "CREATE",
    "anomaly": "CONVERGE",
    "acknowledged": "ACK",
    "severity": "SEVERITY_UP",
    "recovered": "RECOVER",
    "closed": "CLOSE",
}
_HELD_BACK = {
    Suppression.CONVERGED: "skipped",
    Suppression.SHIELDED: "shield",
    Suppression.BLOCKED: "blocked",
    Suppression.FREQUENCY: "failure",
}
_ALERT_STATES = (
    "ABNORMAL RECOVERED CLOSED MINE NOT_SHIELDED_ABNORMAL SHIELDED_ABNORMAL MY_ASSIGNEE MY_APPOINTEE MY_FOLLOW"
)
_ACTION_STATES = "running success partial_success failure partial_failure skipped shield blocked waiting converged"
_RESULT_WINDOW = 10_000
# Numbers of the records that are parents of notices begin here.
_RAW_PARENTS = 50_000_000

_ESB = "/api/c/compapi/v2/monitor_v3/"
_GATEWAY = "/api/bk-monitor/prod/"
_CALLS = {
    "search_alert": "search_alert",
    "search_action": "search_action",
    "get_event_log": "get_event_log",
    "app/alert/search": "search_alert",
    "app/action/search": "search_action",
}


class Generation(StrEnum):
    """Which server's flow log is shown.

    G1, up to 2021: real statuses, counts in `extend_info`, notices among the rows. G3, today: nothing but SUCCESS,
    empty `extend_info`, and of adjacent CONVERGE rows only the two newest.
    """

    G1 = "G1"
    G3 = "G3"


class FlowRow(NamedTuple):
    """A row of the flow log, as far as it makes the row that one, and what it means."""

    at: datetime
    operate: str
    message: str
    status: str = "SUCCESS"
    anomalies: int = 0
    reason: FailureReason | None = None


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class BluekingSimulator:
    """One BlueKing site; both routes are open.

    The flow log of generation G1 is the default, for it alone shows failures and how many anomalies were folded.

    Args:
        has_actions: whether search_action exists; older servers have none.
    """

    vendor = "blueking"

    def __init__(self, world: World, *, generation: Generation = Generation.G1, has_actions: bool = True) -> None:
        self.world = world
        self.quirks: set[Quirk] = set()
        self.page_size_limit: int | None = None
        self.broken_details: set[int] = set()
        self._generation = generation
        self.has_actions = has_actions
        self._secret = "simulated-app-secret"  # noqa: S105 what the simulator accepts
        self._rotations = 0
        self._walks: Counter[str] = Counter()
        self._told: dict[int, set[FlowRow]] = {}
        self._alert_rows: dict[int, tuple[tuple[Any, ...], msgspec.Raw]] = {}

    def settings(self, base_url: str) -> dict[str, Any]:
        """Returns a source that polls by ESB."""
        return {
            "vendor": self.vendor,
            "endpoint": base_url,
            "bk_biz_ids": list(_BUSINESSES.values()),
            "detail_interval": "5m",
            "auth": {"app_code": APP_CODE, "app_secret": self._secret, "username": USERNAME},
        }

    def rotate(self) -> dict[str, str]:
        """Returns a new application secret; the old one is refused from now on."""
        self._rotations += 1
        self._secret = f"simulated-app-secret-{self._rotations}"
        return {"app_secret": self._secret}

    def endpoint_of(self, request: Request) -> str:
        """Returns which call it is; ESB tolerates a missing slash at the end."""
        return _CALLS.get(_call_of(request.decoded_path), "other")

    def error_in_envelope(self, _endpoint: str) -> Response:
        """Returns what every exception looks like that the monitor handles."""
        return _failure(500, "Elasticsearch request failed")

    def answer(self, request: Request) -> Response:
        """Answers as the site would; errors of ESB and of the monitor come with HTTP 200."""
        path = request.decoded_path
        by_esb = path.startswith(_ESB)
        call = self.endpoint_of(request)
        try:
            parameters = _parameters(request, by_esb=by_esb)
            self._authenticate(request, parameters, by_esb=by_esb)
            if call == "search_action" and not self.has_actions:
                raise (
                    Refusal(1306404, "Not found, component class not found")
                    if by_esb
                    else Refusal(1640401, "API not found", status=404)
                )
            match call, request.method:
                case "search_alert", "POST":
                    return _success(self._search_alert(parameters))
                case "search_action", "POST":
                    return _success(self._search_action(parameters))
                case "get_event_log", "GET" if by_esb:
                    return _success(self._event_log(parameters))
                case _:
                    return json_response(
                        {"result": False, "data": None, "message": "The content does not exist"}, status=404
                    )
        except Refusal as refusal:
            return _failure(refusal.code, refusal.message, status=refusal.status)

    def truth(self, since: Since) -> Truth:
        """Returns what really happened, in BlueKing's words.

        Of G1 every flow row counts once its result is known. Of G3, and of alerts that are gone, only rows count that
        were ever answered: which ones can be seen depends on when they are read.
        """
        truth = truth_of(self.world, since)
        truth.convergences = truth.converged_anomalies = 0
        if not self.has_actions:
            truth.notices.clear()
            truth.notice_failures.clear()
            truth.notices_suppressed.clear()
        for incident in self._incidents():
            told = self._told.get(incident.number, set())
            rows = told if self._generation is Generation.G3 or incident.removed else set(self._flow_rows(incident))
            if incident.number in self.broken_details:
                rows = set()
            for row in rows:
                if row.status == "RUNNING" or not since.counts(row.at, incident, self.world):
                    continue
                operation = row.operate.lower()
                failed = row.status in {"FAILED", "PARTIAL_SUCCESS"}
                truth.operations[operation] += 1
                truth.operation_failures[operation] += failed
                if operation == "converge":
                    truth.convergences += 1
                    truth.converged_anomalies += row.anomalies
                if operation.endswith("_notice") and not self.has_actions:
                    if row.status == "SHIELDED":
                        truth.notices_suppressed[Suppression.SHIELDED] += 1
                        continue
                    truth.notices[Channel.UNKNOWN] += 1
                    if row.reason is not None:
                        truth.notice_failures[Channel.UNKNOWN, row.reason] += 1
        return truth

    def _incidents(self) -> Iterator[Incident]:
        """Yields what was ever shown: handling records outlive their alert."""
        return (incident for incident in self.world.incidents if incident.visible <= self.world.now)

    # Who asks.

    def _authenticate(self, request: Request, parameters: Mapping[str, Any], *, by_esb: bool) -> None:
        """Credentials stand in the header; without it ESB, and only ESB, reads them from the parameters."""
        header = request.headers.get("x-bkapi-authorization")
        if header is None and not by_esb:
            raise Refusal(1640001, 'Parameters error [reason="Bkapi-Authorization is required"]', status=400)
        given: Any = parameters
        if header is not None:
            try:
                given = json.loads(header)
            except ValueError:
                given = None
            if not isinstance(given, dict):
                if by_esb:
                    raise Refusal(1306406, "The value of the header X-Bkapi-Authorization is not a JSON object")
                raise Refusal(1640001, 'Parameters error [reason="invalid authorization"]', status=400)
        if given.get("access_token") == ACCESS_TOKEN:
            return
        if given.get("bk_app_code") != APP_CODE or given.get("bk_app_secret") != self._secret:
            if by_esb:
                raise Refusal(1306000, "APP authentication failed, please check bk_app_code and bk_app_secret")
            raise Refusal(1640001, 'Parameters error [reason="app code or secret is invalid"]', status=400)
        if by_esb and given.get("bk_token") != TOKEN and given.get("bk_username") != USERNAME:
            raise Refusal(
                1306000,
                "User authentication failed, please provide a valid user identity, such as bk_token, bk_username",
            )

    # Alerts.

    def _search_alert(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if parameters.get("start_time") is None or parameters.get("end_time") is None:
            raise Refusal(3300002, "Resource[SearchAlert] 请求参数格式错误：start_time, end_time 该字段是必填项。")
        start, end = self._span(parameters)
        states = _states(parameters, _ALERT_STATES)
        businesses = _businesses(parameters)
        conditions = _conditions(parameters)
        found = []
        for incident in self.world.visible():
            ended = incident.ended if incident.ending else None
            if (
                (ended is not None and _epoch(ended) < start)
                or _epoch(incident.started) > end
                or (states and _STATES.get(incident.ending) not in states)
                or (businesses and _BUSINESSES[incident.namespace] not in businesses)
            ):
                continue
            if not conditions or all(each.holds(_FIELDS[each.key](incident)) for each in conditions):
                found.append(incident)
        found.sort(key=lambda incident: (incident.ending is not None, -_epoch(incident.created), -incident.number))
        looked_up = any(condition.get("key") == "id" for condition in parameters.get("conditions") or ())
        listing = self._page(found, parameters, largest=5000, spoilt=not looked_up)
        rows = [self._alert_row(incident) for incident in listing.pop("rows")]
        total = listing["total"]
        listing |= {"total": min(total, _RESULT_WINDOW), "total_relation": "gte" if total > _RESULT_WINDOW else "eq"}
        if parameters.get("show_aggs", True):
            listing["aggs"] = [_by_level(found)]
        return {"alerts": rows, **listing, "is_partial": False, "partial_reasons": []}

    def _alert_row(self, incident: Incident) -> msgspec.Raw:
        """Returns the alert as JSON, made anew only when it has changed."""
        version = (incident.updated, incident.severity, incident.ending, incident.acknowledged, incident.shielded)
        held = self._alert_rows.get(incident.number)
        if held is not None and held[0] == version:
            return held[1]
        started, created = _epoch(incident.started), _epoch(incident.created)
        row = {
            "id": _alert_id(incident),
            "seq_id": incident.number,
            "alert_name": incident.rule,
            "status": _STATES[incident.ending],
            "severity": _LEVELS[incident.severity],
            "bk_biz_id": _BUSINESSES[incident.namespace],
            "bk_biz_name": incident.namespace,
            "strategy_id": 318,
            "strategy_name": incident.policy,
            # Booleans are null until they are first set.
            "is_ack": True if incident.acknowledged else None,
            "is_shielded": True if incident.shielded else None,
            "is_handled": True if incident.tells else None,
            "is_blocked": False,
            "ack_duration": self._ack_duration(incident),
            "create_time": created,
            "update_time": _epoch(incident.updated),
            "begin_time": started,
            "first_anomaly_time": started,
            "latest_time": _epoch(incident.anomalies[-1]) if incident.anomalies else started,
            "end_time": _epoch(incident.ended) if incident.ending and incident.ended else None,
            "duration": "1h 1m",
            "shield_left_time": "0s",
            "target_type": incident.resource_type,
            "target": incident.resource,
            "bk_cloud_id": "0",
            "category": incident.provider,
            "data_type": "time_series",
            "plugin_id": "bkmonitor",
            "dedupe_md5": None,
            "event_id": f"9d1c.{started}.318.402.2",
            "stage_display": "已通知",
            "ack_operator": "opsuser" if incident.acknowledged else "",
            "tags": [],
            "dimensions": [],
            "metric": ["bk_monitor.system.disk.in_use"],
        }
        raw = msgspec.Raw(msgspec.json.encode(row))
        self._alert_rows[incident.number] = (version, raw)
        return raw

    def _ack_duration(self, incident: Incident) -> int | None:
        """Returns seconds to the first moment at which the alert was acknowledged, shielded, or not open any more."""
        moments = [incident.acknowledged, incident.ended if incident.ending else None]
        moments += [entry.at for entry in incident.history if entry.what == "shielded"]
        first = min((moment for moment in moments if moment is not None), default=None)
        return _epoch(first) - _epoch(incident.created) if first is not None else None

    # Handling records.

    def _search_action(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        start, end = self._span(parameters)
        states = _states(parameters, _ACTION_STATES) or {"running", "success", "failure"}
        businesses = _businesses(parameters)
        conditions = _conditions(parameters)
        of_parents = any(condition.key == "parent_action_id" for condition in conditions)
        found: list[dict[str, Any]] = []
        for incident in self._incidents():
            if businesses and _BUSINESSES[incident.namespace] not in businesses:
                continue
            for tell in incident.tells:
                settled = tell.settles <= self.world.now
                if (settled and _epoch(tell.settles + self.world.skew) < start) or _epoch(tell.at) > end:
                    continue
                for row in self._records_of(incident, tell):
                    fields = {name: str(row[name]) for name in ("action_plugin_type", "parent_action_id")}
                    # Parents are hidden, and summaries from queries for parents.
                    hidden = row["signal"] == "collect" if of_parents else row["is_parent_action"]
                    if not hidden and row["status"] in states and _fits(fields, conditions):
                        found.append(row)
        found.sort(key=lambda row: (row["create_time"], row["raw_id"]), reverse=True)
        listing = self._page(found, parameters, largest=1000, spoilt=True)
        return {"actions": listing.pop("rows"), **listing, "total": min(listing["total"], _RESULT_WINDOW)}

    def _records_of(self, incident: Incident, tell: Tell) -> Iterator[dict[str, Any]]:
        """Yields the records of one attempt: a notice's parent, and its own record if it has a receiver."""
        if tell.form in {Form.NOTICE, Form.NOBODY}:
            yield self._parent_row(incident, tell)
        if tell.form is not Form.NOBODY:
            yield self._action_row(incident, tell)

    def _status_of(self, tell: Tell) -> str:
        if tell.settles > self.world.now:
            return "running"
        if tell.form in {Form.IDLE, Form.NOBODY}:
            return "skipped"
        if tell.suppression is not None:
            return _HELD_BACK[tell.suppression]
        return "failure" if tell.failure else "success"

    def _action_row(self, incident: Incident, tell: Tell) -> dict[str, Any]:
        """Returns a notice to one receiver, a summary, or a job."""
        status = self._status_of(tell)
        ways = _WAYS.get(tell.channel, ("",))
        way = ways[tell.number % len(ways)]
        failure_type, said = "", ""
        if status == "failure":
            failure_type = "execute_failure"
            said = tell.failure[1] if tell.failure else ""
        if tell.suppression is Suppression.FREQUENCY and status == "failure":
            way, failure_type = "voice", "system_abort"
        message = [said] if said and way in _ROBOTS else said
        signal = "recovered" if tell.recovery else "abnormal"
        # A list or a text, as the server happened to store it; of a summary always a list.
        listed = tell.form is not Form.NOTICE or tell.number % 2
        inputs: dict[str, Any] = {"notice_way": [way] if listed else way, "notice_receiver": "opsuser"}
        return self._record(
            incident,
            tell,
            parent_action_id=_RAW_PARENTS + tell.number if tell.form is Form.NOTICE else 0,
            status=status,
            failure_type=failure_type,
            status_tips=message,
            ex_data={"message": message} if message else {},
            signal=signal if tell.form in {Form.NOTICE, Form.JOB} else "collect",
            action_plugin_type="job" if tell.form is Form.JOB else "notice",
            inputs={} if tell.form is Form.JOB else inputs,
        )

    def _parent_row(self, incident: Incident, tell: Tell) -> dict[str, Any]:
        """Returns the notice as a whole, to all its receivers."""
        way = _WAYS.get(tell.channel, ("",))[0]
        status = self._status_of(tell)
        return self._record(
            incident,
            tell,
            raw_id=_RAW_PARENTS + tell.number,
            is_parent_action=True,
            status="success" if status in {"shield", "blocked"} else status,
            signal="recovered" if tell.recovery else "abnormal",
            inputs={"notify_info": {way: ["opsuser"]} if tell.form is Form.NOTICE else {}},
        )

    def _record(self, incident: Incident, tell: Tell, **fields: Any) -> dict[str, Any]:
        raw_id = fields.get("raw_id", tell.number)
        settled = _epoch(tell.settles + self.world.skew) if tell.settles <= self.world.now else None
        return {
            "id": f"{_epoch(tell.at)}{raw_id:08d}",
            "raw_id": raw_id,
            "parent_action_id": 0,
            "is_parent_action": False,
            "failure_type": "",
            "status_tips": "",
            "ex_data": {},
            "action_plugin_type": "notice",
            "alert_id": [_alert_id(incident)],
            "alert_level": _LEVELS[incident.severity],
            "bk_biz_id": str(_BUSINESSES[incident.namespace]),
            "strategy_id": 318,
            "outputs": {},
            "operator": ["opsuser"],
            "create_time": _epoch(tell.at),
            "update_time": settled or _epoch(tell.at),
            "end_time": settled,
            "duration": "26s",
            "converge_id": 0,
            "is_converge_primary": False,
            "converge_count": 0,
            **fields,
        }

    # The flow log.

    def _event_log(self, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = str(parameters.get("id", ""))
        if not asked.isdecimal():
            raise Refusal(3300002, "Resource[SearchEventLog] 请求参数格式错误：id 请填写合法的整数值。")
        incident = next((each for each in self.world.visible() if _alert_id(each) == asked), None)
        if incident is None:
            raise Refusal(3324002, f"告警ID ({asked}) 对应的告警信息不存在")
        if incident.number in self.broken_details:
            raise Refusal(500, "系统错误：sequence item 0: expected str instance, NoneType found")
        rows = sorted(self._flow_rows(incident), key=lambda row: (-_epoch(row.at), row.operate))
        if self._generation is Generation.G3:
            rows = _merged(rows)
        self._told.setdefault(incident.number, set()).update(rows)
        return [self._flow_row(asked, row) for row in rows]

    def _flow_row(self, alert: str, row: FlowRow) -> dict[str, Any]:
        extend_info: Any = {}
        if self._generation is Generation.G1:
            extend_info = ""
            if row.operate == "CONVERGE":
                span = {"min": _epoch(row.at) - 60, "max": _epoch(row.at)}
                extend_info = {"process_time": span, "data_time": span, "anomaly_count": row.anomalies}
            elif row.operate.endswith("_NOTICE"):
                extend_info = {"action": {"id": 12}, "empty_receiver": row.reason is FailureReason.NO_RECEIVER}
        return {
            "operate": row.operate,
            "message": row.message,
            "extend_info": extend_info,
            "status": row.status,
            "event_id": alert if self._generation is Generation.G1 else int(alert),
            "create_time": row.at.astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S"),
        }

    def _flow_rows(self, incident: Incident) -> Iterator[FlowRow]:
        """Yields the rows the server has stored, oldest first."""
        tells = iter(incident.tells)
        for place, entry in enumerate(incident.history):
            if entry.what == "notified":
                yield from self._rows_of_tell(entry, next(tells))
            elif entry.what == "action":
                yield FlowRow(entry.at, "ACTION", f"noise of rule {place} reduced")
            elif entry.what in _OPERATES:
                operate = _OPERATES[entry.what]
                message = f"in_use >= 95, current {95 + place % 50 / 10}" if operate in {"CREATE", "CONVERGE"} else ""
                anomalies = 0
                if operate == "CONVERGE":
                    anomalies = 1 + (incident.number + place) % 5 if self._generation is Generation.G1 else 1
                yield FlowRow(entry.at, operate, message, anomalies=anomalies)

    def _rows_of_tell(self, entry: Entry, tell: Tell) -> Iterator[FlowRow]:
        if tell.form is Form.JOB:
            yield FlowRow(entry.at, "ACTION", f"job {tell.number} started")
            if tell.settles <= self.world.now:
                yield FlowRow(tell.ended, "ACTION", f"job {tell.number} ended")
        elif tell.form in {Form.NOTICE, Form.NOBODY}:
            row = self._row_of_notice(entry, tell)
            if row is not None:
                yield row

    def _row_of_notice(self, entry: Entry, tell: Tell) -> FlowRow | None:
        if self._generation is Generation.G3:
            return FlowRow(entry.at, "ACTION", "notice triggered")
        operate = "RECOVERY_NOTICE" if tell.recovery else "ANOMALY_NOTICE"
        if tell.settles > self.world.now:
            return FlowRow(entry.at, operate, "", status="RUNNING")
        if tell.suppression is Suppression.SHIELDED:
            return FlowRow(entry.at, operate, "shielded", status="SHIELDED")
        if tell.suppression is not None:
            return None
        if tell.failure is None:
            return FlowRow(entry.at, operate, f"{_WAYS[tell.channel][0]} sent")
        reason, text = tell.failure
        status = "PARTIAL_SUCCESS" if reason is FailureReason.OTHER else "FAILED"
        return FlowRow(entry.at, operate, text, status=status, reason=reason)

    # Windows and pages.

    def _span(self, parameters: Mapping[str, Any]) -> tuple[int, int]:
        """Returns the window; an end in the future is pulled back to a minute from now, and 0 stands for no bound."""
        try:
            start, end = int(parameters.get("start_time") or 0), int(parameters.get("end_time") or 0)
        except (TypeError, ValueError):
            raise Refusal(3300002, "start_time, end_time 请填写合法的整数值。") from None
        latest = _epoch(self.world.stamp()) + 60
        return start, min(end, latest) if end else latest

    def _page(
        self, found: Sequence[Any], parameters: Mapping[str, Any], *, largest: int, spoilt: bool
    ) -> dict[str, Any]:
        """Returns one page by Elasticsearch's from and size, with the quirks that are asked for."""
        page, size = parameters.get("page", 1), parameters.get("page_size", 10)
        if not isinstance(page, int) or not isinstance(size, int) or page < 1 or not 0 <= size <= largest:
            raise Refusal(3300002, f"page_size 请确保该值小于或者等于 {largest}。")
        size = min(size, self.page_size_limit or size)
        if page * size > _RESULT_WINDOW:
            raise Refusal(500, "Result window is too large, from + size must be less than or equal to: [10000]")
        first, total = (page - 1) * size, len(found)
        walked = str((parameters.get("status"), parameters.get("conditions")))
        self._walks[walked] += page == 1  # a row leaves during every other walk
        quirks = self.quirks if spoilt and page > 1 else ()
        if Quirk.REPEAT_CURSOR in quirks:
            first = 0
        if Quirk.DUPLICATE_ROWS in quirks:
            first -= page - 1
        if Quirk.SHIFT_ROWS in quirks and self._walks[walked] % 2:
            first, total = first + 1, total - 1
        rows = found[first : first + size]
        if Quirk.ENDLESS_PAGES in self.quirks and spoilt:
            total = page * size + 1
            rows = rows or found[:size]
        return {"rows": rows, "total": total}


def _merged(rows: Sequence[FlowRow]) -> list[FlowRow]:
    """Returns rows newest first; of a run of CONVERGE rows, the newest two, the second with all others folded in."""
    kept: list[FlowRow] = []
    for row in rows:
        if row.operate == "CONVERGE" and [each.operate for each in kept[-2:]] == ["CONVERGE", "CONVERGE"]:
            continue
        kept.append(row)
    return kept


def _call_of(path: str) -> str:
    prefix = _ESB if path.startswith(_ESB) else _GATEWAY
    return path.removeprefix(prefix).strip("/") if path.startswith(prefix) else ""


def _parameters(request: Request, *, by_esb: bool) -> dict[str, Any]:
    """Returns the query of a GET, whatever its body, and the body of a POST."""
    if request.method == "GET":
        return dict(request.parameters)
    try:
        parameters = json.loads(request.body or b"{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise Refusal(1306406 if by_esb else 400, "Request JSON string is wrong in format")
    return parameters


def _states(parameters: Mapping[str, Any], known: str) -> set[str]:
    states = parameters.get("status") or []
    if not isinstance(states, list) or (
        parameters.get("show_overview", True) and not set(states) <= set(known.split())
    ):
        raise Refusal(500, "KeyError")
    return set(states)


def _businesses(parameters: Mapping[str, Any]) -> set[int] | None:
    """Returns the businesses to show, None for all; without any, nothing concerns a user that is nobody's assignee."""
    given = parameters.get("bk_biz_ids")
    if not isinstance(given, list) or not given:
        return {0}
    return None if given == [-1] else {int(business) for business in given}


class Condition(NamedTuple):
    """A condition on a field: one of these values, none of them, or a number above or below them."""

    key: str
    method: str
    values: frozenset[str]

    def holds(self, value: str) -> bool:
        """Returns whether it holds for a value of the field."""
        if self.method in _COMPARISONS:
            return all(_COMPARISONS[self.method](int(value or 0), int(bound)) for bound in self.values)
        return (value in self.values) is (self.method == "eq")


_COMPARISONS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def _conditions(parameters: Mapping[str, Any]) -> list[Condition]:
    conditions = []
    for condition in parameters.get("conditions") or []:
        method = condition.get("method", "eq")
        if not isinstance(condition.get("value"), list) or method not in {"eq", "neq", *_COMPARISONS}:
            raise Refusal(3300002, "conditions 参数格式错误")
        conditions.append(Condition(condition["key"], method, frozenset(map(str, condition["value"]))))
    return conditions


def _fits(fields: Mapping[str, str], conditions: Sequence[Condition]) -> bool:
    return all(condition.holds(fields.get(condition.key, "")) for condition in conditions)


def _by_level(found: Sequence[Incident]) -> dict[str, Any]:
    """Returns the aggregate of severities, which counts beyond the window of results."""
    counts = Counter(_LEVELS[incident.severity] for incident in found)
    children = [{"id": level, "name": str(level), "count": counts[level]} for level in sorted(counts)]
    return {"id": "severity", "name": "级别", "count": len(found), "children": children}


def _alert_id(incident: Incident) -> str:
    """Returns ten digits of the second it was created in, then its number: longer than a float holds exactly."""
    return f"{_epoch(incident.created)}{incident.number:08d}"


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


# What conditions of search_alert may be about.
_FIELDS: dict[str, Callable[[Incident], str]] = {
    "id": _alert_id,
    "severity": lambda incident: str(_LEVELS[incident.severity]),
    "create_time": lambda incident: str(_epoch(incident.created)),
}


def _success(data: Any) -> Response:
    return json_response({"result": True, "code": 200, "message": "OK", "data": data, "request_id": "0" * 32})


def _failure(code: int, message: str, *, status: int = 200) -> Response:
    """Returns an error of ESB or of the monitor, or with its headers one of the gateway."""
    headers = {}
    if 1_640_000 <= code < 1_660_000:
        headers = {"X-Bkapi-Error-Code": str(code), "X-Bkapi-Error-Message": message}
    data: dict[str, Any] | None = None if 1_000_000 < code < 3_000_000 else {}
    return json_response(
        {"result": False, "code": code, "message": message, "data": data}, status=status, headers=headers
    )


def simulator_for(world: World) -> BluekingSimulator:
    """Returns the simulator of a world."""
    return BluekingSimulator(world)
