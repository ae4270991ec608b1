"""unreachable(): describes a failed connection for people: where it led, and why it failed."""

import errno
import os
import re
import socket
import ssl

import httpx

from exporter.errors import Reason, SourceUnreachable

# OpenSSL's names for an answer that is not TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}
_NO_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_WORDS: dict[type[Exception], str] = {
    httpx.ConnectError: "cannot connect to {}",
    httpx.ReadError: "the connection to {} broke while reading the answer",
    httpx.WriteError: "the connection to {} broke while sending",
    httpx.RemoteProtocolError: "the connection to {} ended before the answer was complete",
    httpx.ProxyError: "the proxy refused to connect to {}",
}


def place_of(url: httpx.URL) -> str:
    """Returns host and port of a URL, as people write them."""
    host = url.raw_host.decode("ascii")
    port = url.port or (443 if url.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unreachable(error: Exception, place: str) -> SourceUnreachable:
    """Says of a connection to `place` that failed what failed: the name, the port, the route, TLS or the exchange."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _no_tls(cause, place)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return SourceUnreachable(f"{place}: the name cannot be looked up ({cause.strerror or 'unknown'})")
        if isinstance(cause, httpx.TimeoutException | TimeoutError):
            return SourceUnreachable(f"no answer from {place} in time", reason=Reason.TIMEOUT)
        if isinstance(cause, OSError) and (said := _said(cause, place)):
            return SourceUnreachable(said)
    words = _WORDS.get(type(error), f"the request to {{}} failed ({type(error).__name__})")
    return SourceUnreachable(words.format(place))


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _no_tls(error: ssl.SSLError, place: str) -> SourceUnreachable:
    if getattr(error, "reason", "") in _NO_TLS:
        return SourceUnreachable(
            f"{place} does not answer in TLS: perhaps that port speaks plain HTTP", reason=Reason.TLS
        )
    why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "the handshake failed"
    return SourceUnreachable(f"TLS with {place}: {why}", reason=Reason.TLS)


def _said(error: OSError, place: str) -> str:
    """Returns the meaning of a socket error; "" if it has none. asyncio joins those of several addresses."""
    numbers = [error.errno] if error.errno else list(map(int, re.findall(r"\[Errno (\d+)\]", str(error))))
    if not numbers:
        return ""
    if errno.ECONNREFUSED in numbers:
        return f"{place} refuses connections: nothing listens there"
    if _NO_ROUTE.intersection(numbers):
        return f"there is no route to {place}"
    if {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}.intersection(numbers):
        return f"the connection to {place} was broken off by the other side"
    if {errno.EMFILE, errno.ENFILE}.intersection(numbers):
        return f"cannot connect to {place}: this process has no file descriptor left"
    return f"cannot connect to {place}: {os.strerror(numbers[-1])}"
