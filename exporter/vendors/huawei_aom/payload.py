"""AOM's JSON as AOM writes it. Numbers may come as text; what a record may lack has a default."""

from typing import Any, Generic, TypeVar

import msgspec

from exporter.vendorkit.fields import Scalar

T = TypeVar("T")


class Metadata(msgspec.Struct, gc=False):
    """The keys of `metadata` that are read. Self-reported alarms may lack any of them, or put numbers there."""

    event_name: Scalar = None
    event_severity: Scalar = None
    event_type: Scalar = None
    resource_provider: Scalar = None
    resource_type: Scalar = None
    namespace: Scalar = None


class EventRecord(msgspec.Struct, gc=False):
    """An alarm or an event (ListEventModel). Times and `timeout` are in milliseconds; `ends_at` 0 is not cleared."""

    id: Scalar = None
    event_sn: Scalar = None
    starts_at: Scalar = None
    ends_at: Scalar = None
    arrives_at: Scalar = None
    timeout: Scalar = None
    metadata: Metadata | None = None


class EventId(msgspec.Struct, gc=False):
    """The id of an alarm or an event, whatever the shape of its other fields."""

    id: Any = None
    event_sn: Any = None
    starts_at: Any = None


class PageInfo(msgspec.Struct):
    next_marker: Scalar = None


class EventList(msgspec.Struct, Generic[T]):
    """One page of ListEvents. `events` is always there: an answer without it says nothing about what is open."""

    events: list[T]
    page_info: PageInfo | None = None


class Series(msgspec.Struct):
    """How many alarms of one severity there are in each step of the time (EventSeries)."""

    event_severity: Scalar = None
    values: list[Scalar] | None = None


class Counts(msgspec.Struct):
    """Answer of CountEvents; a severity without alarms may be absent."""

    series: list[Series]


class Endpoint(msgspec.Struct):
    """One subscription of an SMN topic (SmnInfo); status 1 is confirmed."""

    smn_subscription_type: Scalar = None
    smn_subscription_status: Scalar = None


class SmnChannel(msgspec.Struct):
    """One publication to an SMN topic (SmnResponse); the body is JSON inside a string."""

    sent_time: Scalar = None
    smn_request_id: Scalar = None
    smn_response_code: Scalar = None
    smn_response_body: Any = None
    smn_notified_history: list[Endpoint] | None = None


class Notification(msgspec.Struct):
    """The actions of one action rule (Notifications)."""

    action_rule: Scalar = None
    smn_channel: SmnChannel | None = None


class NotifiedHistory(msgspec.Struct):
    """The actions for one alarm (NotifiedHistoriesResult)."""

    notifications: list[Notification] | None = None


class OlderNotifiedHistory(msgspec.Struct):
    """The answer of ListNotifiedHistories before SDK 3.1.75: the list's content today, recognised by this field."""

    notifications: msgspec.Raw


class NotifiedHistoryList(msgspec.Struct, Generic[T]):
    """The answer of ListNotifiedHistories."""

    notified_histories: list[T] | None


class SmnBody(msgspec.Struct):
    """The answer of SMN; `message` is in errors only."""

    message: Scalar = None


class InnerError(msgspec.Struct):
    code: Scalar = None


class ErrorBody(msgspec.Struct):
    """An error of AOM (`error_msg` or `error_message`), of the gateway before it, of older calls, or of IAM."""

    error_code: Scalar = None
    error_code_of_old: Scalar = msgspec.field(name="errorCode", default=None)
    error_msg: Scalar = None
    error_message: Scalar = None
    error: InnerError | None = None
