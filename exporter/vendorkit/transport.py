"""Transport: pacing, counting, total time, size cap and clock of every request. Unseen by vendor folders."""

import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import msgspec

from exporter.errors import Reason, SourceUnintelligible, SourceUnreachable
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.failures import place_of, unreachable

# Chunks of an answer that may be of any size; and the mean bytes required of more.
MOST_SMALL_CHUNKS = 10_000
LEAST_CHUNK_BYTES = 1024
# Bytes decompressed before other tasks get a turn.
INFLATED_AT_ONCE = 256 * 1024
# Chunks read before other tasks get a turn.
CHUNKS_AT_ONCE = 64


class Attempt(msgspec.Struct, frozen=True):
    """One HTTP attempt: which endpoint, its HTTP status or `error`, how long it took."""

    endpoint: str
    code: str
    seconds: float


class GuardedTransport(httpx.AsyncBaseTransport):
    """Wraps the network of one source.

    The whole answer is read here: within `timeout` from the connect to the last byte, and at most `max_bytes` before
    and after decompression. What goes wrong is raised as SourceUnreachable or SourceUnintelligible.
    """

    def __init__(
        self,
        wrapped: httpx.AsyncBaseTransport,
        *,
        timeout: timedelta,
        max_bytes: int,
        max_concurrency: int = 1,
        clock: VendorClock | None = None,
        take_permit: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
        observe: Callable[[Attempt], None] = lambda _attempt: None,
    ) -> None:
        self._wrapped = wrapped
        self._clock = clock
        self._timeout = timeout.total_seconds()
        self._max_bytes = max_bytes
        self._places = anyio.Semaphore(max_concurrency, fast_acquire=True)
        self._take_permit = take_permit
        self._observe = observe

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the complete answer to one attempt; waits for its place and its permit first."""
        async with self._places:
            await self._take_permit()
            return await self._attempt(request)

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        started = anyio.current_time()
        code = "error"
        try:
            with anyio.CancelScope(deadline=started + self._timeout):
                response = await self._wrapped.handle_async_request(request)
                code = str(response.status_code)
                if self._clock is not None:
                    self._clock.hear(response.headers.get("date"))
                whole = None
                try:
                    whole = await self._whole(response, request)
                finally:
                    if whole is None:  # also where this attempt is cancelled
                        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                            await response.aclose()
                await response.aclose()
                return whole
            said = f"no complete answer from {place_of(request.url)} within {self._timeout:g} s"
            raise SourceUnreachable(said, reason=Reason.TIMEOUT)
        except (httpx.TransportError, OSError) as error:
            raise unreachable(error, place_of(request.url)) from error
        finally:
            endpoint = request.extensions.get("endpoint", "other")
            self._observe(Attempt(endpoint, code, anyio.current_time() - started))

    async def _whole(self, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        inflate = None
        if encoding in {"gzip", "x-gzip", "deflate"}:
            inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, by the header
        elif encoding not in {"", "identity"}:
            raise SourceUnintelligible(f"the answer is encoded as {encoding[:20]!r}, which was not asked for")
        body = bytearray()
        received = chunks = 0
        stream: Any = aiter(response.stream)  # type: ignore[arg-type]
        is_read = False
        try:
            async for chunk in stream:
                received += len(chunk)
                chunks += 1
                if chunks % CHUNKS_AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
                    if chunks > MOST_SMALL_CHUNKS + received // LEAST_CHUNK_BYTES:
                        raise SourceUnintelligible(f"the answer comes in chunks of {received // chunks} bytes")
                if inflate is None:
                    body += chunk
                else:
                    await self._inflate(inflate, chunk, body)
                if received > self._max_bytes or len(body) > self._max_bytes:
                    raise SourceUnintelligible(
                        f"the answer is larger than {self._max_bytes} bytes", reason=Reason.TOO_LARGE
                    )
            is_read = True
        finally:
            if not is_read:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await stream.aclose()
        if inflate is not None and received and not inflate.eof:
            raise SourceUnintelligible("the compressed answer ends too early")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _ABOUT_THE_BODY]
        return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=request)

    async def _inflate(self, inflate: "zlib._Decompress", chunk: bytes, body: bytearray) -> None:
        """Adds a compressed chunk to the body, up to just beyond its limit, letting other tasks run now and then."""
        while True:
            try:
                part = inflate.decompress(chunk, min(INFLATED_AT_ONCE, self._max_bytes + 1 - len(body)))
            except zlib.error:
                raise SourceUnintelligible("the answer is not compressed as it says") from None
            body += part
            chunk = inflate.unconsumed_tail
            if len(part) < INFLATED_AT_ONCE or len(body) > self._max_bytes:
                return
            await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._wrapped.aclose()


class NoCookies(httpx.Cookies):
    """Takes none: each would be sent back for the life of the process, and there may be ever new ones."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leaves them where they are."""

    def set_cookie_header(self, request: httpx.Request) -> None:
        """Sends nothing back."""


class Client(httpx.AsyncClient):
    """A client without cookies, which no variable of the environment changes."""

    def __init__(self, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        self._none = NoCookies()
        super().__init__(transport=transport, trust_env=False, **options)

    @property
    def cookies(self) -> httpx.Cookies:
        """Returns none, whatever was answered."""
        return self._none

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        """Takes none."""


_ABOUT_THE_BODY = {b"content-encoding", b"content-length", b"transfer-encoding"}
