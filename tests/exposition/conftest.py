"""A web server in its thread, and certificates."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from exporter.exposition.port import Limits, Port
from exporter.exposition.prometheus import Renderer
from exporter.exposition.web import Shown, Site
from exporter.exposition.webconfig import WebConfig
from tests.certificates import make_certificate
from tests.exposition.states import a_polled_state, a_snapshot

Serve = Callable[..., Port]


@pytest.fixture
def shown() -> Shown:
    snapshot = a_snapshot(a_polled_state(succeeded=monotonic()), moment=monotonic())
    return Shown(snapshot, Renderer(version="1.2.3", revision="abc").render(snapshot))


@pytest.fixture(scope="session")
def stopped() -> Iterator[list[Port]]:
    """Servers told to stop: each takes a moment, which no test waits for."""
    servers: list[Port] = []
    yield servers
    for server in servers:
        server.stop(5)


@pytest.fixture
def serve(shown: Shown, stopped: list[Port]) -> Iterator[Serve]:
    """Starts a server on loopback; what is not given takes a default."""
    servers: list[Port] = []

    def start(
        listen_address: str = "127.0.0.1:0",
        web_config_file: Path | None = None,
        limits: Limits | None = None,
        **changes: Any,
    ) -> Port:
        web_config = WebConfig(web_config_file) if web_config_file else None
        given: dict[str, Any] = {
            "shown": shown,
            "telemetry_path": "/metrics",
            "healthy": list,
            "ready": list,
            "reload": None,
            "version": "1.2.3",
        }
        site = Site(web_config=web_config, **given | changes)
        server = Port(site.app, listen_address, web_config=web_config, limits=limits or Limits())
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(0)
    stopped += servers


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca`, a `server` and a `client` of it, and a `stranger` of nobody."""
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory, "ca", san="DNS:ca.test")
    make_certificate(directory, "server", issuer="ca")
    make_certificate(directory, "client", issuer="ca", san="DNS:prometheus.test,IP:::1")
    make_certificate(directory, "stranger", san="DNS:prometheus.test")
    return directory
