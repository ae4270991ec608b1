"""Mistakes in a configuration, and probable ones, in the operator's words, with path and origin."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.keys import PREFIX, Config, hint, record_limits, value_at, values_in
from exporter.sharding import shard_of
from exporter.vendorkit import proxies
from exporter.vendorkit.contract import SourceConfig, Tuning
from exporter.vendorkit.secret import Secret

# The chart's limit of memory, and the records of 300 bytes that it holds beside the process and 10,000 open alerts.
MEMORY_LIMIT = "512 MiB"
MOST_RECORDS = 1_400_000

KeyPath = tuple[str | int, ...]
_NO_MAP = ("model_type", "dict_type", "model_attributes_type")
_WORDS = {
    **dict.fromkeys(_NO_MAP, "must be a map of keys and values"),
    **dict.fromkeys(("byte_size", "byte_size_unit"), "must be a size such as 32MiB or a number of bytes"),
    "path_type": "must be the path of a file",
    "string_type": "must be text; put it in quotes",
}


class Problems:
    """Every problem met, those of variables first; `origins` remembers which value which flag or variable set."""

    def __init__(self) -> None:
        self.variables: list[str] = []
        self.keys: list[str] = []
        self.origins: dict[KeyPath, str] = {}

    def all(self) -> list[str]:
        """Returns each problem once."""
        return list(dict.fromkeys([*sorted(self.variables), *self.keys]))

    def unknown(self, variable: str, key: str, known: Iterable[str]) -> None:
        """Notes a variable that names no key: `key` is none of the known ones."""
        meant = hint(key, known, lambda close: re.sub(key, close.upper(), variable, count=1, flags=re.IGNORECASE))
        self.variables.append(f"{variable}: unknown variable; it names no key of the configuration{meant}")

    def add(self, error: ValidationError, document: Any) -> None:
        """Notes what validation found wrong with the merged layers."""
        for detail in error.errors(include_url=False):
            path = _path(detail["loc"], document)
            origins = self._origins(path)
            origin = origins[-1] if origins else ""
            variable = origin.removeprefix("the variable ") if "variable" in origin else ""
            context = detail.get("ctx", {})
            if variable and detail["type"] == "extra_forbidden":
                self.unknown(variable, str(path[-1]), context["model"].documented())
            elif variable and detail["type"] in _NO_MAP:
                self.variables.append(f"{variable}: must be a map in JSON")
            elif variable and "twice" in context and len(origins) > 1:
                self.variables.append(f"{variable}: {_what(detail, path)}")
            else:
                text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
                self.keys.append(f"{text}: {_what(detail, path)}" + (f" (set by {origin})" if origin else ""))

    def _origins(self, path: KeyPath) -> list[str]:
        """Returns the flags and variables that set the value at this path or below it, else the one it is part of."""
        at = {path, (*path[:-1], f"{path[-1]}_file")} if path else set()
        below = [origin for key, origin in self.origins.items() if any(key[: len(each)] == each for each in at)]
        above = [self.origins[path[:length]] for length in range(len(path)) if path[:length] in self.origins]
        return below or above[-1:]


def _path(loc: KeyPath, document: Any) -> KeyPath:
    """Returns where in the file an error is: in `defaults` where a source has the value from there."""
    if loc[:1] == ("sources",) and len(loc) > 2 and loc[2] == value_at(document, (*loc[:2], "vendor")):
        loc = loc[:2] + loc[3:]  # pydantic names the kind of source there
    path = tuple(key for key in loc if key != "[key]")
    inherited = ("defaults", *path[2:]) if path[:1] == ("sources",) and len(path) > 2 else ()
    missing = inherited and value_at(document, path) is None and value_at(document, inherited) is not None
    return inherited if missing else path


def _what(detail: ErrorDetails, path: KeyPath) -> str:
    """Returns what is wrong and what to do, without the value."""
    key = str(path[-1]) if path else ""
    context = detail.get("ctx", {})
    keys: dict[str, str] = context["model"].documented() if "model" in context else {}
    match detail["type"], detail["input"]:
        case "missing", _ if f"{key}_file" in keys:
            return f"missing; give it here or as the name of a file in `{key}_file`"
        case "missing", _:
            return f"missing; set it: {keys.get(key, '').partition('. ')[0].rstrip('.')}".removesuffix(": ")
        case "extra_forbidden", _ if path[:-1] == () and key in Tuning.model_fields:
            return "unknown key; it belongs below `defaults`, or below a source"
        case "extra_forbidden", _:
            return f"unknown key{hint(key, keys) or '; known here: ' + ', '.join(sorted(keys))}"
        case "value_error", _:
            return str(context["error"])
        case (("model_type" | "dict_type" | "model_attributes_type"), _):
            return "must be a map of keys and values"
        case "string_type", dict() | list():
            return "must be text, and no list or map"
        case "union_tag_invalid", _:
            return f"must be one of {context['expected_tags']}"
        case (("byte_size" | "byte_size_unit"), _):
            return "must be a size such as 32MiB or a number of bytes"
        case (("enum" | "literal_error"), value):
            choices = re.findall("'([^']*)'", context["expected"])
            return f"must be {context['expected']}{hint(value, choices)}"
        case kind, _ if kind in _WORDS:
            return _WORDS[kind]
        case _:
            return detail["msg"].replace("Input should", "must", 1).partition(", unable to")[0]


def warnings(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Yields what is legal and probably wrong, each as `path.in.file: what; what to do`."""
    for path, value in values_in(config):
        if isinstance(value, Secret) and (doubt := value.doubt()):
            yield f"{'.'.join(path)}{'_file' if value.file else ''}: {doubt}"
    for name, source in config.sources.items():
        yield from (f"sources.{name}.{key}: {doubt}" for key, doubt in source.doubts())
    if (records := _most_records(config)) > MOST_RECORDS:
        yield (
            f"sources: they may remember {records:,} records in one process, too many for {MEMORY_LIMIT}; lower or "
            "leave out max_records, give the process more memory, or divide the sources among shards"
        )
    for variable in environ:
        section, _, key = variable.upper().removeprefix(PREFIX).partition("_")
        ours = variable.upper().startswith(PREFIX) and section.lower() in Config.model_fields
        if ours and not re.search("^_|(^|_)(SERVICE|PORT)(_|$)", key):  # Kubernetes sets these for a Service
            yield f"{variable}: is ignored; two underscores part a section from its key: {PREFIX}{section}__{key}"
    if any(source.proxy is None for source in config.sources.values()):
        name = "no_proxy" if "no_proxy" in environ else "NO_PROXY"
        for entry in proxies.not_understood(environ.get(name, "")):
            yield f"{name}: {entry} is neither a host, an address, a range nor `*`, and excepts nothing"


def _most_records(config: Config) -> int:
    """Returns how many records the sources of one shard may remember, of the shard that may remember most."""
    shards: defaultdict[int, dict[str, SourceConfig]] = defaultdict(dict)
    for name, source in config.sources.items():
        shards[shard_of(name, config.shard.total)][name] = source
    return max((sum(record_limits(sources).values()) for sources in shards.values()), default=0)
