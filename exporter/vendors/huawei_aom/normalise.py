"""AOM's records in our words: alarms, events and notices."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from types import MappingProxyType

import msgspec

from exporter.errors import ItemRejected
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.records import Channel, Event, FailureReason, Notice
from exporter.vendorkit.fields import (
    AHEAD,
    LONGEST_TEXT,
    Scalar,
    identity,
    is_digits,
    moment_from_ms,
    text,
    whole_number,
    words,
)
from exporter.vendorkit.reasons import failure_reason_from
from exporter.vendors.huawei_aom import payload

# "Querying Events and Alarms", metadata: event_severity. The console shows Info as Warning.
SEVERITIES = {
    "Critical": Severity.CRITICAL,
    "Major": Severity.MAJOR,
    "Minor": Severity.MINOR,
    "Info": Severity.INFO,
}

# SMN, "Subscription": the protocols of a subscription.
CHANNELS = {
    "email": Channel.EMAIL,
    "sms": Channel.SMS,
    "http": Channel.WEBHOOK,
    "https": Channel.WEBHOOK,
    "callnotify": Channel.PHONE,
    "wechat": Channel.IM,
    "dingding": Channel.IM,
    "feishu": Channel.IM,
    "welink": Channel.IM,
}

LABELS = LabelSets(
    severities=tuple(SEVERITIES.values()),
    close_reasons=(CloseReason.RECOVERED, CloseReason.EXPIRED, CloseReason.VANISHED),
    channels=tuple(Channel),
    failure_reasons=tuple(FailureReason),
    event_types=("event",),
    unmapped=("severity", "time", "channel"),
    lists=("list_events",),
)

# An alarm that arrived within this after it was raised was not late.
_AT_ONCE_MS = 1000

# Between id and start in the key of a record without a serial number.
_JOINED = "/"


def has_serial(key: str) -> bool:
    """Returns whether a key is a serial number (event_sn), by which ListNotifiedHistories can be asked."""
    return _JOINED not in key


def totals_from(series: Iterable[payload.Series], severities: Mapping[str, Severity]) -> Counter[Severity]:
    """Returns the alarms of each severity over all steps of the time; raises ItemRejected for what is no number."""
    totals: Counter[Severity] = Counter()
    for one in series:
        severity = severities.get(text(one.event_severity).upper(), Severity.UNKNOWN)
        totals[severity] += sum(whole_number(value, "values") or 0 for value in one.values or ())
    return totals


def alert_reader(
    severities: Mapping[str, Severity], now: datetime, open_alerts: Mapping[str, Alert] = MappingProxyType({})
) -> Callable[[payload.EventRecord], Alert | None]:
    """Returns a converter of records to alerts, and of events to None.

    Args:
        severities: by the vendor's level in upper case.
        now: the vendor's time; nothing happened to an alarm much later.
        open_alerts: what is known as an alert is no event.
    """
    exact = {level: severities[level.upper()] for level in SEVERITIES}
    latest = now + AHEAD
    nothing = payload.Metadata()

    def alert_from(record: payload.EventRecord) -> Alert | None:
        metadata = record.metadata or nothing
        if metadata.event_type != "alarm" and is_event(record) and key_from(record) not in open_alerts:
            return None
        level = metadata.event_severity
        severity = exact.get(level) or severities.get(text(level).upper())  # type: ignore[arg-type]
        starts_at, arrives_at = record.starts_at, record.arrives_at
        started_at = moment_from_ms(starts_at, "starts_at")
        appeared_at = arrived_at = None
        if type(starts_at) is not int or type(arrives_at) is not int or arrives_at - starts_at >= _AT_ONCE_MS:
            arrived_at = moment_from_ms(arrives_at, "arrives_at")
            if started_at and arrived_at and started_at < arrived_at <= latest:
                appeared_at = arrived_at
        ended_at = moment_from_ms(record.ends_at, "ends_at") if record.ends_at else None
        unmapped: tuple[str, ...] = () if severity else ("severity",)
        if (
            (started_at and started_at > latest)
            or (arrived_at and arrived_at > latest)
            or (ended_at and ended_at > latest)
        ):
            unmapped += ("time",)
        name = metadata.event_name
        kind, provider, namespace = metadata.resource_type, metadata.resource_provider, metadata.namespace
        name = name[:LONGEST_TEXT] if type(name) is str else text(name)
        key = record.event_sn
        return Alert(
            key=key if type(key) is str and key else key_from(record),
            severity=severity or Severity.UNKNOWN,
            started_at=started_at,
            appeared_at=appeared_at,
            ended_at=ended_at,
            close_reason=_ending(started_at, ended_at, record.timeout) if ended_at else None,
            title=name,
            name=name,
            resource_type=kind[:LONGEST_TEXT] if type(kind) is str else text(kind),
            provider=provider[:LONGEST_TEXT].lower() if type(provider) is str else text(provider),
            namespace=namespace[:LONGEST_TEXT] if type(namespace) is str else text(namespace),
            unmapped=unmapped,
        )

    return alert_from


def is_event(record: payload.EventRecord) -> bool:
    """Returns whether a record is an event, which has no life; all others are alarms."""
    return record.metadata is not None and text(record.metadata.event_type).lower() == "event"


def event_from(record: payload.EventRecord) -> Event | None:
    """Returns an event; None for an alarm."""
    if not is_event(record):
        return None
    times = (moment_from_ms(record.starts_at, "starts_at"), moment_from_ms(record.arrives_at, "arrives_at"))
    at = max((time for time in times if time), default=None)
    return Event(key=key_from(record), at=at, event_type="event")


def key_from(record: payload.EventRecord | payload.EventId) -> str:
    """Returns the serial number, or the id with the start; raises ItemRejected for a record that has neither."""
    if record.event_sn:
        return identity(record.event_sn, "event_sn")
    if not isinstance(record.starts_at, Scalar):
        raise ItemRejected("starts_at is not a time")
    moment_from_ms(record.starts_at, "starts_at")
    return f"{identity(record.id, 'id')}{_JOINED}{text(record.starts_at) or 0}"


def _ending(started_at: datetime | None, ended_at: datetime, timeout: Scalar) -> CloseReason:
    """Returns how an alarm ended; only its age shows that it was cleared by its own timeout."""
    life = timedelta(0)
    with suppress(ItemRejected):
        life = timedelta(milliseconds=whole_number(timeout, "timeout") or 0)
    expired = life and started_at is not None and ended_at - started_at >= life
    return CloseReason.EXPIRED if expired else CloseReason.RECOVERED


def notices_from(event_sn: str, notification: payload.Notification) -> list[Notice]:
    """Returns one notice per endpoint of a publication; one of unknown channel if a failed one names no endpoint."""
    smn = notification.smn_channel or payload.SmnChannel()
    at = _sent_at(smn.sent_time)
    publication = text(smn.smn_request_id) or f"{text(notification.action_rule)}@{text(smn.sent_time)}"
    code = text(smn.smn_response_code)
    published = len(code) == 3 and is_digits(code) and code.startswith("2")
    refused = None if published else failure_reason_from(_why(code, words(smn.smn_response_body)))
    notices: list[Notice] = []
    for index, endpoint in enumerate(smn.smn_notified_history or ([] if published else [payload.Endpoint()])):
        protocol = text(endpoint.smn_subscription_type).lower()
        channel = CHANNELS.get(protocol, Channel.OTHER) if protocol else Channel.UNKNOWN
        confirmed = text(endpoint.smn_subscription_status) == "1"
        notices.append(
            Notice(
                key=f"{event_sn}/{publication}/{index}",
                alert_key=event_sn,
                at=at,
                channel=channel,
                failure=refused or (None if confirmed else FailureReason.NOT_SUBSCRIBED),
                unmapped=("channel",) if channel is Channel.OTHER else (),
            )
        )
    return notices


def _sent_at(value: Scalar) -> datetime | None:
    """Returns the time of `sent_time`, in milliseconds, or on older deployments in seconds of at most ten digits."""
    digits = text(value)
    return moment_from_ms(f"{digits}000" if is_digits(digits) and len(digits) <= 10 else value, "sent_time")


_SMN_BODY = msgspec.json.Decoder(payload.SmnBody)


def _why(code: str, body: str) -> str:
    """Returns SMN's own message, and its status if that says more than refused."""
    with suppress(msgspec.DecodeError):  # it may be plain text, too, or nothing
        body = text(_SMN_BODY.decode(body).message)
    return f"{body} {code}" if code.startswith("5") else body
