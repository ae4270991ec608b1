"""The routes and content negotiation: /metrics, the landing page, /-/healthy, /-/ready, /-/reload."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.exposition import landing
from exporter.exposition.prometheus import Exposition
from exporter.exposition.status import status_of
from exporter.exposition.webconfig import WebConfig
from exporter.model.snapshot import Snapshot


class Shown:
    """The content shown to scrapes; replaced as a whole, so that none sees half a poll."""

    def __init__(self, snapshot: Snapshot, exposition: Exposition) -> None:
        self.current = snapshot, exposition

    def show(self, snapshot: Snapshot, exposition: Exposition) -> None:
        """Replaces the content; safe to call from any thread."""
        self.current = snapshot, exposition


class Site:
    """The routes: metrics, landing page, health, readiness, reload.

    `healthy` and `ready` name the sources that are not. `reload` returns why it failed, or None, and may block, being
    called in a worker thread; without one, reloads are forbidden. `web_config` controls access.
    """

    def __init__(
        self,
        *,
        shown: Shown,
        telemetry_path: str,
        web_config: WebConfig | None,
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
        router = Starlette(
            routes=[
                Route(telemetry_path, self._metrics),
                Route("/", self._landing),
                Route("/status", self._status),
                Route("/-/healthy", self._health),
                Route("/-/ready", self._readiness),
                Route("/-/reload", self._reloading, methods=["POST", "PUT"]),
            ]
        )
        router.router.redirect_slashes = False
        self.app: ASGIApp = router if web_config is None else _Guarded(router, web_config)

    async def _metrics(self, request: Request) -> Response:
        _, exposition = self._shown.current
        accept = ",".join(request.headers.getlist("accept"))
        text = exposition.openmetrics if _prefers_openmetrics(accept) else exposition.text
        headers = {"content-type": text.content_type, "vary": "accept, accept-encoding"}
        gzipped = _takes_gzip(",".join(request.headers.getlist("accept-encoding")))
        if gzipped:
            headers["content-encoding"] = "gzip"
        # Staleness is decided now, even if nothing is being rendered.
        body = text.body(monotonic(), names=request.query_params.getlist("name[]"), gzipped=gzipped)
        return Response(body, headers=headers)

    async def _landing(self, request: Request) -> Response:
        snapshot, _exposition = self._shown.current
        refreshes = request.query_params.get("refresh") != "off"
        now, moment = datetime.now(UTC), monotonic()
        html = landing.page(snapshot, now, moment, self._version, self._telemetry_path, refreshes=refreshes)
        return HTMLResponse(html, headers=dict(landing.headers(refreshes=refreshes)))

    async def _status(self, _: Request) -> Response:
        snapshot, _exposition = self._shown.current
        body = msgspec.json.encode(status_of(snapshot, monotonic(), self._version))
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})

    async def _health(self, _: Request) -> Response:
        return _verdict(self._healthy(), "healthy", "the poll loop is stuck")

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
    """Returns whether a browser sent this for another site's page."""
    own = {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}
    return headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} or (
        "origin" in headers and headers["origin"] not in own
    )


def _prefers_openmetrics(accept: str) -> bool:
    """Returns whether the client accepts OpenMetrics 1.0.0 and does not prefer plain text."""
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
    """Yields the values of an Accept header, each with its parameters and its q, which is 0 if malformed."""
    for entry in header.lower().split(","):
        value, *rest = (part.strip() for part in entry.split(";"))
        parameters = {name.strip(): text.strip(' "') for name, _, text in (part.partition("=") for part in rest)}
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 0
        yield value, parameters, weight if 0 <= weight <= 1 else 0


class _Guarded:
    """The site behind basic authentication, with the headers of the web configuration file."""

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
