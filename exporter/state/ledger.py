"""Ledger: remembers the identity of every record, so that each is counted exactly once; bounded."""

from collections import Counter, OrderedDict
from hashlib import sha256

from exporter.model.records import Kind
from exporter.model.snapshot import Labels

# Longer than any id that a vendor documents, and what is made of it.
LONGEST_KEY = 250


def _identity(kind: Kind, key: str) -> tuple[Kind, str]:
    """What is remembered of a key: itself, or its digest where that is shorter, so that none takes much memory."""
    return kind, key if len(key) <= LONGEST_KEY else sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """The identities met so far, at most `limit` besides what is held elsewhere; least recently seen ones leave first.

    Each identity keeps a mark: for a record whether it was counted, for a closed alert what it was.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._marks: OrderedDict[tuple[Kind, str], object] = OrderedDict()
        self.tracked: Counter[Kind] = Counter()
        self.evicted: Counter[Kind] = Counter()
        self.records: Counter[Labels] = Counter()

    def seen(self, kind: Kind, key: str) -> object | None:
        """The mark of an identity met before, now most recently seen; None for a new one."""
        identity = _identity(kind, key)
        mark = self._marks.get(identity)
        if mark is not None:
            self._marks.move_to_end(identity)
        return mark

    def remember(self, kind: Kind, key: str, mark: object) -> None:
        """Keeps an identity with its mark, which is never None."""
        identity = _identity(kind, key)
        if identity not in self._marks:
            self.tracked[kind] += 1
        self._marks[identity] = mark
        self._marks.move_to_end(identity)

    def forget(self, kind: Kind, key: str) -> None:
        """Drops an identity that is kept elsewhere from now on."""
        if self._marks.pop(_identity(kind, key), None) is not None:
            self.tracked[kind] -= 1

    def shrink(self, elsewhere: int) -> None:
        """Evicts down to the limit, of which `elsewhere` records are taken by open alerts, which never leave."""
        room = max(0, self._limit - elsewhere)
        while len(self._marks) > room:
            (kind, _), _ = self._marks.popitem(last=False)
            self.tracked[kind] -= 1
            self.evicted[kind] += 1
