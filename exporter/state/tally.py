"""Tally: the counters and histograms of one source's alerts, records and requests; they only ever grow."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from exporter.errors import Reason
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.owners import OwnerRule, owner_of, owners_of
from exporter.model.records import Convergence, Event, Notice, Operation, Record
from exporter.model.snapshot import LIFE_BUCKETS, REQUEST_BUCKETS, Histogram, Labels, empty_histogram
from exporter.state.grouping import Admission

# A time further ahead than this is a mistake of the vendor's: the alert counts, its age does not.
ABSURD = timedelta(days=1)
# Label sets kept at hand, so that most alerts cost one look-up.
_CACHED = 50_000


class Labelling:
    """Says under which labels an alert counts: its severity, the values of `group_by`, and its owner, if any.

    Args:
        source: the name of the source, which may decide about owners.
        group_by: names of the alert's fields that are extra labels.
        rules: say who is responsible for an alert; () where alerts have no owner.
    """

    def __init__(self, source: str, group_by: Sequence[str], rules: Sequence[OwnerRule]) -> None:
        self.owners = owners_of(rules)
        self.group_by = tuple(group_by)
        self._source = {"source": source}
        self._rules = [rule for rule in rules if "source" not in rule.match or rule.match["source"].fullmatch(source)]
        matched = {name for rule in self._rules for name in rule.match if name != "source"}
        self._fields = tuple(dict.fromkeys(("severity", *self.group_by, *sorted(matched))))
        self._values_of: Callable[[Alert], Labels] = (
            attrgetter(*self._fields) if len(self._fields) > 1 else lambda alert: (alert.severity,)
        )
        self._known: dict[Labels, Labels] = {}

    def labels_of(self, alert: Alert) -> Labels:
        """(severity, *group) or (severity, *group, owner)."""
        values = self._values_of(alert)
        labels = self._known.get(values)
        if labels is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            labels = values[: 1 + len(self.group_by)]
            if self.owners:
                labels += (owner_of(dict(zip(self._fields, values, strict=True)) | self._source, self._rules),)
            self._known[values] = labels
        return labels

    def owner_of(self, alert: Alert) -> Labels:
        """(owner,); () where alerts have none."""
        return self.labels_of(alert)[-1:] if self.owners else ()

    def admission(self, limit: int) -> Admission:
        """Admits `limit` label sets of a family; the rest becomes `other`, of the same owner."""
        return Admission(extra=len(self.group_by), behind=bool(self.owners), limit=limit)


class Tally:
    """Counts once per call: the caller makes sure that it is new. `owner` is (name,), or () where alerts have none."""

    def __init__(self, labelling: Labelling, group_limit: int) -> None:
        self._labelling = labelling
        self._opened_series = labelling.admission(group_limit)
        self._closed_series = labelling.admission(group_limit)
        self._event_series = Admission(extra=1, limit=group_limit)
        self.opened = Counter[Labels]()
        self.closed = Counter[Labels]()
        self.open_duration: dict[Labels, Histogram] = {}
        self.acknowledge_delay: dict[Labels, Histogram] = {}
        self.detection_delay: dict[Labels, Histogram] = {}
        self.operations = Counter[Labels]()
        self.operation_failures = Counter[Labels]()
        self.convergences = Counter[Labels]()
        self.anomalies = Counter[Labels]()
        self.notices = Counter[Labels]()
        self.notice_failures = Counter[Labels]()
        self.notices_suppressed = Counter[Labels]()
        self.events = Counter[Labels]()
        self.unmapped = Counter[str]()
        self.detail_failures = Counter[tuple[str, Reason]]()
        self.requests = Counter[Labels]()
        self.request_seconds: defaultdict[str, Histogram] = defaultdict(lambda: empty_histogram(REQUEST_BUCKETS))

    def relabel(self, labelling: Labelling) -> None:
        """Counts under the labels of other owners from now on; `group_by` is the same."""
        self._labelling = labelling

    def alerts_opened(self, alerts: Sequence[Alert], now: datetime | None) -> None:
        """Counts alerts that were seen to open, for the first time if `now` says when."""
        for labels, count in Counter(map(self._labelling.labels_of, alerts)).items():
            self.opened[self._opened_series.series_of(labels)] += count
        if now is None:
            return
        latest = now + ABSURD
        delays: defaultdict[Labels, list[float]] = defaultdict(list)
        for alert in alerts:
            start = alert.started_at
            if start is not None and start < latest:
                delays[self._labelling.owner_of(alert)].append((now - start).total_seconds())
        for owner, seconds in delays.items():
            known = self.detection_delay.get(owner) or empty_histogram(LIFE_BUCKETS)
            self.detection_delay[owner] = known.observed(*seconds)

    def alert_closed(self, alert: Alert, reason: CloseReason, now: datetime) -> None:
        """Counts an alert that closed; how long it was open is known unless it vanished."""
        severity, *group = self._labelling.labels_of(alert)
        self.closed[self._closed_series.series_of((severity, reason, *group))] += 1
        if reason is not CloseReason.VANISHED and alert.ended_at is not None and alert.ended_at < now + ABSURD:
            labels = (alert.severity, *self._labelling.owner_of(alert))
            _observe(self.open_duration, labels, alert.started_at, alert.ended_at)

    def alert_acknowledged(self, severity: Severity, owner: Labels, started_at: datetime | None, at: datetime) -> None:
        """Observes the delay of the first acknowledgement of an alert."""
        _observe(self.acknowledge_delay, (severity, *owner), started_at, at)

    def happened(self, record: Operation | Convergence | Notice | Event, owner: Labels) -> None:
        """Counts something that happened."""
        match record:
            case Operation():
                self.operations[record.operation, *owner] += 1
                self.operation_failures[record.operation, *owner] += record.failed
                self._converged(record.anomalies, owner)
            case Convergence():
                self._converged(record.anomalies, owner)
            case Notice(suppressed=None):
                self.notices[record.channel, *owner] += 1
                if record.failure is not None:
                    self.notice_failed(record, owner)
            case Notice():
                self.notices_suppressed[str(record.suppressed), *owner] += 1
            case Event():
                self.events[self._event_series.series_of((record.event_type,))] += 1

    def _converged(self, anomalies: int, owner: Labels) -> None:
        if anomalies > 0:
            self.convergences[owner] += 1
            self.anomalies[owner] += anomalies

    def notice_failed(self, notice: Notice, owner: Labels) -> None:
        """Counts the failure of a notice that counts."""
        self.notice_failures[notice.channel, str(notice.failure), *owner] += 1

    def met(self, record: Record) -> None:
        """Counts the values of a new record that no table of ours has."""
        self.unmapped.update(record.unmapped)

    def request(self, endpoint: str, code: str, seconds: float) -> None:
        """Counts one HTTP attempt."""
        self.requests[endpoint, code] += 1
        self.request_seconds[endpoint] = self.request_seconds[endpoint].observed(seconds)


def _observe(into: dict[Labels, Histogram], labels: Labels, started_at: datetime | None, until: datetime) -> None:
    if started_at is None or started_at > until + ABSURD:
        return
    histogram = into.get(labels) or empty_histogram(LIFE_BUCKETS)
    into[labels] = histogram.observed((until - started_at).total_seconds())
