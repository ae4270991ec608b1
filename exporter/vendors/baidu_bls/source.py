"""What one poll of the Log Service asks, in which order."""

from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from exporter.errors import FetchError, ItemRejected, Reason, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, OpenAlerts, Reading, Rejections, Supplied, Window
from exporter.model.records import Kind, Record
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import DetailQueue, Fetched, fetch_details
from exporter.vendorkit.fields import whole_number
from exporter.vendorkit.http import Http
from exporter.vendorkit.paging import follow_numbers
from exporter.vendors.baidu_bls.client import PAGE_SIZE, Client, Page, UnreadableAlarm
from exporter.vendors.baidu_bls.config import BaiduBlsConfig
from exporter.vendors.baidu_bls.normalise import SEVERITIES, Told, alert_from, level_of, moment_from, told_from
from exporter.vendors.baidu_bls.payload import Alarm

# The result of a notice comes after its execution; one that is not there after so long is not waited for.
_RESULTS_COME_WITHIN = timedelta(minutes=15)

_FACTS = frozenset({Fact.CONVERGENCES, Fact.NOTICES, Fact.SUPPRESSED_NOTICES})


class BaiduBlsSource:
    """One region of one account. Between polls it remembers only which records are due to be read in detail."""

    def __init__(self, config: BaiduBlsConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(http, config.id_parameter)
        self._severities = severities_from(SEVERITIES, config)
        self._queue = DetailQueue(config.max_records)
        self._now = datetime.min.replace(tzinfo=UTC)

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Open alerts; alerts that ended; what the executions of records tell; details that failed or wait."""
        if self._now - window.end > self._config.detail_interval:  # a clock that was set back would put calls off
            self._queue = DetailQueue(self._config.max_records)
        self._queue.begin(window)
        self._now = window.end
        found = _Found(window)
        since = window.end - self._config.open_window
        self._take(await self._walk("ALERT", since=since), found, ended=False)
        limit = self._config.max_detail_requests
        looked_up: Fetched[Alarm | None] = Fetched({}, {}, 0)
        failure: FetchError | None = None
        try:
            for state in ("OK", "CLOSED"):
                rows = await self._walk(state, since=min(since, window.start), ended_since=window.start)
                self._take(rows, found, ended=True)
            looked_up = await self._describe([*found.missing, *self._unrated(found)], found, limit=limit)
        except FetchError as error:
            failure = error
        # An alert that was looked up and does not exist is left out; one that could not be looked up may be open.
        unsure = frozenset(key for key in found.missing if key not in looked_up.details)
        for alarm in looked_up.details.values():
            if alarm is not None:
                found.place(self._alert_from(alarm, window))
        yield OpenAlerts(list(found.open.values()), found.rejected, unsure)
        yield Happened(list(found.ended.values()))
        yield found.told()
        # Always the same: nobody acknowledges an alarm here, and none is shielded.
        yield Supplied(_FACTS)
        if failure is not None:
            raise failure
        looked_up.raise_if_told_to_wait()

        due = [key for key in self._queue.due() if key not in looked_up.failed]
        # Where look-ups had to be put off, so has everything else.
        left = 0 if looked_up.waiting else limit - len(looked_up.details) - len(looked_up.failed)
        read = await self._describe(due, found, limit=left)
        yield found.told()
        nameless = sum(1 for key, alarm in read.details.items() if alarm is None and key in found.listed)
        failed = Counter(error.reason for error in (*looked_up.failed.values(), *read.failed.values()))
        if nameless:
            failed[Reason.NOT_FOUND] += nameless
        yield Details(
            "describe_alarm_record",
            _FACTS,
            answered=len(looked_up.details) + len(read.details) - nameless,
            failed=failed,
            waiting=max(self._queue.backlog(), looked_up.waiting),
        )
        self._queue.prune()
        read.raise_if_told_to_wait()

    # Lists.

    async def _walk(self, state: str, *, since: datetime, ended_since: datetime | None = None) -> "_Rows":
        """Every record in a state, of alarms that started at `since` or later; with `ended_since`, newest end first."""
        rows = _Rows(ended_since)
        order_by, order = ("endTime", "desc") if ended_since else ("startTime", "asc")

        async def page(number: int) -> Page:
            return await self._client.list_records(
                state=state, since=since, order_by=order_by, order=order, page=number
            )

        async def page_and_what_moved(number: int) -> Page:
            found = await page(number)
            if rows.shrank_by(found):  # what left the list let rows move up, unseen, to the page before
                rows.take(await page(number - 1))
            return found

        async for _ in follow_numbers(page_and_what_moved, max_pages=self._config.max_pages, is_last=rows.is_last):
            pass
        return rows

    def _take(self, rows: "_Rows", found: "_Found", *, ended: bool) -> None:
        """Sorts the records of a list into what is open and what ended, by their own state, and plans detail calls."""
        window = found.window
        start, counted_from = window.start.replace(microsecond=0), window.counted_from.replace(microsecond=0)
        found.rejected.extend(rows.rejected)
        for alarm in rows.alarms.values():
            alert = self._alert_from(alarm, window)
            if alert.close_reason is None:
                if ended:  # neither is an end invented for it, nor is it open because it stands in this list
                    if "state" in alert.unmapped:
                        found.rejected.add(Kind.ALERT, "state is in no table")
                    continue
            elif alert.ended_at and alert.ended_at < start and alert.key not in window.open_alerts:
                continue
            found.place(alert)
            found.listed.add(alert.key)
            told = None
            with suppress(ItemRejected):  # its detail may tell
                told = told_from(alarm)
            if told is not None:
                found.hear(told)
            is_rated = alert.severity is not Severity.UNKNOWN or level_of(alarm) != ""
            if not is_rated:
                found.unrated.append(alert.key)
            is_baseline = window.first and alert.ended_at is not None and alert.ended_at < counted_from
            if is_rated and (told is not None or is_baseline):
                self._queue.know(alert.key, _version_of(alarm))
            else:
                self._queue.offer(alert.key, _version_of(alarm))

    def _alert_from(self, alarm: Alarm, window: Window) -> Alert:
        """The alert, with the severity it is known by where this record does not tell one."""
        alert = alert_from(alarm, self._severities)
        if alert.severity is Severity.UNKNOWN and not level_of(alarm):
            known = window.open_alerts.get(alert.key)
            if known is not None:
                return msgspec.structs.replace(alert, severity=known.severity)
        return alert

    # Details.

    def _unrated(self, found: "_Found") -> Iterable[str]:
        """Listed alerts that only their details can give a severity, as far as these are due."""
        if not found.unrated:
            return ()
        due = set(self._queue.due())
        return [key for key in found.unrated if key in due]

    async def _describe(self, keys: Sequence[str], found: "_Found", *, limit: int) -> Fetched[Alarm | None]:
        """The details of alerts; what they tell is noted, and when they are due again."""
        fetched = await fetch_details(
            keys,
            self._client.describe_record,
            limit=limit,
            concurrency=self._config.max_concurrency,
            until=self._http.details_until,
        )
        for key, failure in fetched.failed.items():
            if isinstance(failure, UnreadableAlarm):
                found.unreadable.add(Kind.NOTICE, str(failure))
                pause, interval = self._config.detail_interval, self._config.interval
                self._queue.failed(key, pause, interval=interval, is_to_blame=True)
            else:
                self._queue.tried(key)
        for key, alarm in fetched.details.items():
            told = None
            try:
                told = told_from(alarm) if alarm is not None else None
            except ItemRejected as error:
                found.unreadable.add(Kind.NOTICE, str(error))
            if told is not None:
                found.hear(told)
            if alarm is not None and key not in found.listed:
                self._queue.offer(key, _version_of(alarm))
            again = self._next_read(key, alarm, told, found)
            self._queue.done(key)
            if again is not None:
                self._queue.again(key, again)
        return fetched

    def _next_read(self, key: str, alarm: Alarm | None, told: Told | None, found: "_Found") -> datetime | None:
        """When a record that was just read is due again: an open alarm always is.

        One that ended is read once more after its final read, since the last notice may not have had its result yet;
        then only while one has not, at growing distances.
        """
        soon = self._now + self._config.detail_interval
        if alarm is None:
            return soon if key in found.open else None
        is_open = alert_from(alarm, self._severities).close_reason is None
        if is_open or not self._queue.is_read(key):
            return soon
        if told is None or told.waiting_since is None:
            return None
        waited = self._now - told.waiting_since
        return max(soon, self._now + waited) if waited < _RESULTS_COME_WITHIN else None


class _Found:
    """What one poll has found so far."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.open: dict[str, Alert] = {}
        self.ended: dict[str, Alert] = {}
        self.rejected = Rejections()
        self.unreadable = Rejections()
        self.listed: set[str] = set()
        self.unrated: list[str] = []
        self._records: list[Record] = []

    @property
    def missing(self) -> list[str]:
        """Alerts believed open that no list showed."""
        return [*(self.window.open_alerts.keys() - self.listed)]

    def place(self, alert: Alert) -> None:
        """Notes an alert; one that ended is not open, whatever else is said of it."""
        if alert.close_reason is not None:
            self.ended[alert.key] = alert
            self.open.pop(alert.key, None)
        elif alert.key not in self.ended:
            self.open[alert.key] = alert

    def hear(self, told: Told) -> None:
        """Notes what a record's executions tell."""
        self._records += told.records
        self.unreadable.extend(told.rejected)

    def told(self) -> Happened:
        """What executions told since this was last asked."""
        records, unreadable = self._records, self.unreadable
        self._records, self.unreadable = [], Rejections()
        return Happened(records, unreadable)


class _Rows:
    """The records of one list as its pages come in, each once. What `is_last` lets pass is the whole list."""

    def __init__(self, ended_since: datetime | None) -> None:
        self.alarms: dict[str, Alarm] = {}
        self.rejected = Rejections()
        self._ended_since = ended_since
        self._received = 0
        self._total: int | None = None

    def take(self, page: Page) -> None:
        """Takes in the records of a page."""
        for alarm in page.items:
            if alarm.id:
                self.alarms[alarm.id] = alarm
            else:
                self.rejected.add(Kind.ALERT, "id is missing")
        self.rejected.extend(page.rejected)

    def shrank_by(self, page: Page) -> bool:
        """Whether the list became shorter between the page before and this one."""
        total = _total_of(page)
        return total is not None and self._total is not None and total < self._total

    def is_last(self, page: Page, _number: int) -> bool:
        """Takes in a page; whether there is no need for another. Raises `truncated` for a list that was cut off.

        Rows move between pages while a list is walked, so both the rows received and the different ones count.
        """
        known = len(self.alarms)
        self.take(page)
        rows = len(page.items) + len(page.rejected)
        self._received += rows
        self._total = total = _total_of(page)
        if self._reaches_back(page.items) or (total is None and rows < PAGE_SIZE):
            return True
        if (
            total is not None
            and self._received >= total
            and (rows == 0 or len(self.alarms) + len(self.rejected) >= total)
        ):
            return True
        if rows == 0:
            raise SourceUnintelligible("a page is empty before the end of the list", reason=Reason.TRUNCATED)
        if page.items and len(self.alarms) == known:
            raise SourceUnintelligible("the vendor repeated a page", reason=Reason.TRUNCATED)
        return False

    def _reaches_back(self, alarms: Iterable[Alarm]) -> bool:
        """Whether a page of ended alarms, newest end first, goes back to before the window."""
        if self._ended_since is None:
            return False
        ends = [ended_at for alarm in alarms if (ended_at := moment_from(alarm.end_time)) is not None]
        return bool(ends) and min(ends) < self._ended_since.replace(microsecond=0)


def _total_of(page: Page) -> int | None:
    with suppress(ItemRejected):
        return whole_number(page.page.result.total_count, "totalCount") if page.page.result else None
    return None


def _version_of(alarm: Alarm) -> Hashable:
    """What changes when there is something new to read besides further executions."""
    return (alarm.state, alarm.end_time or "", alarm.close_reason or "")


def source_for(config: BaiduBlsConfig, http: Http) -> BaiduBlsSource:
    """What is polled."""
    return BaiduBlsSource(config, http)
