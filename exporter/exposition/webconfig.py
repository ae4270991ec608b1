"""TLS and basic authentication of the port, from the web configuration file of Prometheus' exporter-toolkit."""

import base64
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from weakref import WeakValueDictionary

import bcrypt
from anyio import CapacityLimiter, Lock, to_thread
from pydantic import BeforeValidator, ValidationError, ValidationInfo, field_validator, model_validator

from exporter import files, yaml_file
from exporter.errors import ConfigError
from exporter.vendorkit.settings import Settings

log = logging.getLogger(__name__)

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
# Passwords of one client queued for comparison; more are refused.
_WAITING = 64
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def _in_its_directory(value: Any, info: ValidationInfo) -> Any:
    return Path(info.context or "") / value if isinstance(value, str) else value


File = Annotated[Path, BeforeValidator(_in_its_directory)]


class TlsServer(Settings):
    """TLS of the port.

    Python cannot request a client certificate and leave it unverified. RequestClientCert, which proves nothing,
    therefore does not request one; RequireAnyClientCert verifies the certificate it requires.
    """

    cert_file: File
    key_file: File
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "RequireClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = "NoClientCert"
    client_ca_file: File | None = None
    client_allowed_sans: list[str] | None = None
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"

    @property
    def required(self) -> bool:
        """Returns whether clients must present a certificate."""
        return self.client_auth_type in {"RequireAnyClientCert", "RequireClientCert", "RequireAndVerifyClientCert"}

    @property
    def verified(self) -> bool:
        """Returns whether a client's certificate is verified."""
        return self.required or self.client_auth_type == "VerifyClientCertIfGiven"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.verified and self.client_ca_file is None:
            raise ValueError(f"client_auth_type {self.client_auth_type} needs client_ca_file to verify against")
        if self.client_ca_file is not None and self.client_auth_type == "NoClientCert":
            raise ValueError("client_ca_file has no effect without client_auth_type: RequireAndVerifyClientCert")
        if self.client_allowed_sans is not None and not self.required:
            raise ValueError("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self

    def context(self) -> ssl.SSLContext:
        """Returns an SSL context for these settings; raises ValueError if a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.maximum_version = _VERSIONS[self.max_version]
        try:
            # The empty password keeps OpenSSL from prompting for one on the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password=b"")
        except OSError as error:
            raise ValueError(f"cert_file, key_file: {_why(error)}") from None
        if self.verified and self.client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED if self.required else ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(self.client_ca_file)
            except OSError as error:
                raise ValueError(f"client_ca_file: {_why(error)}") from None
        return context


_HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}


class HttpServer(Settings):
    """Response headers. `http2` is accepted without effect: the server speaks HTTP/1.1."""

    http2: bool = True
    headers: dict[str, str] = {}

    @field_validator("headers")
    @classmethod
    def _allowed(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name not in _HEADERS:
                raise ValueError(f"{name} cannot be set; choose from {', '.join(_HEADERS)}")
            if text and _HEADERS[name] and text not in _HEADERS[name]:
                raise ValueError(f"{name} must be {' or '.join(_HEADERS[name])}")
            if not (text.isascii() and text.isprintable()):
                raise ValueError(f"{name} contains characters not allowed in a header")
        return value


class WebFile(Settings):
    """The file as a whole."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @field_validator("basic_auth_users")
    @classmethod
    def _hashes(cls, value: dict[str, str]) -> dict[str, str]:
        if wrong := [user for user, hashed in value.items() if not _BCRYPT.fullmatch(hashed)]:
            raise ValueError(f"no bcrypt hash for {', '.join(wrong)}: make one with htpasswd -nBC 10 USER")
        return value


Fingerprint = tuple[int, ...] | None


class _Loaded:
    """One reading of the file and of the files it names; `seen` records these files and their state."""

    def __init__(self, path: Path, seen: dict[Path, Fingerprint]) -> None:
        seen[path] = _fingerprint(path)
        data = yaml_file.load(path)
        try:
            file = WebFile.model_validate({} if data is None else data, context=path.parent)
        except ValidationError as error:
            raise ConfigError(*_problems(path, error)) from None
        self.users = file.basic_auth_users
        self.headers = [(name, value) for name, value in file.http_server_config.headers.items() if value]
        self.tls = file.tls_server_config
        self.context: ssl.SSLContext | None = None
        if self.tls is not None:
            named = {"cert_file": self.tls.cert_file, "key_file": self.tls.key_file}
            if self.tls.client_ca_file is not None:
                named["client_ca_file"] = self.tls.client_ca_file
            seen.update((one, _fingerprint(one)) for one in named.values())
            unfit = {name: why for name, one in named.items() if (why := _unfit(one))}
            if unfit:
                raise ConfigError(*(f"{path}: tls_server_config.{name}: {why}" for name, why in unfit.items()))
            try:
                self.context = self.tls.context()
            except ValueError as error:
                raise ConfigError(f"{path}: tls_server_config.{error}") from None


def _unfit(file: Path) -> str:
    """Returns why a file cannot be a certificate or key; empty if it can. Not quoted: its name may be the key."""
    try:
        files.check(file)
    except FileNotFoundError:
        return "there is no such file; check the path"
    except OSError as error:
        return f"cannot be read: {error.strerror}; check the path"
    return ""


def check(path: Path) -> None:
    """Raises ConfigError with the problems of the file."""
    _Loaded(path, {})


class WebConfig:
    """The content of the file, read again when it changes; while it is invalid, the last valid content stays in use.

    For the web server's thread only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[Path, Fingerprint] = {}
        self._good = _Loaded(path, self._seen)
        self._salt = secrets.token_bytes(32)
        self._passed: dict[str, bytes] = {}
        self._turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._one_at_a_time = Lock()

    def now(self) -> _Loaded:
        """Returns the current content."""
        if all(_fingerprint(path) == seen for path, seen in self._seen.items()):
            return self._good
        self._seen = {}
        try:
            fresh = _Loaded(self._path, self._seen)
            if (fresh.context is None) != (self._good.context is None):
                raise ConfigError(f"{self._path}: turning TLS on or off needs a restart")  # noqa: TRY301 one report for all
        except ConfigError as error:
            log.error("the web configuration is invalid, the last valid one stays in use: %s", error)  # noqa: TRY400 no defect
        else:
            log.info("reloaded the web configuration")
            self._good = fresh
        return self._good

    def allows(self, certificate: Mapping[str, Any] | None) -> bool:
        """Returns whether `client_allowed_sans` admits a client with this verified certificate."""
        tls = self._good.tls
        if tls is None or tls.client_allowed_sans is None:
            return True
        return not set(_names_of(certificate or {})).isdisjoint(tls.client_allowed_sans)

    async def admits(self, authorization: str, address: str) -> bool:
        """Returns whether the header has a valid user and password, or none is needed; `address` is the client's.

        bcrypt is slow by design: it runs once per user and valid password, in another thread, one at a time.
        """
        users = self.now().users
        if not users:
            return True
        credentials = _credentials_from(authorization)
        if credentials is None:
            return False
        user, password = credentials
        hashed = users.get(user)
        # It includes the hash: a success is forgotten when the user's password changes, and not sooner.
        digest = hmac.digest(self._salt, repr((user, hashed, password)).encode(), hashlib.sha256)
        if hmac.compare_digest(self._passed.get(user, b""), digest):
            return True
        # A client waits only for its own guesses: during one client's flood, another's password is next but one.
        turn = self._turns.setdefault(_client_of(address), Lock())
        if turn.statistics().tasks_waiting >= _WAITING:
            return False
        async with turn, self._one_at_a_time:
            # An unknown user's password is compared too, so that timing does not reveal who exists. The limiter
            # is separate: reloads may occupy the shared threads.
            compared = hashed or next(iter(users.values()))
            right = await to_thread.run_sync(_matches, password, compared, limiter=CapacityLimiter(1))
        if right and hashed is not None:
            self._passed[user] = digest
            return True
        return False


def _fingerprint(path: Path) -> Fingerprint:
    try:
        stat = path.stat()  # follows symlinks: Kubernetes swaps one to change all files of a Secret at once
    except (OSError, ValueError):  # ValueError for a NUL in the name
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _client_of(address: str) -> str:
    """Identifies the client by its address; a /64 of IPv6 counts as one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, ipaddress.IPv6Address) or ip.ipv4_mapped:
        return address
    return f"{int(ip) >> 64:x}"


def _credentials_from(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password[:72]) if colon else None  # bcrypt uses only 72 bytes
    except ValueError:
        return None


def _matches(password: bytes, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password, hashed.encode())
    except ValueError:
        return False


def _names_of(certificate: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        yield str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name


def _why(error: OSError) -> str:
    """Returns OpenSSL's or the system's reason, without any content of the file."""
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return f"cannot be used ({reason or 'no certificate or key in PEM form'})"


def _problems(path: Path, error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        what = {"extra_forbidden": _unknown(problem["loc"]), "missing": "missing"}.get(problem["type"], problem["msg"])
        yield f"{path}: {where}: {what.removeprefix('Value error, ')}"


# Keys of the exporter-toolkit that are not supported, and what to do instead.
NOT_TAKEN = {
    "cert": "name a file: cert_file",
    "key": "name a file: key_file",
    "client_ca": "name a file: client_ca_file",
    "cipher_suites": "those of min_version are used; min_version: TLS13 leaves only the newest",
    "curve_preferences": "OpenSSL's are used",
    "prefer_server_cipher_suites": "the server's order is preferred",
    "rate_limit": "connections are limited anyway",
}


def _unknown(loc: tuple[int | str, ...]) -> str:
    key = str(loc[-1]) if loc else ""
    return f"not supported by this exporter; {NOT_TAKEN[key]}" if key in NOT_TAKEN else "unknown key"
