"""The API's JSON as Key-ASTROM writes it: any field of a row may be null or absent; only what is read is here."""

from typing import Any, Generic, TypeVar

import msgspec

from exporter.vendorkit.fields import Scalar

T = TypeVar("T")


class EntityId(msgspec.Struct, gc=False):
    type: Scalar = None


class EntityStub(msgspec.Struct, gc=False, rename="camel"):
    entity_id: EntityId | None = None


class ManagementZone(msgspec.Struct, gc=False):
    name: Scalar = None


class Event(msgspec.Struct, gc=False, rename="camel"):
    event_id: Scalar = None
    event_type: Scalar = None
    title: Scalar = None
    start_time: Scalar = None
    end_time: Scalar = None
    status: Scalar = None
    entity_id: EntityStub | None = None
    management_zones: list[ManagementZone | None] | None = None
    under_maintenance: Scalar = None
    suppress_alert: Scalar = None


class EventId(msgspec.Struct, gc=False, rename="camel"):
    """The ids of an event and its type, whatever the shape of its other fields."""

    event_id: Any = None
    event_type: Any = None


class EventType(msgspec.Struct, gc=False, rename="camel"):
    type: Scalar = None
    severity_level: Scalar = None


class Evidence(msgspec.Struct, gc=False, rename="camel"):
    evidence_type: Scalar = None
    event_id: Scalar = None
    start_time: Scalar = None


class EvidenceDetails(msgspec.Struct, gc=False):
    details: list[Evidence | None] | None = None


class Problem(msgspec.Struct, gc=False, rename="camel"):
    problem_id: Scalar = None
    evidence_details: EvidenceDetails | None = None


class Page(msgspec.Struct, kw_only=True, rename="camel"):
    """The fields all lists share. `totalCount` is always there: without it, this is another answer."""

    total_count: int | float | str
    next_cursor: str | None = msgspec.field(name="nextPageKey", default=None)


class EventList(Page, Generic[T], kw_only=True, rename="camel"):
    events: list[T] | None = None


class EventTypeList(Page, Generic[T], kw_only=True, rename="camel"):
    event_type_infos: list[T] | None = None


class ProblemList(Page, Generic[T], kw_only=True, rename="camel"):
    problems: list[T] | None = None


class Violation(msgspec.Struct):
    path: Scalar = None


class Error(msgspec.Struct, rename="camel"):
    constraint_violations: list[Violation] | None = None


class ErrorEnvelope(msgspec.Struct):
    error: Error
