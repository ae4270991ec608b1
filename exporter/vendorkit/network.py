"""Network: TLS trust, proxy, and the client that signs and guards every request."""

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx

from exporter import files
from exporter.errors import ConfigError, Reason, SourceUnreachable
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.connection import Connection, connect, proxy_headers
from exporter.vendorkit.contract import SourceConfig, Tls, Vendor, urls_of
from exporter.vendorkit.proxies import proxy_for
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.transport import Attempt, Client, GuardedTransport
from exporter.version import version

log = logging.getLogger(__name__)

# Seconds a connection is kept without a request.
KEPT_SECONDS = 5.0

# Passwords of proxies, kept because the log hides secrets only while they exist.
_passwords: set[Secret] = set()


class Trust:
    """A TLS context of a source, which follows its files when they change: short-lived certificates need no restart.

    An authority that is taken out of `ca_file` stays trusted until the next start.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or holds no certificate or key that fits.
    """

    def __init__(self, ca: Path | None, cert: Path | None, key: Path | None, skip_verify: bool) -> None:
        self._ca, self._cert, self._key = ca, cert, key
        self._seen = self._versions()
        self._lost = False
        self.context = ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context()
        if skip_verify:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        _load_pair(self.context, cert, key)

    def renew(self) -> None:
        """Reads files that have changed; while they cannot be used, what was read last stays in use."""
        try:
            versions = self._versions()
            if versions == self._seen:
                return
            # Tried elsewhere first: a key that does not fit yet would spoil the context in use.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self.context):
                _load_pair(context, self._cert, self._key)
            if self._ca is not None:
                self.context.load_verify_locations(self._ca)
        except OSError as error:
            if not self._lost:
                log.warning("changed certificates cannot be used, the previous ones stay in use: %s", error)
            self._lost = True
        else:
            self._seen, self._lost = versions, False

    def _versions(self) -> list[tuple[int, int, int]]:
        named = [file for file in (self._ca, self._cert, self._key) if file is not None]
        for file in named:
            files.check(file)
        stats = map(files.about, named)
        return [(stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats]


# Shared by sources that trust alike: reading all authorities takes long and much memory.
_trust = lru_cache(maxsize=64)(Trust)


class Network(httpx.AsyncBaseTransport):
    """The network as one source may use it; runs on asyncio.

    Trust and proxy are those of the host and scheme that a request really asks for, whatever `endpoint` says: a
    vendor may have more hosts than one. `proxy` is the setting of a source.
    """

    def __init__(self, tls: Tls, proxy: str | None = None) -> None:
        self._tls = tls
        self._setting = proxy
        self._proxies: dict[_Server, httpx.URL | None] = {}
        self._idle: dict[_Server, list[Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and returns the answer, with its body as a stream."""
        url = request.url
        server = url.scheme, url.raw_host, url.port
        try:
            proxy = self.proxy_to(url)
        except ValueError as error:
            raise SourceUnreachable(f"the proxy environment variable {error}") from error
        target, headers = url.raw_path, request.headers.raw
        if proxy is not None and url.scheme == "http":
            target = b"http://" + url.netloc + target
            headers = [*headers, *proxy_headers(proxy)]
        connection = self._kept(server) or await self._connected(url, proxy)
        with ExitStack() as unless_answered:
            unless_answered.callback(connection.abort)
            head = await connection.ask(request.method.encode("ascii"), target, headers, await request.aread())
            unless_answered.pop_all()
        body = _Body(connection, self._idle.setdefault(server, []))
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=body, request=request)

    def _kept(self, server: "_Server") -> Connection | None:
        """Returns the most recently used open connection, if any."""
        idle = self._idle.get(server, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        return None

    def proxy_to(self, url: httpx.URL) -> httpx.URL | None:
        """Returns the proxy that leads there; raises ValueError where the environment names none that can be used."""
        server = url.scheme, url.raw_host, url.port
        if server not in self._proxies:
            found = proxy_for(str(url), self._setting)
            proxy = httpx.URL(found) if found else None
            if proxy is not None and proxy.password:
                _passwords.add(Secret(proxy.password))
            self._proxies[server] = proxy
        return self._proxies[server]

    async def _connected(self, url: httpx.URL, proxy: httpx.URL | None) -> Connection:
        tls = None
        if url.scheme == "https":
            try:
                trust = self.trust()
            except (OSError, ValueError) as error:
                raise SourceUnreachable("the files of certificates cannot be used", reason=Reason.TLS) from error
            trust.renew()
            tls = trust.context
        # A proxy is no vendor: what a source trusts, or does not look at, is the vendor's certificate alone.
        proxy_tls = _trust(None, None, None, False).context if proxy is not None and proxy.scheme == "https" else None
        return await connect(url, tls, proxy, proxy_tls)

    def trust(self) -> Trust:
        """Returns the source's trust; raises OSError or ValueError if a file cannot be used."""
        tls = self._tls
        return _trust(tls.ca_file, tls.cert_file, tls.key_file, tls.insecure_skip_verify)

    async def aclose(self) -> None:
        """Closes idle connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().abort()
        await anyio.lowlevel.checkpoint()


_Server = tuple[str, bytes, int | None]


class _Body(httpx.AsyncByteStream):
    """The body of an answer; once it is read to its end, its connection can be used again."""

    def __init__(self, connection: Connection, idle: list[Connection]) -> None:
        self._connection = connection
        self._idle = idle

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def aclose(self) -> None:
        """Keeps or ends the connection."""
        if self._connection.keep(KEPT_SECONDS):
            self._idle.append(self._connection)
        else:
            self._connection.abort()


def network_for(config: SourceConfig) -> Network:
    """Returns the network as this source is configured to use it.

    Raises:
        ConfigError: certificates or a proxy cannot be used; each problem by its key below the source.
    """
    tls = config.tls
    network = Network(tls, config.proxy)
    urls = [httpx.URL(url) for url in urls_of(config)]
    try:
        for url in urls:
            network.proxy_to(url)
    except ValueError as error:
        raise ConfigError(f"proxy: is not set, and the proxy environment variable {error}") from None
    if tls != Tls() or any(url.scheme == "https" for url in urls):
        try:
            network.trust()
        except (OSError, ValueError):
            raise ConfigError(*(_blamed(tls) or ["tls: cannot be set up; are its files being replaced?"])) from None
    return network


def _blamed(tls: Tls) -> list[str]:
    """Returns each faulty file's key and problem. File names are not quoted: one may be a secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loads: dict[str, tuple[str, Callable[[Path], None]]] = {
        "ca_file": ("holds no certificate in PEM", context.load_verify_locations),
        "cert_file": ("holds no certificate in PEM", context.load_verify_locations),
        "key_file": ("holds no key of cert_file in PEM, without password", partial(_load_pair, context, tls.cert_file)),
    }
    problems = []
    for name, (what, load) in loads.items():
        if (file := getattr(tls, name)) is not None:
            try:
                files.check(file)
                load(file)
            except OSError as error:
                why = what if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
                problems.append(f"tls.{name}: {why}")
                if name == "cert_file":
                    break  # so the key cannot be checked against it
    return problems


def _load_pair(context: ssl.SSLContext, cert: Path | None, key: Path | None) -> None:
    if cert is not None:
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(cert, key, password=b"")


def client_for(
    vendor: Vendor,
    config: SourceConfig,
    *,
    network: httpx.AsyncBaseTransport,
    clock: VendorClock,
    take_permit: Callable[[], Awaitable[None]],
    observe: Callable[[Attempt], None],
    around: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda guarded: guarded,
) -> httpx.AsyncClient:
    """Returns the client of one source: every attempt it makes is paced, counted, bounded and signed.

    `around` wraps the guarded transport: it sees each attempt signed, and each answer whole or as a FetchError.
    """
    transport = GuardedTransport(
        network,
        clock=clock,
        timeout=min(config.timeout, config.interval),
        max_bytes=config.max_response_bytes,
        max_concurrency=config.max_concurrency,
        take_permit=take_permit,
        observe=observe,
    )
    return Client(
        around(transport),
        auth=vendor.auth(config, clock.now),
        headers={"User-Agent": f"vendor-alert-exporter/{version()}", "Accept-Encoding": "gzip"},
        timeout=None,
    )
