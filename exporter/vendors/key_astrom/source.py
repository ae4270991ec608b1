"""One poll of Key-ASTROM: its calls and their order."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from exporter.errors import FetchError, ItemRejected, Reason, SourceUnintelligible
from exporter.model.alert import Alert, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, Reading, Supplied, Window
from exporter.vendorkit.census import Census
from exporter.vendorkit.contract import severities_from
from exporter.vendorkit.details import ASKED_AGAIN_AFTER, Due, OptionalApi, fetch_details
from exporter.vendorkit.fields import short, text, whole_number
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Decoded, Rows
from exporter.vendorkit.paging import ListTooLong, follow_cursors
from exporter.vendors.key_astrom import payload
from exporter.vendors.key_astrom.client import Client, CursorRefused, PageSizeRefused
from exporter.vendors.key_astrom.config import KeyAstromConfig
from exporter.vendors.key_astrom.normalise import (
    SEVERITIES,
    convergences_from,
    is_information,
    key_from,
    meanings_from,
    record_from,
)

T = TypeVar("T")
Ask = Callable[[int, str | None], Awaitable[Decoded[payload.Page, T]]]

# Rows of a page at first, by list, as the manual allows them. Asked for anew in pages a tenth as long is what is too
# large, for a row may have 100 properties of 4,096 characters, and what the server refuses: some of the vendor's
# material says that problems with `fields` come in pages of 10 at most.
_PAGE_SIZES = {"events": 1000, "event_types": 500, "problems": 500}
_SHRINK = 10
_SMALLEST_PAGE = 10

_TYPES_RETRIED_AFTER = timedelta(minutes=5)

# Events join a problem for 90 minutes, and it may be reopened for another 30 ("Root cause analysis: problem
# detection"): a problem that began before is not in a list of those that begin or end in the window, and need not be.
_PROBLEM_GROWS_FOR = timedelta(hours=2)

# Newer versions of the API accept selectors of 2,000 characters, older ones 10,000.
_MAX_SELECTOR = 2_000

_ALWAYS = frozenset({Fact.SUPPRESSED, Fact.EVENTS})
_FED_BY_PROBLEMS = frozenset({Fact.CONVERGENCES})


HasTime = Callable[[], bool]
_IS_OPEN = 'status("OPEN")'
_SELECTED_TYPE = re.compile(r'\beventType\(\s*"?([^")]*)')


def _always() -> bool:
    return True


class KeyAstromSource:
    """One environment.

    Between polls it remembers what types mean, what is not worth asking again soon, the sizes of pages that are taken,
    and since when problems could not be read.
    """

    REMEMBERED = ("_page_sizes", "_problems", "_problems_missed_since")

    def __init__(self, config: KeyAstromConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._client = Client(config, http)
        self._severities = severities_from(SEVERITIES, config)
        self._meanings = meanings_from((), self._severities)
        self._page_sizes = dict(_PAGE_SIZES)
        self._types = Due()
        self._problems = OptionalApi()
        self._problems_missed_since: datetime | None = None

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        """Yields open alerts; alerts that ended and events; convergences."""
        types = await self._learn_types(window)
        census = Census[payload.Event](
            window,
            key_from=key_from,
            record_from=lambda event: record_from(event, self._meanings, window.open_alerts),
            is_other=lambda event: is_information(event, self._meanings),
        )
        past = self._past(window)
        open_now = self._selector(_IS_OPEN)
        # Less time than for other vendors' lists: what it does not show takes a call for each type.
        listed = await self._events(self._config.open_window, open_now, self._http.has_time)
        census.saw(listed, is_open=True)
        recently = self._config.event_selector
        if listed.is_cut:
            # Among what was not read may be events of INFO level, which no list shows by the time of their end.
            census.cut("events", await self._totals(listed, window.open_alerts.values()), moves_on=False)
            recently = self._selector('status("CLOSED")')  # the second list need not show all that is open again
        recent = await self._events(past, recently, self._http.has_time_for_ended)
        # The second list shows what ended or happened, and of what is open only what slipped through the first.
        recent.skip(lambda row: row.status == "OPEN" and census.is_listed(text(row.event_id)))
        census.saw(recent, is_open=False)
        if recent.is_cut:
            census.cut_ended("events")

        batches = self._batches(census.missing)
        found = await fetch_details(
            list(batches),
            self._looked_up,
            limit=self._config.max_detail_requests,
            concurrency=1,  # the server has a small pool of threads for its API; walks in parallel are refused
            until=self._http.details_until,
        )
        for selector, rows in found.details.items():
            census.looked_up(batches[selector], rows)
        for reading in census.readings():
            yield reading
        yield types
        yield found.reading("events")
        yield self._supplied()
        found.raise_if_asked_to_wait()
        if self._config.problems and self._problems.is_worth_asking(window.end):
            for reading in await self._convergences(window):
                yield reading
            yield self._supplied()

    def _supplied(self) -> Supplied:
        """Returns suppression and events always; convergences if problems are read and the server has them."""
        has_problems = self._config.problems and self._problems.is_there
        return Supplied(_ALWAYS | (_FED_BY_PROBLEMS if has_problems else frozenset()))

    def _past(self, window: Window) -> timedelta:
        """Returns the span before now, up to a poll's length after the window's end, that covers the window."""
        past = window.end - window.start + self._config.interval
        if window.first:
            # What later windows reach, in whole minutes, must be known from the first one on, lest it counts as new.
            past += self._config.overlap + self._config.interval + timedelta(minutes=1)
        return past

    async def _learn_types(self, window: Window) -> Details:
        """Asks for the meanings of types now and then; after a failure, the previous ones stay in use."""
        if not self._types.is_now(window.end):
            return Details("event_types")
        self._types.put_off(window.end + _TYPES_RETRIED_AFTER)
        try:
            types = await self._walk("event_types", self._client.event_types)
        except FetchError as error:
            if _concerns_all(error):
                raise
            if error.reason not in (Reason.PERMISSION, Reason.NOT_FOUND):
                return Details("event_types", failed={error.reason: 1})
        else:
            self._meanings = meanings_from(types.items, self._severities)
            if types.is_cut:
                return Details("event_types", failed={Reason.TRUNCATED: 1})
        self._types.put_off(window.end + ASKED_AGAIN_AFTER)
        return Details("event_types", answered=1)

    async def _convergences(self, window: Window) -> list[Reading]:
        """Returns the events that joined problems, catching up after failures; no failure ends the poll."""
        start = min(window.start, self._problems_missed_since or window.start)
        past = self._past(window) + (window.start - start) + _PROBLEM_GROWS_FOR
        try:
            problems = await self._walk(
                "problems", partial(self._client.problems, past=past), self._http.has_time_for_ended
            )
        except FetchError as error:
            if _concerns_all(error):
                raise
            # An API that has answered is not gone for a status that any gateway may send.
            if error.reason is Reason.NOT_FOUND and not self._problems.has_answered:
                self._problems.answered(window.end, is_there=False)
                return [Details("problems")]
            self._problems_missed_since = start
            return [Details("problems", _FED_BY_PROBLEMS, failed={error.reason: 1})]
        self._problems.answered(window.end, is_there=True)
        self._problems_missed_since = start if problems.is_cut else None
        answers = [convergences_from(problem) for problem in problems.items]
        rejected = sum((answer.rejected for answer in answers), problems.rejected)
        happened = Happened([record for answer in answers for record in answer.items], rejected)
        failed = {Reason.TRUNCATED: 1} if problems.is_cut else {}
        return [happened, Details("problems", _FED_BY_PROBLEMS, answered=1, failed=failed)]

    # Lists.

    async def _events(self, past: timedelta, selector: str, has_time: HasTime) -> Rows[payload.Event]:
        return await self._walk("events", partial(self._client.events, past=past, selector=selector), has_time)

    async def _looked_up(self, selector: str) -> Rows[payload.Event]:
        """Returns the events of a selector that names a few, all of them."""
        rows = await self._events(self._config.open_window, selector, _always)
        if rows.is_cut:
            raise ListTooLong("the answer to a look-up goes on beyond what may be read")
        return rows

    async def _totals(self, listed: Rows[payload.Event], known: Iterable[Alert]) -> Counter[Severity]:
        """Returns how many alerts are open by severity, as the vendor counts them: of each type, until that is all.

        The types of the list and of known alerts come first. The rest is `unknown`.
        """
        count = partial(self._client.count_events, past=self._config.open_window)
        total = await count(selector=self._selector(_IS_OPEN))
        selected = _SELECTED_TYPE.search(self._config.event_selector)
        if selected is not None:  # a selector takes one type, and this is it
            severity = self._meanings.get(short(selected[1]), Severity.UNKNOWN)
            return Counter({severity: total} if severity is not None else {})
        totals: Counter[Severity] = Counter()
        counted = 0
        shown = [*(short(row.event_type) for row in listed.items), *(alert.name for alert in known)]
        types = dict.fromkeys(shown)
        further = [name for name in self._meanings if name not in types][: self._config.max_detail_requests]
        for name in [*types, *further]:
            if counted >= total or not self._http.has_time_for_ended():
                break
            criterion = f"{_IS_OPEN},eventType({_quoted(name)})"
            found = await count(selector=self._selector(criterion))
            counted += found
            severity = self._meanings.get(name, Severity.UNKNOWN)
            if severity is not None:
                totals[severity] += found
        if counted < total:
            totals[Severity.UNKNOWN] += max(0, await count(selector=self._selector(_IS_OPEN)) - counted)
        return totals

    async def _walk(self, endpoint: str, ask: Ask[T], has_time: HasTime = _always) -> Rows[T]:
        """Returns the list; begun anew once if the server refuses its own cursor, and with smaller pages if need be."""
        size = self._page_sizes[endpoint]
        restarted = False
        while True:
            try:
                return await self._pages(partial(ask, size), has_time)
            except CursorRefused:
                if restarted:
                    raise
                restarted = True
            except (PageSizeRefused, SourceUnintelligible) as error:
                is_refused = isinstance(error, PageSizeRefused)
                if not (is_refused or error.reason is Reason.TOO_LARGE) or size <= _SMALLEST_PAGE:
                    raise
                size = max(size // _SHRINK, _SMALLEST_PAGE)
                if is_refused:
                    self._page_sizes[endpoint] = size

    async def _pages(
        self, ask: Callable[[str | None], Awaitable[Decoded[payload.Page, T]]], has_time: HasTime
    ) -> Rows[T]:
        rows = Rows[T]()

        async def fetch(cursor: str | None) -> payload.Page:
            answer = await ask(cursor)
            rows.add(answer)
            return answer.page

        total = 0
        try:
            async for page in follow_cursors(fetch, max_pages=self._config.max_pages, has_time=has_time):
                with suppress(ItemRejected):
                    total = whole_number(page.total_count, "totalCount") or 0
        except ListTooLong:
            rows.is_cut = True
        if total > 0 and not len(rows):
            raise SourceUnintelligible("the list says that it has rows, and shows none")
        return rows

    # Selectors.

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


def _concerns_all(error: FetchError) -> bool:
    """Returns whether the lists of events are or would be refused as well, or are to wait."""
    return error.reason is Reason.AUTH or error.retry_after is not None


def _quoted(value: str) -> str:
    """Returns a value in the selectors' quotes; `~` is their escape character."""
    return '"' + value.replace("~", "~~").replace('"', '~"') + '"'
