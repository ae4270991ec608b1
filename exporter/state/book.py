"""Book: the newest state of a source; a poll goes in, a new SourceState comes out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import add, attrgetter

import msgspec

from exporter.errors import REMEDIES, Reason
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import Fact, LabelSets
from exporter.model.occurrence import Occurrence, What
from exporter.model.owners import UNOWNED, OwnerRule
from exporter.model.reading import Details, Happened, OpenAlerts, Poll, Supplied, Truncated, Window
from exporter.model.records import Convergence, Event, Kind, Notice, Operation, kind_of
from exporter.model.snapshot import AlertCounts, Labels, SourceState
from exporter.state.ledger import Ledger
from exporter.state.lifecycle import PATIENCE, changes, missed
from exporter.state.tally import ABSURD, Labelling, Tally

_PLACE = {severity: place for place, severity in enumerate(Severity)}
_EPOCH = datetime.fromtimestamp(0, UTC)


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """How a source's state is kept: what the configuration and the vendor say of it."""

    name: str
    vendor: str
    constant_labels: Mapping[str, str]
    label_sets: LabelSets
    resolution: timedelta
    interval: timedelta
    stale_after: timedelta
    max_records: int
    group_by: tuple[str, ...] = ()
    group_limit: int = 100
    owners: tuple[OwnerRule, ...] = ()
    alert_info: bool = False
    alert_info_limit: int = 500


class _Past(msgspec.Struct, gc=False):
    """What is remembered of an alert besides its newest record, also when it is closed."""

    baseline: bool
    started_at: datetime | None
    severity: Severity
    acknowledged: bool = False
    ended_at: datetime | None = None
    owner: Labels = ()


class _Sums(msgspec.Struct, gc=False):
    """Sums over the open alerts of one label set."""

    oldest: datetime
    open: int = 0
    acknowledged: int = 0
    suppressed: int = 0
    unattended: int = 0


class SourceBook:
    """Everything remembered of one source. Each record counts exactly once, however often it is read."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._ledger: Ledger[_Past | int] = Ledger(keeping.max_records, _seconds_of)
        self._labelling = Labelling(keeping.name, keeping.group_by, keeping.owners)
        self._tally = Tally(self._labelling, keeping.group_limit)
        self._open: dict[str, Alert] = {}
        self._past: dict[str, _Past] = {}  # of the open alerts; that of closed ones is in the ledger
        self._missed: dict[str, int] = {}
        self._gauge_series = [self._labelling.admission(keeping.group_limit) for _ in range(5)]
        self._failures: Counter[Reason] = Counter()
        self._supplied: frozenset[Fact] = frozenset()
        self._details: dict[str, Details] = {}  # the newest of each endpoint
        self._answering: set[str] = set()  # endpoints of details that answered, or had nothing to be asked
        self._ended: Mapping[str, Alert] = {}  # those the poll under way has read
        self.occurrences: list[Occurrence] | None = None
        """What happened and counts since somebody last emptied this list; None while nobody wants to know."""
        self.state = SourceState(
            name=keeping.name,
            vendor=keeping.vendor,
            constant_labels=keeping.constant_labels,
            label_sets=keeping.label_sets,
            facts=frozenset(),
            owners=self._labelling.owners,
            group_by=keeping.group_by,
            records_limit=keeping.max_records,
            interval_seconds=keeping.interval.total_seconds(),
            stale_after_seconds=_stale_after(keeping),
        )

    def keep(self, keeping: Keeping) -> None:
        """Goes on by other settings, whose `group_by` and `group_limit` are the same."""
        self._keeping = keeping
        self._labelling = Labelling(keeping.name, keeping.group_by, keeping.owners)
        self._tally.relabel(self._labelling)
        self.state = msgspec.structs.replace(
            self.state, stale_after_seconds=_stale_after(keeping), owners=self._labelling.owners
        )

    @property
    def open_alerts(self) -> Mapping[str, Alert]:
        """The alerts believed open, by key."""
        return self._open

    def observe(self, endpoint: str, code: str, seconds: float) -> None:
        """Notes one HTTP attempt; it shows with the next poll."""
        self._tally.request(endpoint, code, seconds)

    def enter(
        self,
        poll: Poll,
        *,
        clock_offset: timedelta | None = None,
        next_poll: datetime | None = None,
        ended: float = 0.0,
    ) -> SourceState:
        """Takes in what a poll read, whatever ended it, and returns the new state.

        `ended` is when, in seconds of a clock that is never set.

        Nothing is concluded from what a poll did not read: only a complete list can miss an alert, and only a poll
        without an error brings a missing alert nearer to having vanished.
        """
        partial = self._take_in(poll)
        self._ledger.shrink(len(self._open), poll.vendor_now)
        before, error, ledger, tally = self.state, poll.error, self._ledger, self._tally
        if error is not None:
            self._failures[error.reason] += 1
        # Until a poll has succeeded nothing is known, which is not the same as nothing open.
        known = error is None or before.alerts is not None
        self.state = msgspec.structs.replace(
            before,
            facts=self._facts(),
            alerts=self._alert_counts(poll.vendor_now) if known else None,
            open_by_severity=Counter(map(attrgetter("severity"), self._open.values())) if known else {},
            up=error is None,
            last_success=before.last_success if error else poll.started_at + timedelta(seconds=poll.duration_seconds),
            succeeded=before.succeeded if error else ended,
            last_poll_seconds=poll.duration_seconds,
            next_poll=next_poll,
            last_error=f"{error} - {REMEDIES[error.reason]}" if error else "",
            last_reason=error.reason if error else None,
            failures_in_a_row=before.failures_in_a_row + 1 if error else 0,
            polls=before.polls + 1,
            poll_failures=dict(self._failures),
            partial_polls=before.partial_polls + (partial and error is None),
            requests=dict(tally.requests),
            request_seconds=dict(tally.request_seconds),
            records=dict(ledger.records),
            tracked={**ledger.tracked, Kind.ALERT: ledger.tracked[Kind.ALERT] + len(self._open)},
            evicted=dict(ledger.evicted),
            backlog=sum(details.waiting for details in self._details.values()),
            unmapped=dict(tally.unmapped),
            clock_offset_seconds=clock_offset.total_seconds() if clock_offset is not None else None,
        )
        return self.state

    def _take_in(self, poll: Poll) -> bool:
        """Takes in the readings; whether details are unfinished.

        Alerts come before what happened to them, which counts or not by the alert it belongs to; and ended ones
        before open ones, since an alert that ended while the lists were walked may stand in both.
        """
        window, now = poll.window, poll.vendor_now
        happened = [record for reading in poll.readings if isinstance(reading, Happened) for record in reading.records]
        ended = {record.key: record for record in happened if isinstance(record, Alert)}
        self._ended = ended
        for alert in ended.values():
            self._take_ended(alert, window, now)
        partial = False
        listed: Iterable[Alert] = ()
        for reading in poll.readings:
            match reading:
                case OpenAlerts():
                    listed = reading.alerts
                    self._take_open(reading, ended, window, now, complete=poll.error is None)
                    self._invalid(reading)
                case Happened():
                    self._invalid(reading)
                case Supplied():
                    self._supplied = reading.facts
                case Details():
                    partial |= reading.is_partial
                    self._details[reading.endpoint] = reading
                    if reading.answered or (poll.error is None and not reading.is_partial):
                        self._answering.add(reading.endpoint)
                case Truncated():
                    partial = True
        for record in happened:
            if not isinstance(record, Alert):
                self._take_record(record, window)
        for alert in (*listed, *ended.values()):
            if alert.acknowledged and alert.acknowledged_at is not None:
                self._acknowledged(alert.key, alert.acknowledged_at, window)
        return partial

    def _facts(self) -> frozenset[Fact]:
        """What the source supplies, without what is fed only by details of which none has been read so far."""
        silent = {fact for details in self._details.values() for fact in details.facts}
        for endpoint in self._answering:
            silent -= self._details[endpoint].facts
        return self._supplied - silent

    def _invalid(self, reading: OpenAlerts | Happened) -> None:
        for kind, count in reading.rejected.counts.items():
            self._ledger.records[kind, "invalid"] += count

    # Alerts.

    def _take_ended(self, alert: Alert, window: Window, now: datetime) -> None:
        reason = alert.close_reason or CloseReason.CLOSED
        past = self._past.get(alert.key)
        if past is not None:  # seen open before: that it ended happened since
            self._note_severity(self._open[alert.key], alert)
            self._close(alert, reason, past, now, counts=True)
            self._ledger.records[Kind.ALERT, "changed"] += 1
            return
        ledger = self._ledger
        if ledger.seen(Kind.ALERT, alert.key) is not None or ledger.may_have_left(Kind.ALERT, alert.ended_at):
            ledger.records[Kind.ALERT, "duplicate"] += 1
            return
        opened_before = self._was_before(alert.appeared_at or alert.started_at, window, now)
        ended_before = opened_before and (alert.ended_at is None or self._was_before(alert.ended_at, window, now))
        self._tally.met(alert)
        if not opened_before:
            self._tally.alerts_opened([alert], now)
            self._note(What.OPENED, alert, alert.started_at)
        past = _Past(baseline=opened_before, started_at=alert.started_at, severity=alert.severity)
        self._close(alert, reason, past, now, counts=not ended_before)
        ledger.records[Kind.ALERT, "baseline" if ended_before else "new"] += 1

    def _take_open(
        self, reading: OpenAlerts, ended: Mapping[str, Alert], window: Window, now: datetime, *, complete: bool
    ) -> None:
        listed = {alert.key: alert for alert in reading.alerts}
        for key in ended.keys() & listed.keys():
            del listed[key]
        found = changes(self._open, listed)
        self._take_opened(found.opened, window, now)
        different = 0
        for before, alert in found.changed:
            self._open[alert.key] = alert
            self._past[alert.key].severity = alert.severity
            self._note_severity(before, alert)
            different += _differs(before, alert)
        records = self._ledger.records
        records[Kind.ALERT, "changed"] += different
        records[Kind.ALERT, "duplicate"] += len(listed) - len(found.opened) - different
        # All that is listed is in the book by now.
        missing = self._open.keys() - listed.keys() if len(self._open) > len(listed) else frozenset()
        if not complete:
            self._missed = {key: times for key, times in self._missed.items() if key in missing}
            return
        # A vendor whose clock was set back does not list what now lies in its future.
        ahead = {key for key in missing if (started := self._open[key].started_at) is not None and started > now}
        self._missed = missed(self._missed, missing, reading.unsure | ahead)
        for key in [key for key, times in self._missed.items() if times >= PATIENCE]:
            self._close(self._open[key], CloseReason.VANISHED, self._past[key], now, counts=True)

    def _take_opened(self, alerts: Iterable[Alert], window: Window, now: datetime) -> None:
        counted: list[Alert] = []
        again: list[Alert] = []
        baseline = 0
        opened, pasts, seen = self._open, self._past, self._ledger.seen  # a first poll opens thousands
        any_closed = bool(self._ledger.tracked[Kind.ALERT])
        for alert in alerts:
            key, started_at = alert.key, alert.started_at
            past = seen(Kind.ALERT, key) if any_closed else None
            if isinstance(past, _Past):  # closed before, open again under the same key
                self._ledger.forget(Kind.ALERT, key)
                again.append(alert)
            else:
                is_old = window.first and self._was_before(alert.appeared_at or started_at, window, now)
                past = _Past(is_old, started_at, alert.severity)
                if alert.unmapped:
                    self._tally.met(alert)
                if is_old:
                    baseline += 1
                else:
                    counted.append(alert)
            opened[key] = alert
            pasts[key] = past
        self._tally.alerts_opened(counted, now)
        self._tally.alerts_opened(again, None)  # how long ago they first began is not how late we are
        if self.occurrences is not None:
            for alert in (*counted, *again):
                self._note(What.OPENED, alert, alert.started_at)
        records = self._ledger.records
        records[Kind.ALERT, "changed"] += len(again)
        records[Kind.ALERT, "baseline"] += baseline
        records[Kind.ALERT, "new"] += len(counted)

    def _close(self, alert: Alert, reason: CloseReason, past: _Past, now: datetime, *, counts: bool) -> None:
        self._open.pop(alert.key, None)
        self._past.pop(alert.key, None)
        self._missed.pop(alert.key, None)
        past.ended_at = alert.ended_at
        past.owner = self._labelling.owner_of(alert)
        self._ledger.remember(Kind.ALERT, alert.key, past)
        if counts:
            self._tally.alert_closed(alert, reason, now)
            self._note(What.CLOSED, alert, alert.ended_at, reason=reason)

    def _acknowledged(self, key: str, at: datetime, window: Window) -> None:
        past = self._past_of(key)
        if past is None or past.acknowledged:
            return
        past.acknowledged = True
        if self._counts(past, at, window):
            self._tally.alert_acknowledged(past.severity, self._owner_of(key), past.started_at, at)
            self._note(What.ACKNOWLEDGED, self._named(key), at)

    # What happened to alerts, and events.

    def _take_record(self, record: Notice | Operation | Convergence | Event, window: Window) -> None:
        kind = kind_of(record)
        ledger = self._ledger
        mark = ledger.seen(kind, record.key)
        if mark is not None:
            was_counted = isinstance(mark, int) and mark & 3 == _COUNTED
            if isinstance(record, Notice) and record.failure is not None and was_counted:
                self._tally.notice_failed(record, self._owner_of(record.alert_key))
                self._note_failure(record)
                ledger.remember(kind, record.key, _marked(_FAILED, record.at))
                ledger.records[kind, "changed"] += 1
            else:
                ledger.records[kind, "duplicate"] += 1
            return
        if ledger.may_have_left(kind, record.at):
            ledger.records[kind, "duplicate"] += 1
            return
        self._tally.met(record)
        if isinstance(record, Event):
            counts = not self._was_before(record.at, window, None)
        else:
            counts = self._counts(self._past_of(record.alert_key), record.at, window)
        if counts:
            self._tally.happened(record, () if isinstance(record, Event) else self._owner_of(record.alert_key))
            if isinstance(record, Notice) and record.failure is not None and record.suppressed is None:
                self._note_failure(record)
        if isinstance(record, Operation) and record.operation == "ack" and record.at is not None:
            self._acknowledged(record.alert_key, record.at, window)
        failed = isinstance(record, Notice) and (record.failure is not None or record.suppressed is not None)
        state = (_FAILED if failed else _COUNTED) if counts else _BASELINE
        ledger.remember(kind, record.key, _marked(state, record.at))
        ledger.records[kind, "new" if counts else "baseline"] += 1

    def _owner_of(self, key: str) -> Labels:
        if not self._labelling.owners:
            return ()
        alert = self._open.get(key)
        if alert is not None:
            return self._labelling.owner_of(alert)
        past = self._past_of(key)
        return past.owner if past is not None else (UNOWNED,)

    def _past_of(self, key: str) -> _Past | None:
        past = self._past.get(key) or self._ledger.seen(Kind.ALERT, key)
        return past if isinstance(past, _Past) else None

    def _counts(self, past: _Past | None, at: datetime | None, window: Window) -> bool:
        """Whether what happened to an alert counts: of a baseline alert, or one we never saw, only what is new."""
        if past is not None and not past.baseline:
            return True
        return at is not None and at >= self._edge(window)

    def _edge(self, window: Window) -> datetime:
        since = window.counted_from
        return since - (since - _EPOCH) % self._keeping.resolution

    def _was_before(self, at: datetime | None, window: Window, now: datetime | None) -> bool:
        """Whether it was so before counting began, by a time that is not after `now`.

        Once a poll has succeeded whatever is new counts, but for what no window has reached before: a clock that is set
        back makes one reach behind the first.
        """
        if not window.first:
            return at is not None and window.reached is not None and at < window.reached
        return at is None or at < self._edge(window) or (now is not None and at > now + ABSURD)

    # What is told one by one.

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

    def _note_failure(self, notice: Notice) -> None:
        alert = self._named(notice.alert_key)
        self._note(What.NOTICE_FAILED, alert, notice.at, reason=str(notice.failure), channel=notice.channel)

    def _named(self, key: str) -> Alert:
        """The alert of this key; of one that closed in an earlier poll not even the name is remembered."""
        alert = self._open.get(key) or self._ended.get(key)
        if alert is not None:
            return alert
        past = self._past_of(key)
        severity, started_at = (past.severity, past.started_at) if past else (Severity.UNKNOWN, None)
        return Alert(key=key, severity=severity, started_at=started_at)

    # Gauges.

    def _alert_counts(self, now: datetime) -> AlertCounts:
        sums: dict[Labels, _Sums] = {}
        latest = now + ABSURD
        labels_of = self._labelling.labels_of
        for alert in self._open.values():
            labels = labels_of(alert)
            at = sums.get(labels)
            if at is None:
                at = sums[labels] = _Sums(oldest=latest)
            at.open += 1
            if alert.acknowledged:
                at.acknowledged += 1
            if alert.suppressed:
                at.suppressed += 1
            elif not alert.acknowledged:
                at.unattended += 1
            if alert.started_at is not None and alert.started_at < at.oldest:
                at.oldest = alert.started_at
        series = self._gauge_series
        info, omitted = self._info() if self._keeping.alert_info else (None, {})
        tally = self._tally
        return AlertCounts(
            open=series[0].grouped({labels: at.open for labels, at in sums.items()}, add),
            acknowledged=series[1].grouped(
                {labels: at.acknowledged for labels, at in sums.items() if at.acknowledged}, add
            ),
            suppressed=series[2].grouped({labels: at.suppressed for labels, at in sums.items() if at.suppressed}, add),
            unattended=series[4].grouped({labels: at.unattended for labels, at in sums.items() if at.unattended}, add),
            oldest_open=series[3].grouped(
                {labels: at.oldest for labels, at in sums.items() if at.oldest is not latest}, min
            ),
            opened=dict(tally.opened),
            closed=dict(tally.closed),
            open_duration=dict(tally.open_duration),
            acknowledge_delay=dict(tally.acknowledge_delay),
            detection_delay=dict(tally.detection_delay),
            operations=dict(tally.operations),
            operation_failures=dict(tally.operation_failures),
            convergences=dict(tally.convergences),
            converged_anomalies=dict(tally.anomalies),
            notices=dict(tally.notices),
            notice_failures=dict(tally.notice_failures),
            notices_suppressed=dict(tally.notices_suppressed),
            events=dict(tally.events),
            info=info,
            info_omitted=omitted,
        )

    def _info(self) -> tuple[list[Labels], Counter[Labels]]:
        """One label set per open alert, the most severe first, then the newest, up to the limit; how many are left."""
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


# What the ledger remembers of a record: what became of it, and its time in seconds since 1970, in one number.
_BASELINE, _COUNTED, _FAILED = 0, 1, 2


def _marked(state: int, at: datetime | None) -> int:
    return state | (_seconds(at) << 2)


def _seconds_of(mark: "_Past | int") -> int:
    return mark >> 2 if isinstance(mark, int) else _seconds(mark.ended_at)


def _seconds(at: datetime | None) -> int:
    return int(at.timestamp()) if at is not None else 0


_MOVES = tuple(
    field for field in Alert.__struct_fields__ if field not in {"acknowledged_at", "title", "unmapped", "appeared_at"}
)


def _differs(before: Alert, alert: Alert) -> bool:
    """Whether something changed that a metric shows."""
    return any(getattr(before, field) != getattr(alert, field) for field in _MOVES)


def _stale_after(keeping: Keeping) -> float:
    return max(keeping.stale_after, 3 * keeping.interval).total_seconds()
