"""Our own port: /metrics, the landing page, /-/healthy, /-/ready, /-/reload, served by a thread of its own."""

import asyncio
import errno
import socket
import ssl
import threading
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.errors import ConfigError
from exporter.exposition import landing
from exporter.exposition.prometheus import Exposition
from exporter.exposition.webconfig import WebConfig
from exporter.model.snapshot import Snapshot


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may take from the others.

    `connections` counts those whose TLS handshake is under way, too. `head_seconds` is how long a TLS handshake and the
    head of a request may each take, `idle_seconds` how long a client may take to read an answer, and how long a
    connection is then kept for a further request; it is longer than most scrape intervals.
    """

    connections: int = 256
    head_bytes: int = 16 * 1024
    head_seconds: float = 10
    idle_seconds: int = 90


_LIMITS = Limits()
# So long those who are being answered have when we stop.
_PARTING_SECONDS = 0.7


class Shown:
    """What scrapes see; replaced as a whole, so that none sees half of a poll."""

    def __init__(self, snapshot: Snapshot, exposition: Exposition) -> None:
        self.current = snapshot, exposition

    def show(self, snapshot: Snapshot, exposition: Exposition) -> None:
        """Shows this from now on; any thread may call it."""
        self.current = snapshot, exposition


class WebServer:
    """Serves what is shown.

    `healthy` and `ready` name the sources that are not; `reload` returns why it failed, or None, and may block: it is
    called in a worker thread. The constructor raises ConfigError if the web configuration file is wrong.
    """

    def __init__(
        self,
        *,
        listen_address: str,
        telemetry_path: str,
        web_config_file: Path | None,
        enable_lifecycle: bool,
        shown: Shown,
        healthy: Callable[[], list[str]],
        ready: Callable[[], list[str]],
        reload: Callable[[], str | None],
        version: str,
        limits: Limits = _LIMITS,
    ) -> None:
        self._listen_address = listen_address
        self._limits = limits
        self._web_config = config = WebConfig(web_config_file) if web_config_file else None
        self._crowd: set[_TimedProtocol] = set()
        site = _Site(shown, telemetry_path, healthy, ready, reload if enable_lifecycle else None, version)
        app = site.app if config is None else _Guarded(site.app, config)
        settings = uvicorn.Config(
            _ended_quietly(app),
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
        self.address = ("", 0)

    def start(self) -> None:
        """Binds the address, raising ConfigError if that cannot be done; returns when requests are answered."""
        self._socket = _bound(self._listen_address)
        # Head and body are written apart. Accepted connections inherit this, which asyncio sets only on sockets whose
        # protocol number is not 0; without it each body waits 40 ms for the client's delayed acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = self._socket.getsockname()[:2]
        self._thread.start()
        self._server.answers.wait()

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve([self._socket] if self._socket else None))
        finally:
            self._server.answers.set()

    def _connection(self, **given: Any) -> asyncio.BaseProtocol:
        plain = _TimedProtocol(limits=self._limits, crowd=self._crowd, web_config=self._web_config, **given)
        context = self._web_config.now().context if self._web_config else None
        return plain if context is None else _Secured(plain, context)

    def stop(self, timeout_seconds: float) -> None:
        """Stops listening and finishes the requests in flight; returns after at most so many seconds."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)


class _Server(uvicorn.Server):
    """Tells when it has started; drops, when it stops, the connections of its `crowd` that do not end."""

    def __init__(self, config: uvicorn.Config, crowd: set["_TimedProtocol"]) -> None:
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
        await asyncio.sleep(0.01)  # in which their requests learn that nobody waits for them


class _Phase(Enum):
    """What a connection is waiting for: in ANSWER for us, in all others for its client."""

    HANDSHAKE = auto()
    HEAD = auto()
    ANSWER = auto()
    READING = auto()
    IDLE = auto()


class _TimedProtocol(H11Protocol):
    """Drops connections that do not get on with it, and one of the `crowd`, which is all there are, when it is full.

    uvicorn itself waits for ever for the rest of a request's head, and for a client that does not read its answer.
    """

    _tcp: asyncio.Transport

    def __init__(
        self, *args: Any, limits: Limits, crowd: set["_TimedProtocol"], web_config: WebConfig | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._crowd = crowd
        self._web_config = web_config
        self._timer: asyncio.TimerHandle | None = None

    def accepted(self, tcp: asyncio.Transport) -> None:
        """Takes a place in the crowd, another's if it is full."""
        self._tcp = tcp
        self._enter(_Phase.HANDSHAKE)
        if len(self._crowd) >= self._limits.connections:
            # The one longest in the phase that holds most: a flood of one kind then drops its own, and no kind can keep
            # all places. A request in flight goes only where such requests are more than any other kind.
            held = Counter(one._phase for one in self._crowd)
            dropped = min(self._crowd, key=lambda one: (-held[one._phase], one._phase is _Phase.ANSWER, one._since))
            dropped.drop()
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
        if self._phase is _Phase.IDLE:  # the first bytes of a further request
            self._enter(_Phase.HEAD)
        if self._phase is _Phase.HEAD and self._is_answering():
            self._enter(_Phase.ANSWER)

    def on_response_complete(self) -> None:
        if self._phase is _Phase.ANSWER:
            self._enter(_Phase.IDLE)
        super().on_response_complete()  # which may find that the next request has arrived already
        if self._phase is _Phase.IDLE and self._is_answering():
            self._enter(_Phase.ANSWER)

    def send_400_response(self, msg: str) -> None:
        # uvicorn's own would clash with the answer to a request whose body turns out wrong, and log a traceback.
        self._enter(_Phase.READING)
        if self.cycle is None or not self.cycle.response_started:
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # says no more

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
    """TLS around a connection, which so counts from the moment it is accepted."""

    def __init__(self, inner: _TimedProtocol, context: ssl.SSLContext) -> None:
        super().__init__(inner.loop, inner, context, None, server_side=True)  # type: ignore[arg-type]
        self._inner = inner

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._inner.accepted(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._inner.gone()
        super().connection_lost(exc)


def _ended_quietly(app: ASGIApp) -> ASGIApp:
    """The same; a request that is cancelled, as happens only when the server has stopped, is no defect to be logged."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return call


class _Site:
    """What there is to be seen, and under which paths."""

    def __init__(
        self,
        shown: Shown,
        telemetry_path: str,
        healthy: Callable[[], list[str]],
        ready: Callable[[], list[str]],
        reload: Callable[[], str | None] | None,
        version: str,
    ) -> None:
        self._shown = shown
        self._telemetry_path = telemetry_path
        self._healthy = healthy
        self._ready = ready
        self._reload = reload
        self._version = version
        self.app = Starlette(
            routes=[
                Route(telemetry_path, self._metrics),
                Route("/", self._landing),
                Route("/-/healthy", self._health),
                Route("/-/ready", self._readiness),
                Route("/-/reload", self._reloading, methods=["POST", "PUT"]),
            ]
        )
        self.app.router.redirect_slashes = False

    async def _metrics(self, request: Request) -> Response:
        _, exposition = self._shown.current
        accept = ",".join(request.headers.getlist("accept"))
        text = exposition.openmetrics if _prefers_openmetrics(accept) else exposition.text
        headers = {"content-type": text.content_type, "vary": "accept, accept-encoding"}
        if names := request.query_params.getlist("name[]"):
            return Response(text.only(names), headers=headers)
        if _takes_gzip(",".join(request.headers.getlist("accept-encoding"))):
            return Response(text.gzipped, headers={**headers, "content-encoding": "gzip"})
        return Response(text.whole, headers=headers)

    async def _landing(self, _: Request) -> Response:
        snapshot, _exposition = self._shown.current
        headers = {
            "content-security-policy": landing.CSP,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }
        html = landing.page(snapshot, datetime.now(UTC), self._version, self._telemetry_path)
        return HTMLResponse(html, headers=headers)

    async def _health(self, _: Request) -> Response:
        return _verdict(self._healthy(), "healthy", "the poll loop does not turn")

    async def _readiness(self, _: Request) -> Response:
        return _verdict(self._ready(), "ready", "the first poll has not finished")

    async def _reloading(self, request: Request) -> Response:
        if self._reload is None:
            return PlainTextResponse("start with --web.enable-lifecycle to allow this\n", 403)
        if _is_cross_site(request.headers):
            return PlainTextResponse("refused: the request comes from another site\n", 403)
        problem = await run_in_threadpool(self._reload)
        return PlainTextResponse("reloaded\n") if problem is None else PlainTextResponse(f"{problem}\n", 500)


def _verdict(sources: list[str], good: str, bad: str) -> Response:
    if not sources:
        return PlainTextResponse(f"{good}\n")
    return PlainTextResponse(f"{bad}: {', '.join(sources)}\n", 503)


def _is_cross_site(headers: Headers) -> bool:
    """Whether a browser sends this on behalf of another site's page."""
    own = {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}
    return headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} or (
        "origin" in headers and headers["origin"] not in own
    )


def _prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics 1.0.0 is asked for, and not less than plain text."""
    weights: dict[str, float] = {}
    for value, parameters, weight in _weighed(accept):
        if value != "application/openmetrics-text" or parameters.get("version", "1.0.0") == "1.0.0":
            weights[value] = max(weight, weights.get(value, 0))
    plain = next((weights[value] for value in ("text/plain", "text/*", "*/*") if value in weights), 0.0)
    return 0 < weights.get("application/openmetrics-text", 0) >= plain


def _takes_gzip(accept_encoding: str) -> bool:
    weights = {value: weight for value, _, weight in _weighed(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0)) > 0


def _weighed(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """The values of an Accept header, each with its parameters and its q, which is 0 where it makes no sense."""
    for entry in header.lower().split(","):
        value, *rest = (part.strip() for part in entry.split(";"))
        parameters = {name.strip(): text.strip(' "') for name, _, text in (part.partition("=") for part in rest)}
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 0
        yield value, parameters, weight if 0 <= weight <= 1 else 0


class _Guarded:
    """The site behind basic authentication, with the headers the web configuration file sets."""

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in self._config.now().headers:
                    headers[name] = value
            await send(message)

        address, _ = scope["client"] or ("", 0)
        if await self._config.admits(Headers(scope=scope).get("authorization", ""), address):
            await self._app(scope, receive, send_with_headers)
        else:
            await Response(status_code=401, headers={"www-authenticate": "Basic"})(scope, receive, send_with_headers)


# What binding to IPv6 says where the machine has none.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def _bound(address: str) -> socket.socket:
    """A socket that listens on `host:port`; without a host, or with `[::]`, on all interfaces of both families."""
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
