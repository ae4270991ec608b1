"""The port: its socket, TLS and connection limits. The only module that uses internals of uvicorn and asyncio's TLS.

docs/decisions/server-library.md lists these internals, and why they are used.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
import threading
from asyncio.sslproto import SSLProtocol
from contextlib import suppress
from enum import Enum, auto
from typing import Any

import msgspec
import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.errors import ConfigError
from exporter.exposition.webconfig import WebConfig

log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that keep one client from starving the others.

    `connections` counts those whose TLS handshake is under way, too. `head_seconds` is how long a TLS handshake and the
    head of a request may each take, `idle_seconds` how long a client may take to read an answer, and how long a
    connection is then kept for a further request; it is longer than most scrape intervals.
    """

    connections: int = 256
    head_bytes: int = 16 * 1024
    head_seconds: float = 10
    idle_seconds: int = 90


_LIMITS = Limits()
# Seconds for requests in flight to finish when the port closes.
_PARTING_SECONDS = 0.7
# Seconds between two log lines about connections that could not be accepted.
_REPEAT_SECONDS = 60.0


class Port:
    """Serves an ASGI app on an address, in its own thread."""

    def __init__(
        self, app: ASGIApp, listen_address: str, *, web_config: WebConfig | None = None, limits: Limits = _LIMITS
    ) -> None:
        self._listen_address = listen_address
        self._web_config = web_config
        self._limits = limits
        self.most = limits.connections
        """Maximum number of connections; may be changed while serving."""
        self._crowd: set[_Connection] = set()
        settings = uvicorn.Config(
            _closing_where_unclear(_ended_quietly(app)),
            http=self._connection,  # type: ignore[arg-type]  # a factory will do
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle_seconds,
            h11_max_incomplete_event_size=limits.head_bytes,
        )
        self._server = _Server(settings, self._crowd)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._socket: socket.socket | None = None
        self._refused, self._refused_until = 0, 0.0
        self.address = ("", 0)

    @property
    def url(self) -> str:
        """Returns its URL, from the bound address."""
        host, port = self.address
        return f"http{'s' if self.is_secured else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def is_secured(self) -> bool:
        """Returns whether it uses TLS."""
        return self._web_config is not None and self._web_config.now().context is not None

    def start(self) -> None:
        """Binds the address and returns once requests are answered; raises ConfigError if it cannot bind."""
        self._socket = _bound(self._listen_address)
        # Head and body are written apart. Accepted connections inherit this, which asyncio sets only on sockets whose
        # protocol number is not 0; without it each body waits 40 ms for the client's delayed acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = self._socket.getsockname()[:2]
        self._thread.start()
        self._server.answers.wait()

    def _serve(self) -> None:
        async def serve() -> None:
            asyncio.get_running_loop().set_exception_handler(self._in_trouble)
            await self._server.serve([self._socket] if self._socket else None)

        try:
            asyncio.run(serve())
        finally:
            self._server.answers.set()

    def _in_trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs a connection that could not be accepted once a minute; asyncio would log a traceback for each try."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
            return
        self._refused += 1
        if loop.time() >= self._refused_until:
            log.error("cannot accept connections: %s; failed attempts: %d", error.strerror, self._refused)
            self._refused, self._refused_until = 0, loop.time() + _REPEAT_SECONDS

    def _connection(self, **given: Any) -> asyncio.BaseProtocol:
        plain = _Connection(self, self._limits, self._crowd, self._web_config, **given)
        context = self._web_config.now().context if self._web_config else None
        return plain if context is None else _Secured(plain, context)

    def stop(self, timeout_seconds: float) -> None:
        """Stops listening and finishes the requests in flight, within _PARTING_SECONDS."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)


def descriptors() -> int:
    """Raises the limit on file descriptors as far as allowed, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


_UNLIMITED = 2**20
# Errors of accept() when descriptors or buffers run out.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Server(uvicorn.Server):
    """Signals when it has started; when it stops, drops the connections of its `crowd` that do not end."""

    def __init__(self, config: uvicorn.Config, crowd: set["_Connection"]) -> None:
        super().__init__(config)
        self.answers = threading.Event()
        self._crowd = crowd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own limit would cancel the requests in flight and log each with a traceback.
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await super().shutdown(sockets)
        for one in self._crowd.copy():
            one.drop()
        await asyncio.sleep(0.01)  # for their requests to notice


class _Phase(Enum):
    """The phase of a connection: in ANSWER it waits for us, otherwise for its client."""

    HEAD = auto()
    ANSWER = auto()
    READING = auto()
    IDLE = auto()


class _Connection(H11Protocol):
    """Ends itself if its client takes too long, and ends another of the `crowd` when that is full.

    uvicorn itself waits forever for the rest of a request's head, and for a client that does not read its answer.
    """

    _tcp: asyncio.Transport

    def __init__(
        self, port: Port, limits: Limits, crowd: set["_Connection"], web_config: WebConfig | None, **given: Any
    ) -> None:
        super().__init__(**given)
        self._port = port
        self._limits = limits
        self._crowd = crowd
        self._web_config = web_config
        self._timer: asyncio.TimerHandle | None = None

    def accepted(self, tcp: asyncio.Transport) -> None:
        """Takes a place in the crowd, or that of another if it is full."""
        self._tcp = tcp
        self._enter(_Phase.HEAD)
        while self._crowd and len(self._crowd) >= self._port.most:
            # Of those waiting for their clients and those waiting for us, the larger group gives up its oldest:
            # a flood of either drops its own, and neither can hold every place.
            waiting = [one for one in self._crowd if one._phase is not _Phase.ANSWER]
            answering = [one for one in self._crowd if one._phase is _Phase.ANSWER]
            more = waiting if len(waiting) >= len(answering) else answering
            min(more, key=lambda one: one._since).drop()
        self._crowd.add(self)

    def drop(self) -> None:
        """Ends the connection at once."""
        self.gone()
        self._tcp.abort()

    def gone(self) -> None:
        """Gives up the place."""
        self._crowd.discard(self)
        self._stop_timer()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.scheme == "http":
            self.accepted(transport)
        if self._web_config is not None and not self._web_config.allows(transport.get_extra_info("peercert")):
            transport.abort()
            return
        self._enter(_Phase.HEAD)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._phase is _Phase.IDLE:  # the first bytes of the next request
            self._enter(_Phase.HEAD)
        if self._phase is _Phase.HEAD and self._is_answering():
            self._enter(_Phase.ANSWER)

    def on_response_complete(self) -> None:
        if self._phase is _Phase.ANSWER:
            self._enter(_Phase.IDLE)
        super().on_response_complete()  # the next request may have arrived already
        if self._phase is _Phase.IDLE and self._is_answering():
            self._enter(_Phase.ANSWER)

    def send_400_response(self, msg: str) -> None:
        # uvicorn's would clash with the answer to a request whose body is malformed, and log a traceback.
        self._enter(_Phase.READING)
        if self.cycle is None or not self.cycle.response_started:
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # sends no more

    def pause_writing(self) -> None:
        super().pause_writing()
        self._enter(_Phase.READING)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._enter(_Phase.ANSWER if self._is_answering() else _Phase.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        self._stop_timer()
        if phase is not _Phase.ANSWER:
            patient = phase in {_Phase.READING, _Phase.IDLE}
            seconds = self._limits.idle_seconds if patient else self._limits.head_seconds
            self._timer = self.loop.call_later(seconds, self._tcp.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Secured(SSLProtocol):
    """TLS around a connection, which therefore counts from the moment it is accepted."""

    def __init__(self, inner: _Connection, context: ssl.SSLContext) -> None:
        super().__init__(inner.loop, inner, context, None, server_side=True)  # type: ignore[arg-type]
        self._inner = inner

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._inner.accepted(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._inner.gone()
        super().connection_lost(exc)


def _ended_quietly(app: ASGIApp) -> ASGIApp:
    """Wraps the app so that requests cancelled at shutdown are not logged as errors."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return call


def _closing_where_unclear(app: ASGIApp) -> ASGIApp:
    """Wraps the app so that a connection ends after a request with two conflicting lengths.

    A proxy in front of us may have seen a different end of it (RFC 9112, section 6.1).
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"])["connection"] = "close"
            await send(message)

        headers = Headers(scope=scope)
        unclear = "content-length" in headers and "transfer-encoding" in headers
        await app(scope, receive, send_last if unclear else send)

    return call


# Errors of binding to IPv6 on a machine without it.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def _bound(address: str) -> socket.socket:
    """Returns a socket listening on `host:port`; without a host, or with `[::]`, on all interfaces, IPv4 and IPv6."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise ConfigError(f"web.listen_address: {address!r} has no port; write host:port, or :port for all interfaces")
    try:
        if host in {"", "::"} and socket.has_dualstack_ipv6():
            try:
                return socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
            except OSError as error:
                if host or error.errno not in _NO_IPV6:
                    raise
        found = socket.getaddrinfo(host or "0.0.0.0", int(port), type=socket.SOCK_STREAM)  # noqa: S104 as documented
        family, *_, place = min(found, key=lambda one: one[0] != socket.AF_INET)  # `localhost` is 127.0.0.1 first
        return socket.create_server((str(place[0]), int(port)), family=family)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(
            f"web.listen_address: cannot listen on {address}: {why}; choose another address or stop what uses this one"
        ) from error
