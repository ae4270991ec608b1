"""Bucket: limits requests per second (pure)."""


class Bucket:
    """A token bucket that holds one second's worth, at least one token.

    Args:
        rate: tokens per second.
        now: seconds of the monotonic clock.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token and returns how many seconds to wait before using it."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def give_back(self) -> None:
        """Returns an unused token to the bucket."""
        self._tokens += 1
