"""Answers as Key-ASTROM would: events, event types and problems, from the simulated world."""

import base64
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.simulation.truth import Since, Truth, truth_of
from exporter.simulation.wire import Quirk, Request, Response, json_response
from exporter.simulation.world import Incident, Traits, World

TRAITS = Traits(
    severities=(Severity.CRITICAL, Severity.MAJOR, Severity.MINOR, Severity.WARNING),
    endings=(CloseReason.RECOVERED,),
    resolution=timedelta(milliseconds=1),
    shields=True,
    converges=True,
    has_events=True,
)

ENVIRONMENT = "3f8b1c52-9d0e-4a67-8b21-5c7e90d4a1f6"

# Types and their levels in GET eventTypes.
_ALERT_TYPES: Mapping[Severity, Sequence[tuple[str, str]]] = {
    Severity.CRITICAL: (("OSI_UNEXPECTEDLY_UNAVAILABLE", "AVAILABILITY"), ("SYNTHETIC_GLOBAL_OUTAGE", "AVAILABILITY")),
    Severity.MAJOR: (("SERVICE_ERROR_RATE_INCREASED", "ERROR"), ("HOST_LOG_ERROR", "ERROR")),
    Severity.MINOR: (("SERVICE_SLOWDOWN", "PERFORMANCE"), ("APPLICATION_SLOWDOWN", "PERFORMANCE")),
    Severity.WARNING: (("OSI_LOW_DISK_SPACE", "RESOURCE_CONTENTION"), ("CUSTOM_ALERT", "CUSTOM_ALERT")),
}
_EVENT_TYPES = (("PROCESS_RESTART", "INFO"), ("CUSTOM_DEPLOYMENT", "INFO"), ("CUSTOM_INFO", "INFO"))
_LEVELS = dict([*(pair for pairs in _ALERT_TYPES.values() for pair in pairs), *_EVENT_TYPES])
# Silence of its sender after which a reported event closes; other events of INFO level have no duration.
_INFO_TIMEOUT = timedelta(minutes=15)

_EPOCH = datetime.fromtimestamp(0, UTC)
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "M": 30 * 86400, "y": 365 * 86400}
_RELATIVE = re.compile(r"now(?:-(\d{1,7})([mhdwMy]))?(?:/([mhdwMy]))?")
_MAX_SELECTOR = 2_000
_VALUE = r'(?:"(?:[^"~]|~.)*"|[\w.-]+)'
_CRITERION = re.compile(rf"([A-Za-z][\w.]*)\(({_VALUE}(?:\s*,\s*{_VALUE})*)\)(?:\s*,\s*|$)")

Key = tuple[bool, int, str]
Criteria = dict[str, list[str]]


class Refusal(Exception):
    def __init__(self, status: int, message: str, path: str = "", why: str = "") -> None:
        super().__init__(message)
        error: dict[str, Any] = {"code": status, "message": message}
        if path:
            violation = {"path": path, "message": why, "parameterLocation": "QUERY", "location": None}
            error["constraintViolations"] = [violation]
        self.response = json_response({"error": error}, status=status)


def _violation(path: str, why: str) -> Refusal:
    return Refusal(400, "Constraints violated.", path, why)


class _Walk(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a cursor: the question of page 1, its times made absolute, and the sort key of the last row."""

    listing: str
    size: int
    start: int = 0
    end: int = 0
    selector: str = ""
    entities: str = ""
    after: Key | None = None
    page: int = 1


class _Listing(msgspec.Struct, frozen=True):
    endpoint: str
    rows: str
    scope: str
    default_size: int
    max_size: int
    selector: str = ""
    beside_cursor: tuple[str, ...] = ()


_LISTINGS = {
    "events": _Listing("events", "events", "events.read", 100, 1000, "eventSelector"),
    "eventTypes": _Listing("event_types", "eventTypeInfos", "events.read", 100, 500),
    "problems": _Listing("problems", "problems", "problems.read", 50, 500, "problemSelector", ("fields",)),
}


class KeyAstromSimulator:
    """One environment.

    `scopes` are what its token may do. `page_size_beside_fields` is the largest page of problems that are asked for
    with `fields`; the manual knows no such limit, other material of the vendor says 10.
    """

    vendor = "key_astrom"

    def __init__(self, world: World) -> None:
        self.world = world
        self.quirks: set[Quirk] = set()
        self.page_size_limit: int | None = None
        self.broken_details: set[int] = set()
        self.scopes = {"events.read", "problems.read"}
        self.page_size_beside_fields: int | None = None
        self._rotations = 0

    def endpoint_of(self, request: Request) -> str:
        """Returns the metric's label for this request."""
        listing = self._listing_of(request)
        return _LISTINGS[listing].endpoint if listing else "other"

    def _listing_of(self, request: Request) -> str | None:
        found = re.fullmatch(r"/e/[\w-]+/api/v2/(events|eventTypes|problems)", request.decoded_path)
        return found[1] if found else None

    def answer(self, request: Request) -> Response:
        """Answers as the environment would now."""
        try:
            return self._answer(request)
        except Refusal as refused:
            return refused.response

    def error_in_envelope(self, _endpoint: str) -> Response:
        """Returns a plain 500: errors inside HTTP 200 are not known of this API."""
        return Refusal(500, "Internal Server Error").response

    def settings(self, base_url: str) -> dict[str, Any]:
        """Returns the source's section of a configuration file."""
        return {
            "vendor": self.vendor,
            "endpoint": f"{base_url}/e/{ENVIRONMENT}",
            "auth": {"api_token": self.token},
            "problems": True,
        }

    def rotate(self) -> dict[str, str]:
        """Replaces the token."""
        self._rotations += 1
        return {"api_token": self.token}

    @property
    def token(self) -> str:
        """Returns the one token that is accepted."""
        return f"dt0c01.SIMULATEDPUBLICID0000001.SIMULATED-SECRET-{self._rotations}"

    def truth(self, since: Since) -> Truth:
        """Returns all of the world's alerts and anomalies, and its events by their types."""
        truth = truth_of(self.world, since)
        truth.events = Counter(
            _type_of(incident)
            for incident in self.world.incidents
            if incident.is_event
            and incident.visible <= self.world.now
            and since.counts(incident.started, incident, self.world)
        )
        return truth

    def _answer(self, request: Request) -> Response:
        name = self._listing_of(request)
        if request.headers.get("authorization") != f"Api-Token {self.token}":
            raise Refusal(401, "Token Authentication failed")
        if name is None:
            raise Refusal(404, "Not found")
        listing = _LISTINGS[name]
        if listing.scope not in self.scopes:
            raise Refusal(403, f"Token is missing required scope. Use one of: {listing.scope} (Read {name})")
        if request.method != "GET":
            raise Refusal(405, "HTTP method not allowed")
        given = dict(request.parameters)
        cursor = given.get("nextPageKey", "")
        walk = self._resumed(name, given) if cursor else self._begun(name, given)
        found = self._found(walk)
        keys = sorted(found)
        at = bisect_right(keys, walk.after) if walk.after is not None else 0
        shown = keys[at : at + walk.size]
        return json_response(
            {
                "totalCount": len(keys),
                "pageSize": walk.size,
                **self._next(walk, cursor, keys, shown),
                **({} if name == "eventTypes" else {"warnings": []}),
                listing.rows: [self._row(name, found[key], given.get("fields", "")) for key in shown],
            }
        )

    # Parameters, and cursors in their place.

    def _begun(self, name: str, given: Mapping[str, str]) -> _Walk:
        listing = _LISTINGS[name]
        size = given.get("pageSize", str(listing.default_size))
        if not size.isdecimal() or not 1 <= int(size) <= listing.max_size:
            raise _violation("pageSize", f"must be between 1 and {listing.max_size}")
        if given.get("fields") and self.page_size_beside_fields and int(size) > self.page_size_beside_fields:
            raise _violation("pageSize", f"must be <= {self.page_size_beside_fields}")
        for selector in (listing.selector, "entitySelector"):
            if len(given.get(selector, "")) > _MAX_SELECTOR:
                raise _violation(selector, f"must not be longer than {_MAX_SELECTOR} characters")
        walk = _Walk(
            listing=name,
            size=min(int(size), self.page_size_limit or listing.max_size),
            start=self._moment("from", given.get("from", "now-2h")),
            end=self._moment("to", given.get("to", "now")),
            selector=given.get(listing.selector, ""),
            entities=given.get("entitySelector", ""),
        )
        if walk.start > walk.end:
            raise _violation("from", "must not be after to")
        return walk

    def _resumed(self, name: str, given: Mapping[str, str]) -> _Walk:
        for parameter in given:
            if parameter != "nextPageKey" and parameter not in _LISTINGS[name].beside_cursor:
                raise _violation(parameter, "must not be used in combination with nextPageKey query parameter.")
        try:
            walk = msgspec.json.decode(base64.b64decode(given["nextPageKey"], validate=True), type=_Walk)
        except ValueError:
            raise _violation("nextPageKey", "is not valid.") from None
        if walk.listing != name:
            raise _violation("nextPageKey", "is not valid.")
        return walk

    def _next(self, walk: _Walk, cursor: str, keys: Sequence[Key], shown: Sequence[Key]) -> dict[str, str]:
        if Quirk.REPEAT_CURSOR in self.quirks and cursor:
            return {"nextPageKey": cursor}
        after = shown[-1] if shown else walk.after
        if after is None or (after == keys[-1] and Quirk.ENDLESS_PAGES not in self.quirks):
            return {}  # the manual says null; the wire leaves it out
        if Quirk.DUPLICATE_ROWS in self.quirks and len(shown) > 1:
            after = shown[-2]
        further = msgspec.structs.replace(walk, after=after, page=walk.page + 1)
        return {"nextPageKey": base64.b64encode(msgspec.json.encode(further)).decode()}

    def _moment(self, parameter: str, text: str) -> int:
        now = _ms(self.world.stamp())
        if text.isdecimal():
            return int(text)
        if relative := _RELATIVE.fullmatch(text):
            count, unit, alignment = relative.groups()
            moment = now - 1000 * int(count or 0) * _UNITS.get(unit, 0)
            return moment - moment % (1000 * _UNITS[alignment]) if alignment else moment
        try:
            moment_of = datetime.fromisoformat(text)
        except ValueError:
            raise _violation(parameter, "is no valid timestamp") from None
        return _ms(moment_of if moment_of.tzinfo else moment_of.replace(tzinfo=UTC))

    # What matches.

    def _found(self, walk: _Walk) -> dict[Key, Any]:
        if walk.listing == "eventTypes":
            return {(False, 0, name): name for name in _LEVELS}
        problems = walk.listing == "problems"
        tests: list[Callable[[Incident], bool]] = []
        for criterion, values in _criteria(walk.selector, "problemSelector" if problems else "eventSelector").items():
            self._check(criterion, values, problems=problems)
            tests.append(self._test(criterion, {value.upper() for value in values}))
        if walk.entities:
            entities = _criteria(walk.entities, "entitySelector")
            if not entities.keys() & {"type", "entityId"} or entities.keys() - {"type", "entityId"}:
                raise _violation("entitySelector", "must have the criterion type or entityId")
            tests.extend(self._test(criterion, {v.upper() for v in values}) for criterion, values in entities.items())
        found: dict[Key, Incident] = {}
        for incident in self.world.visible():
            start = _ms(incident.started)
            end = None if self._is_open(incident) else _ms(incident.ended or incident.started)
            if start > walk.end or (end is not None and end < walk.start) or (problems and incident.is_event):
                continue
            if all(test(incident) for test in tests):
                found[end is not None, -start, _event_id(incident)] = incident
        return found

    def _check(self, criterion: str, values: Sequence[str], *, problems: bool) -> None:
        allowed = {"status"} if problems else _GETTERS.keys() - {"type"} | {"status"}
        if criterion not in allowed:
            raise _violation("problemSelector" if problems else "eventSelector", f"unknown criterion {criterion}")
        if criterion in {"status", "eventType"} and len(values) > 1:
            raise _violation("eventSelector", f"{criterion} takes one value")
        if criterion == "status" and values[0].upper() not in {"OPEN", "CLOSED"}:
            raise _violation("eventSelector", "status must be OPEN or CLOSED")
        if criterion == "eventId":
            broken = {_event_id(one) for one in self.world.incidents if one.number in self.broken_details}
            if broken & set(values):
                raise Refusal(500, "Internal Server Error")

    def _test(self, criterion: str, values: set[str]) -> Callable[[Incident], bool]:
        if criterion == "status":
            return lambda incident: ("OPEN" if self._is_open(incident) else "CLOSED") in values
        getter = _GETTERS[criterion]
        return lambda incident: getter(incident).upper() in values

    def _is_open(self, incident: Incident) -> bool:
        if incident.is_event:
            return _type_of(incident) == "CUSTOM_INFO" and self.world.stamp() < incident.started + _INFO_TIMEOUT
        return incident.ending is None

    # Rows.

    def _row(self, listing: str, found: Any, fields: str) -> Any:
        match listing:
            case "eventTypes":
                title = found.replace("_", " ").capitalize()
                return {"type": found, "displayName": title, "severityLevel": _LEVELS[found], "description": title}
            case "problems":
                return self._problem(found, with_evidence="evidenceDetails" in fields.split(","))
            case _:
                return self._event(found)

    def _event(self, incident: Incident) -> dict[str, Any]:
        is_open = self._is_open(incident)
        return {
            "eventId": _event_id(incident),
            "startTime": _ms(incident.started),
            "endTime": -1 if is_open else _ms(incident.ended or incident.started),
            "eventType": _type_of(incident),
            "title": incident.rule,
            **({"correlationId": f"{_hash(incident.number, 7) & (2**64 - 1):016x}"} if incident.number % 2 else {}),
            "entityId": _entity(incident),
            "properties": [{"key": "dt.event.impact_level", "value": "Infrastructure"}],
            "status": "OPEN" if is_open else "CLOSED",
            "entityTags": [{"context": "CONTEXTLESS", "key": "demo", "stringRepresentation": "demo"}],
            "managementZones": _zones(incident),
            "underMaintenance": incident.shielded,
            "suppressAlert": incident.shielded,
            "suppressProblem": _raises_no_problem(incident),
            "frequentEvent": _is_frequent(incident),
        }

    def _problem(self, incident: Incident, *, with_evidence: bool) -> dict[str, Any]:
        end = -1 if incident.ending is None else _ms(incident.ended or incident.started)
        moments = [incident.started, *incident.anomalies]
        details: list[dict[str, Any]] = [
            {
                "evidenceType": "EVENT",
                "displayName": incident.rule,
                "entity": _entity(incident),
                "groupingEntity": None,
                "rootCauseRelevant": place == 0,
                "eventId": f"{_hash(incident.number, place)}_{_ms(at)}",
                "eventType": _type_of(incident),
                "startTime": _ms(at),
                "endTime": end,
            }
            for place, at in enumerate(moments)
        ]
        metric = {"evidenceType": "METRIC", "displayName": "Response time", "entity": _entity(incident)}
        details.insert(1, {**metric, "rootCauseRelevant": False, "startTime": _ms(incident.started)})
        return {
            "problemId": f"{_event_id(incident)}V2",
            "displayId": f"P-26{incident.number:05d}",
            "title": incident.rule,
            "impactLevel": "INFRASTRUCTURE",
            "severityLevel": _LEVELS[_type_of(incident)],
            "status": "OPEN" if incident.ending is None else "CLOSED",
            "startTime": _ms(incident.started),
            "endTime": end,
            "affectedEntities": [_entity(incident)],
            "impactedEntities": [],
            "rootCauseEntity": None,
            "managementZones": _zones(incident),
            "entityTags": [],
            "problemFilters": [],
            **({"evidenceDetails": {"totalCount": len(details), "details": details}} if with_evidence else {}),
        }


def _criteria(selector: str, parameter: str) -> Criteria:
    """Returns the criteria of a selector with their values, `~` being its escape character."""
    criteria: Criteria = {}
    at = 0
    while at < len(selector):
        found = _CRITERION.match(selector, at)
        if found is None:
            raise _violation(parameter, f"cannot be parsed at position {at}")
        criteria[found[1]] = [
            re.sub(r"~(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            for value in re.findall(_VALUE, found[2])
        ]
        at = found.end()
    return criteria


def _hash(number: int, place: int) -> int:
    """Returns a signed number of 64 bits, the same for the same event every time."""
    mixed = (number * 0x9E3779B97F4A7C15 + place * 0xC2B2AE3D27D4EB4F) % 2**64
    return mixed - 2**64 if mixed >= 2**63 else mixed


def _event_id(incident: Incident) -> str:
    return f"{_hash(incident.number, 0)}_{_ms(incident.started)}"


def _type_of(incident: Incident) -> str:
    types = _EVENT_TYPES if incident.is_event else _ALERT_TYPES[incident.first_severity]
    return types[incident.number % len(types)][0]


def _entity_id(incident: Incident) -> str:
    return f"{incident.resource_type}-{_hash(sum(incident.resource.encode()), 3) & (2**64 - 1):016X}"


def _entity(incident: Incident) -> dict[str, Any]:
    return {"entityId": {"id": _entity_id(incident), "type": incident.resource_type}, "name": incident.resource}


def _zones(incident: Incident) -> list[dict[str, str]]:
    return [{"id": str(_hash(sum(incident.namespace.encode()), 5)), "name": incident.namespace}]


def _raises_no_problem(incident: Incident) -> bool:
    """Returns whether the detection of problems leaves this event out; nobody decided that it is not to be heard of."""
    return incident.number % 11 == 5


def _is_frequent(incident: Incident) -> bool:
    """Returns whether it is frequent, and so no longer raises a problem."""
    return incident.number % 13 == 6


def _said(value: bool) -> str:
    return str(value).lower()


_GETTERS: Mapping[str, Callable[[Incident], str]] = {
    "eventId": _event_id,
    "eventType": _type_of,
    "entityId": _entity_id,
    "type": lambda incident: incident.resource_type,
    "managementZoneId": lambda incident: _zones(incident)[0]["id"],
    "underMaintenance": lambda incident: _said(incident.shielded),
    "suppressAlert": lambda incident: _said(incident.shielded),
    "suppressProblem": lambda incident: _said(_raises_no_problem(incident)),
    "frequentEvent": lambda incident: _said(_is_frequent(incident)),
}


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def simulator_for(world: World) -> KeyAstromSimulator:
    """Returns the simulator of one environment over this world."""
    return KeyAstromSimulator(world)
