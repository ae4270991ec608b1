"""One poll of AOM: the alarms open now, those that ended, the events, and who was told of new alarms."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from math import ceil
from typing import Any

from exporter.errors import FetchError, Reason
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Happened, OpenAlerts, Reading, Rejections, Supplied, Window
from exporter.model.records import Event, Kind, Notice
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import DetailQueue, Fetched, OptionalApi, fetch_details
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Normalised, normalise_all
from exporter.vendors.huawei_aom.client import Client, EventPage, NoNotifiedHistories
from exporter.vendors.huawei_aom.config import LONGEST_WINDOW, HuaweiAomConfig
from exporter.vendors.huawei_aom.normalise import SEVERITIES, alert_reader, event_from, has_serial, notices_from

_MINUTE = timedelta(minutes=1)
_NEVER_OLD = datetime.max.replace(tzinfo=UTC)
_FED_BY_HISTORIES = frozenset({Fact.NOTICES})


def source_for(config: HuaweiAomConfig, http: Http) -> "HuaweiAom":
    """The source a section of the configuration describes."""
    return HuaweiAom(config, http)


class HuaweiAom:
    """One project, ready to be read."""

    def __init__(self, config: HuaweiAomConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(config, http)
        self._severities = severities_from(SEVERITIES, config)
        self._queue = DetailQueue(config.max_records)
        self._histories = OptionalApi()
        self._asked_at = datetime.min.replace(tzinfo=UTC)

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """The alarms, first those active, then what became of the others; events; notices."""
        alarms = _Alarms(self._severities, window)
        failure: FetchError | None = None
        pages = 0
        async for page in self._client.alarms("active_alert", minutes=_minutes(self._config.open_window)):
            alarms.take(page)
            pages += 1
        unreadable_open, alarms.rejected = alarms.rejected, Rejections()
        try:
            await self._ended(alarms, window)
            if window.first:
                await self._once_more(alarms, window, active=pages > 1)
        except FetchError as error:
            failure = error
        if self._config.notices:
            self._note([*alarms.open.values(), *alarms.ended.values()], window)
        unsure = frozenset(alarms.missing()) if failure else frozenset()
        yield OpenAlerts(list(alarms.open.values()), unreadable_open, unsure)
        yield Happened(list(alarms.ended.values()), alarms.rejected)
        if failure:
            raise failure

        yield self._supplied()
        if self._config.events:
            yield await self._events(window)
        if self._config.notices and self._histories.is_worth_asking(window.end):
            notices, asked = await self._notices()
            yield notices
            yield self._supplied()
            waiting = self._queue.backlog() if self._histories.is_there else 0
            yield asked.reading("list_notified_histories", _FED_BY_HISTORIES, waiting=waiting)
            asked.raise_if_told_to_wait()

    def _supplied(self) -> Supplied:
        """Notices unless the server says that it cannot tell them; events where they are wanted."""
        notices = self._config.notices and self._histories.is_there
        wanted = {Fact.NOTICES: notices, Fact.EVENTS: self._config.events}
        return Supplied(frozenset(fact for fact, supplied in wanted.items() if supplied))

    async def _ended(self, alarms: "_Alarms", window: Window) -> None:
        """What became of alarms that are not active. AOM does not say whether a list's window is about their start."""
        async for page in self._client.alarms("history_alert", minutes=self._back_to(self._start(window), window)):
            alarms.take(page)
        if missing := alarms.missing():
            async for page in self._client.alarms("history_alert", minutes=self._reach(missing.values(), window)):
                alarms.take(page, lambda alert: alert.key in missing)

    async def _once_more(self, alarms: "_Alarms", window: Window, *, active: bool) -> None:
        """What only a first poll needs, as far as there are pages and time for it.

        Nobody knows yet which alarms were open before, so that none of them can be missing: those that ended in the
        window, however long before it they began, are looked for. And rows slip between pages when an alarm clears
        meanwhile: what the first poll does not see would count as new later, so its lists are read twice.
        """
        reach, minutes = self._start(window), _minutes(self._config.open_window)
        try:
            for of_type in ("active_alert", "history_alert") if active else ("history_alert",):
                async for page in self._client.alarms(of_type, minutes=minutes, has_time=self._http.has_time):
                    alarms.take(page, lambda alert: alert.close_reason is None or _last_moment(alert) >= reach)
        except FetchError as error:
            if error.reason is not Reason.TRUNCATED:
                raise

    def _start(self, window: Window) -> datetime:
        """Where the lists start; no later list may reach further back than the first: what is new in it counts."""
        return window.start - (self._config.interval + _MINUTE) if window.first else window.start

    def _back_to(self, start: datetime, window: Window) -> int:
        """How many minutes back from the server's now reach `start`, however long this poll takes."""
        return _minutes(min(window.end - start + self._config.interval, LONGEST_WINDOW))

    def _reach(self, missing: Iterable[Alert], window: Window) -> int:
        """How many minutes back the missing alarms began; the whole open window where that cannot be told."""
        whole = window.end - self._config.open_window
        starts = [alert.started_at for alert in missing]
        oldest = min(start if start and start < window.end else whole for start in starts)
        return self._back_to(max(oldest, whole), window)

    async def _events(self, window: Window) -> Happened:
        read = Normalised[Event]([], Rejections())
        async for page in self._client.events(minutes=self._back_to(self._start(window), window)):
            events, rejected = normalise_all(Kind.EVENT, page.events, event_from)
            read.items.extend(events)
            read.rejected.extend(page.rejected + rejected)
        return Happened(read.items, read.rejected)

    def _note(self, alarms: Iterable[Alert], window: Window) -> None:
        """Notes of which alarms the notices have to be asked for, even if this poll ends before it comes to that."""
        queue = self._queue
        # A vendor whose clock was set back keeps nobody waiting.
        self._asked_at = max(window.end, self._asked_at + timedelta.resolution)
        young = window.counted_from - self._config.notice_recheck
        queue.begin(window)
        for alert in alarms:
            if not has_serial(alert.key):
                continue
            is_ended = alert.close_reason is not None
            if window.first and _last_moment(alert) < young:
                queue.know(alert.key, is_ended)
            else:
                queue.offer(alert.key, is_ended)
        queue.prune()

    async def _notices(self) -> tuple[Happened, Fetched[Any]]:
        """Asks about alarms that are new, or newly ended, until their notices cannot change any more."""
        queue, now, recheck = self._queue, self._asked_at, self._config.notice_recheck
        try:
            asked = await fetch_details(
                queue.due(),
                self._client.notified_histories,
                limit=self._config.max_detail_requests,
                concurrency=self._config.max_concurrency,
                until=self._http.details_until,
            )
        except NoNotifiedHistories:
            # The alarms wait: once the server can be asked, it tells what became of their notices meanwhile.
            self._histories.answered(now, is_there=False)
            return Happened([]), Fetched({}, {}, 0)
        if asked.details:
            self._histories.answered(now, is_there=True)
        notices: list[Notice] = []
        rejected = Rejections()
        for event_sn, answer in asked.details.items():
            sent = [notification for history in answer.items for notification in history.notifications or ()]
            read = normalise_all(Kind.NOTICE, sent, partial(notices_from, event_sn))
            notices.extend(chain.from_iterable(read.items))
            rejected.extend(answer.rejected + read.rejected)
            queue.done(event_sn)
            if now < queue.since(event_sn) + recheck:
                queue.again(event_sn, now + timedelta.resolution)  # so that it is due at the next poll
        for event_sn in asked.failed:
            queue.tried(event_sn)
        return Happened(notices, rejected), asked


class _Alarms:
    """What the lists of one poll say of alarms: a record that has ended beats one of the same key that is open."""

    def __init__(self, severities: Mapping[str, Severity], window: Window) -> None:
        self._alert_from = alert_reader(severities, window.end)
        self._believed_open = window.open_alerts
        self.open: dict[str, Alert] = {}
        self.ended: dict[str, Alert] = {}
        self.rejected = Rejections()

    def take(self, page: EventPage, is_wanted: Callable[[Alert], bool] | None = None) -> None:
        """Takes in a page; of one that is read for certain alarms only, these."""
        alerts, rejected = normalise_all(Kind.ALERT, page.events, self._alert_from)
        if is_wanted is None:
            self.rejected.extend(page.rejected + rejected)
        else:
            alerts = list(filter(is_wanted, alerts))
        for alert in alerts:
            key = alert.key
            if alert.close_reason is not None:
                self.ended[key] = alert
                self.open.pop(key, None)
            elif key not in self.ended:
                self.open[key] = alert

    def missing(self) -> dict[str, Alert]:
        """The alarms believed open that no list has shown so far."""
        known = self._believed_open
        return {key: known[key] for key in known.keys() - self.open.keys() - self.ended.keys()}


def _last_moment(alert: Alert) -> datetime:
    """The last that is known to have happened to an alarm; an unknown time may be now."""
    return alert.ended_at or alert.appeared_at or alert.started_at or _NEVER_OLD


def _minutes(span: timedelta) -> int:
    return ceil(span / _MINUTE)
