"""Answers as the Log Service's alarm API would, from the simulated world; written from the manual alone."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Meta

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason, Suppression
from exporter.simulation.truth import Since, Truth, truth_of
from exporter.simulation.wire import Quirk, Request, Response, json_response
from exporter.simulation.world import Incident, Tell, Traits, World

ACCESS_KEY = "ALTAKsimulatedAccessKey"
SECRET_KEY = "simulated-baidu-secret-0"  # noqa: S105 it guards a simulation

LIST_PATH = "/v1/alarm/record/list"
DETAIL_PATH = "/v1/alarm/record"
MAX_PAGE_SIZE = 100
DEFAULT_SPAN = timedelta(days=30)
CLOCK_TOLERANCE = timedelta(minutes=5)

_LEVELS = {Severity.CRITICAL: "CRITICAL", Severity.WARNING: "WARN", Severity.INFO: "INFO"}
_STATES = {None: "ALERT", CloseReason.RECOVERED: "OK", CloseReason.CLOSED: "CLOSED"}
_METHODS = {Channel.EMAIL: "EMAIL", Channel.SMS: "SMS", Channel.PHONE: "PHONE"}
_BLOCKS = {
    Suppression.PENDING_COUNT: "BLOCK_BY_PENDING_COUNT",
    Suppression.REPEAT_INTERVAL: "BLOCK_BY_REPEAT_INTERVAL",
    Suppression.FREQUENCY: "BLOCK_BY_FREQUENCY",
    Suppression.DISABLED: "BLOCK_BY_NOTICE_DISABLED",
}

TRAITS = Traits(
    severities=tuple(_LEVELS),
    endings=(CloseReason.RECOVERED, CloseReason.CLOSED),
    resolution=timedelta(seconds=1),
    channels=(*_METHODS, Channel.WEBHOOK),
    failures=(
        (FailureReason.TIMEOUT, "callback timeout"),
        (FailureReason.NO_RECEIVER, "no receiver in the template"),
        (FailureReason.THROTTLED, "daily limit of messages reached"),
        (FailureReason.REJECTED, "number rejected by the operator"),
        (FailureReason.INTERNAL, "webhook answered 502"),
        (FailureReason.OTHER, "the mailbox is full"),
        (FailureReason.UNKNOWN, ""),
    ),
    # Pending executions come before the alarm, and not among what is done about it.
    suppressions=tuple(held_back for held_back in _BLOCKS if held_back is not Suppression.PENDING_COUNT),
    converges=True,
)


class Refusal(Exception):
    """An error of the API, with its HTTP status and code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        body = {"code": code, "message": message, "requestId": "2eeba101-4cc7-4cfe-b5ac-a3be8d060e33"}
        self.response = json_response(body, status=status)


class _Run(msgspec.Struct):
    """One execution of the policy: simultaneous attempts to tell people form one of its notices."""

    at: datetime
    state: str
    tells: list[Tell]
    pending: bool = False

    def is_settled(self, now: datetime) -> bool:
        """Returns whether the result of its notice is there."""
        return bool(self.tells) and all(tell.settles <= now for tell in self.tells)


class _Asked(msgspec.Struct, kw_only=True, rename="camel"):
    """The request body of ListAlarmRecord."""

    page_no: Annotated[int, Meta(ge=1)]
    page_size: Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE)]
    policy_name_pattern: str = ""
    log_store_name_pattern: str = ""
    state: Literal["OK", "ALERT", "CLOSED"] | None = None
    level: Literal["INFO", "WARN", "CRITICAL"] | None = None
    start_date_time: str | None = None
    end_date_time: str | None = None
    order_by: Literal["startTime", "endTime"] = "startTime"
    order: Literal["asc", "desc"] = "desc"


def _asked_from(body: bytes) -> _Asked:
    try:
        return msgspec.json.decode(body, type=_Asked)
    except msgspec.ValidationError:
        raise Refusal(400, "InvalidParameter", "Request param invalid") from None
    except msgspec.DecodeError:
        raise Refusal(400, "MalformedJSON", "The JSON provided is not well-formed") from None


class BaiduBlsSimulator:
    """One region of one account.

    `id_parameters` are the names by which DescribeAlarmRecord takes an id: the manual says the one, the SDKs send the
    other, and a service may know only one of them.
    """

    vendor = "baidu_bls"

    def __init__(self, world: World) -> None:
        self.world = world
        self.quirks: set[Quirk] = set()
        self.page_size_limit: int | None = None
        self.broken_details: set[int] = set()
        self.id_parameters = {"id", "alarmId"}
        self._secret = SECRET_KEY
        self._rotations = 0
        self._rows: dict[tuple[int, Severity, datetime | None], msgspec.Raw] = {}
        self._described: dict[int, tuple[datetime, datetime]] = {}
        self._shifted: set[str | None] = set()

    def endpoint_of(self, request: Request) -> str:
        """Returns which call this is."""
        return {LIST_PATH: "list_alarm_record", DETAIL_PATH: "describe_alarm_record"}.get(request.path, "other")

    def answer(self, request: Request) -> Response:
        """Answers as the API would."""
        try:
            self._authenticate(request)
            return self._routed(request)
        except Refusal as refused:
            return refused.response

    def _routed(self, request: Request) -> Response:
        if (request.method, request.path) == ("POST", LIST_PATH):
            return self._list(request)
        if (request.method, request.path) == ("GET", DETAIL_PATH):
            return self._describe(request)
        raise Refusal(400, "InvalidURI", "Could not parse the specified URI")

    def error_in_envelope(self, _endpoint: str) -> Response:
        """Returns a failure inside HTTP 200."""
        return json_response({"success": False, "code": "InvalidParameter", "message": "Request param invalid"})

    def settings(self, base_url: str) -> dict[str, Any]:
        """Returns the source's section of a configuration file."""
        auth = {"access_key": ACCESS_KEY, "secret_key": self._secret}
        return {"vendor": self.vendor, "endpoint": base_url, "auth": auth, "detail_interval": "30s"}

    def rotate(self) -> dict[str, str]:
        """Changes the secret access key."""
        self._rotations += 1
        self._secret = f"simulated-baidu-secret-{self._rotations}"
        return {"secret_key": self._secret}

    def truth(self, since: Since) -> Truth:
        """Returns the ledger in executions: each in state ALERT after the one that raised the alarm is a convergence.

        Of a removed alarm, only what its detail had shown counts.
        """
        truth = truth_of(self.world, since)
        truth.convergences = 0
        truth.notices.clear()
        truth.notice_failures.clear()
        truth.notices_suppressed.clear()
        for incident in self.world.incidents:
            if incident.visible > self.world.now:
                continue
            told_at, stamp = self.world.now, datetime.max.replace(tzinfo=UTC)
            if incident.removed:
                told_at, stamp = self._described.get(incident.number, (self.world.start, self.world.start))
            runs = [run for run in _runs_of(incident) if run.at <= stamp]
            pending = [run for run in runs if run.pending]
            further = [run for run in runs if run.state == "ALERT" and not run.pending][1:]
            truth.convergences += sum(since.counts(run.at, incident, self.world) for run in further)
            truth.notices_suppressed[Suppression.PENDING_COUNT] += sum(
                since.counts(run.at, incident, self.world) for run in pending
            )
            for run in runs:
                if not run.is_settled(told_at) or not since.counts(run.at, incident, self.world):
                    continue
                first = run.tells[0]
                for channel in {tell.channel for tell in run.tells}:
                    if first.suppression is not None:
                        truth.notices_suppressed[first.suppression] += 1
                        continue
                    truth.notices[channel] += 1
                    if first.failure is not None:
                        truth.notice_failures[channel, first.failure[0]] += 1
        truth.converged_anomalies = truth.convergences
        return truth

    # "Generate Authorization String"

    def _authenticate(self, request: Request) -> None:
        parts = request.headers.get("authorization", "").split("/")
        if len(parts) != 6 or parts[0] != "bce-auth-v1" or not parts[3].isdigit():
            raise Refusal(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid")
        _, access_key, timestamp, expire, names, signature = parts
        at = _moment(timestamp)
        if at is None:
            raise Refusal(400, "InvalidHTTPAuthHeader", "The timestamp is invalid")
        if access_key != ACCESS_KEY:
            raise Refusal(403, "InvalidAccessKeyId", "The Access Key ID you provided does not exist")
        signed = self._signed_headers(request.headers, names)
        if "host" not in signed:
            raise Refusal(400, "InvalidHTTPAuthHeader", "The header host has to be signed")
        prefix = "/".join(parts[:4])
        pairs = sorted(f"{_encoded(name)}={_encoded(value)}" for name, value in request.parameters)
        uri = "/".join(_encoded(unquote(segment)) for segment in request.path.split("/"))
        headers = sorted(f"{_encoded(name)}:{_encoded(request.headers[name].strip())}" for name in signed)
        text = "\n".join((request.method, uri, "&".join(pairs), "\n".join(headers)))
        if not hmac.compare_digest(_hmac(_hmac(self._secret, prefix), text), signature):
            raise Refusal(400, "SignatureDoesNotMatch", "signature mismatch")
        now = self.world.now + self.world.skew
        if not at - CLOCK_TOLERANCE <= now <= at + timedelta(seconds=int(expire)):
            raise Refusal(400, "RequestExpired", f"Request has expired. Timestamp date is {timestamp}.")

    def _signed_headers(self, headers: Mapping[str, str], names: str) -> list[str]:
        if not names:
            usual = {"host", "content-length", "content-type", "content-md5"}
            return [name for name in headers if name in usual or name.startswith("x-bce-")]
        listed = names.split(";")
        if any(name not in headers for name in listed):
            raise Refusal(400, "InvalidHTTPAuthHeader", "A signed header is missing")
        return listed

    # "ListAlarmRecord"

    def _list(self, request: Request) -> Response:
        asked = _asked_from(request.body)
        size = min(asked.page_size, self.page_size_limit or MAX_PAGE_SIZE)
        rows = self._selected(asked)
        first, total = (asked.page_no - 1) * size, len(rows)
        if Quirk.REPEAT_CURSOR in self.quirks:
            first = 0
        elif Quirk.ENDLESS_PAGES in self.quirks:
            first, total = min(first, max(0, total - size)), total + first + size
        elif Quirk.DUPLICATE_ROWS in self.quirks:
            first -= asked.page_no - 1
        elif Quirk.SHIFT_ROWS in self.quirks and (asked.page_no > 1 or asked.state in self._shifted):
            # The first row has left, and who asks for page 1 again is shown the row that moved up.
            first, total = first + 1, total - 1
            self._shifted ^= {asked.state} if asked.page_no == 1 else {asked.state} - self._shifted
        alarms = [self._row(incident) for incident in rows[first : first + size]]
        result = {"alarms": alarms or None, "pageNo": asked.page_no, "pageSize": size, "totalCount": total}
        return json_response({"success": True, "code": "OK", "message": "", "result": result})

    def _selected(self, asked: _Asked) -> list[Incident]:
        now = self.world.now + self.world.skew
        start, end = _moment_or(now - DEFAULT_SPAN, asked.start_date_time), _moment_or(now, asked.end_date_time)
        found = [
            incident
            for incident in self.world.visible()
            if start <= incident.started <= end
            and asked.state in {None, _STATES[incident.ending]}
            and asked.level in {None, _LEVELS[incident.severity]}
            and asked.policy_name_pattern in incident.policy
            and asked.log_store_name_pattern in incident.resource
        ]
        never = datetime.min.replace(tzinfo=UTC)
        by_end = asked.order_by == "endTime"
        found.sort(
            key=lambda incident: ((incident.ended or never) if by_end else incident.started, incident.number),
            reverse=asked.order == "desc",
        )
        return found

    def _row(self, incident: Incident) -> msgspec.Raw:
        version = (incident.number, incident.severity, incident.ended)
        row = self._rows.get(version)
        if row is None:
            row = self._rows[version] = msgspec.Raw(msgspec.json.encode(_record(incident)))
        return row

    # "DescribeAlarmRecord"

    def _describe(self, request: Request) -> Response:
        given = dict(request.parameters)
        wanted = next((given[name] for name in sorted(self.id_parameters) if given.get(name)), None)
        if not wanted:
            raise Refusal(400, "InvalidParameter", "Request param invalid")
        incident = self._incident(wanted)
        if incident is None:
            return json_response({"success": False, "code": "AlarmNotFound", "msg": f"alarm {wanted} not found"})
        if incident.number in self.broken_details:
            raise Refusal(500, "InternalError", "Internal server error")
        self._described[incident.number] = (self.world.now, self.world.stamp())
        executions = [self._execution(incident, run) for run in _runs_of(incident)]
        alarm = _record(incident) | {"executions": executions}
        if incident.number % 3:
            return json_response({"success": True, "code": "OK", "message": "", "alarm": alarm})
        # As in the manual's example: HTTP 201, `msg`, no code.
        return json_response({"success": True, "msg": "", "alarm": alarm}, status=201)

    def _incident(self, alarm_id: str) -> Incident | None:
        """Returns the alarm by this id, if the API shows it; incidents are numbered from 1 in their order."""
        digits = alarm_id.removeprefix("a-")
        number = int(digits, 16) if re.fullmatch(r"[0-9a-f]{12}", digits) else 0
        if not 0 < number <= len(self.world.incidents):
            return None
        incident = self.world.incidents[number - 1]
        return incident if incident.visible <= self.world.now and not incident.removed else None

    def _execution(self, incident: Incident, run: _Run) -> dict[str, Any]:
        first = run.tells[0] if run.is_settled(self.world.now) else None
        result, reason = "NOT_SENT", ""
        if first is not None:
            result = "SENT"
            if first.suppression is not None:
                result = _BLOCKS[first.suppression]
            elif first.failure is not None:
                result, reason = "FAIL", first.failure[1]
        if run.pending:
            result = _BLOCKS[Suppression.PENDING_COUNT]
        channels = {tell.channel for tell in run.tells}
        template = {
            "id": f"7d0c2f5e-1111-4a2b-9c3d-{incident.number:012d}",
            "name": "oncall",
            "members": ["ops1"],
            "methods": [_METHODS[channel] for channel in channels if channel in _METHODS],
            "callbacks": ["http://hook.example/secret-path"] if Channel.WEBHOOK in channels else [],
        }
        log = {"@timestamp": int(run.at.timestamp() * 1000), "status": 502}
        logs = {"project": incident.namespace, "logStoreName": incident.resource, "query": "match *", "logs": [log]}
        return {
            "time": _text(run.at),
            "state": run.state,
            "noticeState": result,
            "reason": reason,
            "values": _pairs(incident, {"$1.zone": "bj-a", "$1.errors": 64}),
            "notices": [template] if run.tells else [],
            "rawLogs": [logs | {"columns": [], "limit": 1}],
        }


def _moment_or(default: datetime, text: str | None) -> datetime:
    moment = _moment(text) if text is not None else default
    if moment is None:
        raise Refusal(400, "InvalidParameter", "Request param invalid")
    return moment


def _runs_of(incident: Incident) -> list[_Run]:
    """Returns an alarm's executions: those before it that were not enough to raise it, the one that did, each further
    anomaly, each time people are told.
    """
    runs = {(at, "ALERT"): _Run(at, "ALERT", []) for at in (incident.started, *incident.anomalies)}
    for tell in incident.tells:
        state = "OK" if tell.recovery else "ALERT"
        runs.setdefault((tell.at, state), _Run(tell.at, state, [])).tells.append(tell)
    early = [incident.started - minutes * timedelta(minutes=1) for minutes in range(1, _pending_count_of(incident))]
    return sorted([*(_Run(at, "ALERT", [], pending=True) for at in early), *runs.values()], key=lambda run: run.at)


def _pending_count_of(incident: Incident) -> int:
    """Returns how many executions in a row have to find the condition met before the alarm is raised."""
    return 3 if incident.number % 4 == 3 else 1


def _record(incident: Incident) -> dict[str, Any]:
    """Returns an alarm record without its executions."""
    return {
        "id": _id(incident),
        "groupId": f"g{incident.number % 7}",
        "startTime": _text(incident.started),
        "endTime": _text(incident.ended) if incident.ended else "",
        "state": _STATES[incident.ending],
        "closeReason": "POLICY_MODIFIED" if incident.ending is CloseReason.CLOSED else "",
        "policy": {
            "name": incident.policy,
            "pendingCount": _pending_count_of(incident),
            "repeatIntervalMinute": 30,
            "notices": [],
        },
        "object": {"project": incident.namespace, "logStoreName": incident.resource},
        "triggerCondition": {"level": _LEVELS[incident.severity], "condition": "$1.errors > 50"},
        "groups": _pairs(incident, {"$1.zone": "bj-a"}),
    }


def _policy(incident: Incident) -> dict[str, Any]:
    pending_count = _pending_count_of(incident)
    return {"name": incident.policy, "pendingCount": pending_count, "repeatIntervalMinute": 30, "notices": []}


def _pairs(incident: Incident, values: dict[str, Any]) -> Any:
    """Returns a map, which some records have as a list of pairs, as in the manual's example."""
    return values if incident.number % 2 else [{"key": key, "value": value} for key, value in values.items()]


def _id(incident: Incident) -> str:
    return f"a-{incident.number:012x}"


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _encoded(text: str) -> str:
    return quote(text, safe="-._~")


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def simulator_for(world: World) -> BaiduBlsSimulator:
    """Returns the vendor over a world."""
    return BaiduBlsSimulator(world)
