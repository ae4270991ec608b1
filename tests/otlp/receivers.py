"""OTLP receivers made from the official definitions, over HTTP and gRPC, that fail when told to."""

import gzip
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc

REQUESTS: dict[str, type[Message]] = {
    "/v1/metrics": metrics.ExportMetricsServiceRequest,
    "/v1/logs": logs.ExportLogsServiceRequest,
}
TAKEN = {
    "/v1/metrics": metrics.ExportMetricsServiceResponse().SerializeToString(),
    "/v1/logs": logs.ExportLogsServiceResponse().SerializeToString(),
}


class Reply(msgspec.Struct, frozen=True):
    """What a receiver answers; `seconds` is how long it makes the sender wait."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({"content-type": "application/x-protobuf"})
    body: bytes = b""
    seconds: float = 0
    code: grpc.StatusCode = grpc.StatusCode.OK


GOOD = Reply()


class Received:
    """What arrived, and how to answer from now on."""

    def __init__(self) -> None:
        self.reply = GOOD
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.ended = threading.Event()
        self.url = ""

    def note(self, request: Any, headers: dict[str, str]) -> Reply:
        reply = self.reply
        self.headers.append(headers)
        self.ended.wait(reply.seconds)
        if reply.status == 200 and reply.code is grpc.StatusCode.OK:
            self.requests.append(request)
        return reply

    def records(self) -> list[Any]:
        return [
            record
            for request in self.requests
            for about in getattr(request, "resource_logs", [])
            for scope in about.scope_logs
            for record in scope.log_records
        ]


def wait_until(what: Callable[[], object], seconds: float = 10, *, every: float = 0.005) -> None:
    """Returns once it is so; fails after so long."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(every)


@contextmanager
def http_receiver(port: int = 0, certificate: Path | None = None) -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = received.note(REQUESTS[self.path].FromString(body), headers)
            answer = reply.body or (TAKEN[self.path] if reply.status == 200 else b"")
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # senders that gave up
            pass

    server = Server(("127.0.0.1", port), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    received.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield received
    finally:
        received.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_receiver(port: int = 0, certificate: Path | None = None) -> Iterator[Received]:
    received = Received()

    class Servicer:
        def __init__(self, answer: Any) -> None:
            self._answer = answer

        def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 its name in the definition
            headers = {name: str(value) for name, value in context.invocation_metadata()}
            reply = received.note(request, headers)
            if reply.code is not grpc.StatusCode.OK:
                context.abort(reply.code, "told to fail")
            return self._answer.FromString(reply.body)

    server = grpc.server(ThreadPoolExecutor(4))
    metrics_grpc.add_MetricsServiceServicer_to_server(Servicer(metrics.ExportMetricsServiceResponse), server)
    logs_grpc.add_LogsServiceServicer_to_server(Servicer(logs.ExportLogsServiceResponse), server)
    if certificate is not None:
        pair = (certificate.with_suffix(".key").read_bytes(), certificate.read_bytes())
        bound = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    received.url = f"{'https' if certificate else 'http'}://127.0.0.1:{bound}"
    try:
        yield received
    finally:
        received.ended.set()
        server.stop(0).wait()
