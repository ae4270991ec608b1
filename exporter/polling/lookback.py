"""Which window is next: last success, overlap, first window (pure)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from exporter.model.alert import Alert
from exporter.model.reading import Window
from exporter.vendorkit.clock import NOISE


class Lookback(msgspec.Struct):
    """How far the windows of one source have come; all times are the vendor's."""

    overlap: timedelta
    lookback: timedelta | None
    backfill: bool
    watermark: datetime | None = None
    reached: datetime | None = None
    counted_from: datetime | None = None

    def window(
        self, *, elapsed: timedelta, now: datetime, started_at: datetime, open_alerts: Mapping[str, Alert]
    ) -> Window:
        """The window to ask for, as `window_after` has it.

        Until a poll succeeds, counting begins at the same moment, too: differences below NOISE come from reading two
        clocks, one of which has whole seconds.
        """
        window = window_after(
            self.watermark,
            elapsed=elapsed,
            now=now,
            started_at=started_at,
            overlap=self.overlap,
            lookback=self.lookback,
            backfill=self.backfill,
            open_alerts=open_alerts,
        )
        known = self.counted_from
        if known is not None and (not window.first or abs(window.counted_from - known) < NOISE):
            return msgspec.structs.replace(window, counted_from=known)
        self.counted_from = window.counted_from
        return window

    def as_read(self, window: Window, now: datetime) -> Window:
        """The window by the time that it turned out to be at the vendor, where lists are asked for relative to it."""
        start = window.start + min(timedelta(0), now - window.end)
        reached = self.reached if self.reached is not None and start < self.reached else None
        return msgspec.structs.replace(window, reached=reached)

    def succeeded(self, window: Window, now: datetime) -> bool:
        """Moves on after a good poll that began at `now`; returns whether the next window may start there.

        A clock that turned out to be set back had the window begin too late: the next one covers it once more.
        """
        self.reached = min(window.start, self.reached or window.start)
        is_covered = self.watermark is None or window.end - now < NOISE
        if is_covered:
            self.watermark = now
        return is_covered

    def follow(self, before: "Lookback") -> None:
        """Goes on where that of another poller of the same account has stopped."""
        self.watermark, self.reached, self.counted_from = before.watermark, before.reached, before.counted_from


def window_after(
    watermark: datetime | None,
    *,
    elapsed: timedelta,
    now: datetime,
    started_at: datetime,
    overlap: timedelta,
    lookback: timedelta | None,
    backfill: bool,
    open_alerts: Mapping[str, Alert],
) -> Window:
    """The span to ask for; all times are the vendor's.

    Args:
        watermark: when the last poll that succeeded began, None before the first.
        elapsed: how long ago that was by a clock that never steps.
        now: the vendor's time.
        started_at: when this source began to be watched.
        overlap: how much each window reaches back before the watermark, for late data.
        lookback: how far the first window reaches back before the start, where not as far as the overlap.
        backfill: whether what the first window holds from before the start counts.
    """
    reach = lookback or overlap
    # Reach back on the first poll as far as later: else a later poll counts old records as new.
    # A vendor whose clock was set back writes times before the watermark: the window follows.
    start = started_at - max(reach, overlap) if watermark is None else min(watermark, now - elapsed) - overlap
    return Window(
        start=min(start, now),
        end=now,
        counted_from=started_at - reach if backfill else started_at,
        first=watermark is None,
        open_alerts=open_alerts,
    )
