"""Window: the span to ask for. OpenAlerts, Happened, Supplied, Details, Truncated: readings. Poll: one attempt."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from exporter.errors import FetchError, Reason
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.records import Kind, Record


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The span of time asked for, in the vendor's clock, and what is known before asking.

    `counted_from` is the moment since which things count; a record of the baseline is older. `first` holds until a
    poll has succeeded. Of a later window that reaches behind all before it, `reached` is where these began.
    `open_alerts` are the alerts believed open, by key: what of it a list does not show can be looked up.
    """

    start: datetime
    end: datetime
    counted_from: datetime
    first: bool
    reached: datetime | None = None
    open_alerts: Mapping[str, Alert] = {}


class Rejections(msgspec.Struct):
    """Unreadable items of good answers: the number of each kind, and why the first one was rejected.

    This stays small however many there are. `why` names no content of the vendor's beyond field names.
    """

    counts: dict[Kind, int] = {}
    why: dict[Kind, str] = {}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __add__(self, other: "Rejections") -> "Rejections":
        both = Rejections(self.counts.copy(), self.why.copy())
        both.extend(other)
        return both

    def add(self, kind: Kind, why: str, count: int = 1) -> None:
        """Notes items of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        self.why.setdefault(kind, why)

    def extend(self, others: "Rejections") -> None:
        """Notes others as well."""
        for kind, count in others.counts.items():
            self.add(kind, others.why[kind], count)


class OpenAlerts(msgspec.Struct, frozen=True):
    """Every alert open now, from a complete walk.

    `unsure` names alerts that the walk did not show and that could not be looked up: nothing is concluded about them.
    """

    alerts: Sequence[Alert]
    rejected: Rejections = msgspec.field(default_factory=Rejections)
    unsure: frozenset[str] = frozenset()


class Happened(msgspec.Struct, frozen=True):
    """Records that may be read again: alerts that ended, notices, operations, convergences, events."""

    records: Sequence[Record]
    rejected: Rejections = msgspec.field(default_factory=Rejections)


class Supplied(msgspec.Struct, frozen=True):
    """The facts that the source can supply, as far as is known now, those that detail calls feed included."""

    facts: frozenset[Fact]


class Details(msgspec.Struct, frozen=True):
    """The outcome of one endpoint's detail calls in this poll, also if there were none.

    `facts` are those that only these calls feed: nothing is known of them before a call was answered, or a complete
    poll had nothing to ask. `failed` counts the calls without an answer; `waiting` is how many alerts are due by then.
    """

    endpoint: str
    facts: frozenset[Fact] = frozenset()
    answered: int = 0
    failed: Mapping[Reason, int] = {}
    waiting: int = 0

    @property
    def is_partial(self) -> bool:
        """Returns whether a call failed or was deferred: the lists are complete, their details are not."""
        return bool(self.failed or self.waiting)


class Truncated(msgspec.Struct, frozen=True):
    """A list that is longer than can be walked; the vendor's own totals by severity, None where it has none.

    With `moves_on`, everything that happened in the window was read, and the alerts that were not read will be listed
    when they end; without it the next window begins where this one did.
    """

    endpoint: str
    open_by_severity: Mapping[Severity, int] | None = None
    moves_on: bool = True


Reading = OpenAlerts | Happened | Supplied | Details | Truncated


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

    @property
    def covers_window(self) -> bool:
        """Returns whether everything that happened in the window was read."""
        return self.error is None and all(
            reading.moves_on for reading in self.readings if isinstance(reading, Truncated)
        )
