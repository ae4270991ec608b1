"""One method per list of the API, each a complete walk; what the API's errors mean."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Generic, TypeVar

import msgspec

from exporter.errors import FetchError, ItemRejected, Reason, SourceBroken, SourceRefused, SourceUnintelligible
from exporter.model.reading import Rejections
from exporter.model.records import Kind
from exporter.vendorkit.fields import whole_number
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Normalised, PageDecoder
from exporter.vendorkit.paging import follow_cursors
from exporter.vendors.key_astrom import payload
from exporter.vendors.key_astrom.config import KeyAstromConfig

T = TypeVar("T")

# A row may have 100 properties of 4,096 characters: what is too large is asked for anew in pages so many times smaller.
_SHRINK = 10
_SMALL = 100


class CursorRefused(SourceBroken):
    """The server does not know the cursor it gave, or not any more."""

    reason = Reason.API_ERROR


class _List(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One of the API's lists. `always` goes with every page; all else must be left out beside a cursor."""

    endpoint: str
    path: str
    scope: str
    page_size: int
    decoder: PageDecoder[payload.Page, T]
    always: Mapping[str, str] = {}


_EVENTS = _List(
    endpoint="events",
    path="/api/v2/events",
    scope="events.read",
    page_size=1000,
    decoder=PageDecoder[payload.Page, payload.Event](
        payload.EventList, payload.Event, items_of=lambda page: page.events, kind=Kind.ALERT
    ),
)
_EVENT_TYPES = _List(
    endpoint="event_types",
    path="/api/v2/eventTypes",
    scope="events.read",
    page_size=500,
    decoder=PageDecoder[payload.Page, payload.EventType](
        payload.EventTypeList, payload.EventType, items_of=lambda page: page.event_type_infos, kind=Kind.EVENT
    ),
)
_PROBLEMS = _List(
    endpoint="problems",
    path="/api/v2/problems",
    scope="problems.read",
    page_size=500,
    decoder=PageDecoder[payload.Page, payload.Problem](
        payload.ProblemList, payload.Problem, items_of=lambda page: page.problems, kind=Kind.OPERATION
    ),
    always={"fields": "evidenceDetails"},
)


class Client:
    """The API of one environment."""

    def __init__(self, config: KeyAstromConfig, http: Http) -> None:
        self._http = http
        self._max_pages = config.max_pages
        self._entity_selector = {"entitySelector": config.entity_selector} if config.entity_selector else {}

    async def events(self, past: timedelta, selector: str = "") -> Normalised[payload.Event]:
        """The events that were active within the past so long and match the selector."""
        criteria = {"eventSelector": selector} if selector else {}
        return await self._walk(_EVENTS, {"from": _ago(past), **criteria, **self._entity_selector})

    async def event_types(self) -> Normalised[payload.EventType]:
        """All types of events this environment knows."""
        return await self._walk(_EVENT_TYPES, {})

    async def problems(self, past: timedelta) -> Normalised[payload.Problem]:
        """The problems of the past so long, with their evidence."""
        return await self._walk(_PROBLEMS, {"from": _ago(past), **self._entity_selector})

    async def _walk(self, listing: _List[T], query: Mapping[str, str]) -> Normalised[T]:
        """The whole list; begun anew once if the server refuses its own cursor, and with smaller pages if need be."""
        size = listing.page_size
        restarted = False
        while True:
            try:
                return await self._pages(listing, {**query, "pageSize": str(size)})
            except CursorRefused:
                if restarted:
                    raise
                restarted = True
            except SourceUnintelligible as error:
                if error.reason is not Reason.TOO_LARGE or size < _SMALL:
                    raise
                size //= _SHRINK

    async def _pages(self, listing: _List[T], query: Mapping[str, str]) -> Normalised[T]:
        walked = Normalised[T]([], Rejections())

        async def fetch(cursor: str | None) -> payload.Page:
            page, items, rejected = await self._http.ask(
                listing.endpoint,
                "GET",
                listing.path,
                query={**listing.always, **({"nextPageKey": cursor} if cursor else query)},
                read=listing.decoder.decode,
                judge=partial(_judge, listing.scope, cursor),
            )
            walked.items.extend(items)
            walked.rejected.extend(rejected)
            return page

        total = 0
        async for page in follow_cursors(fetch, max_pages=self._max_pages):
            with suppress(ItemRejected):
                total = whole_number(page.total_count, "totalCount") or 0
        if total > 0 and not (walked.items or walked.rejected):
            raise SourceUnintelligible("the list says that it has rows, and shows none")
        return walked


def _ago(span: timedelta) -> str:
    """A moment relative to the server's own clock, so that ours need not agree with it. `m` is minutes, the finest."""
    return f"now-{ceil(span / timedelta(minutes=1))}m"


_ENVELOPE = msgspec.json.Decoder(payload.ErrorEnvelope | list[payload.ErrorEnvelope])


def _judge(scope: str, cursor: str | None, status: int, body: bytes) -> FetchError | None:
    """What a status means here. Of the server's text only the names of refused parameters are repeated."""
    match status:
        case 400 | 404 | 410 if cursor:
            return CursorRefused(f"HTTP {status}: the server refused its own page cursor, twice")
        case 400:
            return SourceBroken(f"HTTP 400: the request was refused{_refused(body)}", reason=Reason.API_ERROR)
        case 401:
            return SourceRefused("HTTP 401: the API token was refused")
        case 403:
            return SourceRefused(f"HTTP 403: the API token lacks the scope {scope}", reason=Reason.PERMISSION)
        case _:
            return None


def _refused(body: bytes) -> str:
    try:
        envelopes = _ENVELOPE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if isinstance(envelopes, payload.ErrorEnvelope):
        envelopes = [envelopes]
    paths = {
        violation.path
        for envelope in envelopes
        for violation in envelope.error.constraint_violations or ()
        if isinstance(violation.path, str) and re.fullmatch(r"[\w.]{1,40}", violation.path, re.ASCII)
    }
    return f" because of {', '.join(sorted(paths)[:5])}" if paths else ""
