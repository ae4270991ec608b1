"""Answers as AOM and IAM would, from the simulated world. Written from the manual, apart from the reader."""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason
from exporter.simulation.truth import Since, Truth, truth_of
from exporter.simulation.wire import Quirk, Request, Response, json_response
from exporter.simulation.world import Incident, Tell, Traits, World, floored

ACCESS_KEY = "SIMULATEDACCESSKEY01"
SECRET_KEY = "simulated-secret-key-of-aom"  # noqa: S105 it opens nothing but this simulator
TOKEN = "simulated-token-of-aom"  # noqa: S105 as above
PROJECT_ID = "0123456789abcdef0123456789abcdef"
IAM_USER = {"name": "exporter", "password": "simulated-password", "domain": {"name": "acme"}}
PROJECT_NAME = "cn-north-4"
TOKEN_LIFE = timedelta(hours=24)
MAX_SKEW = timedelta(minutes=15)

TRAITS = Traits(
    severities=(Severity.CRITICAL, Severity.MAJOR, Severity.MINOR, Severity.INFO),
    endings=(CloseReason.RECOVERED, CloseReason.EXPIRED),
    resolution=timedelta(milliseconds=1),
    channels=(Channel.EMAIL, Channel.SMS, Channel.PHONE, Channel.WEBHOOK, Channel.IM),
    failures=(
        (FailureReason.REJECTED, "Topic not found."),
        (FailureReason.TIMEOUT, "Request timed out."),
        (FailureReason.THROTTLED, "The request exceeds the rate limit."),
        (FailureReason.INTERNAL, "Internal error."),
        (FailureReason.OTHER, "The account is in arrears."),
        (FailureReason.NOT_SUBSCRIBED, ""),
    ),
    has_events=True,
)

_PROTOCOLS = {
    Channel.EMAIL: "email",
    Channel.SMS: "sms",
    Channel.PHONE: "callnotify",
    Channel.WEBHOOK: "https",
    Channel.IM: "dingding",
}
_STATUS_OF = {FailureReason.REJECTED: "404", FailureReason.THROTTLED: "429", FailureReason.INTERNAL: "500"}
_TIME_RANGE = re.compile(r"(-1|\d{1,15})\.(-1|\d{1,15})\.(\d{1,9})", re.ASCII)
_AUTHORIZATION = re.compile(r"SDK-HMAC-SHA256 Access=([^,\s]+), SignedHeaders=([a-z0-9;_-]+), Signature=([0-9a-f]{64})")
_MINUTE_MS = 60_000
_TIMEOUT_MS = 15 * 24 * 60 * _MINUTE_MS


def simulator_for(world: World) -> "HuaweiAomSimulator":
    """Makes AOM and IAM over a world."""
    return HuaweiAomSimulator(world)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        is_gateways = code.startswith("APIGW.")
        said = {"error_msg" if is_gateways else "error_message": message, "error_code": code}
        self.response = json_response(said | ({"request_id": "0" * 32} if is_gateways else {}), status=status)


class _Relation(msgspec.Struct):
    key: str
    value: list[str]
    relation: str = "AND"


class _Sort(msgspec.Struct):
    order_by: list[str]
    order: str = "desc"


class _Query(msgspec.Struct):
    time_range: str
    step: int | None = None
    search: str | None = None
    sort: _Sort | None = None
    metadata_relation: list[_Relation] | None = None


def _query_of(request: Request) -> _Query:
    try:
        return msgspec.json.decode(request.body, type=_Query)
    except msgspec.DecodeError:
        raise _illegal() from None


class _Row(msgspec.Struct):
    """An incident as AOM writes it, and what a query looks at."""

    version: tuple[Any, ...]
    starts_ms: int
    is_active: bool
    metadata: dict[str, str]
    encoded: msgspec.Raw


class HuaweiAomSimulator:
    """The AOM of one project, and the IAM that gives tokens for it.

    `has_histories` is whether ListNotifiedHistories exists, and `has_old_histories` whether it answers in the shape of
    the SDKs before 3.1.75, which is one object without the outer list.
    """

    vendor = "huawei_aom"

    def __init__(self, world: World) -> None:
        self.world = world
        self.quirks: set[Quirk] = set()
        self.page_size_limit: int | None = None
        self.broken_details: set[int] = set()
        self.has_histories = True
        self.has_old_histories = False
        self._secret_key = SECRET_KEY
        self._tokens: dict[str, datetime] = {}
        # Rows shift under every other walk of a list: alarms do not end all the time.
        self._walks: Counter[str] = Counter()
        self._rows: dict[int, _Row] = {}
        self._arrivals: dict[int, datetime] = {}

    def endpoint_of(self, request: Request) -> str:
        """Returns the metric's label for this request."""
        match request.method, request.path.rstrip("/").removeprefix(f"/v2/{PROJECT_ID}"):
            case "POST", "/events" | "/events/statistic":
                return "list_events"
            case "GET", "/alarm-notified-histories":
                return "list_notified_histories"
            case "POST", "/v3/auth/tokens":
                return "create_token"
            case _:
                return "other"

    def answer(self, request: Request) -> Response:
        """Answers as AOM or IAM would now."""
        try:
            match self.endpoint_of(request):
                case "create_token":
                    return self._create_token(request)
                case "list_events":
                    self._let_in(request)
                    counts = request.path.rstrip("/").endswith("/statistic")
                    return self._count_events(request) if counts else self._list_events(request)
                case "list_notified_histories" if self.has_histories:
                    self._let_in(request)
                    return self._list_notified_histories(request)
        except Refusal as refused:
            return refused.response
        message = "The API does not exist or has not been published in the environment"
        return Refusal(404, "APIGW.0101", message).response

    def error_in_envelope(self, endpoint: str) -> Response:
        """Returns a plain 500: AOM has no errors inside HTTP 200."""
        return Refusal(500, "APM.00000500", "Internal Server Error").response

    def settings(self, base_url: str) -> dict[str, Any]:
        """Returns a source that signs with the simulated access key."""
        return {
            "vendor": self.vendor,
            "endpoint": base_url,
            "project_id": PROJECT_ID,
            "auth": {"method": "aksk", "access_key": ACCESS_KEY, "secret_key": self._secret_key},
        }

    def rotate(self) -> dict[str, str]:
        """Replaces the secret key; tokens issued so far die."""
        self._secret_key += "-next"
        self._tokens.clear()
        return {"secret_key": self._secret_key}

    def truth(self, since: Since) -> Truth:
        """Returns the ledger; what arrived late was not there before it arrived."""
        return truth_of(self.world, _SinceArrival(since.counted_from, since.first_success, self._arrivals))

    # Who asks.

    def _let_in(self, request: Request) -> None:
        token = request.headers.get("x-auth-token")
        if token is not None:
            if token != TOKEN and self._tokens.get(token, self.world.now) <= self.world.now:
                raise Refusal(401, "APIGW.0307", "The token must be updated.")
            return
        found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        date = request.headers.get("x-sdk-date", "")
        signed = found[2].split(";") if found else []
        if not found or "x-sdk-date" not in signed or any(name not in request.headers for name in signed):
            raise Refusal(401, "APIGW.0301", "Incorrect IAM authentication information: auth header is missing")
        if found[1] != ACCESS_KEY or not hmac.compare_digest(found[3], self._signature(request, signed, date)):
            raise Refusal(401, "APIGW.0301", "Incorrect IAM authentication information: verify aksk signature fail")
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(self.world.now + self.world.skew - signed_at) > MAX_SKEW:
            raise Refusal(401, "APIGW.0303", "Incorrect IAM authentication information: signature expired")

    def _signature(self, request: Request, signed: Sequence[str], date: str) -> str:
        path = "/".join(quote(part, safe="~") for part in request.decoded_path.split("/"))
        canonical = [request.method, path if path.endswith("/") else path + "/"]
        pairs = sorted(request.parameters)
        canonical.append("&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs))
        canonical += [f"{name}:{request.headers[name].strip()}" for name in signed]
        canonical += ["", ";".join(signed), hashlib.sha256(request.body).hexdigest()]
        hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        to_sign = f"SDK-HMAC-SHA256\n{date}\n{hashed}".encode()
        return hmac.new(self._secret_key.encode(), to_sign, hashlib.sha256).hexdigest()

    def _create_token(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(request.body)["auth"]
            user, scope = asked["identity"]["password"]["user"], asked["scope"]["project"]
        except (msgspec.DecodeError, KeyError, TypeError):
            raise Refusal(400, "IAM.0011", "The request body is invalid.") from None
        if user != IAM_USER or scope != {"name": PROJECT_NAME}:
            said = {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}}
            return json_response(said, status=401)
        issued, token = self.world.now, f"token-{len(self._tokens)}-{self.world.now.timestamp():.6f}"
        self._tokens[token] = issued + TOKEN_LIFE
        stamps = {name: f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for name, at in self._span(issued)}
        body = {"token": {**stamps, "methods": ["password"], "project": {"id": PROJECT_ID, "name": PROJECT_NAME}}}
        return json_response(body, status=201, headers={"X-Subject-Token": token})

    def _span(self, issued: datetime) -> Iterator[tuple[str, datetime]]:
        yield "issued_at", issued + self.world.skew
        yield "expires_at", issued + self.world.skew + TOKEN_LIFE

    # ListEvents.

    def _list_events(self, request: Request) -> Response:
        parameters = dict(request.parameters)
        limit, marker = parameters.get("limit", "1000"), parameters.get("marker", "0")
        if max(len(limit), len(marker)) > 18 or not (limit.isdigit() and 0 < int(limit) <= 1000 and marker.isdigit()):
            raise _illegal()
        rows = self._selected(_query_of(request), parameters.get("type", ""))
        size = min(int(limit), self.page_size_limit or 1000)
        walked = parameters.get("type", "")
        self._walks[walked] += marker == "0"
        return self._page(rows, int(marker), size, shifts=self._walks[walked] % 2 == 1)

    def _count_events(self, request: Request) -> Response:
        """Counts by severity in steps of the time, both ends included; what is too old for the first step is in it."""
        query = _query_of(request)
        if not query.step or query.step < _MINUTE_MS:
            raise _illegal()
        start, end = self._range_of(query)
        stamps = [*range(start, end + query.step, query.step)]
        series: dict[str, list[int]] = {}
        for row in self._selected(query, dict(request.parameters).get("type", "")):
            values = series.setdefault(row.metadata["event_severity"], [0] * len(stamps))
            values[(row.starts_ms - start) // query.step] += 1
        listed = [{"event_severity": level, "values": values} for level, values in series.items()]
        return json_response({"step": query.step, "timestamps": stamps, "series": listed, "summary": {}})

    def _selected(self, query: _Query, of_type: str) -> list[_Row]:
        start, end = self._range_of(query)
        relations = query.metadata_relation or []
        if any(relation.relation not in {"AND", "OR", "NOT"} for relation in relations):
            raise _illegal()
        wanted = {"active_alert": True, "history_alert": False}.get(of_type)
        rows = [
            row
            for row in map(self._row_of, self.world.visible())
            if start <= row.starts_ms <= end
            and (wanted is None or row.is_active is wanted)
            and _related(row.metadata, relations)
            and (not query.search or any(query.search in value for value in row.metadata.values()))
        ]
        if query.sort is not None:
            if query.sort.order_by != ["starts_at"] or query.sort.order not in {"asc", "desc"}:
                raise _illegal()
            rows.sort(key=lambda row: row.starts_ms, reverse=query.sort.order == "desc")
        return rows

    def _range_of(self, query: _Query) -> tuple[int, int]:
        found = _TIME_RANGE.fullmatch(query.time_range)
        if not found:
            raise _illegal()
        start, end, minutes = (int(part) for part in found.groups())
        now = _ms(self.world.stamp())
        if minutes == 0 or (query.step and minutes * 60 / (query.step / 1000) > 1440):
            raise _illegal()
        if end == -1:
            end = now if start == -1 else min(now, start + minutes * _MINUTE_MS)
        if start == -1:
            start = end - minutes * _MINUTE_MS
        if minutes < (end - start) / _MINUTE_MS - 1:
            raise _illegal()
        return start, end

    def _page(self, rows: list[_Row], marker: int, size: int, *, shifts: bool) -> Response:
        start = marker
        if marker and Quirk.DUPLICATE_ROWS in self.quirks:
            start -= 1
        if marker and Quirk.SHIFT_ROWS in self.quirks and shifts:
            start += 1
        following = str(marker + size) if marker + size < len(rows) else ""
        if Quirk.ENDLESS_PAGES in self.quirks:
            start, following = min(start, max(len(rows) - size, 0)), str(marker + size)
        if marker and Quirk.REPEAT_CURSOR in self.quirks:
            following = str(marker)
        shown = [row.encoded for row in rows[start : max(start, marker) + size]]
        info = {"current_count": len(shown), "previous_marker": str(marker), "next_marker": following}
        return json_response({"events": shown, "page_info": info})

    def _row_of(self, incident: Incident) -> _Row:
        version = (incident.severity, incident.ended, incident.ending)
        row = self._rows.get(incident.number)
        if row is None or row.version != version:
            # A late record reached AOM when it became visible.
            visible = floored(incident.visible + self.world.skew, TRAITS.resolution)
            arrival = self._arrivals.setdefault(incident.number, max(incident.started, visible))
            row = self._rows[incident.number] = _row_from(incident, version, arrival)
        return row

    # ListNotifiedHistories.

    def _list_notified_histories(self, request: Request) -> Response:
        event_sn = dict(request.parameters).get("event_sn", "")
        if not event_sn.isdecimal() or len(event_sn) > 64:
            raise Refusal(400, "AOM.0400", "event_sn is mandatory")
        number = int(event_sn) - int(_serial(0))
        if number in self.broken_details:
            raise Refusal(500, "AOM.0500", "Internal Server Error")
        told = [
            _publication(tell)
            for incident in self._incidents(number)
            for tell in incident.tells
            if tell.settles <= self.world.now
        ]
        if self.has_old_histories:
            return json_response({"event_sn": event_sn, "notifications": told})
        histories = [{"event_sn": event_sn, "notifications": told}] if told else []
        return json_response({"notified_histories": histories})

    def _incidents(self, number: int) -> Sequence[Incident]:
        """Returns the incident of a number, which the world counts from 1, if it can be seen."""
        found = self.world.incidents[number - 1 : number] if number > 0 else []
        return [incident for incident in found if incident.visible <= self.world.now and not incident.removed]


class _SinceArrival(Since, frozen=True):
    arrivals: Mapping[int, datetime]

    def is_baseline(self, incident: Incident, world: World) -> bool:
        arrived = self.arrivals.get(incident.number, incident.started)
        return arrived < floored(self.counted_from, TRAITS.resolution) and super().is_baseline(incident, world)


def _illegal() -> Refusal:
    return Refusal(400, "AOM.08032002", "The request body is illegal")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _serial(number: int) -> str:
    return str(1_290_000_000_000_000_000 + number)


def _row_from(incident: Incident, version: tuple[Any, ...], arrival: datetime) -> _Row:
    starts_ms = _ms(incident.started)
    ended = None if incident.is_event else incident.ended
    life_ms = _ms(ended) - starts_ms if ended else 0
    metadata = {
        "event_name": incident.rule,
        "event_severity": incident.severity.capitalize(),
        "event_type": "event" if incident.is_event else "alarm",
        "resource_provider": incident.provider.upper() if incident.number % 2 else incident.provider,
        "resource_type": incident.resource_type,
        "resource_id": f"name={incident.resource};kind={incident.resource_type}",
        "namespace": incident.namespace,
    }
    record = {
        "id": str(7_012_345_678_900_000_000 + incident.number),
        "event_sn": _serial(incident.number),
        "starts_at": starts_ms,
        "ends_at": _ms(ended) if ended else 0,
        "arrives_at": _ms(arrival),
        "timeout": max(life_ms, 1) if incident.ending is CloseReason.EXPIRED else max(_TIMEOUT_MS, life_ms + 1),
        "enterprise_project_id": "0",
        "metadata": metadata,
        "annotations": {"message": f"{incident.rule}: {incident.policy}"},
        "policy": {},
    }
    return _Row(version, starts_ms, ended is None, metadata, msgspec.Raw(msgspec.json.encode(record)))


def _related(metadata: dict[str, str], relations: Sequence[_Relation]) -> bool:
    held = {"AND": True, "OR": not any(relation.relation == "OR" for relation in relations)}
    for relation in relations:
        matches = metadata.get(relation.key) in relation.value
        if relation.relation == "OR":
            held["OR"] = held["OR"] or matches
        else:
            held["AND"] = held["AND"] and matches is (relation.relation == "AND")
    return all(held.values())


def _publication(tell: Tell) -> dict[str, Any]:
    """Returns what SMN said to one publication; a topic here has one subscription."""
    reason, text = tell.failure or (None, "")
    request_id = f"{tell.number:032x}"
    is_refused = reason is not None and reason is not FailureReason.NOT_SUBSCRIBED
    body = {"request_id": request_id, "code": "SMN.0006", "message": text}
    endpoint = {
        "smn_notified_content": "a person's name and what happened",
        "smn_subscription_type": _PROTOCOLS[tell.channel],
        "smn_subscription_status": 0 if reason is FailureReason.NOT_SUBSCRIBED else 1,
    }
    channel = {
        "sent_time": _ms(tell.at),
        "smn_topic": "ops",
        "smn_request_id": request_id,
        "smn_response_code": _STATUS_OF.get(reason, "400") if is_refused and reason else "200",
        "smn_response_body": msgspec.json.encode(
            body if is_refused else {"message_id": request_id, "request_id": request_id}
        ).decode(),
        "smn_notified_history": [endpoint],
    }
    return {"action_rule": "ops_rule", "notifier_channel": "SMN", "smn_channel": channel}
