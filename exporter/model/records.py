"""Notice, Operation, Convergence, Event: records, each with its identity."""

from datetime import datetime
from enum import StrEnum

import msgspec

from exporter.model.alert import Alert


class Kind(StrEnum):
    """Kinds of records; label `kind` of the metrics about dedup memory. A convergence is an operation."""

    ALERT = "alert"
    OPERATION = "operation"
    NOTICE = "notice"
    EVENT = "event"


class Channel(StrEnum):
    """How a person is told."""

    EMAIL = "email"
    SMS = "sms"
    PHONE = "phone"
    WEBHOOK = "webhook"
    IM = "im"
    OTHER = "other"
    UNKNOWN = "unknown"


class FailureReason(StrEnum):
    """Why a notice reached nobody."""

    TIMEOUT = "timeout"
    REJECTED = "rejected"
    NO_RECEIVER = "no_receiver"
    NOT_SUBSCRIBED = "not_subscribed"
    THROTTLED = "throttled"
    INTERNAL = "internal"
    OTHER = "other"
    UNKNOWN = "unknown"


class Suppression(StrEnum):
    """Why the vendor held a notice back."""

    CONVERGED = "converged"
    SHIELDED = "shielded"
    PENDING_COUNT = "pending_count"
    REPEAT_INTERVAL = "repeat_interval"
    FREQUENCY = "frequency"
    DISABLED = "disabled"
    BLOCKED = "blocked"
    OTHER = "other"


class Notice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of the vendor to tell a person, or, with `suppressed`, one it held back. `key` is its identity.

    A notice whose result is pending is read again with the same key: it is counted once, and so is its failure.
    """

    key: str
    alert_key: str
    at: datetime | None
    channel: Channel = Channel.UNKNOWN
    failure: FailureReason | None = None
    suppressed: Suppression | None = None
    unmapped: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of an alert's flow log; `operation` is the vendor's word in lower case, or `other`.

    `anomalies` is how many further anomalies this row folded into the alert; 0 for all but convergences.
    """

    key: str
    alert_key: str
    at: datetime | None
    operation: str
    failed: bool = False
    anomalies: int = 0
    unmapped: tuple[str, ...] = ()


class Convergence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A further anomaly folded into an open alert, at vendors that keep no flow log."""

    key: str
    alert_key: str
    at: datetime | None
    anomalies: int = 1
    unmapped: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened and is no alert: it does not open and close."""

    key: str
    at: datetime | None
    event_type: str
    unmapped: tuple[str, ...] = ()


Record = Alert | Notice | Operation | Convergence | Event


def kind_of(record: Record) -> Kind:
    """Returns the kind a record is counted under."""
    match record:
        case Alert():
            return Kind.ALERT
        case Notice():
            return Kind.NOTICE
        case Operation() | Convergence():
            return Kind.OPERATION
        case Event():
            return Kind.EVENT
