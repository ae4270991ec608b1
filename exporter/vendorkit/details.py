"""Follow: reads the details of alerts as they come due. DetailQueue: what is due. OptionalApi: what not all have."""

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, NamedTuple, TypeVar

import anyio
import msgspec

from exporter.errors import FetchError, Reason, SourceRefused, SourceUnreachable
from exporter.model.facts import Fact
from exporter.model.reading import Details, Window
from exporter.vendorkit.clock import NOISE
from exporter.vendorkit.contract import Tuning
from exporter.vendorkit.http import Http

T = TypeVar("T")

# Calls in a row without an answer, after which the rest waits for the next poll.
GIVE_UP_AFTER = 3
# Alerts whose details are remembered however small the memory for records is.
FEWEST_REMEMBERED = 10_000
# The longest pause between two calls that fail for good, and between two questions to a server without an API.
ASKED_AGAIN_AFTER = timedelta(hours=1)

_FOR_GOOD = frozenset({Reason.NOT_FOUND, Reason.API_ERROR, Reason.BAD_RESPONSE, Reason.TOO_LARGE})


def fails_for_good(error: FetchError) -> bool:
    """Returns whether repeating the call will probably fail alike: it was answered by a working server."""
    return error.reason in _FOR_GOOD and not error.repeat


class _Entry(msgspec.Struct):
    version: Hashable
    due: datetime | None
    queued: datetime
    since: datetime
    read_version: Hashable = None
    reads: int = 0  # of that version
    listed: int = 0
    failures: int = 0  # for good, in a row
    is_to_blame: bool = False  # other calls were answered meanwhile


class DetailQueue:
    """Remembers, per alert, which version of it was read in detail and when it is due again; pure.

    Losing it costs calls, never correctness.

    Args:
        max_entries: how many alerts are remembered; beyond it those not listed for longest are forgotten.
    """

    def __init__(self, max_entries: int = 1_000_000) -> None:
        self._entries: dict[str, _Entry] = {}
        self._max_entries = max_entries
        self._round = 0
        self._counted_from: datetime | None = None
        self.now = datetime.min.replace(tzinfo=UTC)
        """The vendor's time at the start of the poll."""

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def begin(self, window: Window) -> None:
        """Starts a poll.

        Until one succeeds, all is forgotten where the vendor's clock was learnt meanwhile: what an earlier reading
        took for the baseline, or was discarded with it, is decided anew. Otherwise a first poll that needs several
        attempts goes on where the last one ended. A clock that was set back takes with it what waits.
        """
        known = self._counted_from
        if known is None or (window.first and not timedelta(0) <= window.counted_from - known < NOISE):
            self._entries.clear()
            self._counted_from = window.counted_from
        self._round += 1
        if window.end < self.now:
            self._shift(window.end - self.now)
        self.now = window.end

    def _shift(self, step: timedelta) -> None:
        for entry in self._entries.values():
            entry.queued += step
            entry.since += step
            if entry.due is not None:
                entry.due += step

    def offer(self, key: str, version: Hashable) -> None:
        """Offers a listed alert at this version; it is due if that version was not read yet."""
        entry, now = self._entries.get(key), self.now
        if entry is None:
            self._entries[key] = _Entry(version=version, due=now, queued=now, since=now, listed=self._round)
            return
        entry.listed = self._round
        if entry.version is not version and entry.version != version:
            entry.version = version
            entry.since = now
            if not entry.failures and (entry.due is None or entry.due > now):
                entry.due = entry.queued = now

    def again(self, key: str, at: datetime) -> None:
        """Asks for another read of an alert that is in the queue, at a time to come."""
        entry = self._entries.get(key)
        if entry is not None and (entry.due is None or at < entry.due):
            entry.due = entry.queued = at

    def is_idle(self, key: str) -> bool:
        """Returns whether an alert in the queue is not to be read again, as far as is known."""
        return self._entries[key].due is None

    def know(self, key: str, version: Hashable) -> None:
        """Remembers an alert at this version as needing no call."""
        now = self.now
        self._entries[key] = _Entry(
            version=version, due=None, queued=now, since=now, read_version=version, reads=1, listed=self._round
        )

    def since(self, key: str) -> datetime:
        """Returns when the present version of an alert in the queue was first offered."""
        return self._entries[key].since

    def due(self) -> list[str]:
        """Returns the alerts to ask about now, those that wait longest first."""
        entries = self._entries
        # Of those that wait alike, as they are listed.
        return sorted(self._waiting(), key=lambda key: entries[key].queued)

    def reads(self, key: str) -> int:
        """Returns how many times an alert's present version was read."""
        entry = self._entries.get(key)
        return entry.reads if entry is not None and entry.read_version == entry.version else 0

    def done(self, key: str) -> None:
        """Marks an alert's present version as read."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.reads = entry.reads + 1 if entry.read_version == entry.version else 1
            entry.read_version = entry.version
            entry.due = None
            entry.failures = 0

    def tried(self, key: str) -> None:
        """Puts an alert whose call failed at the end of the queue: it stays due, and starves no other."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.queued = self.now

    def failed(self, key: str, pause: timedelta, *, interval: timedelta, is_to_blame: bool) -> None:
        """Lets an alert whose call fails for good wait: at first for `pause`, each further time twice as long.

        It is due half an interval early, for polls are not exactly an interval apart. `is_to_blame` says that other
        calls were answered, so that the failure is no matter of the whole API.
        """
        entry = self._entries.get(key)
        if entry is not None:
            longer = min(pause * 2 ** min(entry.failures, 20), max(pause, ASKED_AGAIN_AFTER))
            entry.due = entry.queued = self.now + longer - interval / 2
            entry.failures += 1
            entry.is_to_blame |= is_to_blame

    def release(self) -> None:
        """Makes due what waits only because no call at all was answered for a while."""
        for entry in self._entries.values():
            if entry.failures and not entry.is_to_blame:
                entry.due = self.now
                entry.failures = 0

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

    def backlog(self) -> int:
        """Returns how many alerts wait for a call that is due."""
        return len(self._waiting())

    def _waiting(self) -> list[str]:
        now = self.now
        return [key for key, entry in self._entries.items() if entry.due is not None and entry.due <= now]


class Fetched(NamedTuple, Generic[T]):
    """Details by key, the keys whose call failed, and how many were not tried in this poll."""

    details: dict[str, T]
    failed: dict[str, FetchError]
    waiting: int

    def reading(self, endpoint: str, facts: frozenset[Fact] = frozenset(), *, waiting: int | None = None) -> Details:
        """Returns the outcome of the calls; `waiting` where more wait than were not tried."""
        failed = Counter(error.reason for error in self.failed.values())
        return Details(endpoint, facts, len(self.details), failed, self.waiting if waiting is None else waiting)

    def raise_if_asked_to_wait(self) -> None:
        """Raises the failure that asks for the longest wait, if one asks for more than is left and none was answered.

        It ends the poll after everything that was read is yielded, so that the next one waits for it. A quota that lets
        some through is no failure: the others wait in the queue.
        """
        asked = [error for error in self.failed.values() if error.retry_after is not None]
        if asked and not self.details:
            raise max(asked, key=lambda error: error.retry_after or 0.0)


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


class Follow(Generic[T]):
    """Reads the details of alerts as they come due, within what one poll may ask of an endpoint.

    Args:
        call: asks for the details of one alert.
        facts: what only these details feed.
        pause: how long an alert waits whose call fails for good, at first.
        is_final: whether a failure is one for good.
    """

    def __init__(
        self,
        endpoint: str,
        call: Callable[[str], Awaitable[T]],
        *,
        http: Http,
        config: Tuning,
        facts: frozenset[Fact] = frozenset(),
        pause: timedelta | None = None,
        is_final: Callable[[FetchError], bool] = fails_for_good,
    ) -> None:
        self.queue = DetailQueue(max(config.max_records, FEWEST_REMEMBERED))
        self._endpoint = endpoint
        self._call = call
        self._http = http
        self._limit = config.max_detail_requests
        self._concurrency = config.max_concurrency
        self.facts = facts
        self._interval = config.interval
        self._pause = pause or config.interval
        self._is_final = is_final
        self._is_silent = False
        self._asked: Fetched[T] = Fetched({}, {}, 0)

    @property
    def failed(self) -> dict[str, FetchError]:
        """Returns why calls of this poll have failed, by alert."""
        return self._asked.failed

    def begin(self, window: Window) -> None:
        """Starts a poll."""
        self.queue.begin(window)
        self._asked = Fetched({}, {}, 0)

    async def read(self, keys: Sequence[str] | None = None) -> dict[str, T]:
        """Asks for the details of these alerts, or of those that are due and were not asked for in this poll.

        What does not fit into the poll waits; one whose call fails is due again at the next poll, one that fails for
        good ever more rarely.
        """
        before = self._asked
        if keys is None:
            keys = [key for key in self.queue.due() if key not in before.failed]
        found = await fetch_details(
            keys,
            self._call,
            limit=0 if before.waiting else self._limit - len(before.details) - len(before.failed),
            concurrency=self._concurrency,
            until=self._http.details_until,
        )
        self._asked = Fetched(
            before.details | found.details, before.failed | found.failed, before.waiting + found.waiting
        )
        for key in found.details:
            self.queue.done(key)
        for key, error in found.failed.items():
            self._put_off(key, error)
        if found.details and self._is_silent:
            self.queue.release()
        if found.details or found.failed:
            self._is_silent = not found.details
        return found.details

    def unanswered(self, key: str, error: FetchError) -> None:
        """Treats an answer as missing."""
        del self._asked.details[key]
        self._asked.failed[key] = error
        self._put_off(key, error)

    def _put_off(self, key: str, error: FetchError) -> None:
        if self._is_final(error):
            is_to_blame = bool(self._asked.details)
            self.queue.failed(key, self._pause, interval=self._interval, is_to_blame=is_to_blame)
        else:
            self.queue.tried(key)

    def reading(self) -> Details:
        """Returns the outcome of this poll's calls."""
        waiting = max(self.queue.backlog(), self._asked.waiting)
        return self._asked.reading(self._endpoint, self.facts, waiting=waiting)

    def end(self) -> None:
        """Forgets what need not be remembered; raises as `raise_if_asked_to_wait` does."""
        self.queue.prune()
        asked, self._asked = self._asked, Fetched({}, {}, 0)  # payloads need not be kept until the next poll
        asked.raise_if_asked_to_wait()

    def raise_if_asked_to_wait(self) -> None:
        """Raises the failure that asks for the longest wait, if one does and no call of this poll was answered."""
        self._asked.raise_if_asked_to_wait()


class Due:
    """A time from which something is due; at once, until deferred."""

    def __init__(self) -> None:
        self._at = datetime.min.replace(tzinfo=UTC)

    def is_now(self, now: datetime) -> bool:
        """Returns whether it is due."""
        # A vendor's clock that was corrected backwards must not put it off for longer.
        return now >= self._at or self._at - now > ASKED_AGAIN_AFTER

    def put_off(self, until: datetime) -> None:
        """Defers it, by at most an hour."""
        self._at = until


class OptionalApi:
    """Whether a server has a call: believed so until it says, in its documented words, that it has not."""

    def __init__(self) -> None:
        self.is_there = True
        self.has_answered = False
        self._again = Due()

    def is_worth_asking(self, now: datetime) -> bool:
        """Returns whether to ask: always where the call is there, else an hour after the server said that it is not."""
        return self.is_there or self._again.is_now(now)

    def answered(self, now: datetime, *, is_there: bool) -> None:
        """Notes the server's answer; a call that was available until now is tried again at once."""
        is_stray = self.is_there and self.has_answered and not is_there
        self._again.put_off(now if is_stray else now + ASKED_AGAIN_AFTER)
        self.has_answered |= is_there
        self.is_there = is_there


def hand_over(before: object, after: object) -> None:
    """Hands a source what another of the same account remembers between polls.

    Its class names these attributes as `REMEMBERED`.
    """
    for name in getattr(type(after), "REMEMBERED", ()):
        known, own = getattr(before, name), getattr(after, name)
        if isinstance(own, Follow):
            own.queue = known.queue
        elif hasattr(type(own), "REMEMBERED"):
            hand_over(known, own)
        else:
            setattr(after, name, known)
