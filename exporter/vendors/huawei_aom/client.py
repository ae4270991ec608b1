"""One method per API call; the meaning of AOM's and its gateway's errors."""

import re
from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import NamedTuple

import msgspec

from exporter.errors import FetchError, Reason, SourceRefused, SourceUnintelligible
from exporter.model.records import Kind
from exporter.vendorkit.fields import text
from exporter.vendorkit.http import Http, by_status
from exporter.vendorkit.items import Decoded, PageDecoder, decode_mended
from exporter.vendors.huawei_aom import payload
from exporter.vendors.huawei_aom.config import HuaweiAomConfig

# The default of `limit`; no maximum is documented.
PAGE_SIZE = 1000

_JSON = {"Content-Type": "application/json"}


EventDecoder = PageDecoder[payload.EventList[payload.EventRecord], payload.EventRecord]


Page = Decoded[payload.EventList[payload.EventRecord], payload.EventRecord]


class EventPage(NamedTuple):
    """One page of ListEvents."""

    rows: Page
    next_cursor: str | None


class NoNotifiedHistories(SourceRefused):
    """The gateway knows no ListNotifiedHistories in this region: every call is pointless."""

    reason = Reason.NOT_FOUND


class Client:
    """The API of one project."""

    def __init__(self, config: HuaweiAomConfig, http: Http) -> None:
        self._http = http
        self._base = f"/v2/{config.project_id}"
        self._headers = dict(_JSON)
        if config.enterprise_project_id is not None:
            self._headers["Enterprise-Project-Id"] = config.enterprise_project_id

    async def alarms(self, of_type: str, *, minutes: int, marker: str | None) -> EventPage:
        """Returns a page of the alarms of the past minutes by the server's clock: `active_alert` or `history_alert`."""
        return await self._page("alarm", _ALARMS, {"type": of_type}, minutes, marker)

    async def count_active(self, *, minutes: int) -> list[payload.Series] | None:
        """Returns the active alarms of the past minutes by severity, counted by AOM; None if it has no CountEvents."""
        body = {
            "time_range": f"-1.-1.{minutes}",
            # At most 1440 steps, of whole minutes.
            "step": ceil(minutes / 1440) * 60_000,
            "metadata_relation": _of_type("alarm"),
        }
        try:
            counts = await self._http.ask(
                "list_events",
                "POST",
                f"{self._base}/events/statistic",
                query={"type": "active_alert"},
                headers=self._headers,
                body=msgspec.json.encode(body),
                read=partial(decode_mended, _COUNTS),
                judge=judge,
            )
        except SourceUnintelligible as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            return None
        return counts.series

    async def events(self, *, minutes: int, marker: str | None) -> EventPage:
        """Returns a page of the events of the past minutes by the server's clock; `type`, for alarms, is not sent."""
        return await self._page("event", _EVENTS, {}, minutes, marker)

    async def _page(
        self, event_type: str, decoder: EventDecoder, query: Mapping[str, str], minutes: int, marker: str | None
    ) -> EventPage:
        body = {
            "time_range": f"-1.-1.{minutes}",
            "metadata_relation": _of_type(event_type),
            "sort": {"order_by": ["starts_at"], "order": "asc"},
        }
        return await self._http.ask(
            "list_events",
            "POST",
            f"{self._base}/events",
            query={"limit": str(PAGE_SIZE), **query, "marker": marker or "0"},
            headers=self._headers,
            body=msgspec.json.encode(body),
            read=lambda answer: _page_from(decoder.decode(answer)),
            judge=judge,
        )

    async def notified_histories(self, event_sn: str) -> Decoded[object, payload.NotifiedHistory]:
        """Returns the notices of one alarm; raises NoNotifiedHistories if there is no such API."""
        return await self._http.ask(
            "list_notified_histories",
            "GET",
            f"{self._base}/alarm-notified-histories",
            query={"event_sn": event_sn},
            headers=_JSON,
            read=_histories_from,
            judge=_judge_of_histories,
        )


_COUNTS = msgspec.json.Decoder(payload.Counts)


def _of_type(event_type: str) -> list[dict[str, object]]:
    return [{"key": "event_type", "relation": "AND", "value": [event_type]}]


def _decoder_of(kind: Kind) -> EventDecoder:
    return PageDecoder(
        payload.EventList,
        payload.EventRecord,
        items_of=lambda page: page.events,
        kind=kind,
        bare=payload.EventId,
    )


_ALARMS = _decoder_of(Kind.ALERT)
_EVENTS = _decoder_of(Kind.EVENT)
_HISTORIES: PageDecoder[object, payload.NotifiedHistory] = PageDecoder(
    payload.NotifiedHistoryList,
    payload.NotifiedHistory,
    items_of=lambda answer: answer.notified_histories,
    kind=Kind.NOTICE,
)


def _histories_from(answer: bytes) -> Decoded[object, payload.NotifiedHistory]:
    """Returns the notices; older deployments answer with the single history instead of a list."""
    try:
        decode_mended(_OLDER, answer)
    except msgspec.ValidationError:
        return _HISTORIES.decode(answer)
    return _HISTORIES.decode(b'{"notified_histories":[%s]}' % answer)


_OLDER = msgspec.json.Decoder(payload.OlderNotifiedHistory)


def _page_from(decoded: Decoded[payload.EventList[payload.EventRecord], payload.EventRecord]) -> EventPage:
    page = decoded.page
    if page.page_info is not None:
        return EventPage(decoded, text(page.page_info.next_marker) if page.events else None)
    # Older deployments answer in one page, without page_info: a full one may be cut.
    if len(page.events) == PAGE_SIZE:
        raise SourceUnintelligible("a full page without page_info: the list may go on", reason=Reason.TRUNCATED)
    return EventPage(decoded, None)


_ERROR = msgspec.json.Decoder(payload.ErrorBody)
_CODE = re.compile(r"[A-Za-z0-9._-]{1,40}")
CLOCK = re.compile(r"signature expired|server time|x-sdk-date|timestamp|clock", re.IGNORECASE)


def judge(status: int, body: bytes) -> FetchError | None:
    """Returns the error that an HTTP status means; AOM's codes are not reliable (`AOM.0403` comes with 401, too).

    Of the body only the code is repeated.
    """
    try:
        said = _ERROR.decode(body)
    except msgspec.DecodeError:
        return None
    codes = (said.error_code, said.error_code_of_old, said.error.code if said.error else None)
    code = next((text(code) for code in codes if code is not None), "")
    what = f" ({code})" if _CODE.fullmatch(code) else ""
    if status == 401 and CLOCK.search(text(said.error_msg or said.error_message)[:1000]):
        return SourceRefused(f"HTTP 401{what}: the time of the signature was refused", reason=Reason.CLOCK_SKEW)
    error = by_status(status)
    return error.saying(f"{error}{what}")


def _judge_of_histories(status: int, body: bytes) -> FetchError | None:
    error = judge(status, body)
    # "Error Codes" of API Gateway: the API does not exist. Any other 404 may be that of a proxy on the way.
    if status == 404 and re.search(r"\(APIGW?\.0101\)$", str(error)):
        return NoNotifiedHistories("HTTP 404: this region has no ListNotifiedHistories")
    return error
