"""Tally: the counters and histograms of one source; they only grow."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from exporter.errors import Reason
from exporter.model.alert import Alert, CloseReason
from exporter.model.facts import LabelSets
from exporter.model.reading import Details
from exporter.model.records import Convergence, Event, Notice, Operation
from exporter.model.snapshot import LIFE_BUCKETS, REQUEST_BUCKETS, Histogram, Labels, empty_histogram
from exporter.state.grouping import Admission, Labelling
from exporter.state.lifecycle import ABSURD
from exporter.state.verdicts import Verdicts

_NONE = empty_histogram(LIFE_BUCKETS)


class Tally:
    """Counts once per call; callers ensure that records are new. `owner` is (name,), or () where alerts have none."""

    def __init__(self, labelling: Labelling, group_limit: int, sets: LabelSets) -> None:
        self._labelling = labelling
        self._event_types = {(event_type,) for event_type in sets.event_types}
        self._debuts: dict[str, set[Labels]] = {}
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
        """Applies other owners from now on; `group_by` is unchanged."""
        self._labelling = labelling

    def enter(self, verdicts: Verdicts, now: datetime) -> None:
        """Counts the verdicts of a poll."""
        self.unmapped.update(verdicts.unmapped)
        self.alerts_opened(verdicts.opened, now)
        self.alerts_opened(verdicts.opened_again, None)  # their first start does not measure our delay
        for closing in verdicts.closed.values():
            if closing.counts:
                self.alert_closed(closing.alert, closing.reason, now)
        for acknowledged in verdicts.acknowledged:
            labels = (acknowledged.severity, *acknowledged.owner)
            _observe(self.acknowledge_delay, labels, acknowledged.started_at, acknowledged.at)
        for record, owner, failure_only in verdicts.counted:
            if failure_only and isinstance(record, Notice):
                self.notice_failed(record, owner)
            else:
                self.happened(record, owner)

    def shown(self, *, is_first: bool) -> dict[str, Any]:
        """Returns the counters of alerts by their AlertCounts names.

        A new label set that could not be known before is 0 in one snapshot and counted in the next, since `increase()`
        ignores the first value of a series. Only the first snapshot shows everything at once.
        """
        grouped, owned = bool(self._labelling.group_by), bool(self._labelling.owners)
        return {
            "opened": self._shown("opened", self.opened, 0, new=grouped and not is_first),
            "closed": self._shown("closed", self.closed, 0, new=(grouped or owned) and not is_first),
            "events": self._shown("events", self.events, 0, new=not is_first, known=self._event_types),
            **{
                name: self._shown(name, values, zero, new=owned and not is_first)
                for name, values, zero in (
                    ("open_duration", self.open_duration, _NONE),
                    ("acknowledge_delay", self.acknowledge_delay, _NONE),
                    ("detection_delay", self.detection_delay, _NONE),
                    ("operations", self.operations, 0),
                    ("operation_failures", self.operation_failures, 0),
                    ("convergences", self.convergences, 0),
                    ("converged_anomalies", self.anomalies, 0),
                    ("notices", self.notices, 0),
                    ("notice_failures", self.notice_failures, 0),
                    ("notices_suppressed", self.notices_suppressed, 0),
                )
            },
        }

    def _shown(
        self, name: str, values: Mapping[Labels, Any], zero: Any, *, new: bool, known: Collection[Labels] = ()
    ) -> dict[Labels, Any]:
        debuts = self._debuts.setdefault(name, set())
        if len(debuts) == len(values):
            return dict(values)
        shown = {
            labels: value if not new or labels in debuts or labels in known else zero
            for labels, value in values.items()
        }
        debuts.update(values)
        return shown

    def alerts_opened(self, alerts: Sequence[Alert], now: datetime | None) -> None:
        """Counts opened alerts; first openings have `now`."""
        for labels, count in Counter(map(self._labelling.labels_of, alerts)).items():
            self.opened[self._opened_series.series_of(labels)] += count
        if now is None:
            return
        by_owner: defaultdict[Labels, list[datetime | None]] = defaultdict(list)
        if self._labelling.owners:
            for alert in alerts:
                by_owner[self._labelling.owner_of(alert)].append(alert.started_at)
        else:
            by_owner[()] = [alert.started_at for alert in alerts]
        latest = now + ABSURD
        for owner, starts in by_owner.items():
            seconds = [(now - start).total_seconds() for start in starts if start is not None and start < latest]
            if not seconds:
                continue
            known = self.detection_delay.get(owner) or empty_histogram(LIFE_BUCKETS)
            self.detection_delay[owner] = known.observed(*seconds)

    def alert_closed(self, alert: Alert, reason: CloseReason, now: datetime) -> None:
        """Counts a closed alert, and how long it was open unless it vanished."""
        severity, *group = self._labelling.labels_of(alert)
        self.closed[self._closed_series.series_of((severity, reason, *group))] += 1
        if reason is not CloseReason.VANISHED and alert.ended_at is not None and alert.ended_at < now + ABSURD:
            labels = (alert.severity, *self._labelling.owner_of(alert))
            _observe(self.open_duration, labels, alert.started_at, alert.ended_at)

    def happened(self, record: Operation | Convergence | Notice | Event, owner: Labels) -> None:
        """Counts a record."""
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
        """Counts the failure of a counted notice."""
        self.notice_failures[notice.channel, str(notice.failure), *owner] += 1

    def details_failed(self, details: Details) -> None:
        """Counts the failed detail calls of a poll."""
        for reason, count in details.failed.items():
            self.detail_failures[details.endpoint, reason] += count

    def request(self, endpoint: str, code: str, seconds: float) -> None:
        """Counts one HTTP attempt."""
        self.requests[endpoint, code] += 1
        self.request_seconds[endpoint] = self.request_seconds[endpoint].observed(seconds)


def _observe(into: dict[Labels, Histogram], labels: Labels, started_at: datetime | None, until: datetime) -> None:
    if started_at is None or started_at > until + ABSURD:
        return
    histogram = into.get(labels) or empty_histogram(LIFE_BUCKETS)
    into[labels] = histogram.observed((until - started_at).total_seconds())
