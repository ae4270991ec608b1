"""One poll of AOM: the alarms open now, those that ended, the events, and the notices of new alarms."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from math import ceil

from exporter.errors import FetchError, ItemRejected, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, Reading, Rejections, Supplied, Window
from exporter.model.records import Kind, Notice
from exporter.vendorkit.census import Census
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import Follow, OptionalApi
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Rows, normalise_all
from exporter.vendorkit.paging import ListTooLong, follow_cursors
from exporter.vendors.huawei_aom.client import Client, EventPage, NoNotifiedHistories, Page
from exporter.vendors.huawei_aom.config import LONGEST_WINDOW, HuaweiAomConfig
from exporter.vendors.huawei_aom.normalise import (
    SEVERITIES,
    alert_reader,
    event_from,
    has_serial,
    key_from,
    notices_from,
    totals_from,
)
from exporter.vendors.huawei_aom.payload import EventRecord

_MINUTE = timedelta(minutes=1)
_NEVER = datetime.min.replace(tzinfo=UTC)
_NEVER_OLD = datetime.max.replace(tzinfo=UTC)
_FED_BY_HISTORIES = frozenset({Fact.NOTICES})
_HISTORIES = "list_notified_histories"


class HuaweiAomSource:
    """One project, ready to be read."""

    REMEMBERED = ("_details", "_histories")

    def __init__(self, config: HuaweiAomConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(config, http)
        self._severities = severities_from(SEVERITIES, config)
        self._histories = OptionalApi()
        self._details = Follow(
            _HISTORIES, self._client.notified_histories, http=http, config=config, facts=_FED_BY_HISTORIES
        )

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Yields the alarms, first those active, then what became of the others; events; notices."""
        census = Census[EventRecord](
            window,
            key_from=key_from,
            record_from=alert_reader(self._severities, window.end, window.open_alerts),
            rank=lambda alert, _row: alert.started_at or _NEVER,  # of two lives of a serial number the later counts
            keeps_rows=False,
        )
        active = await census.walked(
            self._alarms("active_alert", self._open_minutes, self._http.has_time_for_open), is_open=True
        )
        if active.is_cut:
            # If a list goes by the start of its alarms, one that was not read is not in a later window when it ends.
            census.cut("list_events", await self._totals(), moves_on=False)
        failure: FetchError | None = None
        try:
            await self._ended(census, window)
            if window.first:
                await self._once_more(census, window, active=active.pages > 1 and not active.is_cut)
        except FetchError as error:
            failure = error
        if self._config.notices:
            self._note([alert for alert, _ in census.alerts()], window)
        for reading in census.readings():
            yield reading
        yield self._supplied()
        if failure:
            raise failure

        if self._config.events:
            yield await self._events(window)
        if self._config.notices:
            async for reading in self._notices(window):
                yield reading

    def _supplied(self) -> Supplied:
        """Returns notices unless the server lacks their API; events where they are wanted."""
        notices = self._config.notices and self._histories.is_there
        wanted = {Fact.NOTICES: notices, Fact.EVENTS: self._config.events}
        return Supplied(frozenset(fact for fact, supplied in wanted.items() if supplied))

    # Lists.

    async def _ended(self, census: Census[EventRecord], window: Window) -> None:
        """Looks for the end of alarms that are not active; whether a list goes by their start, AOM does not say."""
        minutes = self._back_to(self._start(window), window)
        ended = await census.walked(
            self._alarms("history_alert", minutes, self._http.has_time_for_ended), is_open=False
        )
        if ended.is_cut:
            census.cut_ended("list_events")
        if missing := census.missing:
            minutes = self._reach(missing.values(), window)
            found = await _rows_of(self._alarms("history_alert", minutes, self._http.has_time_for_ended))
            if found.is_cut:
                census.saw(found, is_open=False, wanted=lambda record: record.key in missing)
                census.cut_ended("list_events")
            else:
                census.looked_up(missing, found)

    async def _once_more(self, census: Census[EventRecord], window: Window, *, active: bool) -> None:
        """Reads what only a first poll needs, as far as there are pages and time for it.

        Nobody knows yet which alarms were open before, so that none of them can be missing: those that ended in the
        window, however long before it they began, are looked for. And rows slip between pages when an alarm clears
        meanwhile: what the first poll does not see would count as new later, so its lists are read twice.
        """
        reach = self._start(window)
        for of_type in ("active_alert", "history_alert") if active else ("history_alert",):
            await census.walked(
                self._alarms(of_type, self._open_minutes, self._http.has_time),
                is_open=of_type == "active_alert",
                wanted=lambda alert: alert.close_reason is None or _last_moment(alert) >= reach,
            )

    async def _alarms(self, of_type: str, minutes: int, has_time: Callable[[], bool]) -> AsyncIterator[Page]:
        """Yields the pages of a list of alarms; raises ListTooLong at the page cap and when time is up."""

        async def fetch(marker: str | None) -> EventPage:
            return await self._client.alarms(of_type, minutes=minutes, marker=marker)

        async for page in follow_cursors(fetch, max_pages=self._config.max_pages, first="0", has_time=has_time):
            yield page.rows

    async def _totals(self) -> Counter[Severity] | None:
        """Returns how many alarms are active by severity, as AOM counts them."""
        series = await self._client.count_active(minutes=self._open_minutes)
        try:
            return None if series is None else totals_from(series, self._severities)
        except ItemRejected as error:
            raise SourceUnintelligible(str(error)) from None

    async def _events(self, window: Window) -> Happened:
        async def fetch(marker: str | None) -> EventPage:
            return await self._client.events(minutes=minutes, marker=marker)

        minutes = self._back_to(self._start(window), window)
        rows = Rows[EventRecord]()
        async for page in follow_cursors(fetch, max_pages=self._config.max_pages, first="0"):
            rows.add(page.rows)
        rows.check_ids(key_from)
        events, rejected = normalise_all(Kind.EVENT, rows.items, event_from)
        return Happened(events, rows.rejected + rejected)

    # Spans.

    @property
    def _open_minutes(self) -> int:
        return _minutes(self._config.open_window)

    def _start(self, window: Window) -> datetime:
        """Returns where the lists start; none may reach further back than the first, since what is new in it counts."""
        return window.start - (self._config.interval + _MINUTE) if window.first else window.start

    def _back_to(self, start: datetime, window: Window) -> int:
        """Returns how many minutes back from the server's now reach `start`, however long this poll takes."""
        return _minutes(min(window.end - start + self._config.interval, LONGEST_WINDOW))

    def _reach(self, missing: Iterable[Alert], window: Window) -> int:
        """Returns how many minutes back the missing alarms began; the whole open window if unknown."""
        whole = window.end - self._config.open_window
        starts = [alert.started_at for alert in missing]
        oldest = min(start if start and start < window.end else whole for start in starts)
        return self._back_to(max(oldest, whole), window)

    # Notices.

    def _note(self, alarms: Iterable[Alert], window: Window) -> None:
        """Notes of which alarms the notices have to be asked for, even if this poll ends before it comes to that."""
        self._details.begin(window)
        queue = self._details.queue
        young = window.counted_from - self._config.notice_recheck
        for alert in alarms:
            if not has_serial(alert.key):
                continue
            is_ended = alert.close_reason is not None
            if window.first and _last_moment(alert) < young:
                queue.know(alert.key, is_ended)
            else:
                queue.offer(alert.key, is_ended)

    async def _notices(self, window: Window) -> AsyncIterator[Reading]:
        """Asks about alarms that are new, or newly ended, until their notices cannot change any more."""
        if not self._histories.is_worth_asking(window.end):
            yield Details(_HISTORIES)
            return
        try:
            answers = await self._details.read()
        except NoNotifiedHistories:
            # The alarms wait: once the server has the API, it returns their notices since.
            self._histories.answered(window.end, is_there=False)
            yield self._supplied()
            yield Details(_HISTORIES)
            return
        if answers:
            self._histories.answered(window.end, is_there=True)
        notices: list[Notice] = []
        rejected = Rejections()
        queue = self._details.queue
        for event_sn, answer in answers.items():
            sent = [notification for history in answer.items for notification in history.notifications or ()]
            read = normalise_all(Kind.NOTICE, sent, partial(notices_from, event_sn))
            notices.extend(chain.from_iterable(read.items))
            rejected.extend(answer.rejected + read.rejected)
            again = self._asked_again_at(queue.since(event_sn), queue.now)
            if again is not None:
                queue.again(event_sn, again)
        yield Happened(notices, rejected)
        yield self._supplied()
        yield self._details.reading()
        self._details.end()

    def _asked_again_at(self, since: datetime, now: datetime) -> datetime | None:
        """Returns when to ask again about an alarm new, or newly ended, since a moment: after 1, 2, 4, 8 … minutes.

        The last time is not before `notice_recheck` is over; the others come half an interval early, for polls are not
        exactly an interval apart.
        """
        last = self._config.notice_recheck
        after = _MINUTE
        while after < last:
            at = since + after - self._config.interval / 2
            if at > now:
                return at
            after *= 2
        return since + last if now < since + last else None


async def _rows_of(pages: AsyncIterator[Page]) -> Rows[EventRecord]:
    rows = Rows[EventRecord]()
    try:
        async for page in pages:
            rows.add(page)
    except ListTooLong:
        rows.is_cut = True
    return rows


def _last_moment(alert: Alert) -> datetime:
    """Returns the last that is known to have happened to an alarm; an unknown time may be now."""
    return alert.ended_at or alert.appeared_at or alert.started_at or _NEVER_OLD


def _minutes(span: timedelta) -> int:
    return ceil(span / _MINUTE)
