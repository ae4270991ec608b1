"""How a source reaches its vendor: TLS trust, proxy, and the client that signs and guards every request."""

import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import httpx

from exporter.errors import ConfigError
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import SourceConfig, Tls, Vendor
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.transport import Attempt, GuardedTransport, proxy_for
from exporter.version import version

log = logging.getLogger(__name__)

# Passwords of proxies: kept, since the log knows to hide secrets for as long as they exist.
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
                log.warning("changed certificates cannot be used, those read last stay in use: %s", error)
            self._lost = True
        else:
            self._seen, self._lost = versions, False

    def _versions(self) -> list[tuple[int, int, int]]:
        stats = [file.stat() for file in (self._ca, self._cert, self._key) if file is not None]
        return [(stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats]


# Shared by sources that trust alike: reading all authorities takes long and much memory.
_trust = lru_cache(maxsize=64)(Trust)


class _TlsNetwork(httpx.AsyncHTTPTransport):
    """The network, with certificates as their files hold them when a connection is made."""

    def __init__(self, trust: Trust, **options: Any) -> None:
        super().__init__(verify=trust.context, **options)
        self._trust = trust

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer as it comes."""
        self._trust.renew()
        return await super().handle_async_request(request)


def network_for(config: SourceConfig) -> httpx.AsyncBaseTransport:
    """The network as this source is configured to use it.

    Raises:
        ConfigError: certificates or the proxy cannot be used; each problem by its key below the source.
    """
    try:
        proxy = proxy_for(config.endpoint, config.proxy)
    except ValueError as error:
        raise ConfigError(f"proxy: is not set, and the proxy environment variable {error}") from None
    if proxy is not None and (password := httpx.URL(proxy).password):
        _passwords.add(Secret(password))
    options: dict[str, Any] = {
        "proxy": httpx.Proxy(proxy) if proxy else None,
        "limits": httpx.Limits(
            max_connections=config.max_concurrency, max_keepalive_connections=config.max_concurrency
        ),
    }
    if "https" not in {httpx.URL(url).scheme for url in (config.endpoint, proxy or "")}:
        return httpx.AsyncHTTPTransport(verify=False, **options)
    tls = config.tls
    try:
        trust = _trust(tls.ca_file, tls.cert_file, tls.key_file, tls.insecure_skip_verify)
    except (OSError, ValueError):
        raise ConfigError(*(_blamed(tls) or ["tls: cannot be set up; are its files being replaced?"])) from None
    return _TlsNetwork(trust, **options)


def _blamed(tls: Tls) -> list[str]:
    """What is wrong with which file. None is cited: a secret may stand where the name of a file belongs."""
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
                load(file)
            except OSError as error:
                why = what if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
                problems.append(f"tls.{name}: {why}")
                if name == "cert_file":
                    break  # whether the key is of it cannot be told
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
    return httpx.AsyncClient(
        transport=around(transport),
        auth=vendor.auth(config, clock.now),
        headers={"User-Agent": f"vendor-alert-exporter/{version()}", "Accept-Encoding": "gzip"},
        timeout=None,  # noqa: S113 the transport bounds the whole attempt
        trust_env=False,
    )
