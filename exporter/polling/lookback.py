"""Which window: last success, overlap, first window (pure)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from exporter.model.alert import Alert
from exporter.model.reading import Window


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
    # The first window reaches as far back as any later one: what only a later one found would be new to us, and old.
    # A vendor whose clock was set back writes times before the watermark: the window follows.
    start = started_at - max(reach, overlap) if watermark is None else min(watermark, now - elapsed) - overlap
    return Window(
        start=min(start, now),
        end=now,
        counted_from=started_at - reach if backfill else started_at,
        first=watermark is None,
        open_alerts=open_alerts,
    )
