"""The growth of counters over the last hour, by the monotonic clock."""

from collections import deque

HOUR = 3600.0
# Seconds between the values kept.
_STEP = 60.0


class LastHour:
    """The growth of named counters over the last hour."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[float, int]]] = {}

    def grown(self, name: str, value: int, moment: float) -> int:
        """Returns the growth up to `moment`, when the counter is at `value`; after a reset it grows from 0."""
        kept = self._kept.setdefault(name, deque([(moment, 0)]))
        if value < kept[-1][1]:
            kept.clear()
            kept.append((moment, 0))
        if moment - kept[-1][0] >= _STEP:
            kept.append((moment, value))
        while len(kept) > 1 and moment - kept[1][0] >= HOUR:
            kept.popleft()
        return value - kept[0][1]
