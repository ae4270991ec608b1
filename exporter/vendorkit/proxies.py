"""The proxy to a destination: the setting, else the proxy environment variables as curl and Go read them."""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9.]*")
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")

# A range of addresses or the end of a name, and the only port it holds for, if there is one.
Excepted = tuple[IPv4Network | IPv6Network | str, int | None]


def proxy_for(url: str, setting: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the proxy for a URL: the setting, `none` for none, else what the proxy environment variables say.

    Raises:
        ValueError: the variable that applies holds no proxy; what it holds is not repeated.
    """
    if setting is not None:
        return None if setting.lower() == "none" else setting
    parsed = httpx.URL(url)
    found = _variable(f"{parsed.scheme}_proxy", environ) or _variable("all_proxy", environ)
    if not found or _is_excepted(parsed, _variable("no_proxy", environ)):
        return None
    return checked_proxy(found if "://" in found else f"http://{found}")


def checked_proxy(url: str) -> str:
    """Returns the URL of a proxy, its scheme in lower case, or `none`.

    Raises:
        ValueError: it is neither; what may hold a password is not repeated.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if url.lower() != "none" and not (parsed.scheme in _PORTS and parsed.host and parsed.port != 0):
        raise ValueError(
            "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, special characters percent-encoded, or none"
        )
    return parsed.scheme + url[len(parsed.scheme) :]


def not_understood(no_proxy: str) -> list[str]:
    """Returns the entries of a NO_PROXY that except no host: neither a name, an address, a range nor `*`."""
    return [entry for entry in _entries(no_proxy) if entry != "*" and _exception_from(entry) is None]


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """Returns a proxy environment variable; the spelling in lower case wins, even empty."""
    return environ.get(name, environ.get(name.upper(), "")).strip()


def _entries(no_proxy: str) -> list[str]:
    return re.split(r"[,\s]+", no_proxy.strip(", \t\r\n").lower()) if no_proxy.strip(", \t\r\n") else []


def _is_excepted(url: httpx.URL, no_proxy: str) -> bool:
    host = url.raw_host.decode("ascii").rstrip(".")
    port = url.port or _PORTS.get(url.scheme)
    address = _address_from(host)
    for entry in _entries(no_proxy):
        if entry == "*":
            return True
        if (exception := _exception_from(entry)) is None:
            continue
        excepted, its_port = exception
        if its_port not in (None, port):
            continue
        if isinstance(excepted, str):
            if address is None and (host == excepted or host.endswith(f".{excepted}")):
                return True
        elif address is not None and address in excepted:
            return True
    return False


def _exception_from(entry: str) -> Excepted | None:
    """Returns the exception of an entry and its port, if any; None if it is neither name, address nor range."""
    try:
        return ip_network(_bare(entry), strict=False), None
    except ValueError:
        port = None
    if (with_port := _WITH_PORT.fullmatch(entry)) is not None:
        entry, port = with_port["host"], int(with_port["port"])
        if not 0 < port < 65536:
            return None
        if (address := _address_from(_bare(entry))) is not None:
            return ip_network(address), port
    name = entry.removeprefix("*").strip(".")
    try:
        name = httpx.URL(scheme="http", host=name).raw_host.decode("ascii")
    except httpx.InvalidURL:
        return None
    if not name or _NUMERIC.fullmatch(name) or not all(map(_LABEL.fullmatch, name.split("."))):
        return None
    return name, port


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _address_from(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
