"""Alarm records to alerts, executions to notices and convergences ("DescribeAlarmRecord", "ListAlarmExecutions")."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from exporter.errors import ItemRejected, SourceUnintelligible
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.reading import Rejections
from exporter.model.records import Channel, Convergence, FailureReason, Kind, Notice, Suppression
from exporter.vendorkit.fields import flag, list_from, short, text
from exporter.vendorkit.items import checked_length, decode_mended, normalise_all
from exporter.vendorkit.reasons import failure_reason_from
from exporter.vendors.baidu_bls.payload import (
    NONE_LISTED,
    Alarm,
    AlarmId,
    Execution,
    LogStore,
    Policy,
    TriggerCondition,
)

# "DescribeAlarmRecord", TriggerCondition: level.
SEVERITIES = {"CRITICAL": Severity.CRITICAL, "WARN": Severity.WARNING, "INFO": Severity.INFO}

# "DescribeAlarmRecord", Alarm: state. Nothing else shows openness: the manual's own example is in state ALERT and
# has an end time and a reason of closing.
STATES = {"ALERT": None, "OK": CloseReason.RECOVERED, "CLOSED": CloseReason.CLOSED}

# "DescribeAlarmRecord", Notice: methods.
CHANNELS = {"EMAIL": Channel.EMAIL, "SMS": Channel.SMS, "PHONE": Channel.PHONE}

# The notice state of a run before the alarm: the condition was not met often enough yet.
_PENDING = "BLOCK_BY_PENDING_COUNT"

# "ListAlarmExecutions", noticeStates: what held a notice back. Others that begin with BLOCK are `other`.
SUPPRESSIONS = {
    _PENDING: Suppression.PENDING_COUNT,
    "BLOCK_BY_REPEAT_INTERVAL": Suppression.REPEAT_INTERVAL,
    "BLOCK_BY_FREQUENCY": Suppression.FREQUENCY,
    "BLOCK_BY_NOTICE_DISABLED": Suppression.DISABLED,
}

LABELS = LabelSets(
    severities=tuple(SEVERITIES.values()),
    close_reasons=(CloseReason.RECOVERED, CloseReason.CLOSED, CloseReason.VANISHED),
    channels=(*CHANNELS.values(), Channel.WEBHOOK, Channel.OTHER, Channel.UNKNOWN),
    failure_reasons=tuple(reason for reason in FailureReason if reason is not FailureReason.NOT_SUBSCRIBED),
    suppressions=(*SUPPRESSIONS.values(), Suppression.OTHER),
    unmapped=("state", "severity", "time", "close_reason", "channel", "notice_state"),
    lists=("list_alarm_record",),
)

_NOT_YET = frozenset({"", "NOT_SENT"})
_LATEST = datetime.max.replace(tzinfo=UTC)

_NONE_LISTED = (msgspec.Raw(b""), NONE_LISTED)
_EXECUTIONS = msgspec.json.Decoder(list[msgspec.Raw])
_EXECUTION = msgspec.json.Decoder(Execution)


def moment_from(value: Any) -> datetime | None:
    """Returns the time of an ISO 8601 text, by default in UTC; None if it is not a time."""
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.year > 1970 else None  # programs write the years 1 and 1970 for a time never set


def key_from(alarm: Alarm | AlarmId) -> str:
    """Returns the id of a record; raises ItemRejected where it has none."""
    if not isinstance(alarm.id, str) or not alarm.id:
        raise ItemRejected("id is missing")
    return alarm.id


def alert_from(alarm: Alarm, severities: Mapping[str, Severity]) -> Alert:
    """Returns the alert of a record, open unless its state says that it ended; raises ItemRejected without an id."""
    key = alarm.id or key_from(alarm)
    reason = ended_at = None
    unmapped: tuple[str, ...] = ()
    if alarm.state != "ALERT":
        state = state_of(alarm)
        reason = STATES.get(state)
        ended_at = moment_from(alarm.end_time) if reason else None
        if state not in STATES:
            unmapped += ("state",)
    level = level_of(alarm)
    severity = severities.get(level)
    if severity is None:
        severity = severities.get(level.upper(), Severity.UNKNOWN)
        if level and level.upper() not in severities:
            unmapped += ("severity",)
    started_at = moment_from(alarm.start_time)
    if (started_at is None and alarm.start_time) or (reason and ended_at is None and alarm.end_time):
        unmapped += ("time",)
    if alarm.close_reason and text(alarm.close_reason) != "POLICY_MODIFIED":
        unmapped += ("close_reason",)
    policy = short(alarm.policy.name) if type(alarm.policy) is Policy else ""
    store = alarm.object if type(alarm.object) is LogStore else None
    return Alert(
        key=key,
        severity=severity,
        started_at=started_at,
        ended_at=ended_at,
        close_reason=reason,
        title=policy,
        name=policy,
        policy=policy,
        resource_type=short(store.log_store_name) if store else "",
        provider=(short(store.project) or "default") if store else "",
        unmapped=unmapped,
    )


def state_of(alarm: Alarm) -> str:
    """Returns the alarm's state as the table writes it, or the vendor's word in upper case; "" if there is none."""
    state = alarm.state
    return state if type(state) is str and state in STATES else text(state).upper()


def level_of(alarm: Alarm) -> str:
    """Returns the alarm's level in the vendor's words; "" where the record does not say."""
    condition = alarm.trigger_condition
    return text(condition.level) if type(condition) is TriggerCondition else ""


class Told(NamedTuple):
    """The contents of a record's executions.

    `waiting_since` is the time of the newest execution whose notice has no result yet.
    """

    records: list[Notice | Convergence]
    rejected: Rejections
    waiting_since: datetime | None


def told_from(alarm: Alarm) -> Told | None:
    """Returns the contents of a record's executions; None if it has no list of them, which is not the same as none.

    Raises ItemRejected where they are no list, or one that is too long to be true.
    """
    if alarm.executions is NONE_LISTED or alarm.executions in _NONE_LISTED:  # the usual case, first
        return None
    try:
        listed = checked_length(_EXECUTIONS.decode(alarm.executions))
    except (msgspec.MsgspecError, SourceUnintelligible):
        raise ItemRejected("executions are not a list, or too many") from None
    executions, rejected = normalise_all(Kind.NOTICE, listed, _run_from)
    notices = normalise_all(Kind.NOTICE, executions, lambda run: list(_notices_from(alarm, run)))
    records: list[Notice | Convergence] = [notice for some in notices.items for notice in some]
    records += _convergences_from(alarm, executions)
    waiting = [run.at for run in executions if run.at and _is_waiting(alarm, run)]
    return Told(records, rejected + notices.rejected, max(waiting, default=None))


class _Run(NamedTuple):
    """An execution with its time, its state in upper case, and what distinguishes it from the alarm's others."""

    execution: Execution
    at: datetime | None
    state: str
    identity: str
    unmapped: tuple[str, ...]


def _run_from(raw: msgspec.Raw) -> _Run:
    try:
        execution = decode_mended(_EXECUTION, bytes(raw))
    except msgspec.MsgspecError as error:
        raise ItemRejected(f"execution not of the documented shape: {error}") from None
    at = moment_from(execution.time)
    state = text(execution.state).upper()
    identity = f"{at.isoformat() if at else execution.time}/{state}"
    unmapped = (*(() if at or not execution.time else ("time",)), *(() if state in STATES else ("state",)))
    return _Run(execution, at, state, identity, unmapped)


def _convergences_from(alarm: Alarm, runs: list[_Run]) -> Iterator[Convergence]:
    """Yields one for each run that alarmed again; the first one that was not pending is what raised the alarm."""
    raised = (run for run in runs if run.state == "ALERT" and _result_of(run) != _PENDING)
    alarming = sorted(raised, key=lambda run: run.at or _LATEST)
    for run in alarming:
        if run.identity != alarming[0].identity:
            key = f"{alarm.id}/{run.identity}"
            yield Convergence(key=key, alert_key=alarm.id or "", at=run.at, unmapped=run.unmapped)


def _notices_from(alarm: Alarm, run: _Run) -> Iterator[Notice]:
    """Yields a notice for each template and method, once its result is known."""
    result = _result_of(run)
    if result in _NOT_YET:
        return
    failure = failure_reason_from(text(run.execution.reason)) if result == "FAIL" else None
    suppressed = SUPPRESSIONS.get(result, Suppression.OTHER) if result.startswith("BLOCK") else None
    if result != "SENT" and failure is None and suppressed is None:
        raise ItemRejected("noticeState is in no table")
    for way, channel in _ways_of(run.execution).items():
        unmapped = run.unmapped
        if channel is Channel.OTHER:
            unmapped += ("channel",)
        if suppressed is Suppression.OTHER:
            unmapped += ("notice_state",)
        yield Notice(
            key=f"{alarm.id}/{run.identity}/{way}",
            alert_key=alarm.id or "",
            at=run.at,
            channel=channel,
            failure=failure,
            suppressed=suppressed,
            unmapped=unmapped,
        )


def _ways_of(execution: Execution) -> dict[str, Channel]:
    """Returns the channels by template and method; a template's callbacks are one channel."""
    ways: dict[str, Channel] = {}
    for template in execution.notices or ():
        name = text(template.id) or text(template.name)
        for method in filter(None, (text(method).upper() for method in list_from(template.methods))):
            ways[f"{name}/{method}"] = CHANNELS.get(method, Channel.OTHER)
        if template.callbacks:
            ways[f"{name}/callback"] = Channel.WEBHOOK
    return ways or {"": Channel.UNKNOWN}


def _is_waiting(alarm: Alarm, run: _Run) -> bool:
    if run.state == "OK" and isinstance(alarm.policy, Policy) and flag(alarm.policy.recover_without_notice):
        return False  # nobody will be told
    return _result_of(run) in _NOT_YET


def _result_of(run: _Run) -> str:
    return text(run.execution.notice_state).upper()
