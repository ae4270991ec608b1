"""One poll of AOM: the alarms open now, those that ended, the events, and who was told of new alarms."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from math import ceil

from exporter.errors import FetchError
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Happened, OpenAlerts, Reading, Rejected, Unfinished, Window
from exporter.model.records import Event, Kind, Notice
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import DetailQueue, fetch_details
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Normalised, normalise_all
from exporter.vendors.huawei_aom.client import Client, EventPage, NoNotifiedHistories
from exporter.vendors.huawei_aom.config import LONGEST_WINDOW, HuaweiAomConfig
from exporter.vendors.huawei_aom.normalise import SEVERITIES, alert_reader, event_from, has_serial, notices_from

_MINUTE = timedelta(minutes=1)


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
        self._tells_notices = config.notices
        self._asked_at = datetime.min.replace(tzinfo=UTC)

    @property
    def facts(self) -> frozenset[Fact]:
        """Notices until the server turns out not to tell them; events where they are wanted."""
        wanted = {Fact.NOTICES: self._tells_notices, Fact.EVENTS: self._config.events}
        return frozenset(fact for fact, supplied in wanted.items() if supplied)

    @property
    def backlog(self) -> int:
        """How many alarms wait to be asked about."""
        return self._queue.backlog(self._asked_at)

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """The alarms, first those active, then what became of the others; events; notices."""
        alarms = _Alarms(self._severities, window)
        failure: FetchError | None = None
        async for page in self._client.alarms("active_alert", minutes=_minutes(self._config.open_window)):
            alarms.take(page)
        unreadable_open = alarms.rejected.copy()
        try:
            async for page in self._client.alarms("history_alert", minutes=self._since(window.start, window)):
                alarms.take(page)
            if missing := alarms.missing():
                async for page in self._client.alarms("history_alert", minutes=self._reach(missing.values(), window)):
                    alarms.take(page, only=missing.keys())
        except FetchError as error:
            failure = error
        unsure = frozenset(alarms.missing()) if failure else frozenset()
        yield OpenAlerts(list(alarms.open.values()), unreadable_open, unsure)
        yield Happened(list(alarms.ended.values()), alarms.rejected[len(unreadable_open) :])
        if failure:
            raise failure

        if self._config.events:
            yield await self._events(window)
        if self._tells_notices:
            for reading in await self._notices([*alarms.open.values(), *alarms.ended.values()], window):
                yield reading

    def _since(self, start: datetime, window: Window) -> int:
        """How many minutes back from the server's now reach `start`, however long this poll takes."""
        return _minutes(min(window.end - start + self._config.interval, LONGEST_WINDOW))

    def _reach(self, missing: Iterable[Alert], window: Window) -> int:
        """How many minutes back the missing alarms began; the whole open window where that cannot be told."""
        whole = window.end - self._config.open_window
        starts = [alert.started_at for alert in missing]
        oldest = min(start if start and start < window.end else whole for start in starts)
        return self._since(max(oldest, whole), window)

    async def _events(self, window: Window) -> Happened:
        read = Normalised[Event]([], [])
        async for page in self._client.events(minutes=self._since(window.start, window)):
            events, rejected = normalise_all(Kind.EVENT, page.events, event_from)
            read.items.extend(events)
            read.rejected.extend([*page.rejected, *rejected])
        return Happened(read.items, read.rejected)

    async def _notices(self, alarms: Iterable[Alert], window: Window) -> list[Reading]:
        """Asks about alarms that are new, or newly ended, until their notices cannot change any more."""
        if window.first:
            # Whatever an earlier attempt at a first poll decided, perhaps by a clock that was off, is decided anew.
            self._queue = DetailQueue(self._config.max_records)
        queue, recheck = self._queue, self._config.notice_recheck
        # A vendor whose clock was set back keeps nobody waiting.
        self._asked_at = now = max(window.end, self._asked_at + timedelta.resolution)
        young = window.counted_from - recheck
        queue.begin()
        for alert in alarms:
            if not has_serial(alert.key):
                continue
            last = alert.ended_at or alert.appeared_at or alert.started_at
            is_ended = alert.close_reason is not None
            if window.first and last is not None and last < young:
                queue.know(alert.key, is_ended, now)
            else:
                queue.offer(alert.key, is_ended, now)
        try:
            told, failed, waiting = await fetch_details(
                queue.due(now),
                self._client.notified_histories,
                limit=self._config.max_detail_requests,
                concurrency=self._config.max_concurrency,
                has_time=self._http.has_time,
            )
        except NoNotifiedHistories:
            self._tells_notices = False
            self._queue = DetailQueue()
            return []
        notices: list[Notice] = []
        rejected: list[Rejected] = []
        for event_sn, answer in told.items():
            sent = [notification for history in answer.items for notification in history.notifications or ()]
            read = normalise_all(Kind.NOTICE, sent, partial(notices_from, event_sn))
            notices.extend(chain.from_iterable(read.items))
            rejected += [*answer.rejected, *read.rejected]
            queue.done(event_sn)
            if now < queue.since(event_sn) + recheck:
                queue.again(event_sn, now + timedelta.resolution)  # so that it is due at the next poll
        for event_sn in failed:
            queue.tried(event_sn, now)
        queue.prune()
        unfinished = [Unfinished(len(failed), waiting)] if failed or waiting else []
        return [Happened(notices, rejected), *unfinished]


class _Alarms:
    """What the lists of one poll say of alarms: a record that has ended beats one of the same key that is open."""

    def __init__(self, severities: Mapping[str, Severity], window: Window) -> None:
        self._alert_from = alert_reader(severities, window.end)
        self._believed_open = window.open_alerts
        self.open: dict[str, Alert] = {}
        self.ended: dict[str, Alert] = {}
        self.rejected: list[Rejected] = []

    def take(self, page: EventPage, only: Collection[str] | None = None) -> None:
        """Takes in a page; with `only`, nothing of it but these alarms."""
        alerts, rejected = normalise_all(Kind.ALERT, page.events, self._alert_from)
        if only is None:
            self.rejected += [*page.rejected, *rejected]
        for alert in alerts:
            key = alert.key
            if only is not None and key not in only:
                continue
            if alert.close_reason is not None:
                self.ended[key] = alert
                self.open.pop(key, None)
            elif key not in self.ended:
                self.open[key] = alert

    def missing(self) -> dict[str, Alert]:
        """The alarms believed open that no list has shown so far."""
        known = self._believed_open.items()
        return {key: alert for key, alert in known if key not in self.open and key not in self.ended}


def _minutes(span: timedelta) -> int:
    return ceil(span / _MINUTE)
