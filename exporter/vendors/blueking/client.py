"""One method per API call: request out, validated payload in; judges the envelope and the error codes around it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from exporter.errors import (
    FetchError,
    Reason,
    SourceBroken,
    SourceRefused,
    SourceThrottled,
    SourceUnintelligible,
)
from exporter.model.records import Kind
from exporter.vendorkit.fields import Scalar, flag, is_digits, text
from exporter.vendorkit.http import Http, by_status
from exporter.vendorkit.items import Decoded, PageDecoder, decode_mended
from exporter.vendorkit.retry_after import seconds_from
from exporter.vendors.blueking.config import Api, BluekingConfig
from exporter.vendors.blueking.payload import (
    ActionListing,
    ActionPage,
    ActionRow,
    AlertListing,
    AlertPage,
    AlertRow,
    Bucket,
    CountListing,
    Envelope,
    FlowLog,
    FlowRow,
    RowId,
)

T = TypeVar("T")

# Rows of a page. search_alert takes up to 5000 and search_action 1000, but large pages miss ESB's limit of 30 s.
PAGE_SIZE = 500
# Elasticsearch serves no row beyond this place of a list.
RESULT_WINDOW = 10_000

Condition = Mapping[str, Any]

_PATHS = {
    Api.ESB: {
        "search_alert": "/api/c/compapi/v2/monitor_v3/search_alert/",
        "search_action": "/api/c/compapi/v2/monitor_v3/search_action/",
    },
    Api.GATEWAY: {
        "search_alert": "/api/bk-monitor/{stage}/app/alert/search/",
        "search_action": "/api/bk-monitor/{stage}/app/action/search/",
    },
}
_EVENT_LOG = "/api/c/compapi/v2/monitor_v3/get_event_log/"

# search_action, field `status`: whatever is not named stays hidden.
ACTION_STATES = ("running", "success", "partial_success", "failure", "partial_failure", "skipped", "shield", "blocked")


class Part(NamedTuple):
    """The question to a list: a window in epoch seconds, and conditions."""

    start: int
    end: int
    conditions: tuple[Condition, ...] = ()


def is_in(key: str, values: Sequence[Scalar]) -> Condition:
    """Returns the condition that a field has one of these values."""
    return {"key": key, "value": list(values), "method": "eq"}


def is_not_in(key: str, values: Sequence[Scalar]) -> Condition:
    """Returns the condition that a field has none of these values."""
    return {"key": key, "value": list(values), "method": "neq"}


def created_until(second: int) -> Condition:
    """Returns the condition that an alert was created in this second or before."""
    return {"key": "create_time", "value": [second], "method": "lte"}


def created_after(second: int) -> Condition:
    """Returns the condition that an alert was created in a later second."""
    return {"key": "create_time", "value": [second], "method": "gt"}


class Client:
    """The calls of one source."""

    def __init__(self, config: BluekingConfig, http: Http) -> None:
        self._http = http
        self._bk_biz_ids = config.bk_biz_ids
        self._paths = {name: path.format(stage=config.gateway_stage) for name, path in _PATHS[config.api].items()}

    async def search_alert(
        self, states: Sequence[str], part: Part, page: int
    ) -> Decoded[AlertListing[AlertRow], AlertRow]:
        """Returns one page of the alerts in these states that were open at some time of the window."""
        return await self._search("search_alert", states, part, page, _ALERTS)

    async def count_alerts(self, states: Sequence[str], part: Part) -> list[Bucket] | None:
        """Returns how many alerts have each `severity`, however many; None if the server does not count them.

        Raises:
            FetchError: `truncated` for counts that are partial, and as for all calls.
        """
        listing = await self._ask("search_alert", self._body(states, part) | _COUNTS_ONLY, _counts)
        if flag(listing.is_partial):
            raise SourceUnintelligible("the server says that its answer is partial", reason=Reason.TRUNCATED)
        for aggregate in listing.aggs or ():
            if aggregate.id == "severity":
                return msgspec.convert(aggregate.children or [], list[Bucket])
        return None

    async def search_action(self, part: Part, page: int) -> Decoded[ActionListing[ActionRow], ActionRow]:
        """Returns a page of the notices, summaries and other actions under way at some time in the window."""
        return await self._search("search_action", ACTION_STATES, part, page, _ACTIONS)

    async def search_skipped_parents(self, part: Part, page: int) -> Decoded[ActionListing[ActionRow], ActionRow]:
        """Returns a page of the notices skipped for all receivers at once; other lists lack them."""
        parents = (is_in("action_plugin_type", ["notice"]), is_in("parent_action_id", [0]))
        part = part._replace(conditions=parents + part.conditions)
        return await self._search("search_action", ["skipped"], part, page, _ACTIONS)

    async def get_event_log(self, alert: str) -> Decoded[FlowLog[FlowRow], FlowRow] | None:
        """Returns the flow log of an alert, newest row first; None if the server no longer knows the alert."""
        try:
            return await self._http.ask(
                "get_event_log", "GET", _EVENT_LOG, query={"id": alert}, read=_flow_log, judge=judge, heed=_heed
            )
        except AlertMissing:
            return None
        except SourceUnintelligible as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            # It is missing for every alert, so further calls are pointless.
            raise SourceRefused(
                "this server has no get_event_log: set `operations: false`", reason=Reason.NOT_FOUND
            ) from error

    async def _search(
        self, call: str, states: Sequence[str], part: Part, page: int, decoder: PageDecoder[Any, Any]
    ) -> Decoded[Any, Any]:
        body = self._body(states, part) | {"page": page, "page_size": PAGE_SIZE, "show_aggs": False}
        return await self._ask(call, body, lambda answer: _page(decoder, answer))

    def _body(self, states: Sequence[str], part: Part) -> dict[str, Any]:
        return {
            # Without it search_alert lists only what concerns the calling user, and search_action everybody's.
            "bk_biz_ids": self._bk_biz_ids,
            "status": states,
            "conditions": part.conditions,
            "start_time": part.start,
            "end_time": part.end,
            "show_overview": False,
        }

    async def _ask(self, call: str, body: Mapping[str, Any], read: Callable[[bytes], T]) -> T:
        return await self._http.ask(
            call, "POST", self._paths[call], body=msgspec.json.encode(body), read=read, judge=judge, heed=_heed
        )


# A page without rows: counts by the values of fields, which no window of results limits.
_COUNTS_ONLY = {"page": 1, "page_size": 0, "show_aggs": True}

_ENVELOPE = msgspec.json.Decoder(Envelope)
_COUNTS = msgspec.json.Decoder(CountListing)
_ALERTS = PageDecoder[AlertPage[AlertRow], AlertRow](
    AlertPage, AlertRow, items_of=lambda page: page.data.alerts, kind=Kind.ALERT, bare=RowId
)
_ACTIONS = PageDecoder[ActionPage[ActionRow], ActionRow](
    ActionPage, ActionRow, items_of=lambda page: page.data.actions, kind=Kind.NOTICE, bare=RowId
)
_LOG = PageDecoder[FlowLog[FlowRow], FlowRow](FlowLog, FlowRow, items_of=lambda page: page.rows, kind=Kind.OPERATION)


def _page(decoder: PageDecoder[Any, Any], answer: bytes) -> Decoded[Any, Any]:
    """Returns a page of a list; anything else is judged by its envelope."""
    try:
        page, items, rejected, bare = decoder.decode(answer)
    except msgspec.MsgspecError:
        _data(answer)
        raise
    if not flag(page.result):
        _data(answer)
    return Decoded(page.data, items, rejected, bare)


def _counts(answer: bytes) -> CountListing:
    return decode_mended(_COUNTS, _data(answer))


def _data(answer: bytes) -> bytes:
    """Returns the `data` of a success; raises the envelope's error otherwise."""
    envelope = decode_mended(_ENVELOPE, answer)
    if flag(envelope.result):
        return bytes(envelope.data)
    code = _number(envelope.code)
    raise (
        _error_from(code, text(envelope.message))
        or (SourceUnintelligible("neither a result nor an error code") if envelope.result is None else None)
        or SourceBroken(f"refused with code {code}", reason=Reason.API_ERROR)
    )


_BARE_ROWS = re.compile(rb"\s*\[\s*[{\]]")


def _flow_log(answer: bytes) -> Decoded[FlowLog[FlowRow], FlowRow]:
    # Documents of 2021 show a bare list as the whole answer, and the table of later ones says `data` is a map.
    rows = answer if _BARE_ROWS.match(answer) else _data(answer)
    return _LOG.decode(b'{"rows":[%s]}' % rows if rows[:1] == b"{" else b'{"rows":%s}' % rows)


def judge(_status: int, body: bytes) -> FetchError | None:
    """Returns the error that a body means, beyond its HTTP status."""
    try:
        envelope = decode_mended(_ENVELOPE, body)
    except msgspec.MsgspecError:
        return None
    return _error_from(_number(envelope.code), text(envelope.message))


def _heed(headers: Mapping[str, str]) -> FetchError | None:
    """Returns the error that the gateway's headers mean; a plugin may have turned its HTTP status into 200."""
    code = headers.get("x-bkapi-error-code")
    if code is None:
        return None
    error = _error_from(_number(code), "") or SourceBroken("refused by the gateway", reason=Reason.API_ERROR)
    if isinstance(error, SourceThrottled):
        wait = headers.get("retry-after") or headers.get("x-bkapi-ratelimit-reset")
        error.retry_after = seconds_from(wait, headers.get("date"))
    return error


class NoSuchApi(SourceUnintelligible):
    """The server itself reports, by its own code rather than a proxy's page, that it has no such API."""

    reason = Reason.NOT_FOUND


class AlertMissing(SourceBroken):
    """The server does not know the alert that was asked about."""

    reason = Reason.API_ERROR


def _refused(reason: Reason) -> Callable[[str], FetchError]:
    return lambda said: SourceRefused(said, reason=reason)


def _broken(reason: Reason, *, repeat: bool = False) -> Callable[[str], FetchError]:
    return lambda said: SourceBroken(said, reason=reason, repeat=repeat)


# Codes of ESB (legacy-bk-paas, esb/common/errors.py) and of the monitor itself (bk-monitor, core/errors). The vendor's
# message is not repeated: it is localised and may name people.
_CODES: dict[int, tuple[str, Callable[[str], FetchError]]] = {
    401: ("not authenticated", SourceRefused),
    403: ("not permitted", _refused(Reason.PERMISSION)),
    429: ("too many requests", SourceThrottled),
    1306201: ("the monitor behind ESB gave no JSON answer in 30 s", _broken(Reason.SERVER_ERROR, repeat=True)),
    1306203: ("ESB cannot reach the monitor by TLS", _broken(Reason.SERVER_ERROR)),
    1306206: ("ESB has no host for this stage", _broken(Reason.SERVER_ERROR)),
    1306207: ("ESB blocks requests to the monitor", _broken(Reason.SERVER_ERROR)),
    1306208: ("the monitor's answer is unknown to ESB", _broken(Reason.SERVER_ERROR)),
    1306209: ("ESB does not accept this method", _broken(Reason.API_ERROR)),
    1306401: ("no user named", SourceRefused),
    1306402: ("the user is not permitted", _refused(Reason.PERMISSION)),
    1306403: ("the application was not granted this API", _refused(Reason.PERMISSION)),
    1306404: ("no such API", NoSuchApi),
    1306405: ("this API is switched off", _broken(Reason.API_ERROR)),
    1306429: ("too many requests", SourceThrottled),
    1640001: ("the gateway refused the credentials", SourceRefused),
    1640401: ("no such API", NoSuchApi),
    3300002: ("a parameter is wrong", _broken(Reason.API_ERROR)),
    3324002: ("no such alert", AlertMissing),
    3324003: ("a condition is wrong", _broken(Reason.API_ERROR)),
    9900403: ("not permitted", _refused(Reason.PERMISSION)),
}
# ESB says wrong credentials by general codes; its messages are English (legacy-bk-paas, esb/bkauth/validators.py).
_GENERAL = {1306000, 1306406}
# Part of Elasticsearch's own message, which the monitor passes on.
TOO_LONG = "window is too large"
CREDENTIALS = re.compile(
    r"authenticat|app[ _]?code|app[ _]?secret|user token|(bk|access)_token|bk_username|authorization", re.IGNORECASE
)


def _error_from(code: int | None, message: str) -> FetchError | None:
    """Returns the error a vendor's code means; None for a code that says no more than that something failed."""
    said = f"code {code}"
    if code is None:
        return None
    if code in _GENERAL and CREDENTIALS.search(message):
        return SourceRefused(f"{said}: the credentials were refused")
    if code in _CODES:
        words, error = _CODES[code]
        return error(f"{said}: {words}")
    if 1_640_000 <= code < 1_660_000:  # the gateway's codes: 16, an HTTP status, two more digits
        like = by_status(code // 100 % 1000)
        return like.saying(f"{said} of the gateway, {like}")
    if TOO_LONG in message:
        return SourceUnintelligible(f"{said}: the list is longer than the server pages", reason=Reason.TRUNCATED)
    return None


def _number(code: Any) -> int | None:
    digits = text(code).strip()
    return int(digits) if is_digits(digits) else None
