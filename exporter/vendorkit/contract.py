"""Vendor, Source, SourceConfig: the seam between a vendor's folder and everything else."""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol

import httpx
import msgspec
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    ByteSize,
    Field,
    field_validator,
    model_validator,
)

from exporter.errors import Reason
from exporter.model.alert import Severity
from exporter.model.facts import LabelSets
from exporter.model.reading import Reading, Window
from exporter.vendorkit.cleaning import Vocabulary
from exporter.vendorkit.http import Http
from exporter.vendorkit.proxies import checked_proxy
from exporter.vendorkit.secret import Credentials
from exporter.vendorkit.settings import Duration, ExistingFile, Settings


def _no_credentials_in(url: str) -> str:
    """Returns the URL without trailing slash, its scheme in lower case; refuses a user, a query or a fragment."""
    if not isinstance(url, str) or "://" not in url:
        raise ValueError("must be a URL such as https://api.example.com")
    parsed = AnyHttpUrl(url)
    try:
        taken = httpx.URL(url)  # it is stricter than pydantic, and the one that has to cope with it
    except httpx.InvalidURL:
        taken = httpx.URL()
    if not taken.host or url != url.strip():
        raise ValueError("must be a URL such as https://api.example.com, without spaces, line breaks or strange hosts")
    if parsed.username or parsed.password:
        raise ValueError("must not carry a user name or password")
    if parsed.query or parsed.fragment:
        raise ValueError("must not carry a query or fragment")
    return taken.scheme + url[len(taken.scheme) :].rstrip("/")


class Url(str):
    """Where requests go, as an operator wrote it; a type of its own, so that none of a configuration is missed."""

    __slots__ = ()


BaseUrl = Annotated[
    str, BeforeValidator(_no_credentials_in), AfterValidator(Url), Field(json_schema_extra={"format": "uri"})
]


def urls_of(settings: Settings) -> Iterator[Url]:
    """Yields every URL of a section and of the sections within it: whatever may be asked."""
    for _, value in settings:
        if isinstance(value, Url):
            yield value
        elif isinstance(value, Settings):
            yield from urls_of(value)


def is_in_the_clear(url: str) -> bool:
    """Returns whether what is sent there is readable on the way."""
    parsed = httpx.URL(url)
    return parsed.scheme == "http" and not re.fullmatch(r"localhost|127\.[0-9.]+|::1", parsed.host)


class Tls(Settings):
    """TLS of a source's connections."""

    ca_file: ExistingFile | None = None
    """Certificates of the authorities to trust, PEM, instead of the built-in ones; read again when it changes."""
    cert_file: ExistingFile | None = None
    """Client certificate, PEM; read again, with its key, when it changes."""
    key_file: ExistingFile | None = None
    """Key of the client certificate, PEM."""
    insecure_skip_verify: bool = False
    """Accept any certificate. Only for tests."""

    @model_validator(mode="after")
    def _key_needs_certificate(self) -> "Tls":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class FirstPoll(StrEnum):
    BASELINE = "baseline"
    BACKFILL = "backfill"


# Records; a source that remembers fewer forgets what a single poll may read again.
_FEW_RECORDS = 1000
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
DAY = timedelta(days=1)
RESERVED_LABELS = frozenset(
    "source vendor severity reason operation channel event_type key kind outcome endpoint code field signal le "
    "quantile name policy resource_type provider namespace owner job instance".split()
)


def _label_name(name: str) -> str:
    if not _LABEL.fullmatch(name) or name.startswith("__"):
        raise ValueError("is not a label name: letters, digits and _, not starting with a digit or __")
    if name in RESERVED_LABELS:
        raise ValueError("is a label the exporter sets itself; choose another name")
    return name


class Tuning(Settings):
    """Settings of every source, which any source may override."""

    interval: Duration = timedelta(seconds=60)
    """Poll period. The first poll comes after a jitter of at most this and at most 10 s."""
    timeout: Duration = timedelta(seconds=30)
    """Total time of one HTTP request, connect to last byte; never more than the interval."""
    overlap: Duration = timedelta(minutes=10)
    """Each look-back window starts this much before the last success, for late data."""
    first_poll: FirstPoll = FirstPoll.BASELINE
    """`baseline`: what was there before the start is remembered, not counted. `backfill`: the first window counts."""
    max_requests_per_second: float = Field(default=5, gt=0, le=1000)
    """Every HTTP attempt of the source counts."""
    max_detail_requests: int = Field(default=200, ge=1)
    """Detail calls per poll; what does not fit waits for the next poll, oldest first."""
    max_concurrency: int = Field(default=4, ge=1, le=100)
    """HTTP requests of the source under way at once."""
    max_pages: int = Field(default=100, ge=1)
    """Pages of one list; of a longer one the vendor's totals say how many alerts are open, and what was read counts."""
    max_response_bytes: ByteSize = Field(default=ByteSize(32 * 1024 * 1024), gt=0)
    """Size of one answer, before and after decompression."""
    max_records: int = Field(default=1_000_000, ge=1)
    """Records remembered so that none is counted twice, about 300 bytes each. Where it is not set, it is a limit for
    all such sources together, which they share equally, at least 10,000 each. Those of closed alerts not seen for
    longest are forgotten first, open alerts never."""
    severity_map: dict[str, Severity] = {}
    """Vendor level to canonical severity, over the built-in table."""
    labels: dict[Annotated[str, AfterValidator(_label_name)], str] = {}
    """Constant extra labels of the source."""

    @field_validator("interval", "timeout")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value


class SourceConfig(Tuning):
    """Settings of one source of any vendor; each vendor's configuration extends them."""

    vendor: str
    """Vendor of this source."""
    endpoint: BaseUrl
    """Base URL, http or https; it ends before the vendor's documented path."""
    tls: Tls = Tls()
    """TLS of the connection to the vendor."""
    proxy: Annotated[str, AfterValidator(checked_proxy)] | None = Field(default=None, repr=False)
    """URL of an HTTP proxy; `none` for no proxy at all. Unset, the proxy environment variables apply, for each
    host; `NO_PROXY` takes names, addresses, ranges such as `10.0.0.0/8`, ports and `*`."""

    HOW: ClassVar[frozenset[str]] = frozenset({"tls", "proxy", *Tuning.model_fields})
    """Keys that say how an account is read, and not which one, or what of it."""
    WHO: ClassVar[frozenset[str]] = frozenset()
    """Secrets that name an account; all others only open it."""

    def is_same_account(self, other: "SourceConfig") -> bool:
        """Returns whether counters that began with this configuration can go on with the other one."""
        return type(self) is type(other) and self._account() == other._account()

    def _account(self) -> dict[str, Any]:
        found = {name: value for name, value in self if name not in self.HOW}
        for name, value in found.items():
            if isinstance(value, Credentials):
                opens = {*value.secret_names()} - self.WHO
                found[name] = {key: setting for key, setting in value if key not in opens}
        return found

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yields keys whose value is legal and probably wrong, each with what is wrong and what to do."""
        if "timeout" in self.model_fields_set and self.timeout > self.interval:
            yield "timeout", "is longer than the interval, and is cut to it; lower it, or raise `interval`"
        if self.max_records < _FEW_RECORDS:
            yield (
                "max_records",
                "is so small that records reported late are not counted; leave it out, or set 10000 or more",
            )
        if is_in_the_clear(self.endpoint):
            yield "endpoint", "http:// to another host: credentials and answers can be read on the way; use https://"
        if placeholder := re.search(r"\b(REGION|HOST|ENVIRONMENT-ID|PROJECT)\b|[{}<>]", self.endpoint):
            yield "endpoint", f"{placeholder[0]} stands for a value of your own; put that in its place"


class Source(Protocol):
    """One configured account of a vendor, ready to be read.

    A class whose objects remember something between polls names those attributes as `REMEMBERED`: after a reload its
    successor gets them.
    """

    def read(self, window: Window) -> AsyncIterator[Reading]:
        """Yields each reading once it is complete; raises FetchError when no more can be had."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The load of a source: alerts open now, and alerts that begin in a day."""

    open: int
    new_per_day: float


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor is a value.

    `auth(config, now)` signs requests; `now()` is the vendor's clock, by its Date headers. `source`
    makes what is polled. `resolution` is the vendor's finest unit of time. `lookback(config)` is how far before the
    start the first window reaches where the vendor has a setting for it. `endpoints` are the values of the metric
    label. `vocabulary` holds the words that the vendor documents. `requests_per_day(config, load)` forecasts, by
    endpoint, what settings cost; its keys are the endpoints that they use. `remedies` say in the words of the
    vendor's console what the general ones say in ours.
    """

    name: str
    config: type[SourceConfig]
    auth: Callable[[Any, Callable[[], datetime]], httpx.Auth]
    source: Callable[[Any, Http], Source]
    labels: LabelSets
    endpoints: Sequence[str]
    resolution: timedelta
    vocabulary: Vocabulary
    requests_per_day: Callable[[Any, Load], Mapping[str, float]]
    remedies: Mapping[Reason, str] = {}
    lookback: Callable[[Any], timedelta | None] = lambda _config: None


def severities_from(table: Mapping[str, Severity], config: Tuning) -> dict[str, Severity]:
    """Returns the vendor's table with the operator's `severity_map` over it; levels compare in upper case."""
    return {level.upper(): severity for level, severity in {**table, **config.severity_map}.items()}
