"""Ledger: remembers the identity of every record, so that each is counted exactly once; bounded."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Generic, TypeVar

from exporter.model.records import Kind
from exporter.model.snapshot import Labels

# Length in characters beyond that of any id that a vendor documents, and of what is made of it.
LONGEST_KEY = 250
# Records kept for each open alert where open alerts take most of the memory, and a limit for all of these.
RECORDS_PER_ALERT = 100
CROWDED_LIMIT = 10_000

Identity = tuple[Kind, str]
M = TypeVar("M")


def identity_of(kind: Kind, key: str) -> Identity:
    """What is remembered of a key: itself, or its digest where that is shorter, so that none takes much memory."""
    return kind, key if len(key) <= LONGEST_KEY else sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger(Generic[M]):
    """The identities met so far, at most `limit` with what is held elsewhere; least recently seen ones leave first.

    Each identity keeps a mark: for a record whether it was counted, for a closed alert what it was. Of those that left
    the newest time is kept, per kind: what is not newer than that may have been counted, and does not count again.

    Args:
        limit: how many identities are kept.
        seconds_of: the time of a marked record, in seconds since 1970; 0 where it has none.
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
        """The mark of an identity met before; None for a new one."""
        return self._marks.get(identity)

    def may_have_left(self, kind: Kind, at: datetime | None) -> bool:
        """Whether a record that is not here may be one that left: those of its time have left already."""
        if at is None or kind not in self._forgotten:
            return False
        seconds = at.timestamp()
        ahead = self._forgotten_ahead.get(kind)
        return seconds < self._forgotten[kind] + 1 or (ahead is not None and seconds >= ahead)

    def enter(self, marks: Mapping[Identity, M], seen: Iterable[Identity], forget: Iterable[Identity] = ()) -> None:
        """Drops identities that are kept elsewhere from now on, then keeps these marks; `seen` ones are in use.

        Args:
            marks: of identities that are new, or whose mark is another one now.
            seen: identities that were met again.
            forget: identities to drop.
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
        """Evicts down to the limit, of which `elsewhere` records are taken by open alerts, which never leave.

        Where these take more than half of it, some records of each are kept besides: what is read again with every
        poll would otherwise be forgotten after each. A time after `latest` is a mistake: it makes nothing else look
        old, but what is not older than it.
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
