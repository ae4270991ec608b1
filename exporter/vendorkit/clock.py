"""VendorClock: what time it is at the vendor, told by its Date headers and counted on by a clock that never steps."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# A Date header has whole seconds and travels; an offset below this is no offset.
NOISE = timedelta(seconds=5)
# A date outside these years is no clock that is off but nonsense, and spans counted from it leave the calendar.
_YEARS = range(2000, 2200)


class VendorClock:
    """The vendor's time.

    Args:
        now: our own clock, which somebody may step.
        elapsed: seconds on a clock that never steps.
    """

    def __init__(self, now: Callable[[], datetime], elapsed: Callable[[], float]) -> None:
        self._own_now = now
        self._elapsed = elapsed
        self._told: tuple[datetime, float] | None = None
        self.offset: timedelta | None = None

    def hear(self, date: str | None) -> None:
        """Learns from the Date header of an answer; one that cannot be read teaches nothing."""
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
        """Returns the time at the vendor; ours where no answer told it or the two agree."""
        own = self._own_now()
        if self._told is None:
            return own
        told, at = self._told
        vendor = told + timedelta(seconds=self._elapsed() - at)
        return own if abs(vendor - own) < NOISE else vendor

    def at(self, elapsed: float) -> datetime:
        """Returns the time at the vendor when the clock that never steps showed `elapsed`."""
        return self.now() - timedelta(seconds=self._elapsed() - elapsed)
