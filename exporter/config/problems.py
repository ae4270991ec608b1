"""What is wrong with a configuration, or probably wrong, in the operator's words, with path and origin."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.keys import PREFIX, Config, values_in
from exporter.vendorkit import proxies
from exporter.vendorkit.contract import Tuning
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.settings import Settings

KeyPath = tuple[str | int, ...]


class Problems:
    """Every problem met, those of variables first; `origins` remembers which value which flag or variable set."""

    def __init__(self) -> None:
        self.variables: list[str] = []
        self.keys: list[str] = []
        self.origins: dict[KeyPath, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*sorted(self.variables), *self.keys]))

    def __bool__(self) -> bool:
        return bool(self.variables or self.keys)

    def unknown(self, variable: str, keys: Iterable[str], key: str) -> None:
        """Notes a variable that names no key; `keys` are those there are where it has `key`."""
        close = get_close_matches(key, keys, n=1)
        meant = re.sub(re.escape(key), close[0].upper(), variable, count=1, flags=re.IGNORECASE) if close else ""
        suggestion = f"; did you mean {meant}?" if close else ""
        self.variables.append(f"{variable}: unknown variable; it names no key of the configuration{suggestion}")

    def add(self, error: ValidationError, document: Any) -> None:
        """Notes what validation found wrong with the merged layers."""
        said: dict[KeyPath, list[str]] = {}
        data = Config.with_defaults(document)
        for detail in error.errors(include_url=False):
            loc = detail["loc"]
            if detail["type"] == "union_tag_invalid":
                loc = (*loc, detail["ctx"]["discriminator"].strip("'"))
            context = detail.get("ctx", {})
            path = _path(loc, data, missing=detail["type"] == "missing" or "missing" in context)
            set_by = self._origins(path)
            variable = set_by[-1].removeprefix("the variable ") if set_by and "variable" in set_by[-1] else ""
            twice = "twice" in context
            if variable and detail["type"] == "extra_forbidden":
                self.unknown(variable, context["model"].documented(), str(path[-1]))
            elif variable and detail["type"] in _MAPS:
                self.variables.append(f"{variable}: must be a map in JSON")
            elif variable and twice and len(set_by) > 1:
                self.variables.append(f"{variable}: {context['error']}")
            else:
                origin = f" (set by {set_by[-1]})" if set_by else ""
                what = f"{_what(detail, path)}{origin}"
                said.setdefault(_written(_as_given(path, data, twice=twice), document), []).append(what)
        for path, whats in said.items():
            text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
            self.keys.append(f"{text}: {' or '.join(dict.fromkeys(whats))}")

    def _origins(self, path: KeyPath) -> list[str]:
        """Returns the flags and variables that set the value at this path or below it, else the one it is part of."""
        if not path:
            return []
        at = {path, (*path[:-1], f"{path[-1]}_file")}
        below = [origin for key, origin in self.origins.items() if any(key[: len(each)] == each for each in at)]
        above = [self.origins[path[:length]] for length in range(len(path)) if path[:length] in self.origins]
        return below or above[-1:]


_MAPS = ("model_type", "dict_type", "model_attributes_type")


def _path(loc: tuple[str | int, ...], data: Any, *, missing: bool) -> KeyPath:
    """Returns where in the data an error is: its location without the names of types that pydantic puts in between."""
    if not loc:
        return ()
    head, *rest = loc
    without = _path(tuple(rest), data, missing=missing)
    found: KeyPath
    holds = head in data if isinstance(data, dict) else isinstance(data, list) and isinstance(head, int)
    if holds:
        found = (head, *_path(tuple(rest), data[head], missing=missing))
    elif isinstance(data, dict) and (f"{head}_file" in data or (missing and not rest)):
        found = (head,)
    else:
        return without
    return found if len(found) > len(without) else without


def _value(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _as_given(path: KeyPath, data: Any, *, twice: bool) -> KeyPath:
    """Returns the path with `X_file` for `X` where the secret was given so."""
    section = _value(data, path[:-1])
    file = f"{path[-1]}_file" if path else ""
    return (*path[:-1], file) if isinstance(section, dict) and file in section and not twice else path


def _written(path: KeyPath, document: Any) -> KeyPath:
    """Returns the path below `defaults` where a source has the value from there."""
    below = ("defaults", *path[2:])
    inherited = path[:1] == ("sources",) and _value(document, path) is None and _value(document, below) is not None
    return below if inherited else path


def hint(value: Any, choices: Iterable[str]) -> str:
    """Returns the choice that was probably meant, as the end of a sentence; empty if there is none."""
    close = get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"; did you mean `{close[0]}`?" if close else ""


def _what(detail: ErrorDetails, path: KeyPath) -> str:
    """Returns what is wrong and what to do, without the value."""
    key = str(path[-1]) if path else ""
    context = detail.get("ctx", {})
    keys: dict[str, str] = context["model"].documented() if "model" in context else {}
    match detail["type"], detail["input"]:
        case "missing", _ if f"{key}_file" in keys:
            return f"missing; give it here or as the name of a file in `{key}_file`"
        case "missing", _:
            description = keys.get(key, "").partition(". ")[0].rstrip(".")
            return f"missing; set it: {description}".removesuffix(": ")
        case "extra_forbidden", _:
            return f"unknown key{_elsewhere(key, context['model']) or hint(key, keys) or _all(keys)}"
        case "value_error", _:
            return str(context["error"])
        case (("model_type" | "dict_type" | "model_attributes_type"), _):
            return "must be a map of keys and values"
        case "list_type", _:
            return "must be a list"
        case "string_type", dict() | list():
            return "must be text, one value and no list or map"
        case "string_type", None:
            return "must be text, and has no value here"
        case "string_type", _:
            return "must be text; put it in quotes"
        case "path_type", _:
            return "must be the path of a file"
        case "union_tag_invalid", _:
            return f"must be one of {context['expected_tags']}"
        case (("byte_size" | "byte_size_unit"), _):
            return "must be a size such as 32MiB or a number of bytes"
        case (("enum" | "literal_error"), value):
            choices = re.findall("'([^']*)'", context["expected"])
            return f"must be {context['expected']}{hint(value, choices)}"
        case _:
            return detail["msg"].replace("Input should", "must", 1).partition(", unable to")[0]


def _elsewhere(key: str, model: type[Settings]) -> str:
    """Returns where a key belongs that is not known where it stands; empty if nowhere else."""
    if issubclass(model, Config) and key in Tuning.model_fields:
        return "; it belongs below `defaults`, or below a source"
    return ""


def _all(keys: Iterable[str]) -> str:
    return f"; known here: {', '.join(sorted(keys))}"


def warnings(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Yields what is legal and probably wrong, each as `path.in.file: what; what to do`."""
    for path, value in values_in(config):
        if isinstance(value, Secret) and (doubt := value.doubt()):
            yield f"{'.'.join(path)}{'_file' if value.file else ''}: {doubt}"
    for name, source in config.sources.items():
        for key, doubt in source.doubts():
            yield f"sources.{name}.{key}: {doubt}"
    for variable in environ:
        section, _, key = variable.upper().removeprefix(PREFIX).partition("_")
        ours = variable.upper().startswith(PREFIX) and section.lower() in Config.model_fields
        if ours and not re.search(
            "^_|(^|_)(SERVICE|PORT)(_|$)", key
        ):  # Kubernetes sets such for a Service of that name
            yield f"{variable}: is ignored; two underscores part a section from its key: {PREFIX}{section}__{key}"
    if any(source.proxy is None for source in config.sources.values()):
        name = "no_proxy" if "no_proxy" in environ else "NO_PROXY"
        for entry in proxies.not_understood(environ.get(name, "")):
            yield f"{name}: {entry} is neither a host, an address, a range nor `*`, and excepts nothing"
