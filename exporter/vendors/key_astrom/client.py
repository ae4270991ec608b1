"""One method per list of the API, each a complete walk; the meaning of the API's errors."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Generic, TypeVar

import msgspec

from exporter.errors import FetchError, ItemRejected, Reason, SourceBroken, SourceRefused, SourceUnintelligible
from exporter.model.records import Kind
from exporter.vendorkit.fields import whole_number
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Decoded, PageDecoder
from exporter.vendors.key_astrom import payload
from exporter.vendors.key_astrom.config import KeyAstromConfig

T = TypeVar("T")


class CursorRefused(SourceBroken):
    """The server does not know the cursor it gave, or not any more."""

    reason = Reason.API_ERROR


class PageSizeRefused(SourceBroken):
    """The server takes no pages of this size."""

    reason = Reason.API_ERROR


class _List(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One of the API's lists. `always` goes with every page; all else must be left out beside a cursor."""

    endpoint: str
    path: str
    scope: str
    decoder: PageDecoder[payload.Page, T]
    always: Mapping[str, str] = {}


_EVENTS = _List(
    endpoint="events",
    path="/api/v2/events",
    scope="events.read",
    decoder=PageDecoder[payload.Page, payload.Event](
        payload.EventList,
        payload.Event,
        items_of=lambda page: page.events,
        kind=Kind.ALERT,
        bare=payload.EventId,
    ),
)
_EVENT_TYPES = _List(
    endpoint="event_types",
    path="/api/v2/eventTypes",
    scope="events.read",
    decoder=PageDecoder[payload.Page, payload.EventType](
        payload.EventTypeList, payload.EventType, items_of=lambda page: page.event_type_infos, kind=Kind.EVENT
    ),
)
_PROBLEMS = _List(
    endpoint="problems",
    path="/api/v2/problems",
    scope="problems.read",
    decoder=PageDecoder[payload.Page, payload.Problem](
        payload.ProblemList, payload.Problem, items_of=lambda page: page.problems, kind=Kind.OPERATION
    ),
    always={"fields": "evidenceDetails"},
)


class Client:
    """The API of one environment: each call a page of a list, the first one or the one of a cursor."""

    def __init__(self, config: KeyAstromConfig, http: Http) -> None:
        self._http = http
        self._entity_selector = {"entitySelector": config.entity_selector} if config.entity_selector else {}

    async def events(
        self, size: int, cursor: str | None, *, past: timedelta, selector: str
    ) -> Decoded[payload.Page, payload.Event]:
        """Returns the events that were active within this past span and match the selector."""
        criteria = {"eventSelector": selector} if selector else {}
        return await self._page(_EVENTS, size, cursor, {"from": _ago(past), **criteria, **self._entity_selector})

    async def count_events(self, *, past: timedelta, selector: str) -> int:
        """Returns how many events were active within this past span and match the selector."""
        page = await self.events(1, None, past=past, selector=selector)
        try:
            return whole_number(page.page.total_count, "totalCount") or 0
        except ItemRejected as error:
            raise SourceUnintelligible(str(error)) from None

    async def event_types(self, size: int, cursor: str | None) -> Decoded[payload.Page, payload.EventType]:
        """Returns the types of events that this environment knows."""
        return await self._page(_EVENT_TYPES, size, cursor, {})

    async def problems(
        self, size: int, cursor: str | None, *, past: timedelta
    ) -> Decoded[payload.Page, payload.Problem]:
        """Returns the problems of this past span, with their evidence."""
        return await self._page(_PROBLEMS, size, cursor, {"from": _ago(past), **self._entity_selector})

    async def _page(
        self, listing: _List[T], size: int, cursor: str | None, query: Mapping[str, str]
    ) -> Decoded[payload.Page, T]:
        criteria = {"nextPageKey": cursor} if cursor else {**query, "pageSize": str(size)}
        return await self._http.ask(
            listing.endpoint,
            "GET",
            listing.path,
            query={**listing.always, **criteria},
            read=listing.decoder.decode,
            judge=partial(judge, listing.scope, cursor),
        )


def _ago(span: timedelta) -> str:
    """Returns a time relative to the server's clock, so that ours need not agree; `m` is minutes, the finest unit."""
    return f"now-{ceil(span / timedelta(minutes=1))}m"


_ENVELOPE = msgspec.json.Decoder(payload.ErrorEnvelope | list[payload.ErrorEnvelope])


def judge(scope: str, cursor: str | None, status: int, body: bytes) -> FetchError | None:
    """Returns the error of a status. Of the server's text only the names of refused parameters are repeated."""
    match status:
        case 400 | 404 | 410 if cursor:
            return CursorRefused(f"HTTP {status}: the server refused its own page cursor, twice")
        case 400:
            refused = _refused(body)
            because = f" because of {', '.join(refused[:5])}" if refused else ""
            error = PageSizeRefused if "pageSize" in refused else SourceBroken
            return error(f"HTTP 400: the request was refused{because}", reason=Reason.API_ERROR)
        case 401:
            return SourceRefused("HTTP 401: the API token was refused")
        case 403:
            return SourceRefused(f"HTTP 403: the API token lacks the scope {scope}", reason=Reason.PERMISSION)
        case _:
            return None


def _refused(body: bytes) -> list[str]:
    """Returns the names of the parameters that were refused."""
    try:
        envelopes = _ENVELOPE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    if isinstance(envelopes, payload.ErrorEnvelope):
        envelopes = [envelopes]
    return sorted(
        {
            violation.path
            for envelope in envelopes
            for violation in envelope.error.constraint_violations or ()
            if isinstance(violation.path, str) and re.fullmatch(r"[\w.]{1,40}", violation.path, re.ASCII)
        }
    )
