"""Census: concludes which alerts are open, ended or unknown from everything a poll saw."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from exporter.errors import ItemRejected, Reason, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.reading import Happened, OpenAlerts, Reading, Rejections, Truncated, Window
from exporter.model.records import Kind, Record
from exporter.vendorkit.fields import AHEAD
from exporter.vendorkit.items import Decoded, Rows
from exporter.vendorkit.paging import ListTooLong

Row = TypeVar("Row")


class Walked(NamedTuple):
    """How many pages of a list were taken in, and whether it goes on beyond them."""

    pages: int
    is_cut: bool


class Census(Generic[Row]):
    """Rows that one poll saw, list by list and look-up by look-up; nothing else concludes from them.

    - An alert is over only by a record that says so, or by its absence from lists that are complete and readable.
    - Of two records of one alert the one of the higher rank counts; of equal ones the one that ended, then the later.
    - A row that cannot be read keeps its alert as it was known; in a list of open alerts it is open in any case.
    - An alert that was not shown and not looked up is unsure; so is every one not shown when a row had no readable id.
    - A list that has rows, and none of them with a readable id, is no answer.

    Args:
        window: the window of the poll, with the alerts believed open.
        key_from: the id of a row, or of what is left of one of another shape; raises ItemRejected where it has none.
        record_from: the record of a row, None for nothing of interest; raises ItemRejected for one that cannot be read.
        rank: what orders records of one id, with their rows.
        keeps_rows: whether rows are kept, for `rank` and `alerts`, as long as the census.
        is_other: whether a row, or what is left of one, is known to be no alert though it cannot be read.
    """

    def __init__(
        self,
        window: Window,
        *,
        key_from: Callable[[Any], str],
        record_from: Callable[[Row], Record | None],
        rank: Callable[[Any, Any], Any] = lambda _record, _row: 0,
        keeps_rows: bool = True,
        is_other: Callable[[Any], bool] = lambda _row: False,
    ) -> None:
        self._known = window.open_alerts
        self._latest = window.end + AHEAD
        self._key_from = key_from
        self._record_from = record_from
        self._rank = rank
        self._is_other = is_other
        self._keeps_rows = keeps_rows
        self._rows: dict[str, Row | None] = {}  # of the two below
        self._open: dict[str, Alert] = {}
        self._over: dict[str, Record] = {}  # alerts that ended, and what is no alert
        self._unreadable: dict[str, bool] = {}  # by key, whether a list of open alerts shows it
        self._rejected = Rejections()
        self._asked: set[str] = set()
        self._has_nameless = False
        self._cut: Truncated | None = None
        self._ended_cut_at: str | None = None

    def saw(self, rows: Rows[Row], *, is_open: bool, wanted: Callable[[Any], bool] | None = None) -> None:
        """Takes in a whole list; raises `bad_response` where no row of it has a readable id.

        Args:
            is_open: whether the list is one of open alerts: a row that says nothing else is open.
            wanted: which records are of interest, in a list that is asked for these alone; its other rows, and those
                that cannot be read, are not counted.
        """
        self._check_ids(len(rows), rows.skipped + self._take(rows, is_open=is_open, wanted=wanted))

    async def walked(
        self,
        pages: AsyncIterator[Decoded[Any, Row]],
        *,
        is_open: bool,
        wanted: Callable[[Any], bool] | None = None,
    ) -> Walked:
        """Takes in a list page by page, as `saw` does a whole one, up to its end or to where it is too long."""
        count = rows = named = 0
        is_cut = False
        try:
            async for page in pages:
                count += 1
                rows += len(page.items) + len(page.rejected)
                named += self._take(page, is_open=is_open, wanted=wanted)
        except ListTooLong:
            is_cut = True
        self._check_ids(rows, named)
        return Walked(count, is_cut)

    def looked_up(self, keys: Iterable[str], rows: Rows[Row]) -> None:
        """Takes in the answer to a look-up of these alerts; other rows in it are of no interest."""
        asked = frozenset(keys)
        self._take(rows, is_open=False, wanted=lambda record: record.key in asked)
        self._asked |= asked

    def cut(
        self,
        endpoint: str,
        open_by_severity: Mapping[Severity, int] | None,
        *,
        moves_on: bool = True,
    ) -> None:
        """Notes that a list of open alerts goes on beyond what was read of it: nothing is missing from it.

        Args:
            open_by_severity: the vendor's own totals; without them nothing is known, which is `truncated`.
            moves_on: whether later windows will show what was not read, at the latest when it ends; else they have to
                reach back as far as this one.
        """
        if open_by_severity is None:
            raise SourceUnintelligible(
                "the list is longer than can be read, and the vendor does not count it", reason=Reason.TRUNCATED
            )
        self._cut = Truncated(endpoint, open_by_severity, moves_on=moves_on)

    def cut_ended(self, endpoint: str) -> None:
        """Notes that a list of what ended goes on beyond what was read: how many are open, only those listed say."""
        self._ended_cut_at = endpoint

    @property
    def missing(self) -> dict[str, Alert]:
        """Returns the alerts believed open that no list has shown: they are to be looked up."""
        if self._cut:
            return {}
        seen, unreadable = self._rows, self._unreadable
        return {key: alert for key, alert in self._known.items() if key not in seen and not unreadable.get(key)}

    def is_listed(self, key: str) -> bool:
        """Returns whether some list has shown this alert, readable or not."""
        return key in self._rows or key in self._unreadable

    def alerts(self) -> Iterator[tuple[Alert, Any]]:
        """Yields the alerts that could be read, open and ended, each with the row that counts, if rows are kept."""
        for key, alert in self._open.items():
            yield alert, self._rows[key]
        for key, record in self._over.items():
            if isinstance(record, Alert):
                yield record, self._rows[key]

    def readings(self) -> Iterator[Reading]:
        """Yields what follows from all that was seen."""
        kept = self._kept()
        absent = {key for key in self._known if key not in self._rows and key not in kept}
        unsure = absent if self._has_nameless or self._cut else absent - self._asked
        opened = [*self._open.values(), *kept.values()]
        yield OpenAlerts(opened, self._rejected, frozenset(unsure))
        yield Happened([record for key, record in self._over.items() if key not in kept])
        if self._ended_cut_at is not None:
            totals = self._cut.open_by_severity if self._cut else Counter(alert.severity for alert in opened)
            yield Truncated(self._ended_cut_at, totals, moves_on=False)
        elif self._cut:
            yield self._cut

    def _check_ids(self, rows: int, named: int) -> None:
        if rows and not named:
            raise SourceUnintelligible("no row of the list has an id that can be read")

    def _take(self, rows: Rows[Row] | Decoded[Any, Row], *, is_open: bool, wanted: Callable[[Any], bool] | None) -> int:
        """Takes in rows; returns how many have a readable id."""
        named = len(rows.items)
        record_from, known_rows, opened = self._record_from, self._rows, self._open  # a list may have 100,000 rows
        keeps_rows = self._keeps_rows
        for row in rows.items:
            try:
                record = record_from(row)
                if type(record) is Alert and record.close_reason is None:
                    if wanted is None and record.key not in known_rows:  # the usual case, first
                        known_rows[record.key] = row if keeps_rows else None
                        opened[record.key] = record
                        continue
                elif is_open and isinstance(record, Alert):
                    self._check_end(record)
            except ItemRejected as error:
                named -= not self._cannot_read(row, str(error), is_open=is_open, counted=wanted is None)
                continue
            if record is not None and (wanted is None or wanted(record)):
                self._place(record, row)
        named += sum(self._cannot_read(bare, "", is_open=is_open, counted=False) for bare in rows.bare)
        if len(rows.bare) < len(rows.rejected):
            self._has_nameless = True
        if wanted is None:
            self._rejected.extend(rows.rejected)
        return named

    def _place(self, record: Record, row: Row) -> None:
        key = record.key
        if key in self._rows:
            held = self._open.get(key) or self._over[key]
            if self._order(record, row) < self._order(held, self._rows[key]):
                return
        self._rows[key] = row if self._keeps_rows else None
        self._open.pop(key, None)
        self._over.pop(key, None)
        if isinstance(record, Alert) and record.close_reason is None:
            self._open[key] = record
        else:
            self._over[key] = record

    def _order(self, record: Record, row: Row | None) -> tuple[Any, bool]:
        return self._rank(record, row), isinstance(record, Alert) and record.close_reason is not None

    def _kept(self) -> dict[str, Alert]:
        """Returns the alerts of rows without a readable state: as they were known, or open and nothing else."""
        kept: dict[str, Alert] = {}
        for key, record in self._over.items():
            known = self._known.get(key)
            if known is not None and (not isinstance(record, Alert) or self._is_of_an_earlier_life(record, known)):
                kept[key] = known  # an alert stays an alert
        for key, is_open in self._unreadable.items():
            if key in self._rows:
                continue
            if key in self._known:
                kept[key] = self._known[key]
            elif is_open:
                kept[key] = Alert(key=key, severity=Severity.UNKNOWN, started_at=None)
        return kept

    def _is_of_an_earlier_life(self, ended: Alert, known: Alert) -> bool:
        """Returns whether beside a row that cannot be read there is only the end of an earlier life of the same id."""
        return (
            self._unreadable.get(ended.key, False)
            and ended.started_at is not None
            and known.started_at is not None
            and ended.started_at < known.started_at
        )

    def _cannot_read(self, row: Any, why: str, *, is_open: bool, counted: bool) -> bool:
        """Notes a row that cannot be read; whether its id can."""
        if counted:
            self._rejected.add(Kind.ALERT, why)
        try:
            key = self._key_from(row)
        except ItemRejected:
            self._has_nameless = True
            return False
        if key in self._known or not self._is_other(row):
            self._unreadable[key] = is_open or self._unreadable.get(key, False)
        return True

    def _check_end(self, alert: Alert) -> None:
        """Refuses an end that cannot be, in a list of alerts that are open."""
        started_at, ended_at = alert.started_at, alert.ended_at
        if ended_at is not None and (ended_at > self._latest or (started_at is not None and ended_at < started_at)):
            raise ItemRejected("the time of the end is before the start, or far ahead")
