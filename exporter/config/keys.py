"""Everything an operator can set: the models, with their documentation."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from exporter.errors import ConfigError
from exporter.exposition.otel_settings import Otlp
from exporter.model.owners import OwnerRule
from exporter.vendorkit.contract import SourceConfig, Tuning, Vendor
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.settings import Duration, ExistingFile, Items, Settings

PREFIX = "VENDOR_ALERT_EXPORTER_"

# Records that all sources without `max_records` share, and the fewest that one of them remembers.
SHARED_RECORDS = int(Tuning.model_fields["max_records"].default)
FEWEST_RECORDS = 10_000

# What the name of a source must match.
NAME = "[a-zA-Z0-9][a-zA-Z0-9_-]*"


def address_from(text: Any) -> tuple[str, int] | None:
    """Returns host (empty for all interfaces) and port of `:10877` or `[::]:10877`, None for `none`.

    Raises:
        ValueError: it is none of these.
    """
    if text == "none":
        return None
    found = re.fullmatch(r"(?:\[([\w:.%]+)\]|([\w.-]*)):([0-9]{1,5})", text) if isinstance(text, str) else None
    if not found or int(found[3]) > 65535 or not _can_be_looked_up(found[2] or ""):
        port = f"; did you mean `:{text}`?" if re.fullmatch("[0-9]{1,5}", str(text)) else ""
        raise ValueError(f"must be :PORT, HOST:PORT, [IPV6]:PORT, or none for no listening port{port}")
    return found[1] or found[2] or "", int(found[3])


def _can_be_looked_up(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # of a..b, for example
        return False
    return True


def _address(text: Any) -> Any:
    address_from(text)
    return text


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or text in {"/-", "/status"} or text.startswith("/-/"):
        raise ValueError("must be a path like /metrics: starting with /, not / alone, /status or below /-/")
    return text


def _web_configuration(path: Path) -> Path:
    from exporter.exposition import webconfig  # only those who use TLS or passwords pay for them

    try:
        webconfig.check(path)
    except ConfigError as error:
        raise _errors([((), problem) for problem in error.problems]) from None
    return path


class Web(Settings):
    """The HTTP endpoint."""

    listen_address: Annotated[str, BeforeValidator(_address)] = ":10877"
    """`:PORT` for all interfaces, `HOST:PORT`, `[IPV6]:PORT`, or `none` for no listening port."""
    telemetry_path: Annotated[str, AfterValidator(_telemetry_path)] = "/metrics"
    """Path of the metrics."""
    config_file: Annotated[ExistingFile, AfterValidator(_web_configuration)] | None = None
    """TLS and basic authentication, in the format of the Prometheus exporter-toolkit."""
    enable_lifecycle: bool = False
    """Allow `POST /-/reload`."""


class Watching(Settings):
    """Reading of the configuration itself."""

    enable_auto_reload: bool = False
    """Reload, as SIGHUP does, when the content of the file or of a file that it names changes."""


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
        raise ValueError(f"is not a regular expression: {error}") from None


# A regular expression that must match a whole value.
Pattern = Annotated[re.Pattern[str], BeforeValidator(_pattern)]


class Owner(Settings):
    """One owner, and the alerts that are theirs."""

    owner: str = Field(min_length=1, max_length=128)
    """Value of the label `owner`."""
    match: dict[Literal["name", "policy", "resource_type", "provider", "namespace", "source"], Pattern]
    """Regular expressions of whole values, all of which must match: of the labels of `group_by`, and of `source`."""


class Metrics(Settings):
    """Contents of the metrics."""

    group_by: Items[Grouping] = []
    """Extra labels from alerts."""
    group_limit: int = Field(default=100, ge=1)
    """Distinct label sets per family and source; the rest is summed into `other`, totals stay exact."""
    owners: list[Owner] = []
    """Owners of alerts: the label `owner` names the first one that matches an alert, else `unowned`."""
    alert_info: bool = False
    """One series per open alert, for tables and for routing each alert through Alertmanager."""
    alert_info_limit: int = Field(default=500, ge=1)
    """Per source: most severe first, then newest; the rest is counted in `vendor_alert_info_omitted`."""
    stale_after: Duration = timedelta(minutes=5)
    """Time without a successful poll, at least 3 intervals, after which the gauges of a source are withdrawn."""

    @field_validator("group_by")
    @classmethod
    def _once(cls, value: list[Grouping]) -> list[Grouping]:
        if len(set(value)) < len(value):
            raise ValueError("names a label twice; name each once")
        return value

    def owner_rules(self) -> tuple[OwnerRule, ...]:
        """Returns who is responsible for an alert, as `Owners` takes it."""
        return tuple(OwnerRule(owner=each.owner, match=dict(each.match.items())) for each in self.owners)


class Shard(Settings):
    """Division of the sources among several processes. Every source belongs to one shard."""

    index: int | None = Field(default=None, ge=0)
    """This shard, from 0; unset, the number at the end of the host name, as a StatefulSet gives it."""
    total: int = Field(default=1, ge=1, le=1024)
    """Number of shards that share the sources, each with the same configuration."""

    @model_validator(mode="after")
    def _within(self) -> "Shard":
        if self.index is not None and self.index >= self.total:
            raise ValueError(f"index must be below total, which is {self.total}")
        return self

    def number(self, host: str) -> int:
        """Returns this shard's number; raises ValueError if neither `index` nor the host's name says it."""
        if self.index is not None or self.total == 1:
            return self.index or 0
        ordinal = re.search(r"-([0-9]+)$", host)
        if ordinal is None or int(ordinal[1]) >= self.total:
            raise ValueError(f"no index, and the host name {host!r} does not end with one below total; set shard.index")
        return int(ordinal[1])


class Config(Settings):
    """The whole configuration; each source carries `defaults` merged in, and a timeout within its interval."""

    config: Watching = Watching()
    web: Web = Web()
    log: Log = Log()
    metrics: Metrics = Metrics()
    otlp: Otlp = Field(default_factory=Otlp)
    shard: Shard = Shard()
    defaults: Tuning = Tuning()
    """Settings of every source that does not override them."""
    sources: dict[str, SourceConfig] = {}
    """The sources to poll, each under a unique name: `[a-zA-Z0-9]`, then `[a-zA-Z0-9_-]*`."""
    _file: Path | None = PrivateAttr(None)
    _warnings: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        # A section whose keys are all commented out reads as null.
        said = {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        defaults, sources = said.get("defaults"), said.get("sources")
        if isinstance(defaults, dict) and isinstance(sources, dict):
            known = {key: value for key, value in defaults.items() if key in Tuning.model_fields}
            said["sources"] = {
                name: merged(known, own) if isinstance(own, dict) else own for name, own in sources.items()
            }
        return said

    def completed(self, file: Path | None, warnings: Iterable[str]) -> "Config":
        """Returns the configuration as the program uses it: with its origin and its doubts, and timeouts that fit."""
        self._file, self._warnings = file, tuple(warnings)
        fitting = {
            name: source.model_copy(update={"timeout": min(source.timeout, source.interval)})
            for name, source in self.sources.items()
        }
        return self.model_copy(update={"sources": fitting})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings that are legal and probably wrong, each as `path.in.file: what; what to do`."""
        return self._warnings

    def files(self) -> tuple[Path, ...]:
        """Returns the configuration file, and every file that it, a variable or a flag names."""
        named = (value.file if isinstance(value, Secret) else value for _, value in values_in(self))
        return tuple(dict.fromkeys(file for file in (self._file, *named) if isinstance(file, Path)))


def record_limits(sources: Mapping[str, SourceConfig]) -> dict[str, int]:
    """Returns how many records each source of a process may remember: `max_records` if that is set, else its share."""
    sharing = [name for name, source in sources.items() if "max_records" not in source.model_fields_set]
    share = max(FEWEST_RECORDS, SHARED_RECORDS // max(len(sharing), 1))
    return {name: source.max_records for name, source in sources.items()} | dict.fromkeys(sharing, share)


class OnlyWeb(BaseModel):
    """The configuration as far as it concerns the port."""

    model_config = ConfigDict(extra="ignore")
    web: Web = Web()


def sources_of(vendors: Mapping[str, Vendor]) -> Any:
    """Returns the type of the section `sources`: each source is of the model of its vendor."""

    def of_a_vendor(source: Any) -> Any:
        if not isinstance(source, dict):
            raise ValueError("must be a map with at least `vendor` and `endpoint`")  # noqa: TRY004
        vendor = source.get("vendor")
        if not isinstance(vendor, str) or vendor not in vendors:
            what = "missing" if vendor is None else "unknown vendor"
            choices = f"must be {', '.join(sorted(vendors))}{hint(vendor, vendors)}"
            raise _errors([(("vendor",), f"{what}; {choices}")])
        return source

    kinds: Any = Union[tuple(Annotated[vendor.config, Tag(name)] for name, vendor in vendors.items())]  # noqa: UP007
    source: Any = Annotated[kinds, Discriminator(lambda source: source["vendor"]), BeforeValidator(of_a_vendor)]
    return Annotated[dict[Annotated[str, BeforeValidator(_source_name)], source], BeforeValidator(_some_sources)]


def _errors(problems: Iterable[tuple[tuple[str, ...], str]]) -> ValidationError:
    """Returns several errors as one, each by its path below what is validated."""
    errors = [(loc, PydanticCustomError("value_error", "{error}", {"error": what})) for loc, what in problems]
    return ValidationError.from_exception_data(
        "settings", [InitErrorDetails(type=error, loc=loc, input=None) for loc, error in errors]
    )


def _source_name(name: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ValueError("a source's name is text of letters, digits, - and _, starting with no - or _")
    return name


def _some_sources(sources: Any) -> Any:
    if not isinstance(sources, dict | None):
        raise ValueError("must be a map: a name, and below it the source")  # noqa: TRY004 pydantic reports ValueErrors
    if not sources:
        raise ValueError("no source is configured; name at least one to poll")
    known: dict[str, str] = {}
    names = [(name, known.setdefault(folded(name), name)) for name in sources if isinstance(name, str)]
    same = {name: other for name, other in names if name != other}
    if same:
        what = "is the same name as {} but for case, - and _; choose another"
        raise _errors(((name,), what.format(other)) for name, other in same.items())
    return sources


def folded(name: str) -> str:
    """Returns the name as variables can spell it."""
    return name.lower().replace("-", "_")


def hint(value: Any, choices: Iterable[str], written: Callable[[str], str] = "`{}`".format) -> str:
    """Returns the choice that was probably meant, as the end of a sentence; empty if there is none."""
    close = get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"; did you mean {written(close[0])}?" if close else ""


def value_at(data: Any, path: Iterable[Any]) -> Any:
    """Returns the value at this path of a document; None if there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def values_in(setting: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields every single value, with the path of its key."""
    if isinstance(setting, Settings | dict):
        for key, value in setting.items() if isinstance(setting, dict) else setting:
            yield from values_in(value, (*path, str(key)))
    else:
        yield path, setting


def merged(base: Any, over: Any) -> Any:
    """Returns `over` over `base`, maps key by key."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


# Every flag that is a setting, and where that setting stands; its variable is named by the same rule as all others.
FLAGS: dict[str, tuple[str, str]] = {
    "config.enable-auto-reload": ("config", "enable_auto_reload"),
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
    """Returns the environment variable that says the same as a flag."""
    return PREFIX + flag.replace(".", "__").replace("-", "_").upper()
