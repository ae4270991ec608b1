"""Cadence: when to poll next, by interval, back-off, jitter and Retry-After (pure)."""

from datetime import timedelta

from exporter.errors import FetchError, SourceRefused

# Consecutive failures before polls slow down, and the longest back-off in intervals.
PATIENCE = 2
LONGEST = 3
LONGEST_REFUSED = 10
# Intervals up to which a vendor's Retry-After is honoured.
LONGEST_ASKED_FOR = 3
LONGEST_JITTER = timedelta(seconds=10)


def first_delay(interval: timedelta, chance: float) -> timedelta:
    """Returns how long to wait before the first poll; `chance` is in [0, 1).

    A quarter of the interval, at most of 10 s, spreads sources well enough and gives first results soon.
    """
    return min(interval, LONGEST_JITTER) / 4 * chance


def delay_after(
    interval: timedelta, failures_in_a_row: int, error: FetchError | None, *, took: timedelta = timedelta(0)
) -> timedelta:
    """Returns the time from the start of one poll, which itself took time, to the start of the next."""
    if error is None:
        return interval
    longest = LONGEST_REFUSED if isinstance(error, SourceRefused) else LONGEST
    doublings = min(max(0, failures_in_a_row - PATIENCE), 10)
    delay = interval * int(min(2**doublings, longest))
    if error.retry_after is None:
        return delay
    return max(delay, took + min(timedelta(seconds=error.retry_after), LONGEST_ASKED_FOR * interval))
