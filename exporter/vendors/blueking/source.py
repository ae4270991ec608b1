"""One poll of a BlueKing Monitor: open and ended alerts, the handling records, and the flow log of what changed."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from exporter.errors import ItemRejected, Reason, SourceBroken, SourceRefused, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, Reading, Supplied, Window
from exporter.model.records import Kind, Notice
from exporter.vendorkit.census import Census
from exporter.vendorkit.details import Fetched, OptionalApi, fetch_details
from exporter.vendorkit.fields import flag, text, whole_number
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Decoded, Rows, normalise_all
from exporter.vendors.blueking.client import (
    PAGE_SIZE,
    RESULT_WINDOW,
    Client,
    NoSuchApi,
    Part,
    created_after,
    created_until,
    is_in,
    is_not_in,
)
from exporter.vendors.blueking.config import Api, BluekingConfig
from exporter.vendors.blueking.flow_logs import PATIENCE, FlowLogs
from exporter.vendors.blueking.normalise import (
    IN_PROGRESS,
    alert_reader,
    key_from,
    notice_to_nobody,
    notices_from,
    seconds_of,
    totals_from,
)
from exporter.vendors.blueking.payload import ActionRow, AlertRow, Listing

Row = TypeVar("Row", AlertRow, ActionRow)
Ask = Callable[[Part, int], Awaitable[Decoded[Any, Row]]]
# Returns the parts that hold all of a list which is too long, none where it cannot be divided any further.
Divide = Callable[[Part], Awaitable[list[Part]]]

OPEN = ("ABNORMAL",)
ENDED = ("RECOVERED", "CLOSED")
# The age from which on a handling record's children are in the list, too: records are synchronised every 10 s or so.
SYNCHRONISED_WITHIN = timedelta(minutes=1)
# Alerts that one look-up names.
LOOK_UP = 100
# The last page of a list that the server shows.
_FULL = RESULT_WINDOW // PAGE_SIZE
# Conditions that part any list of alerts in four.
_SEVERITIES = (*(is_in("severity", [level]) for level in (1, 2, 3)), is_not_in("severity", [1, 2, 3]))

_FED_BY_LOGS = frozenset({Fact.OPERATIONS, Fact.CONVERGENCES})
_FED_BY_ACTIONS = frozenset({Fact.NOTICES, Fact.SUPPRESSED_NOTICES})


class BluekingSource:
    """One BlueKing Monitor, ready to be read.

    What it remembers between polls saves calls: which logs were read, and how far back notices had no result yet. And
    for a server that has search_action only at times, it separates the notices found in its logs.
    """

    REMEMBERED = ("_logs", "_actions", "_unasked_since", "_unfinished_since", "_rows_tell_until", "_last_told_by_row")

    def __init__(self, config: BluekingConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(config, http)
        self._alert_from = alert_reader(config)
        self._logs = FlowLogs(config, http, self._client, self._is_told_by_row)
        self._reads_logs = config.operations and config.api is Api.ESB
        self._actions = OptionalApi()
        self._unasked_since: int | None = None  # start of the time when search_action was not available
        self._unfinished_since: int | None = None
        # Up to this second notices come from flow rows, later from search_action; None until it answered once.
        self._rows_tell_until: int | None = None
        self._last_told_by_row = -1

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Yields the alerts, then the notices, then the flow logs of alerts that changed."""
        start = _seconds(window.start)

        def news_from(row: AlertRow) -> Alert | None:
            alert = self._alert_from(row)
            if alert.close_reason is None:
                return alert
            is_old = 0 < seconds_of(row.update_time) < start and alert.key not in window.open_alerts
            return None if is_old else alert

        census = Census[AlertRow](
            window, key_from=key_from, record_from=news_from, rank=lambda _alert, row: seconds_of(row.update_time)
        )
        # Open alerts of any age are in a window that reaches now. In two lists, so that each may have 10,000 rows; the
        # open ones first: an alert that ends between the two is in both.
        part = Part(start, _seconds(window.end) + 1)
        rows = await self._walked(
            self._ask_alerts(OPEN), part, self._by_severity_then_creation, self._http.has_time_for_open
        )
        census.saw(rows, is_open=True)
        if rows.is_cut:
            census.cut("search_alert", await self._totals(part))
        # The list goes by `end_time`, which is that of the data: where these came late, only `update_time` is new.
        part = part._replace(start=min(start, _seconds(window.end - self._config.lookback)))
        rows = await self._walked(self._ask_alerts(ENDED), part, _by_severity_then_time, self._http.has_time_for_ended)
        census.saw(rows, is_open=False)
        if rows.is_cut:
            census.cut_ended("search_alert")
        looked_up = await self._look_up(census, window)
        for reading in census.readings():
            yield reading
        yield looked_up.reading("search_alert")
        yield self._supplied()
        looked_up.raise_if_asked_to_wait()

        denied = None
        actions: Iterable[ActionRow] = ()
        if self._config.notices and self._actions.is_worth_asking(window.end):
            try:
                actions, happened, asked = await self._notices(window)
                yield happened
                yield asked
            except NoSuchApi:
                self._actions.answered(window.end, is_there=False)
                yield Details("search_action")
                self._unasked_since = min(_seconds(window.start), self._unasked_since or _seconds(window.start))
            except SourceRefused as error:
                if error.reason is not Reason.PERMISSION:
                    raise
                denied = error  # of this API only: the logs may still be read
                yield Details("search_action", _FED_BY_ACTIONS, failed={error.reason: 1})

        if self._reads_logs:
            self._logs.begin(window, {alert.key: row for alert, row in census.alerts()}, actions)
            yield await self._logs.read()
            yield self._logs.reading(_FED_BY_LOGS | (frozenset() if self._actions.is_there else _FED_BY_ACTIONS))
        yield self._supplied()
        self._logs.end()
        if denied is not None:
            raise denied

    def _supplied(self) -> Supplied:
        """Returns operations if there is a flow log; notices if handling records or an old server's log have them."""
        facts = {Fact.ACKNOWLEDGED, Fact.SUPPRESSED}
        if self._reads_logs:
            facts |= _FED_BY_LOGS
        if self._config.notices and (self._actions.is_there or self._reads_logs):
            facts |= _FED_BY_ACTIONS
        return Supplied(frozenset(facts))

    async def _look_up(self, census: Census[AlertRow], window: Window) -> Fetched[Rows[AlertRow]]:
        """Looks for alerts that were open and are in no list: they ended long ago by the vendor's reckoning, or slipped
        between two pages, or are gone.
        """
        missing = [*census.missing.values()]
        parted = (missing[first : first + LOOK_UP] for first in range(0, len(missing), LOOK_UP))
        batches = {batch[0].key: batch for batch in parted}

        async def rows_of(first: str) -> Rows[AlertRow]:
            batch = batches[first]
            since = min(alert.started_at or window.start for alert in batch)
            named = is_in("id", [alert.key for alert in batch])
            part = Part(_seconds(min(since, window.start)), _seconds(window.end) + 1, (named,))
            return await self._whole(self._ask_alerts(OPEN + ENDED), part, _not_at_all)

        asked = await fetch_details(
            list(batches),
            rows_of,
            limit=self._config.max_detail_requests,
            concurrency=1,
            until=self._http.details_until,
        )
        for first, rows in asked.details.items():
            census.looked_up([alert.key for alert in batches[first]], rows)
        return asked

    async def _totals(self, part: Part) -> Counter[Severity] | None:
        """Returns how many alerts are open, by severity, as the server counts them."""
        buckets = await self._client.count_alerts(OPEN, part)
        try:
            return None if buckets is None else totals_from(buckets, self._config)
        except ItemRejected as error:
            raise SourceUnintelligible(str(error)) from None

    def _ask_alerts(self, states: Sequence[str]) -> Ask[AlertRow]:
        return lambda part, page: self._client.search_alert(states, part, page)

    async def _notices(self, window: Window) -> tuple[Iterable[ActionRow], Happened, Details]:
        """Reads the results of the notices of the window, and of older ones whose result was still to come.

        Beside it the records of all that was done, notice or not, and how asking went.
        """
        start = _seconds(window.start)
        told_by_row = self._last_told_by_row if self._rows_tell_until is None else self._rows_tell_until
        if self._unasked_since is not None:
            start = min(start, max(self._unasked_since, told_by_row))
        if self._unfinished_since is not None:
            start = min(start, max(self._unfinished_since, _seconds(window.end - PATIENCE)))
        part = Part(start, _seconds(window.end) + 1)
        actions = await self._walked(self._client.search_action, part, _by_time, self._http.has_time_for_ended)
        actions.check_ids(key_from)
        parents, failed = await self._skipped_parents(part)
        if actions.is_cut or parents.is_cut:
            failed = {Reason.TRUNCATED: 1}
        self._actions.answered(window.end, is_there=True)
        self._unasked_since = start if actions.is_cut or parents.is_cut else None
        self._rows_tell_until = told_by_row
        actions.refuse(lambda row: not text(row.id), Kind.NOTICE, "id is missing")
        newest = _newest(actions.items)
        unfinished = [seconds_of(row.create_time) for row in newest.values() if row.status in IN_PROGRESS]
        self._unfinished_since = min(unfinished, default=None)
        rows = [row for row in newest.values() if seconds_of(row.create_time) > told_by_row]
        notices, rejected = normalise_all(Kind.NOTICE, rows, notices_from)
        childless = _without_children(parents.items, newest.values(), max(start, told_by_row + 1), window.end)
        to_nobody, unreadable = normalise_all(Kind.NOTICE, childless, notice_to_nobody)
        told = [notice for each in notices for notice in each] + to_nobody
        return (
            newest.values(),
            Happened(told, actions.rejected + parents.rejected + rejected + unreadable),
            Details("search_action", _FED_BY_ACTIONS, answered=1, failed=failed),
        )

    async def _skipped_parents(self, part: Part) -> tuple[Rows[ActionRow], Mapping[Reason, int]]:
        """Returns the notices that were skipped as a whole, and why not, if the server refuses to list them."""
        try:
            return await self._walked(
                self._client.search_skipped_parents, part, _by_time, self._http.has_time_for_ended
            ), {}
        except SourceBroken as error:
            if error.reason is not Reason.API_ERROR:
                raise
            return Rows(), {error.reason: 1}

    def _is_told_by_row(self, notice: Notice) -> bool:
        """Returns whether a notice comes from a flow row, and not from search_action."""
        at = _seconds(notice.at) if notice.at else 0
        if self._rows_tell_until is not None or self._actions.is_there:
            return at <= (self._rows_tell_until or -1)
        self._last_told_by_row = max(self._last_told_by_row, at)
        return True

    async def _whole(self, ask: Ask[Row], part: Part, divide: Divide) -> Rows[Row]:
        """Returns every row of a list; raises `truncated` for anything less."""
        rows = await self._walked(ask, part, divide)
        if rows.is_cut:
            raise _truncated(f"the list is longer than {self._config.max_pages} pages, or than the server pages")
        return rows

    async def _walked(
        self, ask: Ask[Row], part: Part, divide: Divide, has_time: Callable[[], bool] = lambda: True
    ) -> Rows[Row]:
        """Returns the rows of a list, cut when its parts, or the pages of one, exceed `max_pages`, or time is up.

        A part that goes on beyond the 10,000 rows the server pages is divided, and its parts are asked for. A list
        that shrank while it was walked is walked once more: when a row leaves, the first one of the next page moves
        up unseen.
        """
        whole: Rows[Row] = Rows()
        parts = [part]
        asked = 0
        divides = self._config.max_pages >= _FULL
        while parts and not whole.is_cut:
            whole.is_cut = asked > 0 and (asked > self._config.max_pages or not has_time())
            if whole.is_cut:
                break
            asked += 1
            part = parts.pop()
            walk = await self._walk(ask, part, has_time, divides=divides)
            if walk.shrank:
                whole.items += walk.rows.items
                walk = await self._walk(ask, part, has_time, divides=divides)
            if walk.is_too_long and divides:
                if smaller := await divide(part):
                    parts += smaller
                    continue
                walk = await self._walk(ask, part, has_time, divides=False)
            whole.add(walk.rows)
            whole.is_cut = walk.is_too_long or walk.rows.is_cut
        return whole

    async def _walk(self, ask: Ask[Row], part: Part, has_time: Callable[[], bool], *, divides: bool) -> "_Walk[Row]":
        """Walks a part of a list to its end.

        A part that is too long is walked as far as the server pages it, or with `divides` only until that shows.
        """
        walk = _Walk[Row]()
        while not (walk.is_over or (walk.is_too_long and divides)):
            pages = walk.rows.pages
            most = min(self._config.max_pages, _FULL) if walk.is_too_long else self._config.max_pages
            walk.rows.is_cut = pages > 0 and (pages >= most or not has_time())
            if walk.rows.is_cut:
                break
            walk.take(await ask(part, pages + 1))
        return walk

    async def _by_severity_then_creation(self, part: Part) -> list[Part]:
        """Returns a part for each severity; of one of these, the newest rows that the server pages and the rest.

        Lists show the newest rows first. Rows of one second cannot be divided.
        """
        if not part.conditions:
            return _by_severity(part)
        page = await self._client.search_alert(OPEN, part, _FULL)
        edge = max((seconds_of(row.create_time) for row in page.items), default=0)
        until, after = created_until(edge), created_after(edge)
        if edge <= 0 or until in part.conditions:
            return []
        return [
            part._replace(conditions=(*(each for each in part.conditions if each["method"] != bound["method"]), bound))
            for bound in (until, after)
        ]


class _Walk(Generic[Row]):
    """The rows of a part of a list, as its pages come in."""

    def __init__(self) -> None:
        self.rows: Rows[Row] = Rows()
        self.is_over = False
        self.is_too_long = False
        self.shrank = False
        self._ids: set[str] = set()
        self._nameless = 0
        self._largest = 0

    def take(self, page: Decoded[Any, Row]) -> None:
        """Takes in the next page; raises `truncated` for a partial answer and for one that shows nothing new."""
        if flag(page.page.is_partial):
            raise _truncated("the server says that its answer is partial")
        known = self._different
        rows_here = len(page.items) + len(page.rejected)
        total = _total_of(page.page)
        if total is None:
            total = len(self.rows) + rows_here + (rows_here >= PAGE_SIZE)
        self.is_too_long = total >= RESULT_WINDOW or page.page.total_relation == "gte"
        ids = [key for row in page.items if (key := text(row.id))]
        self.rows.add(page)
        self._ids.update(ids)
        self._nameless += rows_here - len(ids)
        self._largest = max(self._largest, total)
        # The total shows the last page, not its size: the server may serve fewer rows than asked for.
        if self._different >= total or (len(self.rows) >= total and not rows_here):
            self.is_over = True
            self.shrank = len(self.rows) < self._largest
        elif self._different == known:
            raise _truncated("the server repeats a page, or leaves out rows")

    @property
    def _different(self) -> int:
        return len(self._ids) + self._nameless


def _newest(rows: Sequence[ActionRow]) -> dict[str, ActionRow]:
    """Returns the records by id, the newest where two have the same."""
    newest: dict[str, ActionRow] = {}
    for row in rows:
        held = newest.get(key := text(row.id))
        if held is None or _freshness(row) >= _freshness(held):
            newest[key] = row
    return newest


def _freshness(row: ActionRow) -> tuple[int, bool]:
    return seconds_of(row.update_time), row.status not in IN_PROGRESS


def _without_children(
    parents: Iterable[ActionRow], children: Iterable[ActionRow], since: int, now: datetime
) -> list[ActionRow]:
    """Returns parents without a child, as far as all their children would be known by now."""
    has_child = {text(row.parent_action_id) for row in children}
    until = _seconds(now - SYNCHRONISED_WITHIN)
    return [
        row
        for row in parents
        if flag(row.is_parent_action)
        and row.status == "skipped"
        and text(row.raw_id)
        and text(row.raw_id) not in has_child
        and since <= seconds_of(row.create_time) <= seconds_of(row.end_time) <= until
    ]


def _total_of(listing: Listing) -> int | None:
    """Returns the number of rows in a list, None if not stated; an odd value is not the API's answer."""
    try:
        return whole_number(listing.total, "total")
    except ItemRejected as error:
        raise SourceUnintelligible(str(error)) from None


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _truncated(why: str) -> SourceUnintelligible:
    return SourceUnintelligible(why, reason=Reason.TRUNCATED)


# How a list that is too long is divided into parts that hold all of it between them.


def _by_severity(part: Part) -> list[Part]:
    return [part._replace(conditions=(condition,)) for condition in _SEVERITIES]


async def _by_time(part: Part) -> list[Part]:
    """Returns two windows: what began before the middle is in the first, what began later in the second."""
    if part.end - part.start < 2:
        return []
    middle = (part.start + part.end) // 2
    return [part._replace(end=middle), part._replace(start=middle)]


async def _by_severity_then_time(part: Part) -> list[Part]:
    return await _by_time(part) if part.conditions else _by_severity(part)


async def _not_at_all(_part: Part) -> list[Part]:
    return []
