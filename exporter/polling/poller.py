"""Poller: polls one source indefinitely; every outcome becomes a Poll."""

import logging
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import msgspec

from exporter.errors import FetchError, Reason, SourceUnreachable
from exporter.model.reading import Details, Happened, OpenAlerts, Poll, Reading, Rejections, Window
from exporter.polling.cadence import delay_after, first_delay
from exporter.polling.lookback import Lookback
from exporter.state.book import SourceBook
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import FirstPoll, Source, SourceConfig, Vendor
from exporter.vendorkit.details import hand_over
from exporter.vendorkit.http import Http

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

log = logging.getLogger(__name__)

# Seconds between log lines about a lasting outage.
REPEAT_SECONDS = 3600.0


class Poller:
    """Polls one source repeatedly and enters each poll into its book.

    Args:
        book: the source's memory; its `observe` must be called for every HTTP attempt.
        now: our own clock.
        published: called after each poll, once the book has a new state.
    """

    def __init__(
        self,
        name: str,
        vendor: Vendor,
        config: SourceConfig,
        *,
        http: Http,
        clock: VendorClock,
        book: SourceBook,
        now: Callable[[], datetime],
        published: Callable[[], None],
        counts_from: float,
    ) -> None:
        self.name = name
        self.book = book
        self._config = config
        self._source: Source = vendor.source(config, http)
        self._http = http
        self._clock = clock
        self._now = now
        self._published = published
        self._interval = config.interval
        self._lookback = Lookback(
            overlap=config.overlap,
            lookback=vendor.lookback(config),
            backfill=config.first_poll is FirstPoll.BACKFILL,
        )
        self._started = counts_from
        self.counted_until = counts_from
        """Start of the last successful poll by the event loop's clock: everything up to then is counted."""
        self._turned = anyio.current_time()
        self._logged_at: float | None = None  # when a failure last was

    def follow(self, before: "Poller") -> None:
        """Continues from the position of another poller of the same account and memory."""
        self._lookback.follow(before._lookback)
        self._started = before._started
        self.counted_until = before.counted_until
        hand_over(before._source, self._source)

    def is_turning(self, now: float) -> bool:
        """Returns whether the loop turned within 3 intervals and a timeout, whatever the vendor does."""
        return now - self._turned <= 3 * self._interval.total_seconds() + self._config.timeout.total_seconds()

    async def run(self) -> None:
        """Polls until cancelled."""
        jitter = first_delay(self._interval, random.random())  # noqa: S311 spreads load, guards nothing
        await self._sleep_until(anyio.current_time() + jitter.total_seconds())
        while True:
            started = anyio.current_time()
            delay = await self.poll()
            await self._sleep_until(started + delay.total_seconds())

    async def _sleep_until(self, moment: float) -> None:
        """Sleeps in steps of at most an interval, so that the loop counts as turning during a long back-off."""
        while (left := moment - anyio.current_time()) > 0:
            self._turned = anyio.current_time()
            await anyio.sleep(min(left, self._interval.total_seconds()))
        self._turned = anyio.current_time()

    async def poll(self) -> timedelta:
        """Polls once, enters the poll into the book, and returns the delay from its start to the next."""
        before = self.book.state
        began = anyio.current_time()
        poll = await self._read(began)
        took = timedelta(seconds=poll.duration_seconds)
        failures = before.failures_in_a_row + 1 if poll.error else 0
        delay = delay_after(self._interval, failures, poll.error, took=took)
        self.book.enter(
            poll,
            clock_offset=self._clock.offset,
            next_poll=poll.started_at + max(delay, took),
            ended=anyio.current_time(),
        )
        if poll.covers_window and self._lookback.succeeded(poll.window, poll.vendor_now):
            self.counted_until = began
        self._log(poll.error, failures, before.failures_in_a_row)
        self._log_details(poll.readings)
        self._log_rejected(poll.readings)
        self._published()
        return delay

    def _log(self, error: FetchError | None, failures: int, failures_before: int) -> None:
        """Logs a source going down, hourly while it is down, and coming back.

        A source that was changed while it was down is logged again at its next failure.
        """
        if error is None:
            if failures_before:
                polls = "1 failed poll" if failures_before == 1 else f"{failures_before} failed polls"
                log.info("source %s: recovered after %s", self.name, polls)
            return
        now = anyio.current_time()
        if failures_before and self._logged_at is not None and now - self._logged_at < REPEAT_SECONDS:
            return
        self._logged_at = now
        how = f"still failing, {failures} polls in a row" if failures_before else "poll failed"
        remedy = self.book.state.remedies[error.reason]
        log.warning("source %s: %s (%s): %s; %s", self.name, how, error.reason, error, remedy)

    def _log_details(self, readings: Sequence[Reading]) -> None:
        """Logs each endpoint of which no detail call was answered: one line a poll, never one per call."""
        for reading in readings:
            if isinstance(reading, Details) and reading.failed and not reading.answered:
                reason = max(reading.failed, key=lambda reason: reading.failed[reason])
                log.warning(
                    "source %s: every detail call of %s failed (%s, %d in this poll), what it feeds stands still; %s",
                    self.name,
                    reading.endpoint,
                    reason,
                    sum(reading.failed.values()),
                    self.book.state.remedies[reason],
                )

    def _log_rejected(self, readings: Sequence[Reading]) -> None:
        """Logs unreadable records: one line per kind, never one per record."""
        rejected = Rejections()
        for reading in readings:
            if isinstance(reading, OpenAlerts | Happened):
                rejected.extend(reading.rejected)
        for kind, count in rejected.counts.items():
            why = rejected.why[kind][:200]
            log.warning("source %s: unreadable records: %d of %s; %s", self.name, count, kind, why)

    def _window(self) -> Window:
        return self._lookback.window(
            elapsed=timedelta(seconds=anyio.current_time() - self.counted_until),
            now=self._clock.now(),
            started_at=self._clock.at(self._started),
            open_alerts=self.book.open_alerts,
        )

    async def _read(self, started: float) -> Poll:
        started_at = self._now()
        deadline = started + self._interval.total_seconds()
        self._http.begin(deadline)
        window = self._window()
        readings, error = await self._readings(window, deadline)
        corrected = self._window()
        if window.first and error is None and corrected.counted_from != window.counted_from:
            # The vendor's clock offset is known only now: the first window was wrong.
            window = corrected
            readings, error = await self._readings(window, deadline)
        if window.first:
            window = msgspec.structs.replace(window, counted_from=self._window().counted_from)
        vendor_now = self._clock.at(started)
        return Poll(
            window=self._lookback.as_read(window, vendor_now),
            readings=readings,
            error=error,
            started_at=started_at,
            vendor_now=vendor_now,
            duration_seconds=anyio.current_time() - started,
        )

    async def _readings(self, window: Window, deadline: float) -> tuple[list[Reading], FetchError | None]:
        """Returns the readings completed by the deadline, and the error that ended the poll early, if any.

        Only this catches Exception, so that a defect in one vendor's folder does not stop other sources.
        """
        readings: list[Reading] = []
        try:
            with anyio.move_on_after(deadline - anyio.current_time()) as scope:
                walk: AsyncGenerator[Reading] = self._source.read(window)  # type: ignore[assignment]
                async with aclosing(walk):
                    async for reading in walk:
                        readings.append(reading)  # noqa: PERF401 what came before an error has to stay
        except FetchError as error:
            return readings, error
        except Exception as error:
            log.exception("source %s: the poll failed because of a defect", self.name)
            return readings, FetchError(f"{type(error).__name__} in the exporter itself", reason=Reason.INTERNAL)
        if scope.cancelled_caught:
            late = f"the poll did not complete within its interval of {self._interval.total_seconds():g} s"
            return readings, self._http.trouble or SourceUnreachable(late, reason=Reason.TIMEOUT)
        return readings, None
