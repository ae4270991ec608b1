"""One connection to a server: HTTP/1.1 as h11 speaks it, on a socket of asyncio; bounded whatever the server sends."""

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from typing import cast
from urllib.parse import unquote

import h11
import httpx

from exporter.errors import Reason, SourceUnintelligible, SourceUnreachable
from exporter.vendorkit.failures import place_of, unreachable

# Bytes of a head, of trailers and of one line about a chunk.
MOST_HEAD_BYTES = 64 * 1024
MOST_HEADERS = 256
# Interim answers (100 Continue, 103 Early Hints) before the answer.
MOST_INTERIM_ANSWERS = 16
# Bytes that wait to be read; the server has to wait beyond them.
_MOST_WAITING = 256 * 1024
# Seconds between the attempts to connect to several addresses of one name (RFC 8305).
_NEXT_ADDRESS = 0.25
# Seconds the other side has to answer our close.
_GOODBYE = 1.0
# The first bytes of an answer.
_BEGINNING = b"HTTP/"
# The first bytes of TLS records that an alert or a handshake stands in.
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")

Headers = Sequence[tuple[bytes, bytes]]


class Connection(asyncio.Protocol):
    """A connection that is open, for one exchange after the other. `place` is the host and port it leads to."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._ended = False
        self._broken: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what writes."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Buffers what arrived until it is read."""
        self._received += data
        if len(self._received) > _MOST_WAITING and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Notes that nothing more will come; closes our side as well."""
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end and its cause."""
        self._ended, self._broken = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # An exchange.

    async def ask(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> h11.Response:
        """Sends a request; returns the head of the answer to it.

        Raises:
            SourceUnreachable: the connection broke.
            SourceUnintelligible: what arrives is not an answer, or never begins one.
            httpx.LocalProtocolError: the request cannot be sent in HTTP/1.1.
        """
        self._stay()
        try:
            sent = self._http.send(h11.Request(method=method, target=target, headers=list(headers)))
            if body:
                sent = (sent or b"") + (self._http.send(h11.Data(data=body)) or b"")
            sent = (sent or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError("the request cannot be sent in HTTP") from error
        if self._transport is not None:
            self._transport.write(sent)
        for _ in range(MOST_INTERIM_ANSWERS + 1):
            event = await self._next()
            if isinstance(event, h11.Response):
                if len(list(event.headers)) > MOST_HEADERS:
                    raise SourceUnintelligible(f"an answer of more than {MOST_HEADERS} headers")
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise SourceUnintelligible(f"{self.place} does not answer in HTTP/1.1")
        raise SourceUnintelligible(f"more than {MOST_INTERIM_ANSWERS} interim answers, and none to the request")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yields the body of the answer as it comes: at least once for each chunk in which the server sends it."""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._nonsense(error) from error
            if event is h11.NEED_DATA:
                begins = self._http.their_state is h11.SEND_RESPONSE and not self._http.trailing_data[0]
                data = await self._read()
                if begins and not (data.startswith(_BEGINNING) or _BEGINNING.startswith(data)):
                    if data.startswith(_TLS_RECORDS):
                        raise SourceUnreachable(f"{self.place} answers in TLS: write https:// there", reason=Reason.TLS)
                    raise SourceUnintelligible(f"{self.place} does not answer in HTTP/1.1")
                self._http.receive_data(data)
            elif isinstance(event, h11.Event):
                return event
            else:
                raise SourceUnintelligible(f"{self.place} does not answer in HTTP/1.1")

    def _nonsense(self, error: h11.RemoteProtocolError) -> SourceUnreachable | SourceUnintelligible:
        if error.error_status_hint == 431:
            return SourceUnintelligible(f"headers, trailers or chunks of more than {MOST_HEAD_BYTES} bytes")
        if self._ended and not self._received:
            return unreachable(self._broken or httpx.RemoteProtocolError(""), self.place)
        return SourceUnintelligible(f"{self.place} does not answer in HTTP/1.1")

    async def _read(self) -> bytes:
        """Waits for data and returns it; empty at the end."""
        while not (self._received or self._ended):
            self._waiter = self._loop.create_future()
            await self._waiter
        data = bytes(self._received)
        self._received.clear()
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()
        return data

    # Between exchanges.

    def keep(self, seconds: float) -> bool:
        """Prepares for another exchange, to begin within `seconds`; returns False if there can be none."""
        if (
            self._http.our_state is not h11.DONE
            or self._http.their_state is not h11.DONE
            or self._http.trailing_data[0]
            or not self.is_usable()
        ):
            return False
        self._http.start_next_cycle()
        self._timer = self._loop.call_later(seconds, self.close)
        return True

    def is_usable(self) -> bool:
        """Returns whether it is open, with no unrequested data."""
        return not (self._ended or self._received or self._transport is None or self._transport.is_closing())

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Closes the connection gracefully."""
        self._stay()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._stay()
        if self._transport is not None:
            self._transport.abort()

    async def secure(self, context: ssl.SSLContext, host: str, place: str) -> None:
        """Speaks TLS from now on, with a server that this connection was led to by a proxy."""
        if self._transport is None or self._received or self._http.trailing_data[0]:
            raise SourceUnintelligible(f"the proxy {self.place} speaks before it is asked")
        transport = await self._loop.start_tls(
            self._transport, self, context, server_hostname=host, ssl_shutdown_timeout=_GOODBYE
        )
        if transport is None:
            raise ConnectionResetError
        self.connection_made(transport)
        self.place = place
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)


async def connect(
    url: httpx.URL, tls: ssl.SSLContext | None, proxy: httpx.URL | None, proxy_tls: ssl.SSLContext | None
) -> Connection:
    """Connects to the server of a URL, or to the proxy that leads there, through which TLS reaches the server itself.

    Raises:
        SourceUnreachable: whichever of the two cannot be reached, by its name.
    """
    if proxy is None:
        return await _connected(url, tls)
    connection = await _connected(proxy, proxy_tls, "the proxy ")
    if tls is not None:
        with ExitStack() as unless_led_on:
            unless_led_on.callback(connection.abort)
            await _led_on(connection, proxy, url, tls)
            unless_led_on.pop_all()
    return connection


async def _led_on(connection: Connection, proxy: httpx.URL, url: httpx.URL, tls: ssl.SSLContext) -> None:
    """Has the proxy lead to the server of a URL, and speaks TLS with that."""
    place = place_of(url)
    headers = [(b"Host", place.encode()), *proxy_headers(proxy)]
    answer = await connection.ask(b"CONNECT", place.encode(), headers, b"")
    if not 200 <= answer.status_code < 300:
        said = f"the proxy {connection.place} refused to connect to {place}: HTTP {answer.status_code}"
        raise SourceUnreachable(said)
    try:
        await connection.secure(tls, url.raw_host.decode("ascii"), place)
    except OSError as error:
        raise unreachable(error, place) from error


async def _connected(url: httpx.URL, tls: ssl.SSLContext | None, role: str = "") -> Connection:
    place = place_of(url)
    host = url.raw_host.decode("ascii")
    try:
        made: tuple[asyncio.Transport, Connection] = await asyncio.get_running_loop().create_connection(
            lambda: Connection(place),
            host,
            url.port or (443 if url.scheme == "https" else 80),
            ssl=tls,
            server_hostname=host if tls else None,
            ssl_shutdown_timeout=_GOODBYE if tls else None,
            happy_eyeballs_delay=_NEXT_ADDRESS,
        )
    except (OSError, ValueError) as error:  # a name that no DNS can hold is a ValueError
        raise unreachable(error, f"{role}{place}") from error
    return made[1]


def proxy_headers(proxy: httpx.URL) -> list[tuple[bytes, bytes]]:
    """Returns the headers that authenticate us to a proxy, from its URL."""
    if not (proxy.username or proxy.password):
        return []
    login = f"{unquote(proxy.username)}:{unquote(proxy.password)}".encode()
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(login))]
