"""Window: what to ask. OpenAlerts, Happened, Unfinished: what was read. Poll: one attempt to read a source."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from exporter.errors import FetchError
from exporter.model.alert import Alert
from exporter.model.records import Kind, Record


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The span of time asked for, in the vendor's clock, and what is known before asking.

    `counted_from` is the moment since which things count; a record of the baseline is older. `first` holds until a
    poll has succeeded. `open_alerts` are the alerts believed open, by key: what of it a list does not show can be
    looked up.
    """

    start: datetime
    end: datetime
    counted_from: datetime
    first: bool
    open_alerts: Mapping[str, Alert] = {}


class Rejected(msgspec.Struct, frozen=True):
    """An item of a good answer that could not be read; `why` names no content of the vendor's beyond field names."""

    kind: Kind
    why: str


class OpenAlerts(msgspec.Struct, frozen=True):
    """Every alert open now, from a complete walk.

    `unsure` names alerts that the walk did not show and that could not be looked up: nothing is concluded of them.
    """

    alerts: Sequence[Alert]
    rejected: Sequence[Rejected] = ()
    unsure: frozenset[str] = frozenset()


class Happened(msgspec.Struct, frozen=True):
    """Records that may be read again: alerts that ended, notices, operations, convergences, events."""

    records: Sequence[Record]
    rejected: Sequence[Rejected] = ()


class Unfinished(msgspec.Struct, frozen=True):
    """Detail calls that failed or wait for a later poll: the lists are complete, their details are not."""

    failed: int
    waiting: int


Reading = OpenAlerts | Happened | Unfinished


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to read a source: the readings completed, and what ended it early, if anything.

    `vendor_now` is the vendor's clock when the poll began; `duration_seconds` is wall time, waiting included.
    """

    window: Window
    readings: Sequence[Reading]
    error: FetchError | None
    started_at: datetime
    vendor_now: datetime
    duration_seconds: float
    requests: int
