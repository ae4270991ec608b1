"""Book: the state of a source; turns polls into new SourceStates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import add, attrgetter
from typing import Any, NamedTuple

import msgspec

from exporter.errors import REMEDIES, Reason
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact, LabelSets
from exporter.model.occurrence import Occurrence, What
from exporter.model.owners import OwnerRule
from exporter.model.reading import Details, Poll, Truncated
from exporter.model.records import Kind, Notice
from exporter.model.snapshot import AlertCounts, Detailed, Labels, OpenAlert, SourceState
from exporter.state.grouping import OTHER, Labelling
from exporter.state.ledger import Ledger, identity_of
from exporter.state.lifecycle import ABSURD
from exporter.state.tally import Tally
from exporter.state.verdicts import Memory, Past, Taken, Verdicts, nobody, seconds_from

# Alerts on the landing page.
TOP_OPEN = 100
# Tolerance for records whose time is after the end of their poll.
_AHEAD = timedelta(minutes=1)

_PLACE = {severity: place for place, severity in enumerate(Severity)}
_EPOCH = datetime.fromtimestamp(0, UTC)
_STARTED_AT = attrgetter("started_at")
# Fields of the state besides counters and open alerts.
_NO_COUNTERS = (
    "facts up last_success succeeded last_poll_seconds next_poll last_error last_reason failures_in_a_row tracked "
    "backlog details clock_offset_seconds"
).split()
_GAUGES = ("open", "acknowledged", "suppressed", "unattended", "oldest_open", "info", "info_omitted")


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a source's state, from the configuration and the vendor."""

    name: str
    vendor: str
    constant_labels: Mapping[str, str]
    label_sets: LabelSets
    resolution: timedelta
    interval: timedelta
    stale_after: timedelta
    max_records: int
    remedies: Mapping[Reason, str] = msgspec.field(default_factory=lambda: REMEDIES)
    group_by: tuple[str, ...] = ()
    group_limit: int = 100
    owners: tuple[OwnerRule, ...] = ()
    alert_info: bool = False
    alert_info_limit: int = 500

    @property
    def series(self) -> tuple[object, ...]:
        """Returns the settings that decide the labels of counters: where they differ, counters restart."""
        return self.constant_labels, self.group_by, self.group_limit, bool(self.owners)


class _Sums(msgspec.Struct, gc=False):
    """Sums over the open alerts of one label set."""

    oldest: datetime
    open: int = 0
    acknowledged: int = 0
    suppressed: int = 0
    attended: int = 0


class _Shown(NamedTuple):
    """The output for the open alerts, valid until one of them changes."""

    gauges: dict[str, Any]
    by_severity: Mapping[Severity, int]
    top_open: Sequence[OpenAlert]
    changes_with_time: bool


class SourceBook:
    """Everything remembered about one source. Each record counts exactly once, however often it is read.

    Args:
        keeping: its settings.
        counts_from: start of its counters, if an earlier source of this name had counters.
    """

    def __init__(self, keeping: Keeping, counts_from: datetime | None = None) -> None:
        self._ledger: Ledger[Past | int] = Ledger(keeping.max_records, seconds_from)
        self._open: dict[str, Alert] = {}
        self._pasts: dict[str, Past] = {}  # open alerts only; the ledger has closed ones
        self._missed: Mapping[str, int] = {}
        self._has_listed = False
        self._supplied: frozenset[Fact] = frozenset()
        self._details: dict[str, Details] = {}  # the newest of each endpoint
        self._answering: set[str] = set()  # endpoints of details that answered, or had nothing to be asked about
        self.occurrences: list[Occurrence] | None = None
        """Counted occurrences since the list was last emptied; None while nobody reads them."""
        self._keeping = keeping
        self._begin(counts_from)

    def _begin(self, at: datetime | None) -> None:
        """Starts counting from 0, under the labels the settings ask for."""
        keeping = self._keeping
        self._labelling = Labelling(keeping.name, keeping.group_by, keeping.owners)
        self._tally = Tally(self._labelling, keeping.group_limit, keeping.label_sets)
        self._ledger.records.clear()
        self._ledger.evicted.clear()
        self._gauge_series = [self._labelling.admission(keeping.group_limit) for _ in range(5)]
        self._failures: Counter[Reason] = Counter()
        self.state = SourceState(
            name=keeping.name,
            vendor=keeping.vendor,
            constant_labels=keeping.constant_labels,
            label_sets=keeping.label_sets,
            facts=frozenset(),
            counts_from=at,
            interval_seconds=keeping.interval.total_seconds(),
            stale_after_seconds=_stale_after(keeping),
        )
        self._settle()

    def keep(self, keeping: Keeping, now: datetime) -> None:
        """Applies new settings, keeping everything remembered.

        Counters continue where the labels of their series are the same; else they restart at `now`.
        """
        before, self._keeping = self._keeping, keeping
        if keeping.series != before.series:
            known = self.state
            self._begin(now)
            self.state = msgspec.structs.replace(
                self.state, **{name: getattr(known, name) for name in _NO_COUNTERS}, list_truncated=frozenset()
            )
            if known.alerts is not None and not known.list_truncated:
                self.state = msgspec.structs.replace(self.state, **self._alerts([], now, keep=False))
            return
        self._labelling = Labelling(keeping.name, keeping.group_by, keeping.owners)
        self._tally.relabel(self._labelling)
        self._settle()

    def _settle(self) -> None:
        """Copies the settings into the state."""
        keeping = self._keeping
        self._shown: _Shown | None = None
        self._ledger.limit = keeping.max_records
        self.state = msgspec.structs.replace(
            self.state,
            label_sets=keeping.label_sets,
            owners=self._labelling.owners,
            group_by=keeping.group_by,
            records_limit=keeping.max_records,
            remedies=keeping.remedies,
            interval_seconds=keeping.interval.total_seconds(),
            stale_after_seconds=_stale_after(keeping),
        )

    @property
    def open_alerts(self) -> Mapping[str, Alert]:
        """Returns the alerts believed open, by key."""
        return self._open

    def observe(self, endpoint: str, code: str, seconds: float) -> None:
        """Counts one HTTP attempt; shown with the next poll."""
        self._tally.request(endpoint, code, seconds)

    def enter(
        self,
        poll: Poll,
        *,
        clock_offset: timedelta | None = None,
        next_poll: datetime | None = None,
        ended: float = 0.0,
    ) -> SourceState:
        """Enters a poll and returns the new state.

        Nothing is concluded from what a poll did not read. `ended` is when the poll ended, by the monotonic clock.
        """
        error, now = poll.error, poll.vendor_now
        took = timedelta(seconds=poll.duration_seconds)
        taken = Taken(poll.readings)
        verdicts = Verdicts(
            taken,
            Memory(self._open, self._pasts, self._missed, self._ledger, self._labelling, self._has_listed),
            window=poll.window,
            now=now,
            resolution=self._keeping.resolution,
            complete=error is None,
        )
        self._write(verdicts, now)
        self._has_listed |= error is None and taken.listed is not None and not taken.truncated
        if verdicts.open or verdicts.closed:
            self._shown = None
        self._ledger.shrink(len(self._open), now + took + _AHEAD)
        self._note_details(taken, complete=error is None)
        if error is not None:
            self._failures[error.reason] += 1
        before, ledger, tally = self.state, self._ledger, self._tally
        self.state = msgspec.structs.replace(
            before,
            facts=self._facts(),
            up=error is None,
            last_success=before.last_success if error else poll.started_at + took,
            succeeded=before.succeeded if error else ended,
            last_poll_seconds=poll.duration_seconds,
            next_poll=next_poll,
            last_error=str(error) if error else "",
            last_reason=error.reason if error else None,
            failures_in_a_row=before.failures_in_a_row + 1 if error else 0,
            polls=before.polls + 1,
            poll_failures=dict(self._failures),
            partial_polls=before.partial_polls + (error is None and taken.is_partial),
            requests=dict(tally.requests),
            request_seconds=dict(tally.request_seconds),
            records=dict(ledger.records),
            tracked={**ledger.tracked, Kind.ALERT: ledger.tracked[Kind.ALERT] + len(self._open)},
            evicted=dict(ledger.evicted),
            backlog=sum(details.waiting for details in self._details.values()),
            details={endpoint: _detailed(details) for endpoint, details in self._details.items()},
            detail_failures=dict(tally.detail_failures),
            list_truncated=before.list_truncated if error else frozenset(cut.endpoint for cut in taken.truncated),
            unmapped=dict(tally.unmapped),
            clock_offset_seconds=clock_offset.total_seconds() if clock_offset is not None else None,
            # Until the first success, unknown is not the same as none open.
            **(self._alerts(taken.truncated, now, keep=error is not None) if not error or before.alerts else {}),
        )
        return self.state

    def _write(self, verdicts: Verdicts, now: datetime) -> None:
        """Writes the verdicts to memory, the ledger, the counters and the list of occurrences."""
        closed = verdicts.closed
        self._open.update(verdicts.open)
        self._pasts.update(verdicts.pasts)
        for key in closed:
            self._open.pop(key, None)
            self._pasts.pop(key, None)
        self._missed = {key: times for key, times in verdicts.missed.items() if key not in closed}
        self._ledger.enter(verdicts.marks, verdicts.seen, verdicts.reopened)
        self._ledger.records.update(verdicts.outcomes)
        self._tally.enter(verdicts, now)
        if self.occurrences is not None:
            self._tell(verdicts)

    def _note_details(self, taken: Taken, *, complete: bool) -> None:
        if taken.supplied is not None:
            self._supplied = taken.supplied.facts
        for details in taken.details:
            self._details[details.endpoint] = details
            self._tally.details_failed(details)
            if details.answered or (complete and not details.is_partial):
                self._answering.add(details.endpoint)

    def _facts(self) -> frozenset[Fact]:
        """Returns the facts the source supplies, except those fed only by details none of which has been read yet."""
        silent = {fact for details in self._details.values() for fact in details.facts}
        for endpoint in self._answering:
            silent -= self._details[endpoint].facts
        return self._supplied - silent

    # Occurrences.

    def _tell(self, verdicts: Verdicts) -> None:
        for alert in (*verdicts.opened, *verdicts.opened_again):
            self._note(What.OPENED, alert, alert.started_at)
        for closing in verdicts.closed.values():
            if closing.before is not None:
                self._note_severity(closing.before, closing.alert)
            if closing.counts:
                self._note(What.CLOSED, closing.alert, closing.alert.ended_at, reason=closing.reason)
        for before, alert in verdicts.changed:
            self._note_severity(before, alert)
        for acknowledged in verdicts.acknowledged:
            self._note(What.ACKNOWLEDGED, self._named(acknowledged.key, verdicts), acknowledged.at)
        for record, _owner, _failure_only in verdicts.counted:
            if isinstance(record, Notice) and record.failure is not None and record.suppressed is None:
                alert = self._named(record.alert_key, verdicts)
                self._note(What.NOTICE_FAILED, alert, record.at, reason=record.failure, channel=record.channel)

    def _note(self, what: What, alert: Alert, at: datetime | None, **more: str) -> None:
        if self.occurrences is None:
            return
        self.occurrences.append(
            Occurrence(
                what=what,
                source=self._keeping.name,
                vendor=self._keeping.vendor,
                key=alert.key,
                severity=alert.severity,
                at=at,
                name=alert.name,
                title=alert.title,
                started_at=alert.started_at,
                **more,
            )
        )

    def _note_severity(self, before: Alert, alert: Alert) -> None:
        if before.severity != alert.severity:
            self._note(What.SEVERITY_CHANGED, alert, None, previous_severity=before.severity)

    def _named(self, key: str, verdicts: Verdicts) -> Alert:
        """Returns the alert with this key; if it closed in an earlier poll, not even its name is remembered."""
        if key in self._open:
            return self._open[key]
        if key in verdicts.closed:
            return verdicts.closed[key].alert
        past = self._ledger.mark_of(identity_of(Kind.ALERT, key))
        if not isinstance(past, Past):
            return nobody(key)
        return Alert(key=key, severity=past.severity, started_at=past.started_at)

    # Gauges.

    def _alerts(self, truncated: list[Truncated], now: datetime, *, keep: bool) -> dict[str, Any]:
        """Returns the state of alerts.

        While a list is truncated its rows say nothing about those not read: open counts come from the vendor's own
        totals, and everything else stays as last known. The latter also holds after a failed poll.
        """
        known = self.state.alerts
        if truncated or (keep and self.state.list_truncated):
            gauges = {name: getattr(known, name) for name in _GAUGES} if known else dict.fromkeys(_GAUGES)
            by_severity, top_open = self.state.open_by_severity, self.state.top_open
            totals = [cut.open_by_severity for cut in truncated if cut.open_by_severity is not None]
            if totals:
                by_severity = sum(map(Counter, totals), Counter[Severity]())
                gauges["open"] = self._open_of(by_severity)
        else:
            if self._shown is None or self._shown.changes_with_time:
                self._shown = self._open_as_shown(now)
            gauges, by_severity, top_open, _ = self._shown
        return {
            "alerts": AlertCounts(**gauges, **self._tally.shown(is_first=known is None)),
            "open_by_severity": by_severity,
            "top_open": top_open,
        }

    def _open_as_shown(self, now: datetime) -> "_Shown":
        by_severity = Counter(map(attrgetter("severity"), self._open.values()))
        gauges, is_absurd = self._gauges(now)
        return _Shown(gauges, by_severity, self._top_open(by_severity), is_absurd)

    def _open_of(self, totals: Mapping[Severity, int]) -> dict[Labels, int]:
        """Returns the vendor's totals; alerts beyond those read have no known group and owner."""
        labelling = self._labelling
        if not labelling.group_by and not labelling.owners:
            return {(severity,): count for severity, count in totals.items()}
        read = Counter(map(labelling.labels_of, self._open.values()))
        found = self._gauge_series[0].grouped(read, add)
        rest = Counter(totals)
        for labels, count in read.items():
            rest[Severity(labels[0])] -= count
        unknown = (OTHER,) * len(labelling.group_by) + (("",) if labelling.owners else ())
        for severity, count in (+rest).items():
            found[severity, *unknown] = found.get((severity, *unknown), 0) + count
        return found

    def _gauges(self, now: datetime) -> tuple[dict[str, Any], bool]:
        """Returns the gauges, and whether an alert's start is still implausible."""
        sums: dict[Labels, _Sums] = {}
        is_absurd = False
        latest = now + ABSURD
        labels_of = self._labelling.labels_of
        for alert in self._open.values():
            labels = labels_of(alert)
            at = sums.get(labels)
            if at is None:
                at = sums[labels] = _Sums(oldest=latest)
            at.open += 1
            if alert.acknowledged or alert.suppressed:
                at.acknowledged += alert.acknowledged
                at.suppressed += alert.suppressed
                at.attended += 1
            started_at = alert.started_at
            if started_at is not None and started_at < at.oldest:
                at.oldest = started_at
            elif at.oldest is latest and started_at is not None:
                is_absurd = True
        info, omitted = self._info() if self._keeping.alert_info else (None, {})
        series = self._gauge_series
        gauges = {
            "open": series[0].grouped({of: at.open for of, at in sums.items()}, add),
            "acknowledged": series[1].grouped({of: at.acknowledged for of, at in sums.items() if at.acknowledged}, add),
            "suppressed": series[2].grouped({of: at.suppressed for of, at in sums.items() if at.suppressed}, add),
            "unattended": series[3].grouped(
                {of: at.open - at.attended for of, at in sums.items() if at.open > at.attended}, add
            ),
            "oldest_open": series[4].grouped(
                {of: at.oldest for of, at in sums.items() if at.oldest is not latest}, min
            ),
            "info": info,
            "info_omitted": omitted,
        }
        return gauges, is_absurd

    def _info(self) -> tuple[list[Labels], Counter[Labels]]:
        """Returns label sets of open alerts up to the limit, most severe then newest, and how many are omitted."""
        by_rank = sorted(
            self._open.values(),
            key=lambda alert: (_PLACE[alert.severity], -(alert.started_at or _EPOCH).timestamp(), alert.key),
        )
        limit, owner_of = self._keeping.alert_info_limit, self._labelling.owner_of
        shown = [
            (
                alert.severity,
                alert.key,
                alert.name,
                alert.policy,
                alert.resource_type,
                alert.namespace,
                *owner_of(alert),
            )
            for alert in by_rank[:limit]
        ]
        return shown, Counter(map(owner_of, by_rank[limit:]))

    def _top_open(self, by_severity: Mapping[Severity, int]) -> list[OpenAlert]:
        """Returns the alerts to show first: most severe, then oldest."""
        found: list[Alert] = []
        for severity in Severity:
            if by_severity.get(severity) and len(found) < TOP_OPEN:
                alerts = [alert for alert in self._open.values() if alert.severity is severity]
                found += sorted((alert for alert in alerts if alert.started_at is not None), key=_STARTED_AT)
                found += (alert for alert in alerts if alert.started_at is None)
        return [OpenAlert(alert, *self._labelling.owner_of(alert)) for alert in found[:TOP_OPEN]]


def _detailed(details: Details) -> Detailed:
    """Returns the outcome of detail calls for the state."""
    reason = max(details.failed, key=lambda reason: details.failed[reason], default=None)
    failed = sum(details.failed.values())
    return Detailed(answered=details.answered, failed=failed, waiting=details.waiting, reason=reason)


def _stale_after(keeping: Keeping) -> float:
    return max(keeping.stale_after, 3 * keeping.interval).total_seconds()
