"""TLS towards vendors over real sockets: whom we trust, who we are, and certificates that are replaced."""

import asyncio
import re
import shutil
import socket
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from exporter.config import Metrics
from exporter.errors import FetchError, Reason
from exporter.fleet import Watch
from exporter.simulation.wire import Request, Response
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

    def source(url: str, proxy: str = "none", max_response_bytes: Any = "32MiB", **tls: Any) -> Ask:
        settings = simulator.settings(url) | {"proxy": proxy, "tls": tls, "max_response_bytes": max_response_bytes}
        config = load_all()["key_astrom"].config.model_validate(settings)
        watch = Watch("a", config, Metrics(), published=lambda: None)
        watches.append(watch)

        async def ask() -> FetchError | None:
            try:
                answer = await watch.client.get(f"{config.endpoint}/api/v2/eventTypes")
            except FetchError as error:
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
    assert len([text for text in caplog.messages if "the previous ones stay in use" in text]) == 1


# Whatever may be asked, by its own scheme and host.

PASSWORD = {
    "method": "password",
    "domain": "acme",
    "username": "exporter",
    "password": "simulated-password",
    "project_name": "cn-north-4",
}


def url_keys(vendor: str) -> set[str]:
    """The names of all keys below a source of this vendor that hold a URL, in whichever section."""
    schema = load_all()[vendor].config.model_json_schema()
    sections = [schema, *schema.get("$defs", {}).values()]
    return {
        name
        for section in sections
        for name, key in section.get("properties", {}).items()
        if "'format': 'uri'" in str(key)
    }


URL_KEYS = [(vendor, key) for vendor in sorted(load_all()) for key in sorted(url_keys(vendor))]


def test_every_vendor_has_a_url_and_one_has_two() -> None:
    assert URL_KEYS == [
        ("baidu_bls", "endpoint"),
        ("blueking", "endpoint"),
        ("huawei_aom", "endpoint"),
        ("huawei_aom", "iam_endpoint"),
        ("key_astrom", "endpoint"),
    ]


def a_watch(vendor: str, urls: dict[str, str], **settings: Any) -> Watch:
    """A source of this vendor whose keys hold these URLs, with the credentials that use them all."""
    given = import_module(f"exporter.vendors.{vendor}.simulator").simulator_for(World(TRAITS, seed=1, start=START))
    source = given.settings(urls["endpoint"]) | settings
    if "iam_endpoint" in urls:
        source["auth"] = {**PASSWORD, "iam_endpoint": urls["iam_endpoint"]}
    return Watch(vendor, load_all()[vendor].config.model_validate(source), Metrics(), published=lambda: None)


class Wiretap:
    """A vendor that answers anything with an empty object, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Response:
        self.asked.append(request)
        token = {"X-Subject-Token": "a-token"} if "/v3/auth/tokens" in request.path else {}
        return Response(body=b"{}", headers=token)


async def failed_as(watch: Watch) -> str | None:
    """The reason for which a poll of this source fails."""
    try:
        with anyio.move_on_after(20):
            await watch.poller.poll()
    finally:
        await watch.close()
    return watch.book.state.last_reason


@pytest.mark.parametrize("tls", [{}, {"ca_file": "new-ca.pem"}], ids=["built-in authorities", "another authority"])
@pytest.mark.parametrize("others", ["http", "https"])
@pytest.mark.parametrize(("vendor", "key"), URL_KEYS)
async def test_nothing_is_sent_to_a_server_that_is_not_verified_whatever_the_other_urls_say(
    vendor: str, key: str, others: str, tls: dict[str, str], folder: Path
) -> None:
    settings = {"proxy": "none", "interval": "3s", "tls": {name: folder / file for name, file in tls.items()}}
    unverified, good = Wiretap(), Wiretap()
    trusted = server_context(folder, "new-ca-server") if others == "https" and tls else None
    with (
        served(unverified.answer, server_context(folder, "ca-server")) as bad_url,
        served(good.answer, trusted) as good_url,
    ):
        urls = dict.fromkeys(url_keys(vendor), good_url) | {key: bad_url}
        reason = await failed_as(a_watch(vendor, urls, **settings))

    assert reason == Reason.TLS
    assert unverified.asked == []
    assert all("password" not in request.body.decode() for request in good.asked if key == "iam_endpoint")


@asynccontextmanager
async def a_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that leads where it is told, and what it was asked: method and target."""
    asked: list[str] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target = head.decode().split(" ")[:2]
        login = re.search(r"(?i)proxy-authorization: (.*)\r\n", head.decode())
        asked.append(
            f"{method} {target.split('/')[2] if '://' in target else target} {login[1] if login else ''}".strip()
        )
        host, _, port = target.removeprefix("http://").partition("/")[0].rpartition(":")
        theirs, ours = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            ours.write(head.replace(f"http://{host}:{port}".encode(), b"", 1))
        await asyncio.gather(carry(reader, ours), carry(theirs, writer))

    server = await asyncio.start_server(lead, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await asyncio.sleep(0.1)  # for the connections to end, before whom they lead to is stopped


@pytest.mark.parametrize("direct", ["localhost", "127.0.0.1"])
async def test_each_host_of_a_source_is_asked_by_the_proxy_that_is_for_it(
    direct: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, iam = Wiretap(), Wiretap()
    with served(endpoint.answer) as endpoint_url, served(iam.answer) as iam_url:
        urls = {"endpoint": endpoint_url.replace("127.0.0.1", "localhost"), "iam_endpoint": iam_url}
        async with a_proxy() as (proxy_url, asked):
            monkeypatch.setenv("http_proxy", proxy_url)
            monkeypatch.setenv("no_proxy", direct)
            await failed_as(a_watch("huawei_aom", urls, interval="3s"))

    assert iam.asked
    assert endpoint.asked
    proxied = next(url for url in urls.values() if direct not in url)
    assert set(asked) == {f"POST {proxied.removeprefix('http://')}"}


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_proxy_leads_to_a_server_that_is_verified_all_the_same(
    trusted: bool, folder: Path, simulator: KeyAstromSimulator, source: Source
) -> None:
    tls = {"ca_file": folder / "ca.pem"} if trusted else {}
    with served(simulator.answer, server_context(folder, "ca-server")) as url:
        async with a_proxy() as (proxy_url, asked):
            error = await source(url, proxy_url.replace("http://", "http://u:p%40ss@"), **tls)()

    assert (error.reason if error else None) == (None if trusted else Reason.TLS)
    assert asked == [f"CONNECT {url.removeprefix('https://')} Basic dTpwQHNz"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "proxy", "said"),
    [
        ("http://127.0.0.1:{port}", "none", "127.0.0.1:{port} refuses connections: nothing listens there"),
        ("https://localhost:{port}", "none", "localhost:{port} refuses connections: nothing listens there"),
        ("http://[::1]:{port}", "none", "[::1]:{port} "),
        ("http://vendor.invalid:{port}", "none", "vendor.invalid:{port}: the name cannot be looked up ("),
        ("http://vendor.test", "http://127.0.0.1:{port}", "the proxy 127.0.0.1:{port} refuses connections"),
        ("https://vendor.test", "http://127.0.0.1:{port}", "the proxy 127.0.0.1:{port} refuses connections"),
        (
            "http://vendor.test",
            "http://proxy.invalid:{port}",
            "the proxy proxy.invalid:{port}: the name cannot be looked up (",
        ),
    ],
)
async def test_a_connection_that_fails_says_which_and_how(url: str, proxy: str, said: str, source: Source) -> None:
    port = free_port()

    error = await source(url.format(port=port), proxy.format(port=port))()

    assert error.reason is Reason.CONNECTION
    assert str(error).startswith(said.format(port=port))


async def test_a_port_that_speaks_plain_http_is_told_apart_from_a_certificate(
    simulator: KeyAstromSimulator, source: Source
) -> None:
    with served(simulator.answer) as url:
        error = await source(url.replace("http:", "https:"))()

    assert error.reason is Reason.TLS
    assert str(error) == f"{url.removeprefix('http://')} does not answer in TLS: perhaps that port speaks plain HTTP"


# Whatever a server sends.

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def sending(*bursts: bytes, for_ever: bytes = b"") -> Iterator[str]:
    """A server that sends this to whoever asks, from a thread of its own, as fast as it is taken."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(connection)
                with connection, suppress(OSError):
                    connection.settimeout(20)
                    connection.recv(65536)
                    for burst in bursts:
                        connection.sendall(burst)
                    while for_ever:
                        connection.sendall(for_ever)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in accepted:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()


FLOODS = {
    "100 Continue": ([], b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "103 Early Hints": ([], b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 1000),
    "headers": ([HEAD], b"X: y\r\n" * 1000),
    "one header": ([HEAD, b"X: "], b"y" * 10_000),
    "a status line": ([b"HTTP/1.1 200 "], b"y" * 10_000),
    "chunks of a byte": ([CHUNKED], b"1\r\n \r\n" * 10_000),
    "chunks of sixteen bytes": ([CHUNKED], b"10\r\n                \r\n" * 1000),
    "the extension of a chunk": ([CHUNKED, b"1;"], b"x" * 10_000),
    "trailers": ([CHUNKED, b"0\r\n"], b"X: y\r\n" * 1000),
    "a body": ([HEAD, b"\r\n"], b" " * 100_000),
    "a compressed body": ([HEAD, b"Content-Encoding: gzip\r\n\r\n", zlib.compress(b" " * 10**8, wbits=31)], b""),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_is_refused_before_it_ends(flood: str, source: Source) -> None:
    begun, for_ever = FLOODS[flood]
    with sending(*begun, for_ever=for_ever) as url:
        with anyio.fail_after(30):
            error = await source(url, max_response_bytes="1MiB")()

    assert error.reason in {Reason.BAD_RESPONSE, Reason.TOO_LARGE}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_source_that_is_flooded_delays_no_other(flood: str, source: Source) -> None:
    begun, for_ever = FLOODS[flood]
    answer = HEAD + b"Content-Length: 2\r\n\r\n{}"
    answered = 0

    async def ask_until_the_others_are_answered(ask: Ask) -> None:
        while answered < 5:
            await ask()

    with sending(*begun, for_ever=for_ever) as bad, sending(answer) as good, anyio.fail_after(120):  # no measure
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask_until_the_others_are_answered, source(bad))
            while answered < 5:
                assert await source(good)() is None
                answered += 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", Reason.TLS),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Reason.BAD_RESPONSE),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Reason.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Reason.BAD_RESPONSE),
        (CHUNKED + b"zz\r\n", Reason.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n", Reason.BAD_RESPONSE),
        (b"", Reason.CONNECTION),
        (b"HTTP/1.1 200", Reason.CONNECTION),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", Reason.CONNECTION),
        (CHUNKED + b"5\r\n{}", Reason.CONNECTION),
    ],
)
async def test_what_is_no_whole_answer_is_refused_for_what_it_is(sent: bytes, reason: Reason, source: Source) -> None:
    with sending(sent) as url:
        error = await source(url)()

    assert error.reason is reason


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        CHUNKED + b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
    ],
)
async def test_every_way_to_send_an_answer_is_read(sent: bytes, source: Source) -> None:
    with sending(sent) as url:
        assert await source(url)() is None


async def test_what_follows_an_answer_belongs_to_no_request(source: Source) -> None:
    answer = HEAD + b"Content-Length: 2\r\n\r\n{}"

    with sending(answer + b"HTTP/1.1 500 OK\r\nContent-Length: 9\r\n\r\ninjected!") as url:
        ask = source(url)
        assert [await ask(), await ask()] == [None, None]


async def test_a_connection_serves_one_request_after_the_other_and_one_that_the_server_ended_none(
    simulator: KeyAstromSimulator, source: Source
) -> None:
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        ask = source(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert [await ask() for _ in range(3)] == [None] * 3
        kept = len(opened)
        opened[0].close()
        await asyncio.sleep(0.05)
        assert [await ask() for _ in range(3)] == [None] * 3
        opened[-1].close()

    assert (kept, len(opened)) == (1, 2)
