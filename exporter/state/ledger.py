"""Ledger: remembers the identity of every record, so that each is counted exactly once; bounded."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Generic, TypeVar

from exporter.model.records import Kind
from exporter.model.snapshot import Labels

# Longer than any id that a vendor documents, and what is made of it.
LONGEST_KEY = 250


def _identity(kind: Kind, key: str) -> tuple[Kind, str]:
    """What is remembered of a key: itself, or its digest where that is shorter, so that none takes much memory."""
    return kind, key if len(key) <= LONGEST_KEY else sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


M = TypeVar("M")


class Ledger(Generic[M]):
    """The identities met so far, at most `limit` besides what is held elsewhere; least recently seen ones leave first.

    Each identity keeps a mark: for a record whether it was counted, for a closed alert what it was. Of those that left
    the newest time is kept, per kind: what is not newer than that may have been counted, and does not count again.

    Args:
        limit: how many identities are kept.
        seconds_of: the time of a marked record, in seconds since 1970; 0 where it has none.
    """

    def __init__(self, limit: int, seconds_of: Callable[[M], int]) -> None:
        self._limit = limit
        self._seconds_of = seconds_of
        self._marks: OrderedDict[tuple[Kind, str], M] = OrderedDict()
        self._forgotten: dict[Kind, int] = {}
        self.tracked: Counter[Kind] = Counter()
        self.evicted: Counter[Kind] = Counter()
        self.records: Counter[Labels] = Counter()

    def seen(self, kind: Kind, key: str) -> M | None:
        """The mark of an identity met before, now most recently seen; None for a new one."""
        identity = _identity(kind, key)
        mark = self._marks.get(identity)
        if mark is not None:
            self._marks.move_to_end(identity)
        return mark

    def may_have_left(self, kind: Kind, at: datetime | None) -> bool:
        """Whether a record that is not here may be one that left: those of its time have left already."""
        until = self._forgotten.get(kind)
        return until is not None and at is not None and at.timestamp() < until + 1

    def remember(self, kind: Kind, key: str, mark: M) -> None:
        """Keeps an identity with its mark."""
        identity = _identity(kind, key)
        if identity not in self._marks:
            self.tracked[kind] += 1
        self._marks[identity] = mark
        self._marks.move_to_end(identity)

    def forget(self, kind: Kind, key: str) -> None:
        """Drops an identity that is kept elsewhere from now on."""
        if self._marks.pop(_identity(kind, key), None) is not None:
            self.tracked[kind] -= 1

    def shrink(self, elsewhere: int, latest: datetime) -> None:
        """Evicts down to the limit, of which `elsewhere` records are taken by open alerts, which never leave.

        A time after `latest` is a mistake, which tells nothing of other records.
        """
        room = max(0, self._limit - elsewhere)
        while len(self._marks) > room:
            (kind, _), mark = self._marks.popitem(last=False)
            self.tracked[kind] -= 1
            self.evicted[kind] += 1
            at = self._seconds_of(mark)
            if at <= latest.timestamp():
                self._forgotten[kind] = max(at, self._forgotten.get(kind, 0))
