"""A web server in its thread, and certificates made with openssl."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.exposition.prometheus import Renderer
from exporter.exposition.web import Shown, WebServer
from tests.exposition.states import NOW, a_polled_state, a_snapshot

Serve = Callable[..., WebServer]


@pytest.fixture
def shown() -> Shown:
    snapshot = a_snapshot(a_polled_state())
    return Shown(snapshot, Renderer(version="1.2.3", revision="abc").render(snapshot, NOW))


@pytest.fixture(scope="session")
def stopped() -> Iterator[list[WebServer]]:
    """Servers told to stop: each takes a moment, which no test waits for."""
    servers: list[WebServer] = []
    yield servers
    for server in servers:
        server.stop(5)


@pytest.fixture
def serve(shown: Shown, stopped: list[WebServer]) -> Iterator[Serve]:
    """Starts a server on loopback; what is not given takes a default."""
    servers: list[WebServer] = []

    def start(**changes: Any) -> WebServer:
        given: dict[str, Any] = {
            "listen_address": "127.0.0.1:0",
            "telemetry_path": "/metrics",
            "web_config_file": None,
            "enable_lifecycle": False,
            "shown": shown,
            "healthy": list,
            "ready": list,
            "reload": lambda: None,
            "version": "1.2.3",
        }
        server = WebServer(**given | changes)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(0)
    stopped += servers


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def make_certificate(directory: Path, name: str, *, issuer: str | None = None, san: str = "IP:127.0.0.1") -> None:
    """NAME.pem and NAME.key in the directory, signed by the issuer or by itself."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    use = "digitalSignature" if issuer else "keyCertSign"
    extensions = ["-addext", f"subjectAltName={san}", "-addext", f"keyUsage={use}"]
    about = ["-subj", f"/CN={name}", "-days", "30", *extensions]
    openssl("req", "-x509", *key, *signed, *about, "-out", f"{name}.pem", cwd=directory)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca`, a `server` and a `client` of it, and a `stranger` of nobody."""
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory, "ca", san="DNS:ca.test")
    make_certificate(directory, "server", issuer="ca")
    make_certificate(directory, "client", issuer="ca", san="DNS:prometheus.test,IP:::1")
    make_certificate(directory, "stranger", san="DNS:prometheus.test")
    return directory
