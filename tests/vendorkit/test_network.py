"""TLS towards vendors over real sockets: whom we trust, who we are, and certificates that are replaced."""

import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.config import Metrics
from exporter.errors import Reason, SourceUnreachable
from exporter.fleet import Watch
from exporter.simulation.world import World
from exporter.vendors import load_all
from exporter.vendors.key_astrom.simulator import TRAITS, KeyAstromSimulator, simulator_for
from tests.builders import START
from tests.certificates import make_certificate, make_expired_certificate
from tests.served import served

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # sockets are real here, and so is the time


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, each with a client; servers that are good, over, and of another name."""
    folder = tmp_path_factory.mktemp("issued")
    for authority in ("ca", "new-ca"):
        make_certificate(folder, authority, san=f"DNS:{authority}.test")
        make_certificate(folder, f"{authority}-client", issuer=authority, san="DNS:client.test")
        make_certificate(folder, f"{authority}-server", issuer=authority)
    make_certificate(folder, "other-name", issuer="ca", san="DNS:other.test")
    make_expired_certificate(folder, "over", issuer="ca")
    return folder


@pytest.fixture
def folder(issued: Path, tmp_path: Path) -> Path:
    return shutil.copytree(issued, tmp_path / "issued")


@pytest.fixture
def simulator() -> KeyAstromSimulator:
    return simulator_for(World(TRAITS, seed=1, start=START))


def server_context(folder: Path, server: str, clients_of: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / f"{server}.pem", folder / f"{server}.key")
    if clients_of:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / f"{clients_of}.pem")
    return context


Ask = Callable[[], Awaitable[Any]]
Source = Callable[..., Ask]


@pytest.fixture
async def source(simulator: KeyAstromSimulator) -> AsyncIterator[Source]:
    """A source with these TLS settings: called, it sends one request and tells why that failed, or None."""
    watches = []

    def source(url: str, **tls: Any) -> Ask:
        settings = simulator.settings(url) | {"proxy": "none", "tls": tls}
        config = load_all()["key_astrom"].config.model_validate(settings)
        watch = Watch("a", config, Metrics(), published=lambda: None)
        watches.append(watch)

        async def ask() -> SourceUnreachable | None:
            try:
                answer = await watch.client.get(f"{config.endpoint}/api/v2/eventTypes")
            except SourceUnreachable as error:
                return error
            assert answer.status_code == 200
            return None

        return ask

    yield source
    for watch in watches:
        await watch.close()


@pytest.mark.parametrize(
    ("server", "trusted", "said"),
    [
        ("new-ca-server", "ca", "unable to get local issuer certificate"),
        ("new-ca-server", None, "unable to get local issuer certificate"),
        ("over", "ca", "certificate has expired"),
        ("other-name", "ca", "IP address mismatch"),
    ],
)
async def test_a_server_that_cannot_be_trusted_is_refused_as_tls(
    server: str, trusted: str | None, said: str, folder: Path, simulator: KeyAstromSimulator, source: Source
) -> None:
    tls = {"ca_file": folder / f"{trusted}.pem"} if trusted else {}
    with served(simulator.answer, server_context(folder, server)) as url:
        error = await source(url, **tls)()

    assert error.reason is Reason.TLS
    assert said in str(error)


async def test_a_server_that_speaks_no_tls_is_refused_as_tls(simulator: KeyAstromSimulator, source: Source) -> None:
    with served(simulator.answer) as url:
        error = await source(url.replace("http:", "https:"))()

    assert error.reason is Reason.TLS


@pytest.mark.parametrize("tls", [{"ca_file": "ca.pem"}, {"insecure_skip_verify": True}])
async def test_a_server_that_is_trusted_is_asked(
    tls: dict[str, Any], folder: Path, simulator: KeyAstromSimulator, source: Source
) -> None:
    given = {name: folder / value if name.endswith("_file") else value for name, value in tls.items()}
    with served(simulator.answer, server_context(folder, "ca-server")) as url:
        error = await source(url, **given)()

    assert error is None


def client_of(folder: Path, authority: str) -> dict[str, Path]:
    client = folder / f"{authority}-client.pem"
    return {"ca_file": folder / "ca.pem", "cert_file": client, "key_file": client.with_suffix(".key")}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_asks_who_we_are_is_told_and_its_refusal_is_tls(
    version: ssl.TLSVersion, folder: Path, simulator: KeyAstromSimulator, source: Source
) -> None:
    context = server_context(folder, "ca-server", clients_of="ca")
    context.maximum_version = version
    with served(simulator.answer, context) as url:
        known = await source(url, **client_of(folder, "ca"))()
        unknown = await source(url, **client_of(folder, "new-ca"))()
        nobody = await source(url, ca_file=folder / "ca.pem")()

    assert known is None
    assert (unknown.reason, nobody.reason) == (Reason.TLS, Reason.TLS)


def replaced(target: Path, source: Path) -> None:
    """As Kubernetes does: the name points to another file at once."""
    link = target.with_suffix(".swap")
    link.symlink_to(source)
    link.replace(target)


async def test_certificates_that_are_replaced_are_used_without_a_restart(
    folder: Path, simulator: KeyAstromSimulator, source: Source
) -> None:
    tls = client_of(folder, "ca")
    with served(simulator.answer, server_context(folder, "new-ca-server", clients_of="new-ca")) as url:
        ask = source(url, **tls)
        before = await ask()
        for name in ("ca.pem", "ca-client.pem", "ca-client.key"):
            replaced(folder / name, folder / f"new-{name}")
        after = await ask()

    assert before.reason is Reason.TLS
    assert after is None


async def test_certificates_that_are_half_replaced_or_lost_leave_those_read_last_in_use(
    folder: Path, simulator: KeyAstromSimulator, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    tls = client_of(folder, "ca")
    with served(simulator.answer, server_context(folder, "ca-server", clients_of="ca")) as url:
        ask = source(url, **tls)
        whole = await ask()
        replaced(tls["cert_file"], folder / "new-ca-client.pem")  # its key has yet to come
        half = await ask()
        tls["key_file"].unlink()
        lost = await ask()

    assert (whole, half, lost) == (None, None, None)
    assert len([text for text in caplog.messages if "those read last stay in use" in text]) == 1
