"""The two calls of the Log Service's alarm API, and the meaning of its codes."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from exporter.errors import (
    FetchError,
    ItemRejected,
    Reason,
    SourceBroken,
    SourceRefused,
    SourceThrottled,
    SourceUnintelligible,
)
from exporter.model.records import Kind
from exporter.vendorkit.fields import flag, text, whole_number
from exporter.vendorkit.http import Http, by_status
from exporter.vendorkit.items import Decoded, PageDecoder, decode_mended
from exporter.vendors.baidu_bls.payload import EXPIRED, TIME_FORMAT, Alarm, AlarmId, RecordDetail, RecordPage, code_of

# What DescribeAlarmRecord may call the id: its manual's request line says the one, its table and the SDKs the other.
ID_PARAMETERS = ("id", "alarmId")
PAGE_SIZE = 100  # "pageSize: maximum 100" (ListAlarmRecord)

Page = Decoded[RecordPage[Alarm], Alarm]

_PAGES: PageDecoder[RecordPage[Alarm], Alarm] = PageDecoder(
    RecordPage,
    Alarm,
    items_of=lambda page: page.result.alarms or () if page.result else (),
    kind=Kind.ALERT,
    bare=AlarmId,
)
_DETAILS = msgspec.json.Decoder(RecordDetail)

# "Error codes" of the Log Service and of the platform's authentication.
_REFUSALS = {
    "Unauthorized": Reason.AUTH,
    "SignatureDoesNotMatch": Reason.AUTH,
    "InvalidAccessKeyId": Reason.AUTH,
    "InvalidHTTPAuthHeader": Reason.AUTH,
    "AccessDenied": Reason.PERMISSION,
    "OptInRequired": Reason.PERMISSION,
    **dict.fromkeys(EXPIRED, Reason.CLOCK_SKEW),
}
# "Error codes": retry, waiting longer each time.
_FAILURES = {"InternalError", "ServiceUnavailable"}
# No code for an alarm that does not exist is documented.
_NO_SUCH_ALARM = re.compile(r"not_?(found|exists?)|no_?such", re.IGNORECASE)


class NoSuchAlarm(SourceUnintelligible):
    """The vendor knows no alarm by this id."""

    reason = Reason.NOT_FOUND


class UnreadableAlarm(SourceUnintelligible):
    """The detail of an alarm is not of the documented shape; asking again soon does not help."""


class WrongParameter(SourceBroken):
    """The vendor refuses a parameter, and does not say which."""

    reason = Reason.API_ERROR


class Client:
    """Asks one region's API.

    Args:
        id_parameter: how DescribeAlarmRecord is to be given an id: by `id`, by `alarmId`, or `auto`, which finds out.
    """

    def __init__(self, http: Http, id_parameter: str) -> None:
        self._http = http
        self._id_parameters = ID_PARAMETERS if id_parameter == "auto" else (id_parameter,)

    async def list_records(self, *, state: str, since: datetime, order_by: str, order: str, page: int) -> Page:
        """Returns a page of the alarm records in a state, of alarms that started at `since` or later."""
        return await self._list(
            {
                "state": state,
                "startDateTime": since.strftime(TIME_FORMAT),
                "orderBy": order_by,
                "order": order,
                "pageNo": page,
                "pageSize": PAGE_SIZE,
            }
        )

    async def count_open(self, *, since: datetime, level: str | None) -> int | None:
        """Returns how many alarms of a level are open, or of any; None if the server does not say."""
        body: dict[str, str | int] = {"state": "ALERT", "startDateTime": since.strftime(TIME_FORMAT)}
        if level is not None:
            body["level"] = level
        return total_of(await self._list(body | {"pageNo": 1, "pageSize": 1}))

    async def _list(self, body: Mapping[str, str | int]) -> Page:
        return await self._http.ask(
            "list_alarm_record",
            "POST",
            "/v1/alarm/record/list",
            headers={"Content-Type": "application/json; charset=utf-8"},
            body=msgspec.json.encode(body),
            read=_page_from,
            judge=judge,
        )

    async def describe_record(self, alarm_id: str) -> Alarm | None:
        """Returns an alarm record with its executions; None if the vendor knows none by this id.

        Which name the id goes by is known as soon as an answer shows the alarm.
        """
        names = self._id_parameters
        try:
            return await self._described(names[0], alarm_id)
        except WrongParameter as error:
            if len(names) == 1:
                raise WrongParameter(f"{error}: is `id_parameter` the right one?") from None
        return await self._described(names[1], alarm_id)

    async def _described(self, id_parameter: str, alarm_id: str) -> Alarm | None:
        try:
            alarm = await self._http.ask(
                "describe_alarm_record",
                "GET",
                "/v1/alarm/record",
                query=[(id_parameter, alarm_id)],
                read=_alarm_from,
                judge=judge,
            )
        except NoSuchAlarm:
            return None
        if alarm is not None and alarm.id != alarm_id:
            raise SourceUnintelligible("DescribeAlarmRecord returned another alarm: is `id_parameter` the right one?")
        if alarm is not None:
            self._id_parameters = (id_parameter,)
        return alarm


def total_of(page: Page) -> int | None:
    """Returns how many records the list has; None where the server does not say, or not by a number."""
    with suppress(ItemRejected):
        return whole_number(page.page.result.total_count, "totalCount") if page.page.result else None
    return None


def _page_from(body: bytes) -> Page:
    page = _PAGES.decode(body)
    _check(page.page.success, text(page.page.code))
    if page.page.result is None or page.page.result.alarms is msgspec.UNSET:
        raise SourceUnintelligible("ListAlarmRecord answered without `result.alarms`")
    return page


def _alarm_from(body: bytes) -> Alarm | None:
    try:
        detail = decode_mended(_DETAILS, body)
    except msgspec.ValidationError as error:
        raise UnreadableAlarm(f"not of the documented shape: {error}") from None
    _check(detail.success, text(detail.code))
    if isinstance(detail.alarm, msgspec.UnsetType):
        raise SourceUnintelligible("DescribeAlarmRecord answered without `alarm`")
    return detail.alarm


def _check(success: Any, code: str) -> None:
    """Raises the error inside an HTTP 2xx answer."""
    if flag(success):
        return
    if success is None:
        raise SourceUnintelligible("the answer does not say `success`")
    raise _error_of(code) or SourceBroken(
        f"the vendor answered success=false with {_shown(code)}", reason=Reason.API_ERROR
    )


def judge(status: int, body: bytes) -> FetchError | None:
    """Returns the error that a code in a body means; the HTTP status decides on codes that are in no table."""
    code = code_of(body)
    if not code:
        return None
    by_code = _error_of(code)
    if by_code is not None:
        return by_code
    error = by_status(status)
    return error.saying(f"{error} ({_shown(code)})")


def _error_of(code: str) -> FetchError | None:
    if code == "RequestLimited":
        return SourceThrottled("too many requests (RequestLimited)")
    if code == "InvalidParameter":
        return WrongParameter("the vendor refused a parameter (InvalidParameter)")
    if code in _FAILURES:
        return SourceBroken(f"the vendor's server failed ({code})", repeat=True)
    if code in _REFUSALS:
        return SourceRefused(f"the vendor refused the request ({code})", reason=_REFUSALS[code])
    if _NO_SUCH_ALARM.search(code):
        return NoSuchAlarm(f"there is no such alarm ({_shown(code)})")
    return None


def _shown(code: str) -> str:
    """Returns a vendor's code in a form safe to show: a bounded single word."""
    return code if re.fullmatch(r"[A-Za-z0-9_.]{1,60}", code) else "no code"
