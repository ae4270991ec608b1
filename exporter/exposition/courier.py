"""Delivers OTLP requests from one thread per signal, so that a slow receiver holds up nothing else."""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from exporter.exposition.sender import Destination, Undelivered, sender_for

log = logging.getLogger(__name__)

# Seconds waited at most when a receiver asks for more.
LONGEST_WAIT_SECONDS = 600.0
# Seconds for the final flush at shutdown.
LAST_SECONDS = 0.8

T = TypeVar("T")


class Parcel(NamedTuple):
    """One request: its bytes, and how many data points or log records are in it."""

    body: bytes
    items: int


class Backlog(Generic[T]):
    """A bounded queue; when full it drops the oldest and counts them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[T] = deque()
        self._lock = threading.Lock()
        self.lost = 0

    def add(self, items: Iterable[T]) -> None:
        """Adds these."""
        with self._lock:
            self._waiting.extend(items)
            while len(self._waiting) > self._limit:
                self._waiting.popleft()
                self.lost += 1

    def taken(self, most: int) -> list[T]:
        """Removes and returns the oldest."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]


class Courier:
    """Delivers one signal until it is stopped.

    Args:
        interval_seconds: the longest pause after a failure, unless the receiver asks for a longer one.
        every_seconds: the pause after a success.
        collect: makes the parcels to send now; called in the courier's thread.
        refused: reads from an answer how many items were rejected, and why.
        keeps: whether an undelivered parcel is sent again; else the next `collect` replaces it.
    """

    def __init__(
        self,
        to: Destination,
        *,
        interval_seconds: float,
        every_seconds: float,
        collect: Callable[[], Iterator[Parcel]],
        refused: Callable[[bytes], tuple[int, str]],
        keeps: bool,
    ) -> None:
        self.signal = to.signal
        self.exports = self.failures = self.dropped = 0
        self._sender = sender_for(to)
        self._timeout = to.timeout_seconds
        self._interval = interval_seconds
        self._every = every_seconds
        self._collect = collect
        self._refused = refused
        self._keeps = keeps
        self._kept: list[Parcel] = []
        self._stopping = threading.Event()
        # A daemon, since a receiver that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"otlp {self.signal}", daemon=True)

    def start(self) -> None:
        """Starts delivering."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to flush once more and end."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        """Waits for the end, at most `seconds`; what is undelivered then is lost."""
        self._thread.join(seconds)

    def _run(self) -> None:
        pause, failures, trouble = self._every, 0, ""
        while not self._stopping.wait(pause):
            pause, before = self._every, trouble
            try:
                trouble = self._deliver(self._timeout)
                failures = 0
            except Undelivered as error:
                trouble = str(error)
                failures += 1
                backoff = min(self._interval, 2.0 ** min(failures, 10)) * random.uniform(0.8, 1.2)  # noqa: S311 spreads load
                pause = max(backoff, min(error.retry_after or 0.0, LONGEST_WAIT_SECONDS))
            except Exception:  # a defect must neither end deliveries for good nor pass for one
                self.failures += 1
                failures += 1
                log.exception("OTLP: %s were not sent because of a defect", self.signal)
            if trouble and not before:
                log.warning("OTLP: cannot deliver %s, still trying: %s", self.signal, trouble)
            elif before and not trouble:
                log.info("OTLP: delivering %s again", self.signal)
        if not failures:
            try:
                self._deliver(LAST_SECONDS)
            except Undelivered as error:
                log.warning("OTLP: the last %s were not delivered: %s", self.signal, error)
        self._sender.close()

    def _deliver(self, seconds: float) -> str:
        """Sends everything queued; returns what the receiver said about rejected items."""
        said = ""
        parcels = chain(self._kept, self._collect())
        for parcel in parcels:
            self._kept = [parcel] if self._keeps else []
            self.exports += 1
            try:
                refused, why = self._refused(self._sender.send(parcel.body, seconds))
            except Undelivered as error:
                self.failures += 1
                if error.hopeless:
                    self.dropped += parcel.items
                    self._kept = []
                    said = str(error)
                    continue
                if not self._keeps:
                    self.dropped += parcel.items + sum(other.items for other in parcels)
                raise
            if refused:
                self.dropped += refused
                said = f"{refused} refused: {why}"
        self._kept = []
        return said
