"""Lookback: the next window, by last success, overlap and first window (pure)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from exporter.model.alert import Alert
from exporter.model.reading import Window
from exporter.vendorkit.clock import NOISE


class Lookback(msgspec.Struct):
    """The progress of one source's windows; all times are the vendor's."""

    overlap: timedelta
    lookback: timedelta | None
    backfill: bool
    watermark: datetime | None = None
    reached: datetime | None = None
    counted_from: datetime | None = None

    def window(
        self, *, elapsed: timedelta, now: datetime, started_at: datetime, open_alerts: Mapping[str, Alert]
    ) -> Window:
        """Returns the window to ask for, by `window_after`.

        Until a poll succeeds the start of counting is kept: differences below NOISE come from reading two clocks, one
        of which has whole seconds.
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
        """Returns the window corrected to the vendor's time, for lists asked for relative to now."""
        start = window.start + min(timedelta(0), now - window.end)
        reached = self.reached if self.reached is not None and start < self.reached else None
        return msgspec.structs.replace(window, reached=reached)

    def succeeded(self, window: Window, now: datetime) -> bool:
        """Advances after a successful poll that began at `now`; returns whether the next window may start there.

        If the clock turned out to be set back, the window began too late, and the next one covers it again.
        """
        self.reached = min(window.start, self.reached or window.start)
        is_covered = self.watermark is None or window.end - now < NOISE
        if is_covered:
            self.watermark = now
        return is_covered

    def follow(self, before: "Lookback") -> None:
        """Continues from the position of another poller of the same account."""
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
    """Returns the window to ask for; all times are the vendor's.

    Args:
        watermark: when the last successful poll began; None before the first.
        elapsed: how long ago that was, by the monotonic clock.
        now: the vendor's time.
        started_at: when watching this source began.
        overlap: how far each window reaches back before the watermark, for late data.
        lookback: how far the first window reaches back before the start, if not the overlap.
        backfill: whether records of the first window from before the start count.
    """
    reach = lookback or overlap
    # Reach back in the first poll as far as later: else a later poll would count old records as new.
    # After its clock is set back, a vendor writes times before the watermark: the window follows.
    start = started_at - max(reach, overlap) if watermark is None else min(watermark, now - elapsed) - overlap
    return Window(
        start=min(start, now),
        end=now,
        counted_from=started_at - reach if backfill else started_at,
        first=watermark is None,
        open_alerts=open_alerts,
    )
