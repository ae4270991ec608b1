import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import msgspec
import pytest

from exporter.errors import FetchError, Reason, SourceBroken, SourceThrottled, SourceUnreachable
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.http import ATTEMPTS, MOST_VALUES, Http
from exporter.vendorkit.network import client_for
from exporter.vendorkit.transport import CHUNKS_AT_ONCE, Attempt, GuardedTransport
from exporter.vendors import load_all
from tests.builders import START

pytestmark = pytest.mark.anyio

Answer = httpx.Response | Exception | Callable[[], Any]
DATE = {"Date": "Fri, 02 Jan 2026 03:04:05 GMT"}


class Script(httpx.AsyncBaseTransport):
    """Gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.asked_at: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers[min(len(self.asked_at), len(self.answers) - 1)]
        self.asked_at.append(anyio.current_time())
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer()
        assert isinstance(answer, httpx.Response)
        return answer


class Stream(httpx.AsyncByteStream):
    def __init__(self, *chunks: bytes, pause: float = 0.0, error: Exception | None = None) -> None:
        self.chunks, self.pause, self.error, self.closed = chunks, pause, error, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await anyio.sleep(self.pause)
            yield chunk
        if self.error:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


def http_for(script: Script, *, max_bytes: int = 1000, timeout: float = 30) -> tuple[Http, list[Attempt]]:
    attempts: list[Attempt] = []

    async def no_wait() -> None:
        return None

    clock = VendorClock(lambda: START, anyio.current_time)
    transport = GuardedTransport(
        script,
        clock=clock,
        timeout=timedelta(seconds=timeout),
        max_bytes=max_bytes,
        max_concurrency=2,
        take_permit=no_wait,
        observe=attempts.append,
    )
    return Http(httpx.AsyncClient(transport=transport), "http://127.0.0.1:9/base"), attempts


async def ask(http: Http, deadline: float = 60) -> Any:
    http.begin(anyio.current_time() + deadline)
    return await http.ask("list", "GET", "/x", read=msgspec.json.decode)


def ok(body: bytes = b"{}", /, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=body, headers={**DATE, **headers})


def status(code: int, body: bytes = b"", /, **headers: str) -> httpx.Response:
    return httpx.Response(code, content=body, headers={**DATE, **headers})


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        (httpx.ConnectError("refused"), Reason.CONNECTION, ATTEMPTS),
        (httpx.ReadError("reset"), Reason.CONNECTION, ATTEMPTS),
        (httpx.ConnectTimeout("slow"), Reason.TIMEOUT, ATTEMPTS),
        (status(400), Reason.API_ERROR, 1),
        (status(401), Reason.AUTH, 1),
        (status(403), Reason.PERMISSION, 1),
        (status(404), Reason.NOT_FOUND, 1),
        (status(429), Reason.RATE_LIMITED, ATTEMPTS),
        (status(500), Reason.SERVER_ERROR, 1),
        (status(502, b"<html>"), Reason.SERVER_ERROR, ATTEMPTS),
        (status(503), Reason.SERVER_ERROR, ATTEMPTS),
        (status(504), Reason.SERVER_ERROR, ATTEMPTS),
        (status(302, Location="http://127.0.0.2/"), Reason.BAD_RESPONSE, 1),
        (ok(b"<html>sign in</html>"), Reason.BAD_RESPONSE, 1),
        (ok(b'{"events": ['), Reason.BAD_RESPONSE, 1),
        (ok(b""), Reason.BAD_RESPONSE, 1),
        (ok(b"x" * 1001), Reason.TOO_LARGE, 1),
    ],
)
async def test_every_failure_has_its_reason_and_is_repeated_only_where_that_can_help(
    answer: Answer, reason: Reason, requests: int
) -> None:
    http, attempts = http_for(Script(answer))

    with pytest.raises(FetchError) as caught:
        await ask(http)

    assert (caught.value.reason, len(attempts)) == (reason, requests)


@pytest.mark.parametrize(("code", "reason"), [(200, Reason.TOO_LARGE), (403, Reason.PERMISSION)])
async def test_an_answer_of_too_many_values_is_not_begun_and_keeps_its_status(code: int, reason: Reason) -> None:
    begun = []
    http, _ = http_for(Script(status(code, b"[%s0]" % (b"0," * (MOST_VALUES + 1)))), max_bytes=10_000_000)
    http.begin(anyio.current_time() + 60)

    with pytest.raises(FetchError) as caught:
        await http.ask("list", "GET", "/x", read=begun.append, judge=lambda _, body: begun.append(body))

    assert caught.value.reason is reason
    assert begun == []


async def test_an_answer_that_comes_with_a_later_attempt_is_taken() -> None:
    http, attempts = http_for(Script(status(503), httpx.ReadError("reset"), ok(b'{"a": 1}')))

    assert await ask(http) == {"a": 1}
    assert [attempt.code for attempt in attempts] == ["503", "error", "200"]


async def test_no_attempt_starts_after_the_polls_deadline() -> None:
    script = Script(status(503))
    http, _ = http_for(script)

    with pytest.raises(SourceBroken):
        await ask(http, deadline=0.001)

    assert len(script.asked_at) == 1


@pytest.mark.parametrize("code", [429, 502, 503, 504])
@pytest.mark.parametrize("value", ["7", "Fri, 02 Jan 2026 03:04:12 GMT"])
async def test_a_retry_after_is_waited_for_as_seconds_and_as_a_date(value: str, code: int) -> None:
    script = Script(status(code, **{"Retry-After": value}), ok())
    http, _ = http_for(script)

    await ask(http)

    assert 7 <= script.asked_at[1] - script.asked_at[0] < 8


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), ("soon", None), ("-5", None), ("99999999999999", 999999999999.0)]
)
async def test_a_retry_after_that_does_not_fit_into_the_poll_ends_it_and_is_told(
    value: str, seconds: float | None
) -> None:
    script = Script(status(429, **{"Retry-After": value}))
    http, _ = http_for(script)

    with pytest.raises(SourceThrottled) as caught:
        await ask(http)

    assert caught.value.retry_after == seconds
    assert len(script.asked_at) == (1 if seconds else ATTEMPTS)


@pytest.mark.parametrize("value", ["120", "Fri, 02 Jan 2026 03:06:05 GMT"])
async def test_a_failed_server_that_asks_for_a_longer_wait_than_is_left_is_asked_once_and_ends_the_poll(
    value: str,
) -> None:
    script = Script(status(503, **{"Retry-After": value}))
    http, _ = http_for(script)

    with pytest.raises(FetchError) as caught:
        await ask(http)

    assert (caught.value.reason, caught.value.retry_after) == (Reason.RATE_LIMITED, 120)
    assert len(script.asked_at) == 1


@pytest.mark.parametrize(("code", "reason"), [(429, Reason.RATE_LIMITED), (503, Reason.SERVER_ERROR)])
async def test_a_retry_after_that_is_over_before_the_next_poll_asks_nothing_of_it(code: int, reason: Reason) -> None:
    script = Script(status(code, **{"Retry-After": "1"}))
    http, _ = http_for(script)

    with pytest.raises(FetchError) as caught:
        await ask(http)

    assert (caught.value.reason, caught.value.retry_after) == (reason, None)
    assert len(script.asked_at) == ATTEMPTS


async def test_an_error_told_by_the_headers_alone_has_its_retry_after_too() -> None:
    script = Script(ok(**{"X-Error": "busy", "Retry-After": "Fri, 02 Jan 2026 03:04:12 GMT"}), ok())
    http, _ = http_for(script)

    def heed(headers: Mapping[str, str]) -> FetchError | None:
        return SourceBroken("busy", repeat=True) if "x-error" in headers else None

    http.begin(anyio.current_time() + 60)
    await http.ask("list", "GET", "/x", read=msgspec.json.decode, heed=heed)

    assert 7 <= script.asked_at[1] - script.asked_at[0] < 8


async def test_why_a_request_is_asked_again_is_known_until_the_next_poll() -> None:
    http, _ = http_for(Script(status(503), anyio.sleep_forever))

    with anyio.move_on_after(25):
        await ask(http)
    cut = http.trouble
    http.begin(anyio.current_time() + 60)

    assert cut is not None
    assert cut.reason is Reason.SERVER_ERROR
    assert http.trouble is None


async def test_a_request_that_was_asked_again_and_succeeded_is_no_trouble_any_more() -> None:
    http, attempts = http_for(Script(status(503), ok()))

    await ask(http)

    assert len(attempts) == 2
    assert http.trouble is None


async def test_a_drip_of_bytes_ends_with_the_total_timeout() -> None:
    stream = Stream(*[b" "] * 1000, pause=1)
    http, _ = http_for(Script(httpx.Response(200, stream=stream)), timeout=30)
    began = anyio.current_time()

    with pytest.raises(SourceUnreachable) as caught:
        await ask(http, deadline=30)

    assert caught.value.reason is Reason.TIMEOUT
    assert anyio.current_time() - began == 30
    assert stream.closed


async def test_the_code_of_an_attempt_whose_body_failed_is_its_status() -> None:
    stream = Stream(b"{", error=httpx.ReadError("reset"))
    http, attempts = http_for(Script(httpx.Response(200, stream=stream), status(404)))

    with pytest.raises(FetchError):
        await ask(http)

    assert [attempt.code for attempt in attempts] == ["200", "404"]


def gzipped(body: bytes) -> httpx.Response:
    # httpx's own Response would inflate it: a stream is what a socket gives.
    headers = {"Content-Encoding": "gzip"}
    return httpx.Response(200, headers=headers, stream=Stream(zlib.compress(body, wbits=31)))


async def test_a_compressed_answer_is_read() -> None:
    http, _ = http_for(Script(gzipped(b'{"a": [1, 2]}')))

    assert await ask(http) == {"a": [1, 2]}


async def test_a_bomb_is_stopped_at_the_size_limit() -> None:
    http, _ = http_for(Script(gzipped(b" " * 10_000_000)), max_bytes=100_000)

    with pytest.raises(FetchError) as caught:
        await ask(http)

    assert caught.value.reason is Reason.TOO_LARGE


async def test_a_compressed_answer_cut_short_is_no_answer() -> None:
    whole = zlib.compress(b'{"a": 1}', wbits=31)
    headers = {"Content-Encoding": "gzip"}
    http, _ = http_for(Script(httpx.Response(200, headers=headers, stream=Stream(whole[:-9]))))

    with pytest.raises(FetchError) as caught:
        await ask(http)

    assert caught.value.reason is Reason.BAD_RESPONSE


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    under_way, most = 0, 0

    async def slow() -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.sleep(1)
        under_way -= 1
        return ok()

    http, _ = http_for(Script(slow))
    async with anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(ask, http)

    assert most == 2


class Flood(httpx.AsyncByteStream):
    """Sends the same chunk for ever, and waits for nobody."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk, self.sent = chunk, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.sent += 1
            yield self.chunk


@pytest.mark.parametrize(
    ("chunk", "reason"), [(b"x", Reason.BAD_RESPONSE), (b"", Reason.BAD_RESPONSE), (b"x" * 4096, Reason.TOO_LARGE)]
)
async def test_a_body_without_end_ends_the_request_and_meanwhile_everybody_has_a_turn(
    chunk: bytes, reason: Reason
) -> None:
    flood, turns = Flood(chunk), 0
    http, _ = http_for(Script(httpx.Response(200, stream=flood)), max_bytes=100_000_000)

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(neighbour)
        with pytest.raises(FetchError) as caught:
            await ask(http)
        tasks.cancel_scope.cancel()

    assert caught.value.reason is reason
    assert flood.sent <= 100_000
    assert turns >= flood.sent // CHUNKS_AT_ONCE - 1


@pytest.mark.parametrize("size", [1, 100])
async def test_an_answer_written_row_by_row_is_read(size: int) -> None:
    body = b"[%s0]" % (b"0," * 4000)
    chunks = [body[place : place + size] for place in range(0, len(body), size)]
    http, _ = http_for(Script(httpx.Response(200, stream=Stream(*chunks))), max_bytes=100_000)

    assert len(await ask(http)) == 4001


async def test_cookies_are_neither_kept_nor_sent_back() -> None:
    asked: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        return httpx.Response(200, headers={"Set-Cookie": f"track{len(asked)}=x; Path=/"}, content=b"{}")

    vendor = load_all()["key_astrom"]
    client = client_for(
        vendor,
        vendor.config.model_validate(
            {"vendor": "key_astrom", "endpoint": "http://vendor.test", "auth": {"api_token": "a-token"}}
        ),
        network=httpx.MockTransport(answer),
        clock=VendorClock(lambda: START, anyio.current_time),
        take_permit=anyio.lowlevel.checkpoint,
        observe=lambda _attempt: None,
    )
    http = Http(client, "http://vendor.test")
    for _ in range(3):
        await ask(http)

    assert len(asked) == 3
    assert not any("cookie" in headers for headers in asked)
    assert not client.cookies
