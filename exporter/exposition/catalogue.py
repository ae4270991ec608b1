"""Every metric in one table: name, unit, help, labels, samples. Outputs know only this table and the snapshot."""

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Generic, Literal, TypeVar

import msgspec

from exporter.errors import Reason
from exporter.model.alert import Severity
from exporter.model.facts import Fact, LabelSets
from exporter.model.records import Kind
from exporter.model.snapshot import (
    LIFE_BUCKETS,
    AlertCounts,
    Deliveries,
    Histogram,
    Labels,
    ReloadState,
    Snapshot,
    SourceState,
    empty_histogram,
)

Value = int | float | Histogram
Sample = tuple[Labels, Value]
Of = TypeVar("Of")
Name = TypeVar("Name", bound=str)

OUTCOMES = ("new", "changed", "duplicate", "baseline", "invalid")


class ExporterState(msgspec.Struct, frozen=True):
    """The state of the exporter itself."""

    version: str
    revision: str
    reload: ReloadState
    deliveries: Deliveries | None = None
    log_lines_dropped: int = 0


def exporter_state(snapshot: Snapshot, *, version: str, revision: str) -> ExporterState:
    """Returns the exporter's own state in a snapshot."""
    return ExporterState(version, revision, snapshot.reload, snapshot.deliveries, snapshot.log_lines_dropped)


def added(one: Value, other: Value) -> Value:
    """Returns the sum of two values with the same labels."""
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Histogram(one.bounds, counts, one.total + other.total)
    return one + other  # type: ignore[operator]  # the values of a family are of one type


def least(one: Value, other: Value) -> Value:
    """Returns the smaller of two values with the same labels."""
    return min(one, other)  # type: ignore[type-var]  # used for numbers only


class Family(msgspec.Struct, Generic[Of], frozen=True, kw_only=True):
    """A metric family; `samples` reads its rows from the state of a source, or of the exporter.

    `labels` come after `source` and `vendor`. A `grouped` family carries the labels of `group_by` as well, an `owned`
    one the label `owner` where owners are configured; shorter rows have "" there. `needs` is what a source
    must be able to supply. `perishable` families describe the present: if the source is stale they have the rows
    `if_stale`, usually none. `merge` combines rows whose labels became equal when cut. `unit` is in UCUM notation, as
    in OpenTelemetry, and never `1`: receivers would append `_ratio`.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"] = "gauge"
    unit: str
    labels: Labels = ()
    grouped: bool = False
    owned: bool = False
    needs: Fact | None = None
    perishable: bool = False
    if_stale: Sequence[Sample] = ()
    help: str
    samples: Callable[[Of], Iterable[Sample]]
    merge: Callable[[Value, Value], Value] = added


def stale_at(state: SourceState) -> float:
    """Returns when the source's open alerts become too old to show, by the monotonic clock."""
    return math.inf if state.succeeded is None else state.succeeded + state.stale_after_seconds


def is_stale(state: SourceState, now: float) -> bool:
    """Returns whether the last success is so old that the source's alert gauges are withdrawn."""
    return now >= stale_at(state)


def samples_of(family: Family[SourceState], state: SourceState, *, stale: bool) -> Iterable[Sample]:
    """Returns the family's rows for one source; none where it cannot supply them, has not succeeded yet or is stale."""
    if family.needs is not None and family.needs not in state.facts:
        return ()
    return family.if_stale if family.perishable and stale else family.samples(state)


Alerts = Callable[[AlertCounts, LabelSets], Iterable[Sample]]


def _once_known(rows: Alerts) -> Callable[[SourceState], Iterable[Sample]]:
    """Returns rows only after the first success: until then, unknown is not the same as none open."""
    return lambda state: () if state.alerts is None else rows(state.alerts, state.label_sets)


def _with_zeros(counts: Mapping[Labels, Value] | None, *closed: Iterable[str], zero: Value = 0) -> Iterator[Sample]:
    """Yields the counts, with a zero for every other combination of the closed label sets; nothing if unknown."""
    if counts is None:
        return
    yield from counts.items()
    yield from ((labels, zero) for labels in product(*closed) if labels not in counts)


# Severities outside every vendor's table that an alert may still have.
_UNKNOWN = (Severity.UNKNOWN,)


def _for_each_owner(
    counts: Mapping[Labels, Value] | None, state: SourceState, more: Iterable[Severity] = ()
) -> Iterator[Sample]:
    """Returns the counts, with a zero for every other severity, per owner where alerts have owners."""
    severities = dict.fromkeys((*state.label_sets.severities, *more))
    if not state.owners:
        return _with_zeros(counts, severities)
    return _with_zeros(counts, severities, *([("",)] * len(state.group_by)), state.owners)


def _life_spans(spans: Mapping[Labels, Histogram], *closed: Iterable[str]) -> Iterator[Sample]:
    return _with_zeros(spans, *closed, zero=empty_histogram(LIFE_BUCKETS))


def _alone(value: Value | None) -> Iterable[Sample]:
    return () if value is None else [((), value)]


def _by_label(values: Mapping[Name, Value]) -> Iterator[Sample]:
    return (((label,), value) for label, value in values.items())


def _kinds(state: SourceState) -> list[Kind]:
    """Returns the kinds of records the source can supply."""
    facts = {
        Kind.OPERATION: {Fact.OPERATIONS, Fact.CONVERGENCES},
        Kind.NOTICE: {Fact.NOTICES, Fact.SUPPRESSED_NOTICES},
        Kind.EVENT: {Fact.EVENTS},
    }
    return [kind for kind in Kind if kind is Kind.ALERT or facts[kind] & state.facts]


FAMILIES: tuple[Family[SourceState], ...] = (
    Family(
        name="vendor_alerts_open",
        unit="{alert}",
        labels=("severity",),
        grouped=True,
        owned=True,
        perishable=True,
        help="Alerts open now, as the vendor's own console would count them.",
        samples=lambda state: () if state.alerts is None else _for_each_owner(state.alerts.open, state),
    ),
    Family(
        name="vendor_alerts_acknowledged",
        unit="{alert}",
        labels=("severity",),
        grouped=True,
        owned=True,
        needs=Fact.ACKNOWLEDGED,
        perishable=True,
        help="Open alerts that somebody has acknowledged.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.acknowledged, sets.severities)),
    ),
    Family(
        name="vendor_alerts_suppressed",
        unit="{alert}",
        labels=("severity",),
        grouped=True,
        owned=True,
        needs=Fact.SUPPRESSED,
        perishable=True,
        help="Open alerts that are shielded, under maintenance, or whose notices are suppressed. Key-ASTROM events "
        "that merely raise no problem are not among them.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.suppressed, sets.severities)),
    ),
    Family(
        name="vendor_alerts_unattended",
        unit="{alert}",
        labels=("severity",),
        grouped=True,
        owned=True,
        needs=Fact.ACKNOWLEDGED,
        perishable=True,
        help="Open alerts that are neither acknowledged nor suppressed.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.unattended, sets.severities)),
    ),
    Family(
        name="vendor_alerts_oldest_open_timestamp_seconds",
        unit="s",
        labels=("severity",),
        grouped=True,
        owned=True,
        perishable=True,
        help="Start of the oldest open alert, as a Unix time; absent when none is open.",
        samples=_once_known(lambda counts, _: ((of, at.timestamp()) for of, at in (counts.oldest_open or {}).items())),
        merge=least,
    ),
    Family(
        name="vendor_alerts_opened_total",
        kind="counter",
        unit="{alert}",
        labels=("severity",),
        grouped=True,
        owned=True,
        help="Alerts seen to open, by their first severity.",
        samples=lambda state: () if state.alerts is None else _for_each_owner(state.alerts.opened, state, _UNKNOWN),
    ),
    Family(
        name="vendor_alerts_closed_total",
        kind="counter",
        unit="{alert}",
        labels=("severity", "reason"),
        grouped=True,
        owned=True,
        help="Alerts seen to end, by last severity and reason; vanished means that the vendor stopped listing it.",
        samples=_once_known(
            lambda counts, sets: _with_zeros(counts.closed, (*sets.severities, *_UNKNOWN), sets.close_reasons)
        ),
    ),
    Family(
        name="vendor_alert_open_duration_seconds",
        kind="histogram",
        unit="s",
        labels=("severity",),
        owned=True,
        help="Time from the start of an alert to its end, observed once when it closes.",
        samples=_once_known(lambda counts, sets: _life_spans(counts.open_duration, sets.severities)),
    ),
    Family(
        name="vendor_alert_acknowledge_delay_seconds",
        kind="histogram",
        unit="s",
        labels=("severity",),
        owned=True,
        needs=Fact.ACKNOWLEDGED,
        help="Time from the start of an alert to its first acknowledgement, observed once per alert.",
        samples=_once_known(lambda counts, sets: _life_spans(counts.acknowledge_delay, sets.severities)),
    ),
    Family(
        name="vendor_alert_detection_delay_seconds",
        kind="histogram",
        unit="s",
        owned=True,
        help="Time from the start of an alert at the vendor until the exporter first saw it.",
        samples=_once_known(lambda counts, _: _life_spans(counts.detection_delay)),
    ),
    Family(
        name="vendor_alert_operations_total",
        kind="counter",
        unit="{operation}",
        labels=("operation",),
        owned=True,
        needs=Fact.OPERATIONS,
        help="Rows of the flow logs of alerts, by operation.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.operations, sets.operations)),
    ),
    Family(
        name="vendor_alert_operation_failures_total",
        kind="counter",
        unit="{operation}",
        labels=("operation",),
        owned=True,
        needs=Fact.OPERATIONS,
        help="Rows of the flow logs of alerts whose status is not success, by operation.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.operation_failures, sets.operations)),
    ),
    Family(
        name="vendor_alert_convergences_total",
        kind="counter",
        unit="{convergence}",
        owned=True,
        needs=Fact.CONVERGENCES,
        help="Times the vendor was seen to fold further anomalies into an open alert. A lower bound with BlueKing, "
        "whose flow log shows only the newest two of adjacent rows: at most two per alert and poll.",
        samples=_once_known(lambda counts, _: _with_zeros(counts.convergences)),
    ),
    Family(
        name="vendor_alert_converged_anomalies_total",
        kind="counter",
        unit="{anomaly}",
        owned=True,
        needs=Fact.CONVERGENCES,
        help="Anomalies that the vendor folded into open alerts; a lower bound where convergences are.",
        samples=_once_known(lambda counts, _: _with_zeros(counts.converged_anomalies)),
    ),
    Family(
        name="vendor_alert_notices_total",
        kind="counter",
        unit="{notice}",
        labels=("channel",),
        owned=True,
        needs=Fact.NOTICES,
        help="Notices the vendor attempted to send, including failed ones and summaries of folded ones, by channel.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.notices, sets.channels)),
    ),
    Family(
        name="vendor_alert_notice_failures_total",
        kind="counter",
        unit="{notice}",
        labels=("channel", "reason"),
        owned=True,
        needs=Fact.NOTICES,
        help="Notices that did not reach every recipient, by channel and reason.",
        samples=_once_known(
            lambda counts, sets: _with_zeros(counts.notice_failures, sets.channels, sets.failure_reasons)
        ),
    ),
    Family(
        name="vendor_alert_notices_suppressed_total",
        kind="counter",
        unit="{notice}",
        labels=("reason",),
        owned=True,
        needs=Fact.SUPPRESSED_NOTICES,
        help="Notices the vendor held back on purpose, by reason.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.notices_suppressed, sets.suppressions)),
    ),
    Family(
        name="vendor_alert_info",
        unit="{alert}",
        labels=("severity", "key", "name", "policy", "resource_type", "namespace"),
        owned=True,
        perishable=True,
        help="Always 1, one series for each open alert until it closes; only with metrics.alert_info.",
        samples=_once_known(lambda counts, _: ((labels, 1) for labels in counts.info or ())),
        merge=least,
    ),
    Family(
        name="vendor_alert_info_omitted",
        unit="{alert}",
        owned=True,
        perishable=True,
        help="Open alerts without a series in vendor_alert_info because of alert_info_limit.",
        samples=_once_known(lambda counts, _: () if counts.info is None else _with_zeros(counts.info_omitted)),
    ),
    Family(
        name="vendor_events_total",
        kind="counter",
        unit="{event}",
        labels=("event_type",),
        needs=Fact.EVENTS,
        help="Events at the vendor that are not alerts, by the vendor's event type.",
        samples=_once_known(lambda counts, sets: _with_zeros(counts.events, sets.event_types)),
    ),
    Family(
        name="vendor_source_up",
        unit="{source}",
        perishable=True,
        if_stale=[((), 0)],
        help="1 if the last poll of the source succeeded; 0 before the first, after a failure, and once it is stale.",
        samples=lambda state: _alone(int(state.up)),
    ),
    Family(
        name="vendor_source_last_success_timestamp_seconds",
        unit="s",
        help="Unix time of the last successful poll of the source; 0 before the first.",
        samples=lambda state: _alone(state.last_success.timestamp() if state.last_success else 0),
    ),
    Family(
        name="vendor_source_interval_seconds",
        unit="s",
        help="Configured interval between two polls of the source.",
        samples=lambda state: _alone(state.interval_seconds),
    ),
    Family(
        name="vendor_source_last_poll_duration_seconds",
        unit="s",
        help="Duration of the last poll of the source, including waiting.",
        samples=lambda state: _alone(state.last_poll_seconds),
    ),
    Family(
        name="vendor_source_polls_total",
        kind="counter",
        unit="{poll}",
        help="Polls of the source, including failed ones.",
        samples=lambda state: _alone(state.polls),
    ),
    Family(
        name="vendor_source_poll_failures_total",
        kind="counter",
        unit="{poll}",
        labels=("reason",),
        help="Polls of the source that failed, by reason.",
        samples=lambda state: _by_label(dict.fromkeys(Reason, 0) | dict(state.poll_failures)),
    ),
    Family(
        name="vendor_source_partial_polls_total",
        kind="counter",
        unit="{poll}",
        help="Polls that succeeded although detail calls failed or were deferred, or a list was truncated.",
        samples=lambda state: _alone(state.partial_polls),
    ),
    Family(
        name="vendor_source_requests_total",
        kind="counter",
        unit="{request}",
        labels=("endpoint", "code"),
        help="HTTP requests to the vendor, including pages, retries and token calls; code is the status, or error.",
        samples=lambda state: state.requests.items(),
    ),
    Family(
        name="vendor_source_request_duration_seconds",
        kind="histogram",
        unit="s",
        labels=("endpoint",),
        help="Duration of HTTP requests to the vendor, from connecting to the last byte.",
        samples=lambda state: _by_label(state.request_seconds),
    ),
    Family(
        name="vendor_source_records_total",
        kind="counter",
        unit="{record}",
        labels=("kind", "outcome"),
        help="Records read from the vendor, by kind and outcome.",
        samples=lambda state: _with_zeros(state.records, _kinds(state), OUTCOMES),
    ),
    Family(
        name="vendor_source_tracked_records",
        unit="{record}",
        labels=("kind",),
        help="Records remembered so that each is counted only once.",
        samples=lambda state: _by_label(dict.fromkeys(_kinds(state), 0) | dict(state.tracked)),
    ),
    Family(
        name="vendor_source_evicted_records_total",
        kind="counter",
        unit="{record}",
        labels=("kind",),
        help="Records forgotten because the limit was reached.",
        samples=lambda state: _by_label(dict.fromkeys(_kinds(state), 0) | dict(state.evicted)),
    ),
    Family(
        name="vendor_source_tracked_records_limit",
        unit="{record}",
        help="Maximum of remembered records (max_records or a share of 1,000,000); open alerts are never forgotten.",
        samples=lambda state: _alone(state.records_limit),
    ),
    Family(
        name="vendor_source_detail_backlog",
        unit="{alert}",
        help="Alerts waiting for a later poll to call for their details.",
        samples=lambda state: _alone(state.backlog),
    ),
    Family(
        name="vendor_source_detail_failures_total",
        kind="counter",
        unit="{call}",
        labels=("endpoint", "reason"),
        help="Calls for the details of single alerts that failed, by reason.",
        samples=lambda state: _with_zeros(state.detail_failures, state.details, Reason),
    ),
    Family(
        name="vendor_source_details_up",
        unit="{endpoint}",
        labels=("endpoint",),
        help="0 if every detail call failed in the last poll that made any, else 1; at 0, what they feed stands still.",
        samples=lambda state: _by_label(
            {endpoint: int(calls.answered > 0 or calls.failed == 0) for endpoint, calls in state.details.items()}
        ),
    ),
    Family(
        name="vendor_source_list_truncated",
        unit="{list}",
        labels=("endpoint",),
        help="1 while a list is too long to read whole; open by severity then comes from the vendor's own totals.",
        samples=lambda state: _by_label(
            {endpoint: int(endpoint in state.list_truncated) for endpoint in state.label_sets.lists}
            if state.alerts is not None
            else {}
        ),
    ),
    Family(
        name="vendor_source_unmapped_values_total",
        kind="counter",
        unit="{value}",
        labels=("field",),
        help="Values that the exporter has no mapping for, by field; the vendor's API has probably changed.",
        samples=lambda state: _by_label(
            dict.fromkeys(() if state.alerts is None else state.label_sets.unmapped, 0) | dict(state.unmapped)
        ),
    ),
    Family(
        name="vendor_source_clock_offset_seconds",
        unit="s",
        help="The vendor's clock minus the exporter's, from the Date headers of responses.",
        samples=lambda state: _alone(state.clock_offset_seconds),
    ),
)

EXPORTER_FAMILIES: tuple[Family[ExporterState], ...] = (
    Family(
        name="vendor_exporter_build_info",
        unit="{build}",
        labels=("version", "revision", "python_version"),
        help="Always 1; labels identify the running build of the exporter.",
        samples=lambda itself: [((itself.version, itself.revision, platform.python_version()), 1)],
    ),
    Family(
        name="vendor_exporter_config_last_reload_successful",
        unit="{success}",
        help="1 if the last configuration reload succeeded, 0 if the previous configuration is still in use.",
        samples=lambda itself: _alone(int(itself.reload.successful)),
    ),
    Family(
        name="vendor_exporter_config_last_reload_success_timestamp_seconds",
        unit="s",
        help="Unix time of the last successful configuration reload.",
        samples=lambda itself: _alone(itself.reload.succeeded_at.timestamp()),
    ),
    Family(
        name="vendor_exporter_log_lines_dropped_total",
        kind="counter",
        unit="{line}",
        help="Log lines dropped because standard error was not read; logging never delays a poll.",
        samples=lambda itself: _alone(itself.log_lines_dropped),
    ),
    Family(
        name="vendor_otlp_exports_total",
        kind="counter",
        unit="{export}",
        labels=("signal",),
        help="Requests sent to the OTLP receiver, including failed ones; only with otlp.",
        samples=lambda itself: _by_label(itself.deliveries.exports) if itself.deliveries else (),
    ),
    Family(
        name="vendor_otlp_export_failures_total",
        kind="counter",
        unit="{export}",
        labels=("signal",),
        help="Requests to the OTLP receiver that failed; only with otlp.",
        samples=lambda itself: _by_label(itself.deliveries.failures) if itself.deliveries else (),
    ),
    Family(
        name="vendor_otlp_dropped_total",
        kind="counter",
        unit="{item}",
        labels=("signal",),
        help="Data points and log records that never reached the OTLP receiver; only with otlp.",
        samples=lambda itself: _by_label(itself.deliveries.dropped) if itself.deliveries else (),
    ),
)

ALL_FAMILIES: tuple[Family[Any], ...] = (*FAMILIES, *EXPORTER_FAMILIES)


# Words that stay together in a dotted name; all others are split.
_COMPOUNDS = (
    "build_info clock_offset converged_anomalies detail_backlog detail_failures evicted_records info_omitted last_poll "
    "last_reload last_success list_truncated notices_suppressed oldest_open partial_polls tracked_records "
    "unmapped_values"
).split()


def otel_name(family: Family[Any]) -> str:
    """Returns the family's OpenTelemetry name, which a receiving Prometheus turns back into `family.name`.

    The receiver replaces dots by `_`, appends `_seconds` for the unit `s`, and `_total` to counters.
    """
    name = family.name.removesuffix("_total").removesuffix("_seconds").replace("_", ".")
    for compound in _COMPOUNDS:
        name = name.replace(compound.replace("_", "."), compound)
    return name


def is_additive(family: Family[Any]) -> bool:
    """Returns whether a gauge counts things, so that its series can be summed; durations and timestamps cannot."""
    return family.unit != "s"
