"""ask(): one request, repeated if that can help, becomes a validated payload or a FetchError."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote, urlencode

import anyio
import httpx
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from exporter.errors import (
    FetchError,
    Reason,
    SourceBroken,
    SourceRefused,
    SourceThrottled,
    SourceUnintelligible,
)
from exporter.vendorkit.retry_after import seconds_from

T = TypeVar("T")

ATTEMPTS = 5
# A thousand fields for each row of the longest page that is asked for. Denser answers would take seconds to read and
# many times their size: one of 32 MiB has room for sixteen million rows.
MOST_VALUES = 1_000_000

Query = Mapping[str, str] | Sequence[tuple[str, str]]
Judge = Callable[[int, bytes], FetchError | None]
Heed = Callable[[Mapping[str, str]], FetchError | None]


def no_opinion(_status: int, _body: bytes) -> FetchError | None:
    """Returns the judge of a vendor that has nothing to add to the HTTP status."""
    return None


def no_heed(_headers: Mapping[str, str]) -> FetchError | None:
    """Ignores headers, for a vendor that reports no errors in them."""
    return None


class Http:
    """The HTTP of one source: its base URL, its signed and guarded client, and the deadline of the poll under way."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        self._client = client
        self._headers = dict(client.headers)
        self._base_url = base_url
        self._deadline = float("inf")
        self.details_until = self._open_until = self._ended_until = float("inf")
        """Until when calls are made that can wait for the next poll; a quarter of the poll is left for its end."""
        self.trouble: FetchError | None = None
        """Why a request had to be asked again, until one succeeds: what ended a poll that its deadline cuts."""

    def begin(self, deadline: float) -> None:
        """Starts a poll that may ask until the event loop's clock shows `deadline`."""
        self._deadline = deadline
        self.trouble = None
        span = deadline - anyio.current_time()
        self.details_until = deadline - span / 4
        self._open_until = deadline - span / 8
        self._ended_until = deadline - span / 16

    def has_time(self) -> bool:
        """Returns whether a call that can wait for the next poll still fits into this one."""
        return anyio.current_time() < self.details_until

    def has_time_for_open(self) -> bool:
        """Returns whether another page of a list of open alerts still fits into this poll."""
        return anyio.current_time() < self._open_until

    def has_time_for_ended(self) -> bool:
        """Returns whether another page of what ended still fits into this poll; it comes after what is open."""
        return anyio.current_time() < self._ended_until

    async def ask(
        self,
        endpoint: str,
        method: str,
        path: str,
        *,
        read: Callable[[bytes], T],
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        judge: Judge = no_opinion,
        heed: Heed = no_heed,
    ) -> T:
        """Sends a request and returns the body of a 2xx answer as `read` converts it.

        Transport errors and answers that another attempt may mend (429, 502, 503, 504, and what `judge` or `read`
        raise with `repeat`) are asked again, with exponential back-off and full jitter or after the vendor's
        Retry-After, within the poll's deadline. Each attempt is built and signed anew. A wait that does not fit is
        for the next poll: whatever the error, it is rate_limited then, and only then does it keep its `retry_after`.

        Args:
            endpoint: the metric's label.
            path: percent-encoded, starting with a slash; appended to the base URL.
            query: pairs, encoded here with `%20` for a space.
            read: raises FetchError for an error inside the envelope; msgspec's errors become bad_response.
            judge: what the vendor's own error body means; None leaves it to the HTTP status.
            heed: what the headers say of an error, whatever status and body; asked first, names in lower case.

        Raises:
            FetchError: why there is no payload.
        """
        url = self._base_url + path
        if query:
            url += "?" + urlencode(
                query if isinstance(query, Sequence) else list(query.items()), quote_via=quote, safe="~"
            )
        sent_headers = self._headers | {"accept": "application/json"}
        if body is not None:
            sent_headers["content-type"] = "application/json"
        if headers:
            sent_headers |= {name.lower(): value for name, value in headers.items()}

        async def attempt() -> T:
            try:
                request = httpx.Request(
                    method, url, headers=sent_headers, content=body, extensions={"endpoint": endpoint}
                )
                response = await self._client.send(request)
                # The stream and the response hold each other, and both the body: pages would wait for the collector.
                response.stream = httpx.ByteStream(b"")
                error = heed(response.headers)
                if error is not None:
                    _hear_wait(error, response)
                    raise error
                return _payload(response, read, judge)
            except httpx.InvalidURL:
                raise SourceUnintelligible("the vendor's own id or page cursor does not fit into a URL") from None
            except RecursionError:
                raise SourceUnintelligible("the answer is nested too deep to be the API's") from None

        failed: list[FetchError] = []

        async def again() -> T:
            if failed:
                raise failed.pop()
            return await attempt()

        try:
            try:
                answer = await attempt()
            except FetchError as error:
                if not error.repeat:
                    raise
                failed.append(error)  # only failures pay for the retry machinery
                answer = await AsyncRetrying(
                    retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.repeat),
                    wait=_pause,
                    stop=self._is_last,
                    before_sleep=self._note,
                    sleep=anyio.sleep,
                    reraise=True,
                )(again)
        except FetchError as error:
            if error.retry_after is not None:
                if anyio.current_time() + error.retry_after >= self._deadline:
                    error.reason = Reason.RATE_LIMITED
                else:
                    error.retry_after = None
            raise error.bare()  # noqa: B904 it is the same error
        self.trouble = None
        return answer

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.trouble = error.bare() if isinstance(error, FetchError) else None

    def _is_last(self, state: RetryCallState) -> bool:
        return state.attempt_number >= ATTEMPTS or anyio.current_time() + state.upcoming_sleep >= self._deadline


_backoff = wait_random_exponential(multiplier=0.5, max=20)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_for = error.retry_after if isinstance(error, FetchError) else None
    return max(_backoff(state), asked_for or 0.0)


def _payload(response: httpx.Response, read: Callable[[bytes], T], judge: Judge) -> T:
    if not response.is_success:
        raise judged(response, judge)
    try:
        return read(_readable(response))
    except FetchError as error:
        _hear_wait(error, response)
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SourceUnintelligible(f"HTTP {response.status_code}, but {_shape(response, error)}") from None


def _readable(response: httpx.Response) -> bytes:
    """Returns the body; raises `too_large` if its commas show more values than can be read in one go."""
    body = response.content
    if len(body) > MOST_VALUES and body.count(b",") > MOST_VALUES:
        raise SourceUnintelligible(f"an answer of more than {MOST_VALUES} values", reason=Reason.TOO_LARGE)
    return body


def _shape(response: httpx.Response, error: Exception) -> str:
    if not response.content:
        return "the body is empty"
    if response.content.lstrip()[:1] == b"<":
        return "the body is HTML or XML, not the API's JSON"
    if isinstance(error, msgspec.ValidationError):
        return f"not of the documented shape: {error}"
    return "the body is not valid JSON"


def _hear_wait(error: FetchError, response: httpx.Response) -> None:
    if error.repeat and error.retry_after is None:
        error.retry_after = seconds_from(response.headers.get("retry-after"), response.headers.get("date"))


def judged(response: httpx.Response, judge: Judge = no_opinion) -> FetchError:
    """Returns the error of an unsuccessful answer: by the vendor's body first, else by the HTTP status."""
    status = response.status_code
    try:
        error = judge(status, _readable(response)) or by_status(status)
    except (SourceUnintelligible, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = by_status(status)
    _hear_wait(error, response)
    return error


def by_status(status: int) -> FetchError:
    """Returns the error for an HTTP status whose body says nothing more."""
    said = f"HTTP {status}"
    if 300 <= status < 400:
        return SourceUnintelligible(f"{said}: a redirect, which is not followed")
    match status:
        case 401:
            return SourceRefused(f"{said}: the credentials were refused")
        case 403:
            return SourceRefused(f"{said}: the account is not allowed to do this", reason=Reason.PERMISSION)
        case 404:
            return SourceUnintelligible(f"{said}: there is no such API at this address", reason=Reason.NOT_FOUND)
        case 429:
            return SourceThrottled(f"{said}: too many requests")
        case 502 | 503 | 504:
            return SourceBroken(said, repeat=True)
        case _ if status >= 500:
            return SourceBroken(said)
        case _:
            return SourceBroken(f"{said}: the request itself was refused", reason=Reason.API_ERROR)
