"""What one poll of Key-ASTROM asks, in which order."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from exporter.errors import FetchError, Reason, SourceUnintelligible
from exporter.model.alert import Alert
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, OpenAlerts, Reading, Supplied, Window
from exporter.model.records import Event, Kind, Record
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import fetch_details
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Normalised, normalise_all
from exporter.vendors.key_astrom import payload
from exporter.vendors.key_astrom.client import Client
from exporter.vendors.key_astrom.config import KeyAstromConfig
from exporter.vendors.key_astrom.normalise import SEVERITIES, convergences_from, meanings_from, record_from

_REFRESHED_EVERY = timedelta(hours=1)
_RETRIED_AFTER = timedelta(minutes=5)

# Events join a problem for 90 minutes, and it may be reopened for another 30 ("Root cause analysis: problem
# detection"): a problem that began before is not in a list of those that begin or end in the window, and need not be.
_PROBLEM_GROWS_FOR = timedelta(hours=2)

# Newer versions of the API accept selectors of 2,000 characters, older ones 10,000.
_MAX_SELECTOR = 2_000

_ALWAYS = frozenset({Fact.SUPPRESSED, Fact.EVENTS})
_FED_BY_PROBLEMS = frozenset({Fact.CONVERGENCES})


class KeyAstromSource:
    """One environment. Between polls it remembers only what types mean and what is not worth asking again soon."""

    def __init__(self, config: KeyAstromConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(config, http)
        self._severities = severities_from(SEVERITIES, config)
        self._meanings = meanings_from((), self._severities)
        self._types_due = datetime.min.replace(tzinfo=UTC)
        self._problems_due = datetime.min.replace(tzinfo=UTC)
        self._has_problems = config.problems
        self._problems_answered = False

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Open alerts; alerts that ended and events; look-ups that failed; convergences."""
        types = await self._learn_types(window.end)
        # A list is asked for up to a poll's length after the window's end, relative to the moment of asking.
        past = window.end - window.start + self._config.interval
        if window.first:
            # What later windows reach, in whole minutes, must be known from the first one on, lest it counts as new.
            past += self._config.overlap + self._config.interval + timedelta(minutes=1)

        opened = await self._client.events(self._config.open_window, self._selector('status("OPEN")'))
        listed = self._normalised(opened.items)
        shown = {event.event_id for event in opened.items}
        recent = await self._client.events(past, self._config.event_selector)
        # The second list tells what ended or happened, and of what is open only what slipped through the first.
        news = self._normalised(row for row in recent.items if row.status != "OPEN" or row.event_id not in shown)
        told = _latest([*listed.items, *news.items])

        missing = [key for key in window.open_alerts if key not in told]
        batches = self._batches(missing)
        found = await fetch_details(
            list(batches),
            lambda selector: self._client.events(self._config.open_window, selector),
            limit=self._config.max_detail_requests,
            concurrency=1,  # the server has a small pool of threads for its API; walks in parallel are refused
            until=self._http.details_until,
        )
        looked_up = self._normalised(event for answer in found.details.values() for event in answer.items)
        told = _latest([*told.values(), *looked_up.items])

        is_open, happened = _parted(told)
        unsure = {key for selector, keys in batches.items() if selector not in found.details for key in keys}
        yield OpenAlerts(is_open, opened.rejected + listed.rejected, frozenset(unsure))
        yield Happened(happened, recent.rejected + news.rejected + looked_up.rejected)
        yield types
        yield found.reading("events")
        yield self._supplied()
        found.raise_if_told_to_wait()
        if self._config.problems and _is_due(self._problems_due, window.end):
            yield await self._convergences(past + _PROBLEM_GROWS_FOR, window.end)
            yield self._supplied()
            yield Details("problems", _FED_BY_PROBLEMS, answered=int(self._has_problems))

    def _supplied(self) -> Supplied:
        """Suppression and events always; convergences where problems are read and the server has them."""
        return Supplied(_ALWAYS | (_FED_BY_PROBLEMS if self._has_problems else frozenset()))

    async def _learn_types(self, now: datetime) -> Details:
        """Asks what types mean, now and then; where that fails, what was known before must do."""
        if not _is_due(self._types_due, now):
            return Details("event_types")
        self._types_due = now + _RETRIED_AFTER
        try:
            types = await self._client.event_types()
        except FetchError as error:
            if error.reason is Reason.AUTH or error.retry_after is not None:
                raise  # the lists of events would be refused as well
            if error.reason not in (Reason.PERMISSION, Reason.NOT_FOUND):
                return Details("event_types", failed={error.reason: 1})
        else:
            self._meanings = meanings_from(types.items, self._severities)
        self._types_due = now + _REFRESHED_EVERY
        return Details("event_types", answered=1)

    def _normalised(self, events: Iterable[payload.Event]) -> Normalised[Alert | Event]:
        meanings = self._meanings

        def record(event: payload.Event) -> Alert | Event:
            return record_from(event, meanings)

        return normalise_all(Kind.ALERT, events, record)

    async def _convergences(self, past: timedelta, now: datetime) -> Happened:
        try:
            problems = await self._client.problems(past)
        except SourceUnintelligible as error:
            if error.reason is not Reason.NOT_FOUND or self._problems_answered:
                raise  # an API that has answered is not gone for a status that any gateway may send
            self._has_problems = False
            self._problems_due = now + _REFRESHED_EVERY
            return Happened([])
        self._has_problems = self._problems_answered = True
        answers = [convergences_from(problem) for problem in problems.items]
        rejected = sum((answer.rejected for answer in answers), problems.rejected)
        return Happened([record for answer in answers for record in answer.items], rejected)

    def _selector(self, criterion: str) -> str:
        configured = self._config.event_selector
        return f"{criterion},{configured}" if configured else criterion

    def _batches(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Selectors for events by id, none longer than the API accepts, each with its ids."""
        room = _MAX_SELECTOR - len(self._selector("eventId()"))
        batches: list[list[str]] = []
        used = room
        for key in keys:
            size = len(_quoted(key)) + 1
            if used + size > room:
                batches.append([])
                used = 0
            batches[-1].append(key)
            used += size
        return {self._selector(f"eventId({','.join(map(_quoted, batch))})"): batch for batch in batches}


def _is_due(at: datetime, now: datetime) -> bool:
    # A vendor's clock that was corrected backwards must not put things off for long.
    return now >= at or at - now > _REFRESHED_EVERY


def _latest(records: Iterable[Alert | Event]) -> dict[str, Alert | Event]:
    """Records by key; a later one replaces an earlier one, but for an open alert after its end."""
    told: dict[str, Alert | Event] = {}
    for record in records:
        before = told.get(record.key)
        if not (isinstance(before, Alert) and before.close_reason):
            told[record.key] = record
    return told


def _parted(told: Mapping[str, Alert | Event]) -> tuple[list[Alert], list[Record]]:
    """What is open, and what is not or is no alert."""
    is_open: list[Alert] = []
    happened: list[Record] = []
    for record in told.values():
        if isinstance(record, Alert) and record.close_reason is None:
            is_open.append(record)
        else:
            happened.append(record)
    return is_open, happened


def _quoted(value: str) -> str:
    """A value in the selectors' quotes; `~` is their escape character."""
    return '"' + value.replace("~", "~~").replace('"', '~"') + '"'


def source_for(config: KeyAstromConfig, http: Http) -> KeyAstromSource:
    """What is polled."""
    return KeyAstromSource(config, http)
