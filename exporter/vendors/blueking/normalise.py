"""BlueKing's alerts, flow rows and handling records in our words; the tables name the vendor's own documents."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b

from exporter.errors import ItemRejected
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.records import Channel, FailureReason, Notice, Operation, Suppression
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.fields import (
    Scalar,
    flag,
    identity,
    is_digits,
    moment_from_s,
    moment_from_text,
    short,
    text,
    whole_number,
    words,
)
from exporter.vendorkit.reasons import failure_reason_from
from exporter.vendors.blueking.config import BluekingConfig
from exporter.vendors.blueking.payload import ActionRow, AlertRow, Bucket, ExData, ExtendInfo, FlowRow, Inputs, RowId

# search_alert, field `severity`: 1 致命 fatal, 2 预警 warning, 3 提醒 remind.
SEVERITIES = {"1": Severity.CRITICAL, "2": Severity.WARNING, "3": Severity.INFO}

# search_alert, field `status`. RECOVERING is internal to the server; such an alert is still open.
STATES: dict[str, CloseReason | None] = {
    "ABNORMAL": None,
    "RECOVERING": None,
    "RECOVERED": CloseReason.RECOVERED,
    "CLOSED": CloseReason.CLOSED,
}

# get_event_log, field `operate`; from SEVERITY_CHANGE on as declared in bk-monitor (bkmonitor/documents/log.py), and
# from ANOMALY_NOTICE on as older servers write it (bkmonitor/models/base.py, EventAction).
OPERATIONS = {
    operate: operate.lower()
    for operate in (
        "CREATE CONVERGE RECOVER CLOSE DELAY_RECOVER ABORT_RECOVER SYSTEM_RECOVER SYSTEM_CLOSE RECOVERING ACK "
        "SEVERITY_UP ACTION ALERT_QOS EVENT_DROP SEVERITY_CHANGE NOISE_REDUCE ACTION_QOS "
        "ANOMALY_NOTICE RECOVERY_NOTICE CLOSE_NOTICE ANOMALY_PUSH RECOVERY_PUSH CLOSE_PUSH CREATE_ORDER MESSAGE_QUEUE"
    ).split()
}
NOTICE_ROWS = {"ANOMALY_NOTICE", "RECOVERY_NOTICE"}
# get_event_log, field `status`: whether the row is a failure. Servers since 2022 write SUCCESS only.
ROW_STATES = {"SUCCESS": False, "RUNNING": False, "SHIELDED": False, "FAILED": True, "PARTIAL_SUCCESS": True}

# Seconds that no alert lasts.
_LONGEST_LIFE = 10**9
# A row that folds more anomalies is a mistake: the check that finds them runs every few seconds at most.
MOST_ANOMALIES = 10**9

# search_action, `inputs.notice_way` (bk-monitor, constants/action.py, NoticeWay, and bkmonitor/utils/send.py).
CHANNELS = {
    "mail": Channel.EMAIL,
    "sms": Channel.SMS,
    "voice": Channel.PHONE,
    "weixin": Channel.IM,
    "qy_weixin": Channel.IM,
    "rtx": Channel.IM,
    "wxwork-bot": Channel.IM,
    "wecom_robot": Channel.IM,
    "bkchat": Channel.IM,
    "": Channel.UNKNOWN,
}
# search_action, field `status` (bk-monitor, constants/action.py, ActionStatus): what has no result yet, …
IN_PROGRESS = {"running", "received", "waiting", "converging", "converged", "sleep", "retrying"}
# … what was sent, and whether it failed, and what was held back.
RESULTS = {"success": False, "partial_success": False, "failure": True, "partial_failure": True}
HELD_BACK = {"skipped": Suppression.CONVERGED, "shield": Suppression.SHIELDED, "blocked": Suppression.BLOCKED}

LABELS = LabelSets(
    severities=tuple(SEVERITIES.values()),
    close_reasons=(CloseReason.RECOVERED, CloseReason.CLOSED, CloseReason.VANISHED),
    operations=(*OPERATIONS.values(), "other"),
    channels=(Channel.EMAIL, Channel.SMS, Channel.PHONE, Channel.IM, Channel.OTHER, Channel.UNKNOWN),
    failure_reasons=tuple(reason for reason in FailureReason if reason is not FailureReason.NOT_SUBSCRIBED),
    suppressions=(*HELD_BACK.values(), Suppression.FREQUENCY),
    unmapped=("severity", "state", "operation", "status", "channel"),
    lists=("search_alert",),
)


def key_from(row: AlertRow | ActionRow | RowId) -> str:
    """Returns the id of a row; raises ItemRejected where it has none."""
    return identity(row.id, "id")


def totals_from(buckets: Iterable[Bucket], config: BluekingConfig) -> Counter[Severity]:
    """Returns the number of alerts of each severity; raises ItemRejected for a count that is no number."""
    severities = severities_from(SEVERITIES, config)
    totals: Counter[Severity] = Counter()
    for bucket in buckets:
        totals[severities.get(text(bucket.id).strip().upper(), Severity.UNKNOWN)] += (
            whole_number(bucket.count, "count") or 0
        )
    return totals


def alert_reader(config: BluekingConfig) -> Callable[[AlertRow], Alert]:
    """Returns a converter of search_alert rows to alerts; it raises ItemRejected without an id or with odd times.

    A state that is in no table leaves the alert open: it was not said to be over.
    """
    by_text = severities_from(SEVERITIES, config)
    # Rows carry numbers, an operator's map texts.
    severities: dict[Scalar, Severity] = {int(level): known for level, known in by_text.items() if is_digits(level)}

    def alert_from(row: AlertRow) -> Alert:
        unmapped: tuple[str, ...] = ()
        severity = severities.get(row.severity)
        if severity is None:
            severity = by_text.get(text(row.severity).strip().upper())
            if severity is None:
                severity, unmapped = Severity.UNKNOWN, ("severity",)
        close_reason = None
        if row.status != "ABNORMAL":
            state = _upper(row.status)
            close_reason = STATES.get(state)
            if state not in STATES:
                unmapped += ("state",)
        created = moment_from_s(row.create_time, "create_time")
        begun = created if row.begin_time == row.create_time else moment_from_s(row.begin_time, "begin_time")
        acknowledged = bool(row.is_ack) and flag(row.is_ack)
        suppressed = bool(row.is_shielded) and flag(row.is_shielded)
        updated = moment_from_s(row.update_time, "update_time") if acknowledged or close_reason else None
        name = short(row.alert_name)
        return Alert(
            key=identity(row.id, "id"),
            severity=severity,
            started_at=begun or created,
            appeared_at=created,
            ended_at=(moment_from_s(row.end_time, "end_time") or updated) if close_reason else None,
            close_reason=close_reason,
            acknowledged=acknowledged,
            acknowledged_at=_acknowledged_at(row, created, updated, is_shielded=suppressed) if acknowledged else None,
            suppressed=suppressed,
            title=name,
            name=name,
            policy=short(row.strategy_name),
            resource_type=short(row.target_type),
            provider=short(row.data_type),
            namespace=short(row.bk_biz_id),
            unmapped=unmapped,
        )

    return alert_from


def _acknowledged_at(
    row: AlertRow, created: datetime | None, updated: datetime | None, *, is_shielded: bool
) -> datetime | None:
    """Returns when an alert was acknowledged: as `ack_duration` says where that can be, else at its last change.

    `ack_duration` counts from `create_time`, and to the first moment at which a check finds the alert acknowledged,
    shielded or over (bk-monitor, service/alert/manager/checker/ack.py).
    """
    duration = seconds_of(row.ack_duration)
    if duration and created is not None and updated is not None and not is_shielded:
        at = created + timedelta(seconds=min(duration, _LONGEST_LIFE))
        if at <= updated:
            return at
    return updated


def notice_to_nobody(row: ActionRow) -> Notice:
    """Returns the notice that a parent without any child stands for: it named no receiver."""
    return Notice(
        key=f"action:{identity(row.id, 'id')}:",
        alert_key=_alert_of(row),
        at=moment_from_s(row.create_time, "create_time"),
        failure=FailureReason.NO_RECEIVER,
    )


def _alert_of(row: ActionRow) -> str:
    alerts = row.alert_id if isinstance(row.alert_id, list) else [row.alert_id]
    return text(alerts[0]) if alerts else ""


def is_over(row: AlertRow) -> bool:
    """Returns whether the row says that its alert has ended."""
    return STATES.get(_upper(row.status)) is not None


def seconds_of(value: Scalar) -> int:
    """Returns a number of seconds, 0 where there is none."""
    if type(value) is int and 0 <= value < 10**12:  # the usual case, first
        return value
    try:
        return whole_number(value, "time") or 0
    except ItemRejected:
        return 0


def is_unfinished(row: FlowRow) -> bool:
    """Returns whether the row's result is still to come."""
    return _upper(row.status) == "RUNNING"


def operation_from(alert_key: str, row: FlowRow, zone: tzinfo) -> Operation:
    """Returns the operation of a flow row; raises ItemRejected for a row without kind or time.

    Rows have no id: the alert, the kind, the time and the message are what makes a row that one.
    """
    operate = _upper(row.operate)
    if not operate:
        raise ItemRejected("operate is missing")
    operation = OPERATIONS.get(operate)
    failed = ROW_STATES.get(_upper(row.status))
    at = _moment_of(row, alert_key, zone)
    if at is None:
        raise ItemRejected("create_time is missing")
    return Operation(
        key=f"row:{_digest(alert_key, row)}",
        alert_key=alert_key,
        at=at,
        operation=operation or "other",
        failed=failed is True,
        anomalies=_anomalies(row) if operation == "converge" else 0,
        unmapped=("operation",) * (operation is None) + ("status",) * (failed is None),
    )


def notice_from_row(alert_key: str, row: FlowRow, zone: tzinfo) -> Notice | None:
    """Returns the notice in a flow row of an old server, without channel; None for other rows."""
    if _upper(row.operate) not in NOTICE_ROWS:
        return None
    status = _upper(row.status)
    failure = None
    if ROW_STATES.get(status):
        failure = failure_reason_from(words(row.message))
        if isinstance(row.extend_info, ExtendInfo) and flag(row.extend_info.empty_receiver):
            failure = FailureReason.NO_RECEIVER
    return Notice(
        key=f"notice:{_digest(alert_key, row)}",
        alert_key=alert_key,
        at=_moment_of(row, alert_key, zone),
        failure=failure,
        suppressed=Suppression.SHIELDED if status == "SHIELDED" else None,
    )


def notices_from(row: ActionRow) -> list[Notice]:
    """Returns a handling record's notices, one per way; none for other actions or before the result is known.

    A summary is a message of its own, sent in place of notices that were skipped; one that is itself skipped found
    nothing to sum up. Raises ItemRejected for a record without id.
    """
    status = text(row.status).strip().lower()
    if (
        row.action_plugin_type != "notice"
        or flag(row.is_parent_action)
        or (row.signal == "collect" and status == "skipped")
        or status in IN_PROGRESS
    ):
        return []
    key = identity(row.id, "id")
    at = moment_from_s(row.create_time, "create_time")
    listed = row.inputs.notice_way if isinstance(row.inputs, Inputs) else None
    ways = [text(way).strip().lower() for way in (listed if isinstance(listed, list) else [listed])]
    notices = []
    for way in sorted(set(ways)) or [""]:
        suppressed = HELD_BACK.get(status)
        failure = _failure(row) if RESULTS.get(status) else None
        channel = _channel_of(way)
        if failure and channel is Channel.PHONE and row.failure_type == "system_abort":
            # Not a failure: the same person was called less than two minutes before.
            failure, suppressed = None, Suppression.FREQUENCY
        known = status in RESULTS or suppressed is not None
        notices.append(
            Notice(
                key=f"action:{key}:{way}",
                alert_key=_alert_of(row),
                at=at,
                channel=channel or Channel.OTHER,
                failure=failure,
                suppressed=suppressed,
                unmapped=("channel",) * (channel is None) + ("status",) * (not known),
            )
        )
    return notices


def _channel_of(way: str) -> Channel | None:
    """Returns the channel of a way; for one through another sender, such as bkchat|mail, the one people see."""
    sender, _, seen = way.partition("|")
    return (CHANNELS.get(seen.strip()) if seen.strip() else None) or CHANNELS.get(sender.strip())


def _failure(row: ActionRow) -> FailureReason:
    said = words(row.ex_data.message) if isinstance(row.ex_data, ExData) else ""
    return failure_reason_from(said or words(row.status_tips))


def _anomalies(row: FlowRow) -> int:
    count = row.extend_info.anomaly_count if isinstance(row.extend_info, ExtendInfo) else None
    return max(whole_number(count, "anomaly_count", most=MOST_ANOMALIES) or 0, 1)


def _digest(alert_key: str, row: FlowRow) -> str:
    said = "\0".join((alert_key, text(row.operate), text(row.create_time), words(row.message)))
    return blake2b(said.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _upper(value: Scalar) -> str:
    return text(value).strip().upper()


def _moment_of(row: FlowRow, alert_key: str, zone: tzinfo) -> datetime | None:
    """Returns when a row was written; raises ItemRejected.

    Where a clock is set back an hour has two readings: the row was written in the first one that is not before its
    alert, whose id begins with the second it was created in (bk-monitor, core/alert/alert.py AlertUIDManager).
    """
    at = moment_from_text(row.create_time, "create_time", zone)
    if at is None:
        return None
    again = at.astimezone(zone).replace(fold=1).astimezone(UTC)
    created = int(alert_key[:10]) if alert_key[:10].isdecimal() else 0
    return again if at.timestamp() < created <= again.timestamp() else at
