"""VendorClock: the vendor's time, from its Date headers, advanced by the monotonic clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# Offset below which clocks agree: a Date header has whole seconds and takes time to arrive.
NOISE = timedelta(seconds=5)
# Years of plausible dates; spans from others leave the calendar.
_YEARS = range(2000, 2200)


class VendorClock:
    """The vendor's time.

    Args:
        now: our own clock, which may be stepped.
        elapsed: seconds of the monotonic clock.
    """

    def __init__(self, now: Callable[[], datetime], elapsed: Callable[[], float]) -> None:
        self._own_now = now
        self._elapsed = elapsed
        self._told: tuple[datetime, float] | None = None
        self.offset: timedelta | None = None

    def hear(self, date: str | None) -> None:
        """Sets the clock by the Date header of an answer, unless unreadable."""
        if date is None:
            return
        try:
            told = parsedate_to_datetime(date).astimezone(UTC)
        except (ValueError, OverflowError):
            return
        if told.year not in _YEARS:
            return
        self.offset = told - self._own_now()
        self._told = (told, self._elapsed())

    def now(self) -> datetime:
        """Returns the vendor's time; ours before the first answer or where the two agree."""
        own = self._own_now()
        if self._told is None:
            return own
        told, at = self._told
        vendor = told + timedelta(seconds=self._elapsed() - at)
        return own if abs(vendor - own) < NOISE else vendor

    def at(self, elapsed: float) -> datetime:
        """Returns the vendor's time when the monotonic clock showed `elapsed`."""
        return self.now() - timedelta(seconds=self._elapsed() - elapsed)
