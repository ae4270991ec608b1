"""Verdicts: interprets the readings of a poll against memory, before anything is written (pure)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.reading import Details, Happened, OpenAlerts, Reading, Rejections, Supplied, Truncated, Window
from exporter.model.records import Convergence, Event, Kind, Notice, Operation, kind_of
from exporter.model.snapshot import Labels
from exporter.state.grouping import Labelling
from exporter.state.ledger import Identity, Ledger, identity_of
from exporter.state.lifecycle import ABSURD, PATIENCE, changes, missed

_EPOCH = datetime.fromtimestamp(0, UTC)

Happening = Notice | Operation | Convergence | Event


class Past(msgspec.Struct, frozen=True, gc=False):
    """The memory of an alert besides its newest record; all there is of a closed one."""

    baseline: bool
    started_at: datetime | None
    severity: Severity
    acknowledged: bool = False
    ended_at: datetime | None = None
    owner: Labels = ()


# States of a record, packed with its Unix time into one number: a million are kept, and tuples would take twice
# the memory.
BASELINE, COUNTED, FAILED = 0, 1, 2


def mark_from(state: int, at: datetime | None) -> int:
    """Returns the mark for a record in this state."""
    return state | (_seconds(at) << 2)


def state_from(mark: Past | int) -> int:
    """Returns the state of a marked record."""
    return mark & 3 if isinstance(mark, int) else BASELINE


def seconds_from(mark: Past | int) -> int:
    """Returns the Unix time of a marked record or of a closed alert's end; 0 where it has none."""
    return mark >> 2 if isinstance(mark, int) else _seconds(mark.ended_at)


def _seconds(at: datetime | None) -> int:
    return int(at.timestamp()) if at is not None else 0


class Memory(NamedTuple):
    """The memory before a poll; unchanged while verdicts are made."""

    open: Mapping[str, Alert]
    pasts: Mapping[str, Past]
    missed: Mapping[str, int]
    ledger: Ledger[Past | int]
    labelling: Labelling
    has_listed: bool
    """Whether a list of open alerts was ever read to its end."""


class Taken:
    """The readings of a poll, by kind."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self.listed: Sequence[Alert] | None = None
        self.unsure: frozenset[str] = frozenset()
        self.ended: dict[str, Alert] = {}
        self.happened: list[Happening] = []
        self.rejected = Rejections()
        self.supplied: Supplied | None = None
        self.details: list[Details] = []
        self.truncated: list[Truncated] = []
        for reading in readings:
            match reading:
                case OpenAlerts():
                    self.listed, self.unsure = reading.alerts, reading.unsure
                    self.rejected.extend(reading.rejected)
                case Happened():
                    self.rejected.extend(reading.rejected)
                    for record in reading.records:
                        if isinstance(record, Alert):
                            self.ended[record.key] = record
                        else:
                            self.happened.append(record)
                case Supplied():
                    self.supplied = reading
                case Details():
                    self.details.append(reading)
                case Truncated():
                    self.truncated.append(reading)

    @property
    def is_partial(self) -> bool:
        """Returns whether something was left unread."""
        return bool(self.truncated) or any(details.is_partial for details in self.details)


class Closing(NamedTuple):
    """An alert that closed; `before` is its record while open, if it was ever seen open."""

    alert: Alert
    reason: CloseReason
    before: Alert | None
    counts: bool


class Acknowledging(NamedTuple):
    """The counted first acknowledgement of an alert."""

    key: str
    severity: Severity
    owner: Labels
    started_at: datetime | None
    at: datetime


class Counted(NamedTuple):
    """A record to count, or whose failure is to count, and the owner of its alert."""

    record: Happening
    owner: Labels
    failure_only: bool


class Verdicts:
    """The verdicts on a poll.

    Alerts are judged before their records, which count depending on the alert; and ended alerts before open ones,
    since an alert that ended during the walk may be in both lists. Only a complete list can miss an alert, and only
    a poll without an error counts towards vanishing.

    Args:
        taken: the readings of the poll.
        memory: the memory before the poll.
        window: the window of the poll.
        now: the vendor's clock.
        resolution: the vendor's finest unit of time.
        complete: whether the poll read everything it asked for.
    """

    def __init__(
        self, taken: Taken, memory: Memory, *, window: Window, now: datetime, resolution: timedelta, complete: bool
    ) -> None:
        self._memory = memory
        self._window = window
        self._now = now
        self._latest = now + ABSURD
        self._edge = window.counted_from - (window.counted_from - _EPOCH) % resolution
        self.opened: list[Alert] = []
        """Alerts counted as opened for the first time."""
        self.opened_again: list[Alert] = []
        self.open: dict[str, Alert] = {}
        """Open alerts that are new or changed."""
        self.pasts: dict[str, Past] = {}
        """Memory of open alerts besides their records."""
        self.changed: list[tuple[Alert, Alert]] = []
        self.closed: dict[str, Closing] = {}
        self.missed: Mapping[str, int] = memory.missed
        self.acknowledged: list[Acknowledging] = []
        self.counted: list[Counted] = []
        self.unmapped = Counter[str]()
        self.outcomes = Counter[Labels]()
        self.marks: dict[Identity, Past | int] = {}
        self.seen: list[Identity] = []
        self.reopened: list[Identity] = []
        for kind, count in taken.rejected.counts.items():
            self.outcomes[kind, "invalid"] += count
        for alert in taken.ended.values():
            self._end(alert)
        if taken.listed is not None:
            self._list(taken, complete=complete and not taken.truncated)
        for record in taken.happened:
            self._happen(record)
        for alert in (*(taken.listed or ()), *taken.ended.values()):
            if alert.acknowledged and alert.acknowledged_at is not None:
                self._acknowledge(alert.key, alert.acknowledged_at)

    # Alerts.

    def _end(self, alert: Alert) -> None:
        reason, memory = alert.close_reason or CloseReason.CLOSED, self._memory
        past = memory.pasts.get(alert.key)
        if past is not None:  # seen open before, so it ended since then
            self._close(alert, reason, past, counts=True)
            self.outcomes[Kind.ALERT, "changed"] += 1
            return
        identity = identity_of(Kind.ALERT, alert.key)
        if memory.ledger.mark_of(identity) is not None or memory.ledger.may_have_left(Kind.ALERT, alert.ended_at):
            self.seen.append(identity)
            self.outcomes[Kind.ALERT, "duplicate"] += 1
            return
        opened_before = self._was_before(alert.appeared_at or alert.started_at)
        ended_before = opened_before and (alert.ended_at is None or self._was_before(alert.ended_at))
        self.unmapped.update(alert.unmapped)
        if not opened_before:
            self.opened.append(alert)
        past = Past(baseline=opened_before, started_at=alert.started_at, severity=alert.severity)
        self._close(alert, reason, past, counts=not ended_before)
        self.outcomes[Kind.ALERT, "baseline" if ended_before else "new"] += 1

    def _list(self, taken: Taken, *, complete: bool) -> None:
        listed = {alert.key: alert for alert in taken.listed or ()}
        for key in taken.ended.keys() & listed.keys():
            del listed[key]
        known = self._memory.open
        found = changes(known, listed)
        self._open(found.opened)
        different = 0
        self.changed = found.changed
        for before, alert in found.changed:
            self.open[alert.key] = alert
            different += _differs(before, alert)
        self.outcomes[Kind.ALERT, "changed"] += different
        self.outcomes[Kind.ALERT, "duplicate"] += len(listed) - len(found.opened) - different
        still_open = len(known) - len(self.closed.keys() & known.keys())
        if still_open + len(found.opened) == len(listed):
            self.missed = {}
            return
        missing = known.keys() - listed.keys() - self.closed.keys()
        if not complete:
            self.missed = {key: times for key, times in self._memory.missed.items() if key in missing}
            return
        # After its clock is set back, a vendor does not list alerts now in its future.
        ahead = {key for key in missing if (at := known[key].started_at) is not None and at > self._now}
        self.missed = missed(self._memory.missed, missing, taken.unsure | ahead)
        for key in [key for key, times in self.missed.items() if times >= PATIENCE]:
            self._close(known[key], CloseReason.VANISHED, self._memory.pasts[key], counts=True)

    def _open(self, alerts: Sequence[Alert]) -> None:
        baseline, ledger = 0, self._memory.ledger  # a first poll opens thousands
        opened, opens, pasts, was_before = self.opened, self.open, self.pasts, self._was_before
        is_first = self._window.first or not self._memory.has_listed
        any_closed = bool(ledger.tracked[Kind.ALERT])
        for alert in alerts:
            key, started_at = alert.key, alert.started_at
            past = ledger.mark_of(identity_of(Kind.ALERT, key)) if any_closed else None
            if isinstance(past, Past):  # closed before, reopened under the same key
                self.reopened.append(identity_of(Kind.ALERT, key))
                self.opened_again.append(alert)
            else:
                is_old = is_first and was_before(alert.appeared_at or started_at)
                past = Past(is_old, started_at, alert.severity)
                if alert.unmapped:
                    self.unmapped.update(alert.unmapped)
                if is_old:
                    baseline += 1
                else:
                    opened.append(alert)
            opens[key] = alert
            pasts[key] = past
        self.outcomes[Kind.ALERT, "changed"] += len(self.opened_again)
        self.outcomes[Kind.ALERT, "baseline"] += baseline
        self.outcomes[Kind.ALERT, "new"] += len(alerts) - len(self.opened_again) - baseline

    def _close(self, alert: Alert, reason: CloseReason, past: Past, *, counts: bool) -> None:
        self.closed[alert.key] = Closing(alert, reason, self._memory.open.get(alert.key), counts)
        self.marks[identity_of(Kind.ALERT, alert.key)] = Past(
            past.baseline,
            past.started_at,
            alert.severity,
            past.acknowledged,
            alert.ended_at,
            self._memory.labelling.owner_of(alert),
        )

    def _acknowledge(self, key: str, at: datetime) -> None:
        past = self._past_of(key)
        if past is None or past.acknowledged:
            return
        past = msgspec.structs.replace(past, acknowledged=True)
        if self._open_alert(key) is not None:
            self.pasts[key] = past
        else:
            self.marks[identity_of(Kind.ALERT, key)] = past
        if self._counts(past, at):
            alert = self._open_alert(key)
            severity = alert.severity if alert is not None else past.severity
            self.acknowledged.append(Acknowledging(key, severity, self._owner_of(key), past.started_at, at))

    # Records of alerts, and events.

    def _happen(self, record: Happening) -> None:
        kind = kind_of(record)
        identity = identity_of(kind, record.key)
        mark = self.marks.get(identity)
        if mark is None:
            mark = self._memory.ledger.mark_of(identity)
        if mark is not None:
            if isinstance(record, Notice) and record.failure is not None and state_from(mark) == COUNTED:
                self.counted.append(Counted(record, self._owner_of(record.alert_key), failure_only=True))
                self.marks[identity] = mark_from(FAILED, record.at)
                self.outcomes[kind, "changed"] += 1
            else:
                self.seen.append(identity)
                self.outcomes[kind, "duplicate"] += 1
            return
        if self._memory.ledger.may_have_left(kind, record.at):
            self.outcomes[kind, "duplicate"] += 1
            return
        self.unmapped.update(record.unmapped)
        no_owner: Labels = ()
        if isinstance(record, Event):
            counts, owner = not self._was_before(record.at, can_be_absurd=True), no_owner
        else:
            counts = self._counts(self._past_of(record.alert_key), record.at)
            owner = self._owner_of(record.alert_key)
        if counts:
            self.counted.append(Counted(record, owner, failure_only=False))
        if isinstance(record, Operation) and record.operation == "ack" and record.at is not None:
            self._acknowledge(record.alert_key, record.at)
        failed = isinstance(record, Notice) and (record.failure is not None or record.suppressed is not None)
        self.marks[identity] = mark_from((FAILED if failed else COUNTED) if counts else BASELINE, record.at)
        self.outcomes[kind, "new" if counts else "baseline"] += 1

    def _past_of(self, key: str) -> Past | None:
        identity = identity_of(Kind.ALERT, key)
        past = self.pasts.get(key) or self.marks.get(identity)
        if past is None:
            past = self._memory.pasts.get(key) or self._memory.ledger.mark_of(identity)
        return past if isinstance(past, Past) else None

    def _open_alert(self, key: str) -> Alert | None:
        if key in self.closed:
            return None
        return self.open.get(key) or self._memory.open.get(key)

    def _owner_of(self, key: str) -> Labels:
        if not self._memory.labelling.owners:
            return ()
        alert = self._open_alert(key)
        if alert is not None:
            return self._memory.labelling.owner_of(alert)
        past = self._past_of(key)
        return past.owner if past is not None else self._memory.labelling.owner_of(nobody(key))

    def _counts(self, past: Past | None, at: datetime | None) -> bool:
        """Returns whether a record counts: for a baseline alert, or one never seen, only if it is new."""
        if past is not None and not past.baseline:
            return True
        return at is not None and at >= self._edge

    def _was_before(self, at: datetime | None, *, can_be_absurd: bool = False) -> bool:
        """Returns whether it predates counting, by a time not after now unless it may be absurd.

        After the first success everything new counts, except what no earlier window reached: a clock that is set
        back makes a window reach behind the first. For alerts, the first success is the first list read to its end.
        """
        window = self._window
        if not window.first and (self._memory.has_listed or can_be_absurd):
            return at is not None and window.reached is not None and at < window.reached
        return at is None or at < self._edge or (not can_be_absurd and at > self._latest)


def nobody(key: str) -> Alert:
    """Returns an alert of which only the key is known."""
    return Alert(key=key, severity=Severity.UNKNOWN, started_at=None)


_MOVES = tuple(
    field for field in Alert.__struct_fields__ if field not in {"acknowledged_at", "title", "unmapped", "appeared_at"}
)


def _differs(before: Alert, alert: Alert) -> bool:
    """Returns whether a change affects any metric."""
    return any(getattr(before, field) != getattr(alert, field) for field in _MOVES)
