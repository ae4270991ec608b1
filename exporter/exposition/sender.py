"""Carries the requests of one OTLP signal to a receiver, by HTTP or gRPC; whatever fails becomes Undelivered."""

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

# An answer has nothing to say but what was not taken.
LONGEST_ANSWER = 64 * 1024
# The OTLP specification, "Failures": these may be repeated, and Retry-After is to be heeded.
_THROTTLING = (429, 502, 503, 504)
# The request itself is at fault: sent once more it would be refused once more.
_HOPELESS = (400, 413)


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where one signal goes, and how.

    `url` is complete for HTTP, and names only the host for gRPC. `headers()` are read anew for each request.
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
    """The receiver did not take a request.

    Args:
        message: why, without any header.
        retry_after: seconds the receiver asked us to wait, if it did.
        hopeless: whether the same request would be refused again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, hopeless: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.hopeless = hopeless


class Sender(Protocol):
    """One way to a receiver. What failed once is set up anew, so that changed certificates or addresses are seen."""

    def send(self, body: bytes, seconds: float) -> bytes:
        """The answer to a serialised request, had within so many seconds; raises Undelivered."""

    def close(self) -> None:
        """Ends the connections."""


class HttpSender:
    """OTLP/HTTP with binary protobuf; over the same network, as bounded and as verified, as vendors are asked."""

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
            raise Undelivered(type(error).__name__) from error  # its text may cite a header

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
        """There is nothing that stays open."""


def _answer(response: httpx.Response) -> bytes:
    status = response.status_code
    if not response.is_success:
        headers = response.headers
        wait = seconds_from(headers.get("retry-after"), headers.get("date")) if status in _THROTTLING else None
        raise Undelivered(f"HTTP {status}", retry_after=wait, hopeless=status in _HOPELESS)
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.content and kind != "application/x-protobuf":
        raise Undelivered(f"HTTP {status}, but no OTLP receiver answers with {kind[:60] or 'no content type'}")
    return response.content


class GrpcSender:
    """OTLP/gRPC."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._channel: Any = None

    def send(self, body: bytes, seconds: float) -> bytes:
        import grpc  # only those who use it pay for it

        signal = self._to.signal
        method = f"/opentelemetry.proto.collector.{signal}.v1.{signal.capitalize()}Service/Export"
        metadata = [(name.lower(), value) for name, value in self._to.headers().items()]
        try:
            if self._channel is None:
                self._channel = self._connected()
            answer: bytes = self._channel.unary_unary(method)(body, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            self.close()  # a channel that failed waits longer and longer before it connects again
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
        # What gRPC makes of the variables itself is not what the rest of the program does.
        proxy = proxy_for(f"{'http' if to.plain else 'https'}://{host}", None)
        if proxy is not None and not proxy.startswith("http://"):
            raise Undelivered("gRPC reaches no receiver by a proxy that speaks TLS: set an http:// proxy, or NO_PROXY")
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
    """The way to this destination; nothing is connected yet."""
    return GrpcSender(to) if to.protocol == "grpc" else HttpSender(to)
