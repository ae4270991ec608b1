"""SourceState, Snapshot: everything known at one moment, frozen."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import msgspec

from exporter.errors import REMEDIES, Reason
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact, LabelSets
from exporter.model.records import Kind

Labels = tuple[str, ...]

# Upper bounds in seconds: how long alerts live and wait (1 min to 7 d), and how long one HTTP request takes.
LIFE_BUCKETS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0, 172800.0, 604800.0)
REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram(msgspec.Struct, frozen=True):
    """Observations per bucket, not cumulated, the last one being above every bound; and their sum in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    def observed(self, *seconds: float) -> "Histogram":
        """Returns this histogram with further observations; a negative one counts as 0."""
        values = sorted(seconds)
        until = [0, *(bisect_right(values, bound) for bound in self.bounds), len(values)]
        counts = tuple(
            count + after - before for count, (before, after) in zip(self.counts, pairwise(until), strict=True)
        )
        return Histogram(self.bounds, counts, self.total + sum(values[bisect_left(values, 0.0) :]))


def empty_histogram(bounds: tuple[float, ...]) -> Histogram:
    """Returns a histogram without observations."""
    return Histogram(bounds, (0,) * (len(bounds) + 1))


class AlertCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a source's alerts. Keys are label values in the order the catalogue names the labels.

    The values of `group_by` follow on those of the family: (severity, *group), (severity, reason, *group). Where alerts
    have owners, the owner comes last. A gauge is None where it is not known, since the list of open alerts could never
    be read to its end.
    """

    open: Mapping[Labels, int] | None = {}
    acknowledged: Mapping[Labels, int] | None = {}
    suppressed: Mapping[Labels, int] | None = {}
    unattended: Mapping[Labels, int] | None = {}
    oldest_open: Mapping[Labels, datetime] | None = {}
    opened: Mapping[Labels, int] = {}
    closed: Mapping[Labels, int] = {}
    open_duration: Mapping[Labels, Histogram] = {}
    acknowledge_delay: Mapping[Labels, Histogram] = {}
    detection_delay: Mapping[Labels, Histogram] = {}
    operations: Mapping[Labels, int] = {}
    operation_failures: Mapping[Labels, int] = {}
    convergences: Mapping[Labels, int] = {}
    converged_anomalies: Mapping[Labels, int] = {}
    notices: Mapping[Labels, int] = {}
    notice_failures: Mapping[Labels, int] = {}
    notices_suppressed: Mapping[Labels, int] = {}
    events: Mapping[Labels, int] = {}
    info: Sequence[Labels] | None = None
    info_omitted: Mapping[Labels, int] | None = {}


class Detailed(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one endpoint's detail calls in the last poll that made or needed any.

    `reason` is why calls failed, the most frequent one; None while none does.
    """

    answered: int = 0
    failed: int = 0
    waiting: int = 0
    reason: Reason | None = None


class OpenAlert(msgspec.Struct, frozen=True):
    """An alert for a person to look at; `owner` is "" where alerts have none."""

    alert: Alert
    owner: str = ""


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one source after a poll.

    `alerts` is None until a poll has succeeded: unknown is not the same as none open.
    Maps of plain counters: `requests` by (endpoint, code), `request_seconds` by endpoint, `records` by (kind,
    outcome), `tracked` and `evicted` by kind, `unmapped` by field, `detail_failures` by (endpoint, reason).
    `list_truncated` names the endpoints of lists that could not be walked to their end. `top_open` holds the most
    severe open alerts, the oldest of them first. `owners` are the values of the label `owner`; () where there is none.
    `last_error` is what happened; `remedies` are what to do about each reason, for whoever shows it to a person.
    `succeeded` is when a poll last did, in seconds of a clock that is never set. `counts_from` is when the counters
    began at 0.
    """

    name: str
    vendor: str
    constant_labels: Mapping[str, str]
    label_sets: LabelSets
    facts: frozenset[Fact]
    interval_seconds: float
    stale_after_seconds: float
    owners: Sequence[str] = ()
    group_by: Sequence[str] = ()
    counts_from: datetime | None = None
    alerts: AlertCounts | None = None
    open_by_severity: Mapping[Severity, int] = {}
    top_open: Sequence[OpenAlert] = ()
    up: bool = False
    last_success: datetime | None = None
    succeeded: float | None = None
    last_poll_seconds: float | None = None
    next_poll: datetime | None = None
    last_error: str = ""
    last_reason: Reason | None = None
    remedies: Mapping[Reason, str] = msgspec.field(default_factory=lambda: REMEDIES)
    failures_in_a_row: int = 0
    polls: int = 0
    poll_failures: Mapping[Reason, int] = {}
    partial_polls: int = 0
    requests: Mapping[Labels, int] = {}
    request_seconds: Mapping[str, Histogram] = {}
    records: Mapping[Labels, int] = {}
    tracked: Mapping[Kind, int] = {}
    evicted: Mapping[Kind, int] = {}
    records_limit: int = 0
    backlog: int = 0
    details: Mapping[str, Detailed] = {}
    detail_failures: Mapping[Labels, int] = {}
    list_truncated: frozenset[str] = frozenset()
    unmapped: Mapping[str, int] = {}
    clock_offset_seconds: float | None = None


class ReloadState(msgspec.Struct, frozen=True):
    """The result of the last reload, and when one last succeeded; `problems` are for people."""

    successful: bool
    succeeded_at: datetime
    problems: Sequence[str] = ()


class Deliveries(msgspec.Struct, frozen=True):
    """Deliveries over OTLP, by signal: `dropped` counts data points and log records."""

    exports: Mapping[str, int]
    failures: Mapping[str, int]
    dropped: Mapping[str, int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All sources at one moment.

    `group_by` names the extra labels of the alert families; `owned` says whether these have the label `owner`.
    `deliveries` is None where nothing is sent over OTLP. `moment` is `at` by the monotonic clock.
    `notices_failed` counts those of the last hour, by source.
    """

    at: datetime
    moment: float
    sources: Sequence[SourceState]
    group_by: Sequence[str] = ()
    owned: bool = False
    reload: ReloadState
    deliveries: Deliveries | None = None
    log_lines_dropped: int = 0
    notices_failed: Mapping[str, int] = {}
