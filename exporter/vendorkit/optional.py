"""OptionalApi: a call that not every server has; a server without it is asked again now and then."""

from datetime import UTC, datetime, timedelta

ASKED_AGAIN_AFTER = timedelta(hours=1)


class OptionalApi:
    """Whether a server has a call: believed so until it says, in its documented words, that it has not."""

    def __init__(self) -> None:
        self.is_there = True
        self._again = datetime.min.replace(tzinfo=UTC)

    def is_worth_asking(self, now: datetime) -> bool:
        """Whether to ask: always where the call is there, an hour after the server said that it is not."""
        # A vendor's clock that was corrected backwards must not put it off for longer.
        return self.is_there or now >= self._again or self._again - now > ASKED_AGAIN_AFTER

    def answered(self, now: datetime, *, is_there: bool) -> None:
        """Notes what the server said."""
        self.is_there = is_there
        self._again = now + ASKED_AGAIN_AFTER
