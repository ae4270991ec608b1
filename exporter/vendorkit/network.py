"""How a source reaches its vendor: TLS trust, proxy, and the client that signs and guards every request."""

import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

import httpx

from exporter.errors import ConfigError
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import SourceConfig, Tls, Vendor
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.transport import Attempt, GuardedTransport, proxy_for
from exporter.version import version

# Passwords of proxies: kept, since the log knows to hide secrets for as long as they exist.
_passwords: set[Secret] = set()


def network_for(config: SourceConfig) -> httpx.AsyncBaseTransport:
    """The network as this source is configured to use it; raises ConfigError for certificates that cannot be read."""
    try:
        proxy = proxy_for(config.endpoint, config.proxy)
    except ValueError as error:
        raise ConfigError(f"{config.endpoint}: the proxy environment variable for it {error}") from None
    if proxy is not None and (password := httpx.URL(proxy).password):
        _passwords.add(Secret(password))
    needs_tls = config.endpoint.startswith("https:") or (proxy or "").startswith("https:")
    limits = httpx.Limits(max_connections=config.max_concurrency, max_keepalive_connections=config.max_concurrency)
    try:
        verify = _trust(config.tls) if needs_tls else False
        return httpx.AsyncHTTPTransport(verify=verify, proxy=httpx.Proxy(proxy) if proxy else None, limits=limits)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{config.endpoint}: TLS cannot be set up: {error}") from error


def _trust(tls: Tls) -> ssl.SSLContext:
    return _context(tls.ca_file, tls.cert_file, tls.key_file, tls.insecure_skip_verify)


@lru_cache(maxsize=64)
def _context(ca_file: Path | None, cert: Path | None, key: Path | None, skip_verify: bool) -> ssl.SSLContext:
    """A context shared by sources that trust alike: reading all authorities takes long and much memory."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def client_for(
    vendor: Vendor,
    config: SourceConfig,
    *,
    network: httpx.AsyncBaseTransport,
    clock: VendorClock,
    take_permit: Callable[[], Awaitable[None]],
    observe: Callable[[Attempt], None],
) -> httpx.AsyncClient:
    """The client of one source: every attempt it makes is paced, counted, bounded and signed."""
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
        transport=transport,
        auth=vendor.auth(config, clock.now),
        headers={"User-Agent": f"vendor-alert-exporter/{version()}", "Accept-Encoding": "gzip"},
        timeout=None,  # noqa: S113 the transport bounds the whole attempt
        trust_env=False,
    )
