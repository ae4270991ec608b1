"""Tally: the counters and histograms of one source's alerts, records and requests; they only ever grow."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.records import Convergence, Event, Notice, Operation, Record
from exporter.model.snapshot import LIFE_BUCKETS, REQUEST_BUCKETS, Histogram, Labels, empty_histogram
from exporter.state.grouping import Admission

# A time further ahead than this is a mistake of the vendor's: the alert counts, its age does not.
ABSURD = timedelta(days=1)


class Tally:
    """Counts what it is told, once per call: whoever calls has made sure that it is new.

    Args:
        group_by: names of the alert's fields that are extra labels.
        group_limit: label sets per family with a series of their own.
    """

    def __init__(self, *, group_by: tuple[str, ...], group_limit: int) -> None:
        self.labels_of: Callable[[Alert], Labels] = (
            attrgetter("severity", *group_by) if group_by else lambda alert: (alert.severity,)
        )
        """What an alert is counted under: its severity and the values of the `group_by` labels."""
        extra = len(group_by)
        self._opened_series = Admission(extra=extra, limit=group_limit)
        self._closed_series = Admission(extra=extra, limit=group_limit)
        self._event_series = Admission(extra=1, limit=group_limit)
        self.opened = Counter[Labels]()
        self.closed = Counter[Labels]()
        self.open_duration: dict[Labels, Histogram] = {}
        self.acknowledge_delay: dict[Labels, Histogram] = {}
        self.detection_delay = empty_histogram(LIFE_BUCKETS)
        self.operations = Counter[Labels]()
        self.operation_failures = Counter[Labels]()
        self.convergences = 0
        self.anomalies = 0
        self.notices = Counter[Labels]()
        self.notice_failures = Counter[Labels]()
        self.notices_suppressed = Counter[Labels]()
        self.events = Counter[Labels]()
        self.unmapped = Counter[str]()
        self.requests = Counter[Labels]()
        self.request_seconds: defaultdict[str, Histogram] = defaultdict(lambda: empty_histogram(REQUEST_BUCKETS))

    def alerts_opened(self, alerts: Sequence[Alert], now: datetime | None) -> None:
        """Alerts were seen to open, for the first time if it is said when."""
        for labels, count in Counter(map(self.labels_of, alerts)).items():
            self.opened[self._opened_series.series_of(labels)] += count
        if now is None:
            return
        latest = now + ABSURD
        starts = [alert.started_at for alert in alerts]
        delays = [(now - start).total_seconds() for start in starts if start is not None and start < latest]
        self.detection_delay = self.detection_delay.observed(*delays)

    def alert_closed(self, alert: Alert, reason: CloseReason, now: datetime) -> None:
        """An alert closed; how long it was open is known unless it vanished."""
        severity, *group = self.labels_of(alert)
        self.closed[self._closed_series.series_of((severity, reason, *group))] += 1
        if reason is not CloseReason.VANISHED and alert.ended_at is not None and alert.ended_at < now + ABSURD:
            _observe(self.open_duration, alert.severity, alert.started_at, alert.ended_at)

    def alert_acknowledged(self, severity: Severity, started_at: datetime | None, at: datetime) -> None:
        """An alert was acknowledged for the first time."""
        _observe(self.acknowledge_delay, severity, started_at, at)

    def happened(self, record: Operation | Convergence | Notice | Event) -> None:
        """Something happened that counts."""
        match record:
            case Operation():
                self.operations[(record.operation,)] += 1
                self.operation_failures[(record.operation,)] += record.failed
                self.convergences += record.anomalies > 0
                self.anomalies += record.anomalies
            case Convergence():
                self.convergences += 1
                self.anomalies += record.anomalies
            case Notice(suppressed=None):
                self.notices[(record.channel,)] += 1
                if record.failure is not None:
                    self.notice_failed(record)
            case Notice():
                self.notices_suppressed[(str(record.suppressed),)] += 1
            case Event():
                self.events[self._event_series.series_of((record.event_type,))] += 1

    def notice_failed(self, notice: Notice) -> None:
        """A notice that counts turned out to have failed."""
        self.notice_failures[notice.channel, str(notice.failure)] += 1

    def met(self, record: Record) -> None:
        """A record was met for the first time: what of it is in no table of ours?"""
        self.unmapped.update(record.unmapped)

    def request(self, endpoint: str, code: str, seconds: float) -> None:
        """One HTTP attempt was made."""
        self.requests[endpoint, code] += 1
        self.request_seconds[endpoint] = self.request_seconds[endpoint].observed(seconds)


def _observe(into: dict[Labels, Histogram], severity: Severity, started_at: datetime | None, until: datetime) -> None:
    if started_at is None or started_at > until + ABSURD:
        return
    histogram = into.get((severity,)) or empty_histogram(LIFE_BUCKETS)
    into[severity,] = histogram.observed((until - started_at).total_seconds())
