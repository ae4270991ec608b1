"""Ledger: remembers the identity of every record, so that each is counted exactly once; bounded."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Generic, TypeVar

from exporter.model.records import Kind
from exporter.model.snapshot import Labels

# Characters of the longest identity kept as it is; all documented ids are shorter.
LONGEST_KEY = 250
# Records kept per open alert where open alerts fill most of the memory, and the limit for all of them.
RECORDS_PER_ALERT = 100
CROWDED_LIMIT = 10_000

Identity = tuple[Kind, str]
M = TypeVar("M")


def identity_of(kind: Kind, key: str) -> Identity:
    """Returns the identity remembered for a key: the key itself, or its digest if it is long."""
    return kind, key if len(key) <= LONGEST_KEY else sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger(Generic[M]):
    """The identities seen so far, at most `limit` including those held elsewhere; least recently seen ones leave first.

    Each identity has a mark: for a record whether it was counted, for a closed alert what it was. Of those that left
    the newest time is kept, per kind: what is not newer may have been counted already, and is not counted again.

    Args:
        limit: the number of identities kept.
        seconds_of: the Unix time of a marked record; 0 where it has none.
    """

    def __init__(self, limit: int, seconds_of: Callable[[M], int]) -> None:
        self.limit = limit
        self._seconds_of = seconds_of
        self._marks: OrderedDict[Identity, M] = OrderedDict()
        self._forgotten: dict[Kind, int] = {}
        self._forgotten_ahead: dict[Kind, int] = {}
        self.tracked: Counter[Kind] = Counter()
        self.evicted: Counter[Kind] = Counter()
        self.records: Counter[Labels] = Counter()

    def mark_of(self, identity: Identity) -> M | None:
        """Returns the mark of a known identity; None for a new one."""
        return self._marks.get(identity)

    def may_have_left(self, kind: Kind, at: datetime | None) -> bool:
        """Returns whether an unknown record may have left already: others of its time have."""
        if at is None or kind not in self._forgotten:
            return False
        seconds = at.timestamp()
        ahead = self._forgotten_ahead.get(kind)
        return seconds < self._forgotten[kind] + 1 or (ahead is not None and seconds >= ahead)

    def enter(self, marks: Mapping[Identity, M], seen: Iterable[Identity], forget: Iterable[Identity] = ()) -> None:
        """Drops identities, then stores these marks and refreshes those `seen`.

        Args:
            marks: marks of new identities, and changed marks.
            seen: identities seen again.
            forget: identities to drop, kept elsewhere from now on.
        """
        for identity in forget:
            if self._marks.pop(identity, None) is not None:
                self.tracked[identity[0]] -= 1
        move = self._marks.move_to_end
        for identity in seen:
            if identity in self._marks:
                move(identity)
        for identity, mark in marks.items():
            if identity not in self._marks:
                self.tracked[identity[0]] += 1
            self._marks[identity] = mark
            move(identity)

    def shrink(self, elsewhere: int, latest: datetime) -> None:
        """Evicts down to the limit, `elsewhere` of which is taken by open alerts, which never leave.

        Where these take more than half of it, some records of each are kept as well: records read again with every
        poll would otherwise be forgotten after each. A time after `latest` is a mistake and makes only records that
        are not older than it look old.
        """
        room = self.limit - elsewhere
        if room < elsewhere:
            room = max(room, min(RECORDS_PER_ALERT * elsewhere, max(self.limit, CROWDED_LIMIT)))
        while len(self._marks) > room:
            (kind, _), mark = self._marks.popitem(last=False)
            self.tracked[kind] -= 1
            self.evicted[kind] += 1
            at = self._seconds_of(mark)
            self._forgotten.setdefault(kind, 0)
            if at <= latest.timestamp():
                self._forgotten[kind] = max(at, self._forgotten[kind])
            else:
                self._forgotten_ahead[kind] = min(at, self._forgotten_ahead.get(kind, at))
