"""Site: one simulated vendor with its faults and its access log; SimulatedNetwork: sites reached without a socket."""

import errno
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum

import anyio
import httpx
import msgspec

from exporter.simulation.wire import Calls, Request, Response, Simulator


class FaultKind(StrEnum):
    """Faults between a client and a vendor."""

    REFUSED = "refused"  # nothing listens
    DNS = "dns"  # the name does not resolve
    TLS_UNKNOWN = "tls_unknown"  # the certificate's authority is unknown
    TLS_EXPIRED = "tls_expired"
    CONNECT_HANG = "connect_hang"
    HANG = "hang"  # connected, and no answer ever
    SLOW_HEADERS = "slow_headers"  # the answer begins after `seconds`
    DRIP = "drip"  # one byte a second, for ever
    RESET = "reset"  # the connection ends in the body
    STATUS = "status"  # HTTP `status`, with `headers`
    STATUS_HTML = "status_html"
    HTML = "html"  # HTTP 200 with a login page
    TRUNCATED = "truncated"  # HTTP 200 with half the JSON
    ENVELOPE = "envelope"  # an error inside HTTP 200, in the vendor's words
    EMPTY = "empty"
    WRONG_TYPE = "wrong_type"  # valid JSON of another shape
    TOO_LARGE = "too_large"
    BOMB = "bomb"  # small on the wire, huge when decompressed
    REDIRECT = "redirect"  # to another host


# Only a transport can play these; a server cannot refuse a connection it has accepted.
WITHOUT_A_SERVER = {FaultKind.REFUSED, FaultKind.DNS, FaultKind.TLS_UNKNOWN, FaultKind.TLS_EXPIRED}


class Fault(msgspec.Struct, kw_only=True):
    """A fault at one endpoint or all, for a number of requests or until removed."""

    kind: FaultKind
    endpoint: str | None = None
    times: int | None = None
    status: int = 503
    headers: Mapping[str, str] = {}
    seconds: float = 5.0
    size: int = 64 * 1024 * 1024
    skip: int = 0


class Site:
    """One simulated vendor, its faults and what its access log shows: calls by (endpoint, HTTP status).

    `now` is true time; the world is advanced to it with each request. `date_off` is how wrong the Date headers are
    besides the world's own clock, as those that a cache repeats.
    """

    def __init__(self, simulator: Simulator, now: Callable[[], datetime]) -> None:
        self.simulator = simulator
        self.faults: list[Fault] = []
        self.calls: Calls = Calls()
        self.date_off = timedelta(0)
        self._now = now

    def fault_for(self, request: Request) -> Fault | None:
        """Returns the fault this request meets, used up by one."""
        endpoint = self.simulator.endpoint_of(request)
        for fault in self.faults:
            if fault.endpoint not in {None, endpoint} or fault.times == 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def respond(self, request: Request, fault: Fault | None) -> Response:
        """Returns the answer, spoilt by the fault if there is one; it stands in the access log."""
        world = self.simulator.world
        world.advance(self._now())
        endpoint = self.simulator.endpoint_of(request)
        response = self._spoilt(request, endpoint, fault)
        self.calls[endpoint, str(response.status)] += 1
        date = format_datetime((world.now + world.skew + self.date_off).astimezone(UTC), usegmt=True)
        return msgspec.structs.replace(response, headers={"Date": date, **response.headers})

    def _spoilt(self, request: Request, endpoint: str, fault: Fault | None) -> Response:
        match fault.kind if fault else None:
            case FaultKind.STATUS if fault:
                return Response(status=fault.status, body=b'{"message": "simulated"}', headers=fault.headers)
            case FaultKind.STATUS_HTML if fault:
                return Response(status=fault.status, body=_HTML, content_type="text/html", headers=fault.headers)
            case FaultKind.HTML:
                return Response(body=_HTML, content_type="text/html")
            case FaultKind.TRUNCATED:
                whole = self.simulator.answer(request)
                return msgspec.structs.replace(whole, body=whole.body[: len(whole.body) // 2])
            case FaultKind.ENVELOPE:
                return self.simulator.error_in_envelope(endpoint)
            case FaultKind.EMPTY:
                return Response(body=b"")
            case FaultKind.WRONG_TYPE:
                return Response(body=b'[[{"data": 7}], "events", 3]')
            case FaultKind.TOO_LARGE if fault:
                return Response(body=b" " * fault.size)
            case FaultKind.BOMB if fault:
                return Response(body=zlib.compress(b" " * fault.size, wbits=31), headers={"Content-Encoding": "gzip"})
            case FaultKind.REDIRECT:
                return Response(status=302, headers={"Location": "http://127.0.0.2:1/elsewhere"})
            case _:
                return self.simulator.answer(request)


_HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head><body>Sign in</body></html>"


def site_for(sites: Sequence[Site], request: Request) -> Site | None:
    """Returns the site whose API this request asks for: the vendors' paths differ."""
    return next((site for site in sites if site.simulator.endpoint_of(request) != "other"), None)


async def body_of(response: Response, fault: Fault | None) -> AsyncGenerator[bytes, None]:
    """Yields the body as it arrives under a fault: at once, broken off, or a byte a second for ever."""
    if fault is not None and fault.kind is FaultKind.DRIP:
        while True:
            yield b" "
            await anyio.sleep(1)
    elif fault is not None and fault.kind is FaultKind.RESET:
        yield response.body[: len(response.body) // 2]
        raise ConnectionResetError(errno.ECONNRESET, "simulated")
    else:
        yield response.body


async def delay_of(fault: Fault | None) -> None:
    """Waits as long as the fault holds the answer back."""
    match fault.kind if fault else None:
        case FaultKind.HANG | FaultKind.CONNECT_HANG:
            await anyio.sleep_forever()
        case FaultKind.SLOW_HEADERS if fault:
            await anyio.sleep(fault.seconds)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: Response, fault: Fault | None, closed: Callable[[], None]) -> None:
        self._response = response
        self._fault = fault
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with aclosing(body_of(self._response, self._fault)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ConnectionResetError as error:
            raise httpx.ReadError("simulated reset") from error

    async def aclose(self) -> None:
        """Gives the connection back."""
        self._closed()


class SimulatedNetwork(httpx.AsyncBaseTransport):
    """The network as a transport: reaches sites in this process, on whatever clock the tests run.

    `in_use` are its connections whose answer is not done with.
    """

    def __init__(self, *sites: Site) -> None:
        self._sites = sites
        self.in_use = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns what the simulated vendor sends, or raises what a broken network does."""
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        asked = Request(
            method=request.method,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.aread(),
        )
        site = site_for(self._sites, asked)
        if site is None:
            return httpx.Response(404, content=b'{"message": "no such API"}', request=request)
        fault = site.fault_for(asked)
        if fault is not None and fault.kind in _ERRORS:
            raise httpx.ConnectError("simulated") from _ERRORS[fault.kind]
        await delay_of(fault)
        response = site.respond(asked, fault)
        headers = {"Content-Type": response.content_type, **response.headers}
        self.in_use += 1
        body = _Body(response, fault, self._release)
        return httpx.Response(response.status, headers=headers, stream=body, request=request)

    def _release(self) -> None:
        self.in_use -= 1


_ERRORS: Mapping[FaultKind, Exception] = {
    FaultKind.REFUSED: ConnectionRefusedError(errno.ECONNREFUSED, "simulated"),
    FaultKind.DNS: socket.gaierror(socket.EAI_NONAME, "simulated"),
    FaultKind.TLS_UNKNOWN: ssl.SSLCertVerificationError(1, "certificate verify failed: unable to get local issuer"),
    FaultKind.TLS_EXPIRED: ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired"),
}
