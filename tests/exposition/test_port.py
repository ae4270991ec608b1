"""Our own port: what it leans on in the libraries beneath, and what it does at the limits."""

import ast
import asyncio
import inspect
import resource
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from exporter.exposition import port
from tests.e2e.test_ledger import until
from tests.exposition.conftest import Serve

REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"


def used_of(name: str, *others: str) -> set[str]:
    """The attributes that a class of the port uses and does not define; `others` are further names of its instances."""
    tree = ast.parse(inspect.getsource(getattr(port, name)))
    of_self = {
        node.attr: isinstance(node.ctx, ast.Store)
        for node in sorted(ast.walk(tree), key=lambda node: isinstance(getattr(node, "ctx", None), ast.Store))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", *others}
    }
    of_super = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "super"
    }
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return ({attribute for attribute, assigned in of_self.items() if not assigned} - own) | of_super - {"__init__"}


@pytest.fixture
def plain() -> Iterator[H11Protocol]:
    config = uvicorn.Config(lambda _scope: None, http=H11Protocol, log_config=None)
    config.load()
    loop = asyncio.new_event_loop()
    yield H11Protocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    loop.close()


@pytest.mark.parametrize("attribute", sorted(used_of("_Connection", "one")))
def test_uvicorns_connection_still_has_what_ours_uses(plain: H11Protocol, attribute: str) -> None:
    assert hasattr(plain, attribute), f"uvicorn {uvicorn.__version__}: H11Protocol.{attribute} is gone"


@pytest.mark.parametrize("attribute", ["response_started", "response_complete", "disconnected"])
def test_uvicorns_request_still_has_what_ours_uses(attribute: str) -> None:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    source = inspect.getsource(RequestResponseCycle.__init__)

    assert f"self.{attribute} " in source, f"uvicorn {uvicorn.__version__}: RequestResponseCycle.{attribute} is gone"


@pytest.mark.parametrize("attribute", sorted({*used_of("_Server"), "serve", "should_exit"}))
def test_uvicorns_server_still_has_what_ours_uses(attribute: str) -> None:
    server = uvicorn.Server(uvicorn.Config(lambda _scope: None))

    assert hasattr(server, attribute), f"uvicorn {uvicorn.__version__}: Server.{attribute} is gone"


def test_asyncios_tls_is_still_made_as_ours_makes_it() -> None:
    parameters = [*inspect.signature(SSLProtocol.__init__).parameters]

    assert parameters[:6] == ["self", "loop", "app_protocol", "sslcontext", "waiter", "server_side"]
    assert {"connection_made", "connection_lost"} <= vars(SSLProtocol).keys()


def test_what_ours_uses_is_found_by_reading_it() -> None:
    assert {"cycle", "transport", "scheme", "loop", "send_400_response", "data_received"} <= used_of(
        "_Connection", "one"
    )
    assert {"startup", "shutdown"} <= used_of("_Server")


@pytest.mark.parametrize(
    ("framing", "kept"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (b"Content-Length: 0\r\n\r\n", True),
    ],
)
def test_a_connection_ends_after_a_request_whose_length_is_stated_in_two_ways(
    serve: Serve, framing: bytes, kept: bool
) -> None:
    with closing(socket.create_connection(("127.0.0.1", serve().address[1]), timeout=10)) as raw:
        raw.sendall(REQUEST + framing)
        raw.sendall(REQUEST + b"Connection: close\r\n\r\n")
        answers = b""
        try:
            while got := raw.recv(1000):
                answers += got
        except ConnectionResetError:
            pass

    assert answers.count(b"HTTP/1.1 200 ") == (2 if kept else 1)


def is_answered(raw: socket.socket) -> bool:
    answer = b""
    with suppress(ConnectionResetError):
        while not answer.endswith(b"healthy\n") and (got := raw.recv(1000)):
            answer += got
    return answer.startswith(b"HTTP/1.1 200 ")


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """No file can be opened and no connection accepted while this lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        try:
            while True:
                stack.enter_context(socket.socket())
        except OSError:
            yield


def test_connections_that_cannot_be_accepted_are_one_line_and_served_later(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    with socket.socket() as raw, socket.socket() as other:
        raw.settimeout(10)
        with no_more_descriptors():
            for one in (raw, other):
                one.connect(("127.0.0.1", server.address[1]))
            until(lambda: bool(caplog.records))
        raw.sendall(REQUEST + b"\r\n")

        assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
    [record] = caplog.records
    assert record.getMessage() == "cannot accept connections: Too many open files; failed attempts: 1"


def test_no_more_connections_are_kept_than_are_allowed_at_that_moment(serve: Serve) -> None:
    server = serve()
    place = ("127.0.0.1", server.address[1])
    with socket.create_connection(place, timeout=10) as first, socket.create_connection(place, timeout=10) as second:
        for one in (first, second):
            one.sendall(REQUEST + b"\r\n")
            assert is_answered(one)
        server.most = 2
        with socket.create_connection(place, timeout=10) as third:
            third.sendall(REQUEST + b"\r\n")

            assert is_answered(third)
            assert not is_answered(first)
        second.sendall(REQUEST + b"\r\n")
        assert is_answered(second)
