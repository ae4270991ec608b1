"""When next: interval, back-off, jitter, Retry-After (pure)."""

from datetime import timedelta

from exporter.errors import FetchError, SourceRefused

# From the third failure in a row on, a source is asked less often, up to so many intervals.
PATIENCE = 2
LONGEST = 3
LONGEST_REFUSED = 10
# A vendor's Retry-After is honoured up to so many intervals.
LONGEST_ASKED_FOR = 3
LONGEST_JITTER = timedelta(seconds=10)


def first_delay(interval: timedelta, chance: float) -> timedelta:
    """How long to wait before the first poll; `chance` is in [0, 1).

    A quarter of what the interval and 10 s allow spreads sources well enough and has the first numbers there soon.
    """
    return min(interval, LONGEST_JITTER) / 4 * chance


def delay_after(
    interval: timedelta, failures_in_a_row: int, error: FetchError | None, *, took: timedelta = timedelta(0)
) -> timedelta:
    """How long after the start of one poll, which took a while itself, the next one starts."""
    if error is None:
        return interval
    longest = LONGEST_REFUSED if isinstance(error, SourceRefused) else LONGEST
    doublings = min(max(0, failures_in_a_row - PATIENCE), 10)
    delay = interval * int(min(2**doublings, longest))
    if error.retry_after is None:
        return delay
    return max(delay, took + min(timedelta(seconds=error.retry_after), LONGEST_ASKED_FOR * interval))
