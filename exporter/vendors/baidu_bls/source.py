"""One poll of the Log Service: its calls and their order."""

from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import msgspec

from exporter.errors import FetchError, ItemRejected, Reason, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Happened, Reading, Rejections, Supplied, Window
from exporter.model.records import Kind, Record
from exporter.vendorkit.census import Census
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import DetailQueue, Follow
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Rows
from exporter.vendorkit.paging import ListTooLong, follow_numbers
from exporter.vendors.baidu_bls.client import PAGE_SIZE, Client, NoSuchAlarm, Page, UnreadableAlarm, total_of
from exporter.vendors.baidu_bls.config import BaiduBlsConfig
from exporter.vendors.baidu_bls.normalise import (
    SEVERITIES,
    STATES,
    Told,
    alert_from,
    key_from,
    level_of,
    moment_from,
    state_of,
    told_from,
)
from exporter.vendors.baidu_bls.payload import NONE_LISTED, Alarm

# The result of a notice comes after its execution; one that is not there after this time is not waited for.
_RESULTS_COME_WITHIN = timedelta(minutes=15)

# The version of a record that says nothing of an end.
_OPEN = ("ALERT", "", "")

# Always the same: nobody acknowledges an alarm here, and none is shielded.
_FACTS = frozenset({Fact.CONVERGENCES, Fact.NOTICES, Fact.SUPPRESSED_NOTICES})


class BaiduBlsSource:
    """One region of one account. Between polls it remembers only which records are due to be read in detail."""

    REMEMBERED = ("_details",)

    def __init__(self, config: BaiduBlsConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(http, config.id_parameter)
        self._severities = severities_from(SEVERITIES, config)
        self._details = Follow(
            "describe_alarm_record",
            self._client.describe_record,
            http=http,
            config=config,
            facts=_FACTS,
            pause=config.detail_interval,
        )

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Yields open alerts; alerts that ended; the contents of executions; the outcome of detail calls."""
        self._details.begin(window)
        plan = _Plan(self._details.queue)
        census = Census[Alarm](
            window, key_from=key_from, record_from=partial(self._listed, window=window, plan=plan), keeps_rows=False
        )
        heard = _Heard()
        since = window.end - self._config.open_window
        walk = _Walk()
        await census.walked(self._pages(walk, "ALERT", since=since), is_open=True)
        if walk.is_cut:
            census.cut("list_alarm_record", await self._totals(since))
        failure: FetchError | None = None
        try:
            for state in ("OK", "CLOSED"):
                walk, rows = _Walk(ended_since=window.start), Rows[Alarm]()
                async for page in self._pages(walk, state, since=min(since, window.start)):
                    rows.add(page)
                # Neither is an end invented for a record of unknown state, nor is it open for standing in such a list.
                rows.refuse(lambda alarm: state_of(alarm) not in STATES, Kind.ALERT, "state is in no table")
                census.saw(rows, is_open=False)
                if walk.is_cut:
                    census.cut_ended("list_alarm_record")
            unrated = self._plan(plan, heard, window)
            await self._describe([*census.missing, *unrated], census, heard)
        except FetchError as error:
            failure = error
        for reading in census.readings():
            yield reading
        yield heard.happened()
        yield Supplied(_FACTS)
        if failure is not None:
            raise failure
        self._details.raise_if_asked_to_wait()

        await self._describe(None, census, heard)
        yield heard.happened()
        yield self._details.reading()
        self._details.end()

    # Lists.

    async def _pages(self, walk: "_Walk", state: str, *, since: datetime) -> AsyncIterator[Page]:
        """Yields the pages of the records in a state, of alarms started since `since`, as far as there is time."""
        order_by, order = ("endTime", "desc") if walk.is_of_ended else ("startTime", "asc")
        moved: list[Page] = []

        async def page(number: int) -> Page:
            return await self._client.list_records(
                state=state, since=since, order_by=order_by, order=order, page=number
            )

        async def page_and_what_moved(number: int) -> Page:
            found = await page(number)
            if walk.shrank_by(found):  # a row that left may have moved others, unseen, to the page before
                moved.append(await page(number - 1))
                walk.take(moved[-1])
            return found

        has_time = self._http.has_time_for_ended if walk.is_of_ended else self._http.has_time_for_open
        pages = follow_numbers(
            page_and_what_moved, max_pages=self._config.max_pages, is_last=walk.is_last, has_time=has_time
        )
        try:
            async for found in pages:
                while moved:
                    yield moved.pop()
                yield found
        except ListTooLong:
            walk.is_cut = True

    async def _totals(self, since: datetime) -> Counter[Severity] | None:
        """Returns how many alarms are open by severity, as the vendor counts them: of each level, and of all.

        What is counted before and after the levels, and in none of them, has a level that is in no table.
        """
        before = await self._client.count_open(since=since, level=None)
        counts = {level: await self._client.count_open(since=since, level=level) for level in SEVERITIES}
        after = await self._client.count_open(since=since, level=None)
        if before is None or after is None:
            return None
        totals: Counter[Severity] = Counter()
        for level, count in counts.items():
            if count is None:
                return None
            totals[self._severities[level]] += count
        totals[Severity.UNKNOWN] += max(0, min(before, after) - totals.total())
        return totals

    def _listed(self, alarm: Alarm, window: Window, plan: "_Plan") -> Alert | None:
        """Returns the alert of a record; None for one that ended before the window and was not known.

        Where the record does not say, the severity is the known one.
        """
        alert = alert_from(alarm, self._severities)
        ended_at = alert.ended_at
        if ended_at is not None or alert.severity is Severity.UNKNOWN:
            known = window.open_alerts.get(alert.key)
            if known is None:
                if ended_at and ended_at < window.start.replace(microsecond=0):
                    return None
            elif alert.severity is Severity.UNKNOWN and not level_of(alarm):
                alert = msgspec.structs.replace(alert, severity=known.severity)
        plan.note(alert, alarm)
        return alert

    # Details.

    def _plan(self, plan: "_Plan", heard: "_Heard", window: Window) -> list[str]:
        """Ends the plan of detail calls; returns the due ones that alone give an alert's severity."""
        plan.is_made = True
        queue = self._details.queue
        counted_from = window.counted_from.replace(microsecond=0)
        unrated: list[str] = []
        for key, (alert, alarm) in plan.others.items():
            told = None
            if alarm.executions is not NONE_LISTED:
                with suppress(ItemRejected):  # its detail may be readable
                    told = told_from(alarm)
                if told is not None:
                    heard.hear(told)
            is_rated = alert.severity is not Severity.UNKNOWN or level_of(alarm) != ""
            if not is_rated:
                unrated.append(key)
            is_baseline = window.first and alert.ended_at is not None and alert.ended_at < counted_from
            if is_rated and (told is not None or is_baseline):
                queue.know(key, _version_of(alarm))
            else:
                queue.offer(key, _version_of(alarm))
        due = set(queue.due()) if unrated else set()
        return [key for key in unrated if key in due]

    async def _describe(self, keys: Sequence[str] | None, census: Census[Alarm], heard: "_Heard") -> None:
        """Reads the details of these alerts, or of those that are due, and plans when they are read again."""
        failed_before = {*self._details.failed}
        answers = await self._details.read(keys)
        for key in self._details.failed.keys() - failed_before:
            if isinstance(failure := self._details.failed[key], UnreadableAlarm):
                heard.unreadable.add(Kind.NOTICE, str(failure))
        for key, alarm in answers.items():
            is_listed = census.is_listed(key)
            if alarm is None:
                if is_listed:
                    self._details.unanswered(key, NoSuchAlarm("a listed alarm is not known"))
                else:
                    census.looked_up([key], Rows())
                continue
            if keys is not None:
                census.looked_up([key], Rows(alarm))
            self._read_again(key, alarm, heard.told_by(alarm), is_listed=is_listed)

    def _read_again(self, key: str, alarm: Alarm, told: Told | None, *, is_listed: bool) -> None:
        """Plans when a record that was just read is due again: an open alarm always is.

        One that ended is read once more after its final read, since the last notice may not have had its result yet;
        then only while one has not, at growing distances.
        """
        queue = self._details.queue
        if not is_listed:
            queue.offer(key, _version_of(alarm))
            if not queue.reads(key):
                queue.done(key)
        soon = queue.now + self._config.detail_interval
        is_open = alert_from(alarm, self._severities).close_reason is None
        if is_open or queue.reads(key) < 2:
            queue.again(key, soon)
        elif told is not None and told.waiting_since is not None:
            waited = queue.now - told.waiting_since
            if waited < _RESULTS_COME_WITHIN:
                queue.again(key, max(soon, queue.now + waited))


class _Plan:
    """Detail calls of listed records: planned at once, but for the `others`, which may need none.

    Once it is made, what else is read of records does not change it.
    """

    def __init__(self, queue: DetailQueue) -> None:
        self.others: dict[str, tuple[Alert, Alarm]] = {}
        self.is_made = False
        self._queue = queue

    def note(self, alert: Alert, alarm: Alarm) -> None:
        """Notes a record that a list shows."""
        if self.is_made:
            return
        if (
            alarm.executions is NONE_LISTED
            and alert.close_reason is None
            and alert.severity is not Severity.UNKNOWN
            and alert.key not in self.others
        ):
            self._queue.offer(alert.key, _version_of(alarm))
        else:
            self.others[alert.key] = alert, alarm


class _Heard:
    """Records read from executions, and rejections, until they are yielded."""

    def __init__(self) -> None:
        self.unreadable = Rejections()
        self._records: list[Record] = []

    def hear(self, told: Told) -> None:
        """Adds the contents of a record's executions."""
        self._records += told.records
        self.unreadable.extend(told.rejected)

    def told_by(self, alarm: Alarm) -> Told | None:
        """Adds the contents of a detail's executions, and returns them."""
        told = None
        try:
            told = told_from(alarm)
        except ItemRejected as error:
            self.unreadable.add(Kind.NOTICE, str(error))
        if told is not None:
            self.hear(told)
        return told

    def happened(self) -> Happened:
        """Returns what was read since the last call."""
        records, unreadable = self._records, self.unreadable
        self._records, self.unreadable = [], Rejections()
        return Happened(records, unreadable)


class _Walk:
    """How far a list has been walked. What `is_last` lets pass is the whole list, unless it `is_cut`.

    Args:
        ended_since: how far back a list goes of alarms that ended, newest end first.
    """

    def __init__(self, *, ended_since: datetime | None = None) -> None:
        self.is_of_ended = ended_since is not None
        self.is_cut = False
        self._ids: set[str] = set()
        self._nameless = 0
        self._ended_since = ended_since
        self._received = 0
        self._total: int | None = None

    def take(self, page: Page) -> None:
        """Notes the records of a page."""
        ids = [alarm.id for alarm in page.items if alarm.id]
        self._ids.update(ids)
        self._nameless += len(page.items) + len(page.rejected) - len(ids)

    def shrank_by(self, page: Page) -> bool:
        """Returns whether the list became shorter between the page before and this one."""
        total = total_of(page)
        return total is not None and self._total is not None and total < self._total

    def is_last(self, page: Page, _number: int) -> bool:
        """Takes in a page; whether there is no need for another. Raises `truncated` for a list that was cut off.

        Rows move between pages while a list is walked, so both the rows received and the different ones count.
        """
        known = self._different
        self.take(page)
        rows = len(page.items) + len(page.rejected)
        self._received += rows
        self._total = total = total_of(page)
        if self._reaches_back(page.items) or (total is None and rows < PAGE_SIZE):
            return True
        if total is not None and self._received >= total and (rows == 0 or self._different >= total):
            return True
        if rows == 0:
            raise SourceUnintelligible("a page is empty before the end of the list", reason=Reason.TRUNCATED)
        if self._different == known:
            raise SourceUnintelligible("the vendor repeated a page", reason=Reason.TRUNCATED)
        return False

    @property
    def _different(self) -> int:
        return len(self._ids) + self._nameless

    def _reaches_back(self, alarms: Iterable[Alarm]) -> bool:
        """Returns whether a page of ended alarms, newest end first, goes back to before the window."""
        if self._ended_since is None:
            return False
        ends = [ended_at for alarm in alarms if (ended_at := moment_from(alarm.end_time)) is not None]
        return bool(ends) and min(ends) < self._ended_since.replace(microsecond=0)


def _version_of(alarm: Alarm) -> Hashable:
    """Returns what changes when a detail holds more than further executions."""
    if alarm.state == "ALERT" and not alarm.end_time and not alarm.close_reason:  # the usual case, first
        return _OPEN
    return (alarm.state, alarm.end_time or "", alarm.close_reason or "")
