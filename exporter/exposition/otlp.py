"""Encodes the catalogue and alert events as OTLP, and pushes both. Needs the extra `otlp`.

The messages are built from the official protocol definitions, not with the SDK's metric classes, which cost
four times the CPU: docs/decisions/otlp-messages.md.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from exporter.exposition.catalogue import (
    EXPORTER_FAMILIES,
    FAMILIES,
    ExporterState,
    Family,
    Sample,
    Value,
    exporter_state,
    is_additive,
    is_stale,
    otel_name,
    samples_of,
)
from exporter.exposition.courier import Backlog, Courier, Parcel
from exporter.exposition.sender import Destination, Signal, Undelivered
from exporter.exposition.series import constant_names, extra_names, fit, rows_of
from exporter.model.alert import Severity
from exporter.model.occurrence import Occurrence
from exporter.model.snapshot import Deliveries, Labels, Snapshot
from exporter.model.text import HIDDEN

# Points per request. By default receivers take 4 MiB by gRPC; a point is about 200 bytes, one of a histogram 400.
MOST_POINTS = 8_000
MOST_RECORDS = 500
# Alert events queued for a receiver; the oldest are dropped first.
BACKLOG_LIMIT = 10_000
LONGEST_TITLE = 1024

# Seconds between pushes of log records: soon after the poll, yet in batches.
_LOG_SECONDS = 1.0

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

_SEVERITIES = {
    Severity.CRITICAL: SeverityNumber.SEVERITY_NUMBER_FATAL,
    Severity.MAJOR: SeverityNumber.SEVERITY_NUMBER_ERROR,
    Severity.MINOR: SeverityNumber.SEVERITY_NUMBER_WARN2,
    Severity.WARNING: SeverityNumber.SEVERITY_NUMBER_WARN,
    Severity.INFO: SeverityNumber.SEVERITY_NUMBER_INFO,
    Severity.UNKNOWN: SeverityNumber.SEVERITY_NUMBER_UNSPECIFIED,
}


class Noticed(NamedTuple):
    """An occurrence, the time it was observed, and its number since the start."""

    occurrence: Occurrence
    at: datetime
    number: int


class Encoder:
    """Encodes snapshots and occurrences as OTLP requests for one resource."""

    def __init__(self, resource: Mapping[str, str], *, version: str, revision: str, started_at: datetime) -> None:
        self._resource = Resource(attributes=[_pair(key, value) for key, value in resource.items()])
        self._scope = InstrumentationScope(name="vendor-alert-exporter", version=version)
        self._instance = resource["service.instance.id"]
        self._version = version
        self._revision = revision
        self._since = _nanoseconds(started_at)

    def metrics(self, snapshot: Snapshot, now: int) -> Iterator[Parcel]:
        """Yields the snapshot as of `now`, a Unix time in nanoseconds, in requests that any receiver can take."""
        itself = exporter_state(snapshot, version=self._version, revision=self._revision)
        request, scope = self._metrics_request()
        points = 0
        for family, rows in _rows(snapshot, itself):
            container = None
            for since, attributes, value in rows:
                if points == MOST_POINTS:
                    yield Parcel(request.SerializeToString(), points)
                    request, scope = self._metrics_request()
                    points, container = 0, None
                if container is None:
                    container = _points_of(scope, family)
                _add(container, attributes, value, since or self._since, now)
                points += 1
        if points:
            yield Parcel(request.SerializeToString(), points)

    def _metrics_request(self) -> tuple[ExportMetricsServiceRequest, ScopeMetrics]:
        # Built from the outside in: a message put into another is copied.
        request = ExportMetricsServiceRequest()
        about = request.resource_metrics.add(resource=self._resource)
        return request, about.scope_metrics.add(scope=self._scope)

    def logs(self, noticed: Sequence[Noticed]) -> Parcel:
        """Returns these occurrences in one request."""
        records = [self._record(*one) for one in noticed]
        about = ResourceLogs(resource=self._resource, scope_logs=[ScopeLogs(scope=self._scope, log_records=records)])
        return Parcel(ExportLogsServiceRequest(resource_logs=[about]).SerializeToString(), len(records))

    def _record(self, told: Occurrence, noticed_at: datetime, number: int) -> LogRecord:
        texts = {
            "source": told.source,
            "vendor": told.vendor,
            "key": told.key,
            "name": told.name,
            "severity": told.severity,
            "previous_severity": told.previous_severity,
            "reason": told.reason,
            "channel": told.channel,
            "started_at": told.started_at.isoformat() if told.started_at else "",
            "happened_at": told.at.isoformat() if told.at else "",
            # A request whose answer was lost is sent again: stores recognise the record by this.
            "log.record.uid": f"{self._instance}/{self._since}/{number}",
        }
        return LogRecord(
            event_name=f"vendor.alert.{told.what}",
            time_unix_nano=_nanoseconds(told.at),
            observed_time_unix_nano=_nanoseconds(noticed_at),
            severity_number=_SEVERITIES[told.severity],
            severity_text=told.severity,
            body=AnyValue(string_value=HIDDEN.sub(" ", told.title[:LONGEST_TITLE])),
            attributes=[_pair(key, fit(text)) for key, text in texts.items() if text],
        )


def _rows(
    snapshot: Snapshot, itself: ExporterState
) -> Iterator[tuple[Family[Any], Iterator[tuple[int, list[KeyValue], Value]]]]:
    """Yields every family with its rows, as `/metrics` shows them for this snapshot.

    A row begins with the time its count started, 0 for the start of the process.
    """
    made: dict[tuple[str, str], KeyValue] = {}

    def pairs(names: Iterable[str], values: Iterable[str]) -> list[KeyValue]:
        keys = zip(names, values, strict=True)
        # To Prometheus an empty label is no label.
        return [made.get(key) or made.setdefault(key, _pair(*key)) for key in keys if key[1]]

    def rows(
        family: Family[Any], samples: Iterable[Sample], since: int, always: list[KeyValue], extra: Labels = ()
    ) -> Iterator[tuple[int, list[KeyValue], Value]]:
        names = (*family.labels, *extra)
        for values, value in rows_of(family, samples, names).items():
            yield since, [*always, *pairs(names, values)], value

    constant = constant_names(snapshot)
    known = []
    for state in snapshot.sources:
        values = (state.name, state.vendor, *(state.constant_labels.get(name, "") for name in constant))
        always = pairs(("source", "vendor", *constant), map(fit, values))
        known.append((state, is_stale(state, snapshot.moment), _nanoseconds(state.counts_from), always))
    for family in FAMILIES:
        labels = extra_names(family, snapshot)
        yield (
            family,
            (
                row
                for state, stale, since, always in known
                for row in rows(family, samples_of(family, state, stale=stale), since, always, labels)
            ),
        )
    for own in EXPORTER_FAMILIES:
        yield own, rows(own, own.samples(itself), 0, [])


def _points_of(scope: ScopeMetrics, family: Family[Any]) -> Any:
    """Adds a metric of the family's kind and returns the list of its points."""
    metric = scope.metrics.add(name=otel_name(family), unit=family.unit, description=family.help)
    if family.kind == "histogram":
        metric.histogram.aggregation_temporality = _CUMULATIVE
        return metric.histogram.data_points
    if family.kind == "gauge" and not is_additive(family):
        return metric.gauge.data_points
    metric.sum.aggregation_temporality = _CUMULATIVE
    metric.sum.is_monotonic = family.kind == "counter"
    return metric.sum.data_points


def _add(points: Any, attributes: list[KeyValue], value: Value, since: int, now: int) -> None:
    if isinstance(value, int):
        points.add(attributes=attributes, start_time_unix_nano=since, time_unix_nano=now, as_int=value)
    elif isinstance(value, float):
        points.add(attributes=attributes, start_time_unix_nano=since, time_unix_nano=now, as_double=value)
    else:
        points.add(
            attributes=attributes,
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=sum(value.counts),
            sum=value.total,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
        )


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _nanoseconds(at: datetime | None) -> int:
    """Returns the Unix time in nanoseconds; 0, which means unknown, for a time OTLP cannot express."""
    time_ns = int(at.timestamp() * 1e6) * 1000 if at else 0
    return time_ns if 0 < time_ns < 1 << 63 else 0


def _refused_points(answer: bytes) -> tuple[int, str]:
    partial_success = _parsed(ExportMetricsServiceResponse, answer).partial_success
    return partial_success.rejected_data_points, partial_success.error_message[:300]


def _refused_records(answer: bytes) -> tuple[int, str]:
    partial_success = _parsed(ExportLogsServiceResponse, answer).partial_success
    return partial_success.rejected_log_records, partial_success.error_message[:300]


def _parsed(kind: Any, answer: bytes) -> Any:
    try:
        return kind.FromString(answer)
    except DecodeError:
        raise Undelivered("the answer is not from an OTLP receiver") from None


class Push:
    """Pushes metrics and alert events over OTLP, one courier per signal."""

    def __init__(
        self,
        destinations: Iterable[Destination],
        *,
        interval_seconds: float,
        encoder: Encoder,
    ) -> None:
        self._shown: Callable[[], Snapshot] | None = None
        self._encoder = encoder
        self._backlog: Backlog[Noticed] = Backlog(BACKLOG_LIMIT)
        self._noticed = 0
        every = {"metrics": interval_seconds, "logs": min(_LOG_SECONDS, interval_seconds)}
        collect = {"metrics": self._snapshot, "logs": self._records}
        refused = {"metrics": _refused_points, "logs": _refused_records}
        self._couriers: dict[Signal, Courier] = {
            to.signal: Courier(
                to,
                interval_seconds=interval_seconds,
                every_seconds=every[to.signal],
                collect=collect[to.signal],
                refused=refused[to.signal],
                keeps=to.signal == "logs",
            )
            for to in destinations
        }

    @property
    def wants_occurrences(self) -> bool:
        """Returns whether alert events are pushed."""
        return "logs" in self._couriers

    def start(self, shown: Callable[[], Snapshot]) -> None:
        """Starts pushing, metrics first after an interval. `shown` returns the snapshot behind `/metrics`."""
        self._shown = shown
        for courier in self._couriers.values():
            courier.start()

    def tell(self, occurrences: Iterable[Occurrence], now: datetime) -> None:
        """Queues these for delivery; does not block."""
        noticed = []
        for occurrence in occurrences:
            self._noticed += 1
            noticed.append(Noticed(occurrence, now, self._noticed))
        self._backlog.add(noticed)

    def deliveries(self) -> Deliveries:
        """Returns the delivery counts so far."""
        couriers = self._couriers
        lost = {"logs": self._backlog.lost}
        return Deliveries(
            exports={signal: courier.exports for signal, courier in couriers.items()},
            failures={signal: courier.failures for signal, courier in couriers.items()},
            dropped={signal: courier.dropped + lost.get(signal, 0) for signal, courier in couriers.items()},
        )

    def stop(self) -> None:
        """Flushes once more, then ends."""
        for courier in self._couriers.values():
            courier.stop()

    def join(self, seconds: float) -> None:
        """Waits for the couriers to end, at most `seconds` in all."""
        until = time.monotonic() + seconds
        for courier in self._couriers.values():
            courier.join(max(0.0, until - time.monotonic()))

    def _snapshot(self) -> Iterator[Parcel]:
        if self._shown is None:
            return iter(())
        # Staleness is decided now, even if no new snapshots are being made.
        snapshot = msgspec.structs.replace(self._shown(), moment=time.monotonic())
        return self._encoder.metrics(snapshot, time.time_ns())

    def _records(self) -> Iterator[Parcel]:
        return map(self._encoder.logs, iter(partial(self._backlog.taken, MOST_RECORDS), []))
