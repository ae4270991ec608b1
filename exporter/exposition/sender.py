"""Sends the requests of one OTLP signal to a receiver, by HTTP or gRPC; every failure becomes Undelivered."""

import gzip
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import httpx
import msgspec

from exporter import files
from exporter.errors import ExporterError, FetchError
from exporter.vendorkit.contract import Tls
from exporter.vendorkit.network import Network
from exporter.vendorkit.proxies import proxy_for
from exporter.vendorkit.retry_after import seconds_from
from exporter.vendorkit.transport import Client, GuardedTransport

Signal = Literal["metrics", "logs"]

# Bytes of an answer: receivers only report rejected items; a longer body is not OTLP.
LONGEST_ANSWER = 64 * 1024
# Statuses that may be retried, honouring Retry-After (OTLP specification, "Failures").
_THROTTLING = (429, 502, 503, 504)
# Statuses that fault the request itself: it would be refused again.
_HOPELESS = (400, 413)


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """The destination of one signal.

    `url` is complete for HTTP, and only host and port for gRPC. `headers()` is called for each request.
    """

    signal: Signal
    protocol: Literal["http/protobuf", "grpc"]
    url: str
    headers: Callable[[], Mapping[str, str]]
    timeout_seconds: float = 10
    compressed: bool = True
    plain: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Undelivered(ExporterError):
    """The receiver did not accept a request.

    Args:
        message: the cause, without any header.
        retry_after: seconds the receiver asked us to wait, if it did.
        hopeless: whether the same request would be refused again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, hopeless: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.hopeless = hopeless


class Sender(Protocol):
    """A transport to a receiver; reconnects after a failure, so that new certificates and addresses are used."""

    def send(self, body: bytes, seconds: float) -> bytes:
        """Sends a serialised request and returns the answer; raises Undelivered."""

    def close(self) -> None:
        """Ends the connections."""


class HttpSender:
    """OTLP/HTTP with binary protobuf, over the same network stack, limits and verification as requests to vendors."""

    def __init__(self, to: Destination) -> None:
        self._to = to

    def send(self, body: bytes, seconds: float) -> bytes:
        """Sends on a connection of its own."""
        headers = {"content-type": "application/x-protobuf", "user-agent": "vendor-alert-exporter"}
        headers |= self._to.headers()
        if self._to.compressed:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 2)
        try:
            return _answer(anyio.run(self._response, body, headers, seconds))
        except FetchError as error:
            raise Undelivered(str(error)) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from error  # its text may quote a header

    async def _response(self, body: bytes, headers: Mapping[str, str], seconds: float) -> httpx.Response:
        to = self._to
        files: dict[str, Any] = {
            name: Path(file) for name in ("ca_file", "cert_file", "key_file") if (file := getattr(to, name))
        }
        transport = GuardedTransport(
            Network(Tls.model_construct(**files)), timeout=timedelta(seconds=seconds), max_bytes=LONGEST_ANSWER
        )
        async with Client(transport) as client:
            return await client.post(to.url, content=body, headers=headers)

    def close(self) -> None:
        """Does nothing: no connection stays open."""


def _answer(response: httpx.Response) -> bytes:
    status = response.status_code
    if not response.is_success:
        headers = response.headers
        wait = seconds_from(headers.get("retry-after"), headers.get("date")) if status in _THROTTLING else None
        raise Undelivered(f"HTTP {status}", retry_after=wait, hopeless=status in _HOPELESS)
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.content and kind != "application/x-protobuf":
        raise Undelivered(f"HTTP {status}, but not from an OTLP receiver: {kind[:60] or 'no content type'}")
    return response.content


class GrpcSender:
    """OTLP/gRPC."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._channel: Any = None

    def send(self, body: bytes, seconds: float) -> bytes:
        import grpc  # slow to import

        signal = self._to.signal
        method = f"/opentelemetry.proto.collector.{signal}.v1.{signal.capitalize()}Service/Export"
        metadata = [(name.lower(), value) for name, value in self._to.headers().items()]
        try:
            if self._channel is None:
                self._channel = self._connected()
            answer: bytes = self._channel.unary_unary(method)(body, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            self.close()  # a failed channel backs off ever longer before it reconnects
            code, details = error.code(), error.details() or ""
            hopeless = code is grpc.StatusCode.INVALID_ARGUMENT
            raise Undelivered(f"{code.name}: {details[:300]}", hopeless=hopeless) from error
        except (OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from error
        return answer

    def _connected(self) -> Any:
        import grpc

        to = self._to
        compression = grpc.Compression.Gzip if to.compressed else grpc.Compression.NoCompression
        host = to.url.partition("://")[2].partition("/")[0] or to.url
        # gRPC's own reading of the variables differs from the rest of the program.
        proxy = proxy_for(f"{'http' if to.plain else 'https'}://{host}", None)
        if proxy is not None and not proxy.startswith("http://"):
            raise Undelivered("gRPC cannot use an https:// proxy: set an http:// proxy, or NO_PROXY")
        options = [("grpc.http_proxy", proxy)] if proxy else [("grpc.enable_http_proxy", 0)]
        if to.plain:
            return grpc.insecure_channel(host, options, compression)
        named = (to.ca_file, to.key_file, to.cert_file)
        parts = [files.read(Path(file)) if file else None for file in named]
        return grpc.secure_channel(host, grpc.ssl_channel_credentials(*parts), options, compression)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def sender_for(to: Destination) -> Sender:
    """Returns a sender for this destination, not yet connected."""
    return GrpcSender(to) if to.protocol == "grpc" else HttpSender(to)
