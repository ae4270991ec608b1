"""Everything an operator can set; alone reads the configuration file and the environment."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import ErrorDetails

from exporter import yaml_file
from exporter.errors import ConfigError
from exporter.exposition.sender import Destination, Signal
from exporter.model.owners import OwnerRule
from exporter.vendorkit.contract import BaseUrl, SourceConfig, Tuning, Vendor
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration, ExistingFile, Settings, text_from
from exporter.vendors import load_all

PREFIX = "VENDOR_ALERT_EXPORTER_"

_NAME = "[a-zA-Z0-9][a-zA-Z0-9_-]*"

KeyPath = tuple[str | int, ...]
M = TypeVar("M", bound=Settings)


def address_from(text: str) -> tuple[str, int] | None:
    """Host (empty for all interfaces) and port of `:10877`, `127.0.0.1:10877` or `[::]:10877`; None for `none`."""
    if text == "none":
        return None
    found = re.fullmatch(r"(?:\[([\w:.%]+)\]|([\w.-]*)):([0-9]{1,5})", text)
    if not found or int(found[3]) > 65535 or not _can_be_looked_up(found[2] or ""):
        raise ValueError("must be :PORT, HOST:PORT, [IPV6]:PORT, or none for no listening port")
    return found[1] or found[2] or "", int(found[3])


def _can_be_looked_up(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # of a..b, for example
        return False
    return True


def _address(text: str) -> str:
    address_from(text)
    return text


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or text == "/-" or text.startswith("/-/"):
        raise ValueError("must be a path like /metrics: starting with /, not / alone and not below /-/")
    return text


class Web(Settings):
    """The HTTP endpoint."""

    listen_address: Annotated[str, AfterValidator(_address)] = ":10877"
    """`:PORT` for all interfaces, `HOST:PORT`, `[IPV6]:PORT`, or `none` for no listening port."""
    telemetry_path: Annotated[str, AfterValidator(_telemetry_path)] = "/metrics"
    """Path of the metrics."""
    config_file: ExistingFile | None = None
    """TLS and basic authentication, in the format of the Prometheus exporter-toolkit."""
    enable_lifecycle: bool = False
    """Allow `POST /-/reload`."""


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Format(StrEnum):
    LOGFMT = "logfmt"
    JSON = "json"


def _level(text: Any) -> Any:
    return {"warning": "warn"}.get(text.lower(), text.lower()) if isinstance(text, str) else text


class Log(Settings):
    """The log on standard error."""

    level: Annotated[Level, BeforeValidator(_level)] = Level.INFO
    """The least severe level shown."""
    format: Format = Format.LOGFMT
    """`logfmt` or one JSON object per line."""


class Grouping(StrEnum):
    """Extra labels that an alert can give to the metrics about alerts."""

    NAME = "name"
    POLICY = "policy"
    RESOURCE_TYPE = "resource_type"
    PROVIDER = "provider"
    NAMESPACE = "namespace"


def _pattern(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from None


# A regular expression that must match a whole value.
Pattern = Annotated[re.Pattern[str], BeforeValidator(_pattern)]


class Owner(Settings):
    """Who is responsible for the alerts that match."""

    owner: str = Field(min_length=1, max_length=128)
    """Value of the label `owner`."""
    match: dict[Literal["name", "policy", "resource_type", "provider", "namespace", "source"], Pattern]
    """Regular expressions of whole values, all of which must match: of the labels of `group_by`, and of `source`."""


class Metrics(Settings):
    """What the metrics show."""

    group_by: list[Grouping] = []
    """Extra labels from alerts."""
    group_limit: int = Field(default=100, ge=1)
    """Distinct label sets per family and source; the rest is summed into `other`, totals stay exact."""
    owners: list[Owner] = []
    """Who is responsible: the label `owner` names the first that matches an alert, else `unowned`."""
    alert_info: bool = False
    """One series per open alert, for tables and for routing each alert through Alertmanager."""
    alert_info_limit: int = Field(default=500, ge=1)
    """Per source: most severe first, then newest; the rest is counted in `vendor_alert_info_omitted`."""
    stale_after: Duration = timedelta(minutes=5)
    """Gauges of a source that has not succeeded for so long (at least 3 intervals) are withdrawn."""

    @field_validator("group_by")
    @classmethod
    def _once(cls, value: list[Grouping]) -> list[Grouping]:
        if len(set(value)) < len(value):
            raise ValueError("names a label twice; name each once")
        return value

    def owner_rules(self) -> tuple[OwnerRule, ...]:
        """Returns who is responsible for an alert, as `owner_of` takes it."""
        return tuple(OwnerRule(owner=each.owner, match=dict(each.match.items())) for each in self.owners)


class Shard(Settings):
    """Which part of the sources this process polls, where several share them. Every source belongs to one shard."""

    index: int | None = Field(default=None, ge=0)
    """This shard, from 0; unset, the number at the end of the host name, as a StatefulSet gives it."""
    total: int = Field(default=1, ge=1, le=1024)
    """How many shards share the sources, each by the same configuration."""

    @model_validator(mode="after")
    def _within(self) -> "Shard":
        if self.index is not None and self.index >= self.total:
            raise ValueError(f"index must be below total, which is {self.total}")
        return self

    def number(self, host: str) -> int:
        """This shard's number; raises ValueError if neither `index` nor the host's name tells it."""
        if self.index is not None or self.total == 1:
            return self.index or 0
        ordinal = re.search(r"-([0-9]+)$", host)
        if ordinal is None or int(ordinal[1]) >= self.total:
            raise ValueError(f"no index, and the host name {host!r} does not end with one below total; set shard.index")
        return int(ordinal[1])


class HeadersFile(Secret):
    """A file with one `name: value` per line, read again when it changes."""

    _headers: Mapping[str, Secret] = {}

    @classmethod
    def _validated(cls, value: Any) -> "HeadersFile":
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("must be the path of a file")  # noqa: TRY004 pydantic reports ValueErrors
        file = cls(file=Path(value))
        file.headers()
        return file

    def headers(self) -> Mapping[str, Secret]:
        """The headers now; at first raises ValueError where a line is none."""
        lines = [line.partition(":") for line in self.read().splitlines() if line.strip()]
        if not all(name.strip() and value.strip() for name, _, value in lines):
            if self._headers:
                return self._headers  # perhaps it is being written just now
            raise ValueError("the file must have one `name: value` per line")
        # Kept, since the log knows to hide secrets for as long as they exist.
        self._headers = {name.strip(): Secret(value.strip()) for name, _, value in lines}
        return self._headers


class Otlp(Settings):
    """What is pushed to an OpenTelemetry collector, or whatever else takes OTLP; needs the extra `otlp`.

    What is not set here is taken from OpenTelemetry's standard variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    endpoint: BaseUrl | None = None
    """Base URL of the receiver, as `http://collector:4318`; unset and without a variable for it, nothing is sent."""
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    """How to send; collectors listen for HTTP on port 4318 and for gRPC on port 4317."""
    interval: Duration = timedelta(seconds=60)
    """Time between two pushes of the metrics, and the longest pause before a push that failed is tried again."""
    headers: dict[str, Secret] = {}
    """Sent with each request, such as `authorization`; the values are secrets."""
    headers_file: HeadersFile | None = None
    """File with one `name: value` per line, instead of `headers`; read again when it changes."""
    metrics: bool = True
    """Push the metrics."""
    logs: bool = False
    """Push a log record for each alert opened, closed, changed in severity or acknowledged, and each failed notice."""
    resource: dict[str, str] = {}
    """Extra resource attributes."""
    _standard: Mapping[str, str] = PrivateAttr({})

    @model_validator(mode="after")
    def _one_kind_of_headers(self) -> "Otlp":
        if self.headers and self.headers_file is not None:
            raise ValueError("headers and headers_file are both given: keep one of the two")
        return self

    @field_validator("interval")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than 0 s")
        return value

    def heed(self, standard: Mapping[str, str]) -> None:
        """Takes OpenTelemetry's standard variables into account, where nothing is set."""
        self._standard = standard

    def destinations(self) -> list[Destination]:
        """Where each signal goes that is to be sent; none if no receiver is named."""
        if self._standard.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return []
        signals: list[tuple[bool, Signal]] = [(self.metrics, "metrics"), (self.logs, "logs")]
        return [to for wanted, signal in signals if wanted and (to := self._destination(signal)) is not None]

    def _destination(self, signal: Signal) -> Destination | None:
        def standard(name: str) -> str:
            own, all_signals = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
            return self._standard.get(own) or self._standard.get(all_signals) or ""

        protocol = self.protocol
        if "protocol" not in self.model_fields_set and standard("PROTOCOL") == "grpc":
            protocol = "grpc"
        base = self.endpoint or self._standard.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        complete = None if self.endpoint else self._standard.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        if not (base or complete):
            return None
        url = complete or (f"{base}".rstrip("/") + f"/v1/{signal}" if protocol == "http/protobuf" else f"{base}")
        inline = {name: Secret(value) for name, value in _pairs(standard("HEADERS")).items() if value} | self.headers

        def headers() -> dict[str, str]:
            told = {**inline, **(self.headers_file.headers() if self.headers_file else {})}
            return {name: secret.read() for name, secret in told.items()}

        return Destination(
            signal=signal,
            protocol=protocol,
            url=url,
            headers=headers,
            timeout_seconds=_seconds(standard("TIMEOUT")) or 10,
            compressed=standard("COMPRESSION") != "none",
            plain=url.startswith("http://") or ("://" not in url and standard("INSECURE").lower() == "true"),
            ca_file=standard("CERTIFICATE") or None,
            cert_file=standard("CLIENT_CERTIFICATE") or None,
            key_file=standard("CLIENT_KEY") or None,
        )

    def interval_seconds(self) -> float:
        """Time between two pushes of the metrics."""
        own = self.interval.total_seconds()
        return own if "interval" in self.model_fields_set else _seconds(self._standard.get(_INTERVAL, "")) or own

    def resource_attributes(self) -> dict[str, str]:
        """What is said of who sends, besides what the program knows of itself."""
        found = _pairs(self._standard.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        if name := self._standard.get("OTEL_SERVICE_NAME"):
            found["service.name"] = name
        return found | self.resource


_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"


def _seconds(milliseconds: str) -> float:
    """The seconds a standard variable says; 0 for what is no number that one can wait for: it is to be ignored."""
    return int(milliseconds) / 1000 if re.fullmatch("[0-9]{1,12}", milliseconds) else 0.0


def _pairs(text: str) -> dict[str, str]:
    """The pairs of a standard variable, `key=value,key=value` with percent-encoding."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}


class Config(Settings):
    """The whole configuration; each source carries `defaults` merged in, and a timeout within its interval."""

    web: Web = Web()
    log: Log = Log()
    metrics: Metrics = Metrics()
    otlp: Otlp = Field(default_factory=Otlp)
    shard: Shard = Shard()
    defaults: Tuning = Tuning()
    """What holds for every source that does not say otherwise."""
    sources: dict[str, SourceConfig] = {}
    """What is polled, each source under a unique name: `[a-zA-Z0-9]`, then `[a-zA-Z0-9_-]*`."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_sections(cls, data: Any) -> Any:
        # A section whose keys are all commented out reads as null.
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


# Every flag that is a setting, and where that setting stands; its variable is named by the same rule as all others.
FLAGS: dict[str, KeyPath] = {
    "web.listen-address": ("web", "listen_address"),
    "web.telemetry-path": ("web", "telemetry_path"),
    "web.config.file": ("web", "config_file"),
    "web.enable-lifecycle": ("web", "enable_lifecycle"),
    "log.level": ("log", "level"),
    "log.format": ("log", "format"),
    "shard.index": ("shard", "index"),
    "shard.total": ("shard", "total"),
}


def variable_for(flag: str) -> str:
    """The environment variable that says the same as a flag."""
    return PREFIX + flag.replace(".", "__").replace("-", "_").upper()


def file_from(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file: as the flag says, else the environment."""
    named = next((value for name, value in environ.items() if name.upper() == f"{PREFIX}CONFIG__FILE"), "")
    return file or (Path(named) if named else None)


def load(
    *,
    file: Path | None,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    beneath: Mapping[str, Any] | None = None,
    vendors: Mapping[str, Vendor] | None = None,
) -> Config:
    """The configuration, as the file says, the environment over it and the flags (keys of FLAGS) over both.

    `beneath` is a document that the file lies over. Raises ConfigError with every problem at once, each as
    `path.in.file: what is wrong; what to do`.
    """
    vendors = load_all() if vendors is None else vendors
    settings = _Settings(vendors, beneath)
    settings.read(file, flags, environ)
    document = settings.document
    config = settings.validated(Config, {**document, "sources": {}}, ())
    defaults = config.defaults if config else None
    sources = settings.sources(document.get("defaults") if defaults else None, document.get("sources"))
    web = document.get("web")
    security = web.get("config_file") if isinstance(web, dict) else None
    if isinstance(security, str) and os.path.isfile(security):  # noqa: PTH113 Path.is_file raises for a name too long
        from exporter.exposition import webconfig  # only those who use TLS or passwords pay for them

        try:
            webconfig.check(Path(security))
        except ConfigError as error:
            settings.problems += [f"web.config_file: {problem}" for problem in error.problems]
    if settings.problems or config is None:
        raise ConfigError(*settings.problems)
    config.otlp.heed({name: value for name, value in environ.items() if name.startswith("OTEL_")})
    return config.model_copy(update={"sources": sources})


def load_web(*, file: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Web:
    """Only the section `web`: what is needed to ask a running daemon, whatever else the file says by now."""
    settings = _Settings({})
    settings.read(file, flags, environ)
    settings.problems.clear()
    web = settings.validated(Web, settings.document.get("web") or {}, ("web",))
    if web is None:
        raise ConfigError(*settings.problems)
    return web


# Sections whose keys may be given as a file as well.
_SECRETIVE = ("auth", "otlp")


class _Settings:
    """The merged layers, where each value came from, and every problem met."""

    def __init__(self, vendors: Mapping[str, Vendor], beneath: Mapping[str, Any] | None = None) -> None:
        self.vendors = vendors
        self.document: dict[Any, Any] = dict(beneath or {})
        self.problems: list[str] = []
        self._origins: dict[KeyPath, str] = {}
        self._secrets: set[KeyPath] = set()

    def read(self, file: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Merges file, environment and flags, in this order; raises ConfigError for a file that cannot be read."""
        ours = {
            name.upper().removeprefix(PREFIX): (name, value)
            for name, value in environ.items()
            if name.upper().startswith(PREFIX) and "__" in name[len(PREFIX) :]
        }
        ours.pop("CONFIG__FILE", None)
        file = file_from(file, environ)
        if file is not None:
            document = yaml_file.load(file)
            if not isinstance(document, dict | None):
                raise ConfigError(f"{file}: must be a map of sections such as `sources:`")
            try:
                rooted = _rooted(document or {}, file.parent)
            except RecursionError:
                raise ConfigError(f"{file}: an anchor holds an alias of itself") from None
            # A section whose keys are all commented out hides nothing.
            said = {key: value for key, value in rooted.items() if value is not None or key not in self.document}
            self.document = _merged(self.document, said)
        # What names a source's vendor comes first: it decides what the other variables of the source may be.
        for rest in sorted(ours, key=lambda rest: (rest.count("__"), not rest.endswith("__VENDOR"), rest)):
            self._variable(*ours[rest], rest.lower())
        for flag, value in flags.items():
            section, key = map(str, FLAGS[flag])
            kind = keys_of(keys_of(Config)[section])[key]
            given = _decoded(value, kind) if isinstance(value, str) else value
            self._put(FLAGS[flag], given, f"the flag --{flag}")

    def _variable(self, variable: str, value: str, rest: str) -> None:
        path, kind = self._place(rest if rest != "web__config__file" else "web__config_file")  # named like its flag
        if path is None:
            self.problems.append(f"{variable}: unknown variable; it names no key of the configuration")
            return
        below = max((place for place, section in enumerate(path[:-1], 1) if section in _SECRETIVE), default=0)
        if below:
            key = str(path[below])
            rival = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
            if (*path[:below], rival) in self._secrets:
                self.problems.append(f"{variable}: is given twice, inline and as a file: keep one of the two")
                return
            self._secrets.add(path[: below + 1])
        try:
            self._put(path, _decoded(value, kind), f"the variable {variable}")
        except ValueError as error:
            self.problems.append(f"{variable}: {error}")

    def _place(self, rest: str) -> tuple[KeyPath | None, Any]:
        """Which setting a variable names, and its type; Any below a source whose vendor is not known."""
        path: KeyPath = ()
        kind: Any = Config
        node: Any = self.document
        while rest:
            values = _values(kind)
            named = [k for k in _text_keys(node) if _folded(f"{rest}__").startswith(_folded(f"{k}__"))]
            key = max(named, key=len, default="") if values is not None else ""
            key = key or rest.partition("__")[0]
            rest = rest[len(key) + 2 :]
            keys = keys_of(kind)
            node = node.get(key) if isinstance(node, dict) else None
            if path == ("sources",):
                name = node.get("vendor") if isinstance(node, dict) else None
                kind = self.vendors[name].config if isinstance(name, str) and name in self.vendors else Any
                if not rest:
                    kind = SourceConfig
            elif key in keys:
                kind = keys[key]
            elif values is not None:
                kind = values
            elif kind is not Any:
                return None, None
            path = (*path, key)
        return path, kind

    def _put(self, path: KeyPath, value: Any, origin: str) -> None:
        if not isinstance(value, dict):
            self._origins[path] = origin
        for key in reversed(path):
            value = {key: value}
        self.document = _merged(self.document, value)

    def sources(self, defaults: Any, named: Any) -> dict[str, SourceConfig]:
        """Every source that could be read, `defaults` merged in."""
        if not isinstance(named, dict | None):
            self._problem(("sources",), "must be a map: a name, and below it the source")
        elif not named:
            self._problem(("sources",), "no source is configured; name at least one to poll")
        else:
            names: dict[str, str] = {}
            found = {name: self._source(name, own, defaults or {}, names) for name, own in named.items()}
            return {name: source for name, source in found.items() if source is not None}
        return {}

    def _source(self, name: Any, own: Any, defaults: Any, names: dict[str, str]) -> SourceConfig | None:
        at = ("sources", name)
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            self._problem(at, "a source's name is text of letters, digits, - and _, starting with no - or _")
            return None
        if (other := names.setdefault(_folded(name), name)) != name:
            self._problem(at, f"is the same name as {other} but for case, - and _; choose another")
        if not isinstance(own, dict):
            self._problem(at, "must be a map with at least `vendor` and `endpoint`")
            return None
        vendor = own.get("vendor")
        if not isinstance(vendor, str) or vendor not in self.vendors:
            what = "missing" if vendor is None else "unknown vendor"
            self._problem((*at, "vendor"), f"{what}; must be {_choice(self.vendors)}")
            return None
        source = self.validated(self.vendors[vendor].config, _merged(defaults, own), at)
        return source and source.model_copy(update={"timeout": min(source.timeout, source.interval)})

    def validated(self, model: type[M], data: Any, at: KeyPath) -> M | None:
        """The data as this model, or None with its problems noted."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            said: dict[KeyPath, list[str]] = {}
            for detail in error.errors(include_url=False):
                loc = detail["loc"]
                if detail["type"] == "union_tag_invalid":
                    loc = (*loc, detail["ctx"]["discriminator"].strip("'"))
                path = _path(loc, data, missing=detail["type"] == "missing")
                what = _said(detail, path, model)
                path = _as_given(path, data)
                if what not in said.setdefault(path, []):
                    said[path].append(what)
            for path, whats in said.items():
                self._problem((*at, *path), " or ".join(whats))
            return None

    def _problem(self, path: KeyPath, what: str) -> None:
        origins = (self._origins.get(path[:length]) for length in range(len(path), 0, -1))
        origin = next((f" (set by {origin})" for origin in origins if origin), "")
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
        self.problems.append(f"{text}: {what}{origin}")


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _text_keys(node: Any) -> Iterator[str]:
    return (key for key in node if isinstance(key, str)) if isinstance(node, dict) else iter(())


def _merged(base: Any, over: Any, at: str | int = "") -> Any:
    """`over` over `base`, maps key by key. Of a base that should be a map and is not, the mistake stays to be told."""
    if not isinstance(over, dict) or base is None:
        return over
    if not isinstance(base, dict):
        return base
    # A secret of the upper layer takes the place of the lower one, be either given inline or as a file.
    secretive = over if at in _SECRETIVE else ()
    rivals = {f"{key}_file" for key in secretive} | {str(key).removesuffix("_file") for key in secretive}
    kept = {key: value for key, value in base.items() if key in over or key not in rivals}
    return kept | {key: _merged(kept.get(key), value, key) for key, value in over.items()}


def _rooted(data: Mapping[Any, Any], folder: Path) -> dict[Any, Any]:
    """The file's content; the files it names are relative to its own folder, as Prometheus has it."""

    def rooted(key: Any, value: Any) -> Any:
        if isinstance(value, dict) and key not in ("labels", "severity_map", "headers", "resource"):
            return _rooted(value, folder)
        return str(folder / value) if isinstance(value, str) and value and str(key).endswith("_file") else value

    return {key: rooted(key, value) for key, value in data.items()}


def _decoded(text: str, kind: Any) -> Any:
    """What the text of a variable means for a setting of this type; raises ValueError without citing the text."""
    members = list(members_of(kind))
    if _values(kind) is not None or keys_of(kind):
        return _json(text, dict, "must be a map in JSON")
    if any(get_origin(member) in (list, tuple, set, frozenset, Sequence) for member in members):
        if text.lstrip().startswith("["):
            return _json(text, list, "must be a list in JSON, or plain values separated by commas")
        return [part.strip() for part in text.split(",")] if text.strip() else []
    return None if text == "" and type(None) in members else text


def _json(text: str, kind: type, what: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(what)  # noqa: TRY004 one error for all that is wrong with the text
    return value


def members_of(kind: Any) -> Iterator[Any]:
    """The types a setting may have, unions taken apart."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from members_of(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for member in get_args(kind):
            yield from members_of(member)
    else:
        yield kind


def keys_of(kind: Any) -> dict[str, Any]:
    """The keys a section may have, each with its type; none if the setting is no section."""
    keys: dict[str, Any] = {}
    for member in members_of(kind):
        if isinstance(member, type) and issubclass(member, Settings):
            keys |= {name: field.annotation for name, field in member.model_fields.items()}
            keys |= {f"{name}_file": str for name in secrets_of(member)}
    return keys


def secrets_of(kind: Any) -> list[str]:
    """The secrets a section may have, without `_file`."""
    members = (member for member in members_of(kind) if isinstance(member, type) and issubclass(member, Credentials))
    return [name for member in members for name in member.secret_names()]


def _values(kind: Any) -> Any | None:
    """The type of a map's values; None if the setting is no map."""
    return next((get_args(member)[1] for member in members_of(kind) if get_origin(member) is dict), None)


def _path(loc: Sequence[str | int], data: Any, *, missing: bool) -> KeyPath:
    """Where in the data an error is: its location without the names of types that pydantic puts in between."""
    if not loc:
        return ()
    head, *rest = loc
    without = _path(rest, data, missing=missing)
    found: KeyPath
    holds = head in data if isinstance(data, dict) else isinstance(data, list) and isinstance(head, int)
    if holds:
        found = (head, *_path(rest, data[head], missing=missing))
    elif not rest and isinstance(data, dict) and (missing or f"{head}_file" in data):
        found = (head,)
    else:
        return without
    return found if len(found) > len(without) else without


def _as_given(path: KeyPath, data: Any) -> KeyPath:
    """The path with `X_file` for `X` where the secret was given so."""
    for key in path[:-1]:
        data = data[key]
    if path and isinstance(data, dict) and path[-1] not in data and f"{path[-1]}_file" in data:
        return (*path[:-1], f"{path[-1]}_file")
    return path


def _said(detail: ErrorDetails, path: KeyPath, model: Any) -> str:
    """What is wrong and what to do, without the value."""
    kind: Any = model
    for key in path[:-1]:
        kind = keys_of(kind).get(str(key), _values(kind))
    key = str(path[-1]) if path else ""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing" if key in secrets_of(kind):
            return f"missing; give it here or as the name of a file in `{key}_file`"
        case "missing":
            return f"missing; set it: {_description(kind, key)}".removesuffix(": ")
        case "extra_forbidden":
            close = get_close_matches(key, keys_of(kind), n=1)
            return f"unknown key; {f'did you mean `{close[0]}`?' if close else f'known here: {_choice(keys_of(kind))}'}"
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be a map of keys and values"
        case "string_type":
            return "must be text; put it in quotes"
        case "path_type":
            return "must be the path of a file"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}"
        case "byte_size" | "byte_size_unit":
            return "must be a size such as 32MiB or a number of bytes"
        case _:
            return detail["msg"].replace("Input should", "must", 1).partition(", unable to")[0]


def _description(kind: Any, key: str) -> str:
    fields = [member.model_fields[key] for member in members_of(kind) if key in getattr(member, "model_fields", ())]
    return (fields[0].description or "").partition(". ")[0].rstrip(".") if fields else ""


def _choice(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


class _Schema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Defaults as they are written in the file."""
        return text_from(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def schema(vendors: Mapping[str, Vendor] | None = None) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration file; nothing is required, as the environment may supply it."""
    vendors = load_all() if vendors is None else vendors
    models: list[type[Settings]] = [Config, *(vendor.config for vendor in vendors.values())]
    named, described = models_json_schema([(model, "validation") for model in models], schema_generator=_Schema)
    definitions: dict[str, Any] = _optional(described["$defs"])
    names = {model: named[model, "validation"]["$ref"].rpartition("/")[2] for model in models}
    root = definitions.pop(names[Config])
    definitions.pop(SourceConfig.__name__)
    for vendor in vendors.values():
        definitions[names[vendor.config]]["properties"]["vendor"] = {"const": vendor.name}
    root["properties"]["sources"] |= {
        "propertyNames": {"pattern": f"^{_NAME}$"},
        "additionalProperties": {
            "type": "object",
            "properties": {"vendor": {"enum": sorted(vendors), "description": "Which vendor this source is of."}},
            "allOf": [
                {
                    "if": {"properties": {"vendor": {"const": vendor.name}}, "required": ["vendor"]},
                    "then": {"$ref": f"#/$defs/{names[vendor.config]}"},
                }
                for vendor in vendors.values()
            ],
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _optional(node: Any) -> Any:
    """The schema without what it requires; of keys that exclude each other, that they do remains."""
    if isinstance(node, list):
        return [_optional(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "oneOf" in node and all(set(choice) == {"required"} for choice in node["oneOf"]):
        return {"not": {"required": [key for choice in node["oneOf"] for key in choice["required"]]}}
    # With nothing required, an almost empty section fits several kinds: one of them becomes any of them.
    kept = {key: value for key, value in node.items() if key != "required" or not isinstance(value, list)}
    return {"anyOf" if key == "oneOf" else key: _optional(value) for key, value in kept.items()}
