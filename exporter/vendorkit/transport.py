"""What concerns every request on the wire: pacing, counting, total time, size cap, clock. Unseen by vendor folders."""

import ssl
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
import msgspec

from exporter.errors import Reason, SourceUnintelligible, SourceUnreachable
from exporter.vendorkit.clock import VendorClock

USER_AGENT = "vendor-alert-exporter"


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
        clock: VendorClock,
        timeout: timedelta,
        max_bytes: int,
        max_concurrency: int,
        take_permit: Callable[[], Awaitable[None]],
        observe: Callable[[Attempt], None],
    ) -> None:
        self._wrapped = wrapped
        self._clock = clock
        self._timeout = timeout.total_seconds()
        self._max_bytes = max_bytes
        self._places = anyio.Semaphore(max_concurrency)
        self._take_permit = take_permit
        self._observe = observe

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The complete answer to one attempt; waits for its place and its permit first."""
        async with self._places:
            await self._take_permit()
            return await self._attempt(request)

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        started = anyio.current_time()
        code = "error"
        try:
            with anyio.fail_after(self._timeout):
                response = await self._wrapped.handle_async_request(request)
                code = str(response.status_code)
                self._clock.hear(response.headers.get("date"))
                try:
                    return await self._whole(response, request)
                finally:
                    with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                        await response.aclose()
        except TimeoutError:
            raise SourceUnreachable(f"no complete answer within {self._timeout:g} s", reason=Reason.TIMEOUT) from None
        except httpx.TimeoutException as error:
            raise SourceUnreachable(f"no answer in time ({type(error).__name__})", reason=Reason.TIMEOUT) from error
        except (httpx.TransportError, OSError) as error:
            # A server that refuses our certificate says so when we read, which httpx passes on as it comes.
            raise _unreachable(error) from error
        finally:
            endpoint = request.extensions.get("endpoint", "other")
            self._observe(Attempt(endpoint, code, anyio.current_time() - started))

    async def _whole(self, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        inflate = None
        if encoding in {"gzip", "x-gzip", "deflate"}:
            inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, told apart by the header
        elif encoding not in {"", "identity"}:
            raise SourceUnintelligible(f"the answer is encoded as {encoding[:20]!r}, which was not asked for")
        body = bytearray()
        received = 0
        stream: Any = aiter(response.stream)  # type: ignore[arg-type]
        try:
            async for chunk in stream:
                received += len(chunk)
                if inflate is not None:
                    try:
                        chunk = inflate.decompress(chunk, self._max_bytes + 1 - len(body))  # noqa: PLW2901
                    except zlib.error:
                        raise SourceUnintelligible("the answer is not compressed as it says") from None
                body += chunk
                if received > self._max_bytes or len(body) > self._max_bytes:
                    raise SourceUnintelligible(
                        f"the answer is larger than {self._max_bytes} bytes", reason=Reason.TOO_LARGE
                    )
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await stream.aclose()
        if inflate is not None and received and not inflate.eof:
            raise SourceUnintelligible("the compressed answer ends too early")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _ABOUT_THE_BODY]
        return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=request)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._wrapped.aclose()


_ABOUT_THE_BODY = {b"content-encoding", b"content-length", b"transfer-encoding"}


def _unreachable(error: httpx.TransportError | OSError) -> SourceUnreachable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "handshake failed"
            return SourceUnreachable(f"TLS: {why}", reason=Reason.TLS)
        cause = cause.__cause__ or cause.__context__
    if "CERTIFICATE_VERIFY_FAILED" in str(error) or "[SSL" in str(error):
        return SourceUnreachable("TLS: the handshake failed", reason=Reason.TLS)
    words: dict[type[Exception], str] = {
        httpx.ConnectError: "cannot connect",
        httpx.ReadError: "the connection broke while reading the answer",
        httpx.WriteError: "the connection broke while sending",
        httpx.RemoteProtocolError: "the connection ended before the answer was complete",
        httpx.ProxyError: "the proxy refused",
    }
    return SourceUnreachable(words.get(type(error), type(error).__name__), reason=Reason.CONNECTION)


def proxy_for(url: str, setting: str | None) -> str | None:
    """The proxy to use for a URL: the setting, `none` for none, else what the proxy environment variables say."""
    if setting is not None:
        return None if setting.lower() == "none" else setting
    parsed = httpx.URL(url)
    if proxy_bypass(parsed.netloc.decode()):
        return None
    proxies = getproxies()
    found = proxies.get(parsed.scheme) or proxies.get("all")
    return checked_proxy(found) if found else None


def checked_proxy(url: str) -> str:
    """The URL of a proxy, or `none`; raises ValueError, which repeats nothing of what may hold a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if url.lower() != "none" and not (parsed.scheme in {"http", "https"} and parsed.host):
        raise ValueError(
            "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, special characters percent-encoded, or none"
        )
    return url
