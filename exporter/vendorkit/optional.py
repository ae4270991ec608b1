"""OptionalApi: a call that not every server has; a server without it is asked again now and then."""

from datetime import UTC, datetime, timedelta

ASKED_AGAIN_AFTER = timedelta(hours=1)


class OptionalApi:
    """Whether a server has a call: believed so until it says, in its documented words, that it has not."""

    def __init__(self) -> None:
        self.is_there = True
        self._has_answered = False
        self._again = datetime.min.replace(tzinfo=UTC)

    def is_worth_asking(self, now: datetime) -> bool:
        """Whether to ask: always where the call is there, else an hour after the server said that it is not."""
        # A vendor's clock that was corrected backwards must not put it off for longer.
        return self.is_there or now >= self._again or self._again - now > ASKED_AGAIN_AFTER

    def answered(self, now: datetime, *, is_there: bool) -> None:
        """Notes what the server said; where the call was there until now, it is asked again at once."""
        is_stray = self.is_there and self._has_answered and not is_there
        self._again = now if is_stray else now + ASKED_AGAIN_AFTER
        self._has_answered |= is_there
        self.is_there = is_there
