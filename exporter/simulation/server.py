"""Serves vendors' simulators on loopback, with faults on demand.

Besides the vendors' own paths there is `/-/simulation/`: GET returns each site's calls and truth, PUT sets its faults.
"""

import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import uvicorn

from exporter.simulation.network import WITHOUT_A_SERVER, Fault, FaultKind, Site, body_of, delay_of, site_for
from exporter.simulation.truth import Since
from exporter.simulation.wire import Request, Response, json_response

Message = dict[str, Any]
CONTROL = "/-/simulation/"


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /-/simulation/{vendor}: the faults from now on, and the offset of the vendor's clock."""

    faults: list[Fault] = []
    skew_seconds: float = 0.0


class SimulatedSites:
    """The ASGI application: routes a request to the site whose API it asks for."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = {site.simulator.vendor: site for site in sites}
        self._started = {vendor: site.simulator.world.now for vendor, site in self._sites.items()}

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers one request; a broken connection is made by raising, which uvicorn turns into a reset."""
        if scope["type"] != "http":
            return
        request = await _request(scope, receive)
        fault = None
        if request.path.startswith(CONTROL):
            response = self._control(request)
        elif (site := site_for(list(self._sites.values()), request)) is None:
            response = json_response({"message": "no such API"}, status=404)
        else:
            fault = site.fault_for(request)
            with anyio.move_on_after(600):
                await delay_of(fault)
            response = site.respond(request, fault)
        headers = {"Content-Type": response.content_type, **response.headers}
        if fault is None or fault.kind not in {FaultKind.DRIP, FaultKind.RESET}:
            headers["Content-Length"] = str(len(response.body))
        wire = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": wire})
        async for chunk in body_of(response, fault):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    def _control(self, request: Request) -> Response:
        site = self._sites.get(request.path.removeprefix(CONTROL))
        if site is None:
            return json_response({"vendors": sorted(self._sites)}, status=200 if request.path == CONTROL else 404)
        world = site.simulator.world
        if request.method == "PUT":
            try:
                control = msgspec.json.decode(request.body, type=Control)
            except msgspec.MsgspecError as error:
                return json_response({"message": str(error)}, status=400)
            if kinds := {fault.kind for fault in control.faults} & WITHOUT_A_SERVER:
                return json_response({"message": f"a server cannot play {sorted(kinds)}"}, status=400)
            site.faults[:] = control.faults
            world.skew = timedelta(seconds=control.skew_seconds)
        started = self._started[site.simulator.vendor]
        truth = site.simulator.truth(Since(counted_from=started, first_success=started))
        return json_response(
            {
                "now": world.now,
                "faults": site.faults,
                "calls": {f"{endpoint} {code}": count for (endpoint, code), count in site.calls.items()},
                "truth": {
                    name: {" ".join(key) if isinstance(key, tuple) else key: count for key, count in value.items()}
                    if isinstance(value, dict)
                    else value
                    for name, value in msgspec.structs.asdict(truth).items()
                },
            }
        )


async def _request(scope: Message, receive: Callable[[], Awaitable[Message]]) -> Request:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("ascii"),
        query=scope["query_string"].decode("ascii"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )


class SimulationServer:
    """Serves sites from a thread of its own, until it is stopped."""

    def __init__(self, sites: Sequence[Site], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.create_server((host, port))
        # Connections inherit it; without it each body waits 40 ms for the acknowledgement of its head.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            SimulatedSites(sites),
            lifespan="off",
            log_config=None,
            log_level="critical",  # a reset is made by raising
            access_log=False,
            server_header=False,
            proxy_headers=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=256 * 1024,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="simulation", daemon=True)

    @property
    def url(self) -> str:
        """Returns the base URL of all sites."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends serving; hanging requests are broken off."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(timeout=5)
