"""DetailQueue: which alerts still need a second call; losing it costs calls, never correctness."""

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

import anyio
import msgspec

from exporter.errors import FetchError, Reason, SourceRefused, SourceUnreachable
from exporter.model.facts import Fact
from exporter.model.reading import Details, Window
from exporter.vendorkit.clock import NOISE

T = TypeVar("T")

# So many calls in a row without an answer, and the rest waits for the next poll.
GIVE_UP_AFTER = 3


class _Entry(msgspec.Struct):
    version: Hashable
    due: datetime | None
    queued: datetime
    since: datetime
    read_version: Hashable = None
    listed: int = 0


class DetailQueue:
    """Remembers, per alert, which version of it was read in detail and when it is due again.

    Args:
        max_entries: how many alerts are remembered; beyond it those not listed for longest are forgotten.
    """

    def __init__(self, max_entries: int = 1_000_000) -> None:
        self._entries: dict[str, _Entry] = {}
        self._max_entries = max_entries
        self._round = 0
        self._counted_from: datetime | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def begin(self, window: Window) -> None:
        """Starts a poll.

        Until one succeeds, all is forgotten where the vendor's clock was learnt meanwhile: what an earlier reading
        took for the baseline, or was discarded with it, is decided anew. Otherwise a first poll that needs several
        attempts goes on where the last one ended.
        """
        known = self._counted_from
        if known is None or (window.first and not timedelta(0) <= window.counted_from - known < NOISE):
            self._entries.clear()
            self._counted_from = window.counted_from
        self._round += 1

    def offer(self, key: str, version: Hashable, now: datetime) -> None:
        """Says that an alert is listed at this version; it is due when that version was not read yet."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(version=version, due=now, queued=now, since=now, listed=self._round)
            return
        entry.listed = self._round
        if entry.version != version:
            entry.version = version
            entry.since = now
            if entry.due is None or entry.due > now:
                entry.due = entry.queued = now

    def again(self, key: str, at: datetime) -> None:
        """Asks for another read of an alert that is in the queue, at a time to come."""
        entry = self._entries.get(key)
        if entry is not None and (entry.due is None or at < entry.due):
            entry.due = entry.queued = at

    def know(self, key: str, version: Hashable, now: datetime) -> None:
        """Remembers an alert at this version as needing no call."""
        self._entries[key] = _Entry(
            version=version, due=None, queued=now, since=now, read_version=version, listed=self._round
        )

    def since(self, key: str) -> datetime:
        """When the present version of an alert in the queue was first offered."""
        return self._entries[key].since

    def due(self, now: datetime) -> list[str]:
        """The alerts to ask about now, those that wait longest first."""
        waiting = [
            (entry.queued, key) for key, entry in self._entries.items() if entry.due is not None and entry.due <= now
        ]
        return [key for _, key in sorted(waiting, key=itemgetter(0))]  # of those that wait alike, as they are listed

    def is_read(self, key: str) -> bool:
        """Whether an alert's present version was read before."""
        entry = self._entries.get(key)
        return entry is not None and entry.read_version == entry.version

    def done(self, key: str) -> None:
        """Marks an alert's present version as read."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.read_version = entry.version
            entry.due = None

    def tried(self, key: str, now: datetime) -> None:
        """Puts an alert whose call failed at the end of the queue: it stays due, and starves no other."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.queued = now

    def put_off(self, key: str, until: datetime) -> None:
        """Lets an alert wait whose call will not be answered better soon."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.due = entry.queued = until

    def prune(self, *, unlisted_polls: int = 3, waiting_polls: int = 1000) -> None:
        """Forgets alerts not listed for some polls, for many with a call to come, and the oldest beyond the bound."""
        gone = [
            key
            for key, entry in self._entries.items()
            if self._round - entry.listed >= (unlisted_polls if entry.due is None else waiting_polls)
        ]
        for key in gone:
            del self._entries[key]
        if len(self._entries) > self._max_entries:
            oldest = sorted(self._entries, key=lambda key: self._entries[key].listed)
            for key in oldest[: len(self._entries) - self._max_entries]:
                del self._entries[key]

    def backlog(self, now: datetime) -> int:
        """How many alerts wait for a call that is due."""
        return sum(1 for entry in self._entries.values() if entry.due is not None and entry.due <= now)


class Fetched(NamedTuple, Generic[T]):
    """Details by key, the keys whose call failed, and how many were not tried in this poll."""

    details: dict[str, T]
    failed: dict[str, FetchError]
    waiting: int

    def reading(self, endpoint: str, facts: frozenset[Fact] = frozenset(), *, waiting: int | None = None) -> Details:
        """How the calls went; `waiting` where more wait than were not tried."""
        failed = Counter(error.reason for error in self.failed.values())
        return Details(endpoint, facts, len(self.details), failed, self.waiting if waiting is None else waiting)

    def raise_if_told_to_wait(self) -> None:
        """Raises the failure that asks for the longest wait, if one asks for more than is left and none was answered.

        It is to end the poll, after all that was read is told, so that the next one waits for it. A quota that lets
        some through is no failure: the others wait in the queue.
        """
        told = [error for error in self.failed.values() if error.retry_after is not None]
        if told and not self.details:
            raise max(told, key=lambda error: error.retry_after or 0.0)


async def fetch_details(
    keys: Sequence[str],
    call: Callable[[str], Awaitable[T]],
    *,
    limit: int,
    concurrency: int,
    until: float = float("inf"),
) -> Fetched[T]:
    """Asks for the details of at most `limit` alerts, a few at a time, `until` the event loop's clock shows that.

    A call that fails costs only its alert. Throttling, and several calls in a row without any answer, leave the rest
    for the next poll. A refusal (auth, permission, clock) concerns every call and is raised.
    """
    details: dict[str, T] = {}
    failed: dict[str, FetchError] = {}
    refused: list[SourceRefused] = []
    todo = iter(keys[:limit])
    silent = 0
    slowest = 0.0  # seconds a call took at most, waiting for its turn included
    stop = False

    async def work(keys: Iterable[str]) -> None:
        nonlocal silent, slowest, stop
        for key in keys:
            began = anyio.current_time()
            if began + slowest >= until:
                return
            try:
                details[key] = await call(key)
            except SourceRefused as error:
                refused.append(error)
                stop = True
            except FetchError as error:
                failed[key] = error.bare()
                silent = silent + 1 if isinstance(error, SourceUnreachable) else 0
                stop = stop or error.reason is Reason.RATE_LIMITED or silent >= GIVE_UP_AFTER
            else:
                silent = 0
            slowest = max(slowest, anyio.current_time() - began)
            if stop:
                return

    with anyio.CancelScope(deadline=until):  # what is under way then waits for the next poll, too
        async with anyio.create_task_group() as tasks:
            for _ in range(min(concurrency, len(keys), limit)):
                tasks.start_soon(work, todo)
    if refused:
        raise refused[0]
    return Fetched(details, failed, len(keys) - len(details) - len(failed))
