"""Writes the tables of docs/ that say what the code says anyway: `python -m tools.reference --write`."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from exporter import usage
from exporter.config import FLAGS, Config, variable_for
from exporter.exposition.catalogue import ALL_FAMILIES, Family, is_additive, otel_name
from exporter.vendorkit.contract import SourceConfig, Tuning, Vendor
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Settings, text_from
from exporter.vendors import load_all

DOCS = Path(__file__).parent.parent / "docs"

# A part of a page that is made here: from a line that names it to the line that ends it.
_PART = re.compile(r"(<!-- made by `make docs`: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(name: str) -> str:
    """Returns a page of docs/ with the parts that are made here as the code says now."""
    written = (DOCS / name).read_text(encoding="utf-8")
    return _PART.sub(lambda part: f"{part[1]}\n" + "\n".join(PAGES[name][part[2]]()) + f"\n{part[3]}", written)


def _sections_chapters() -> Iterator[str]:
    for name, kind in sections(Config):
        if name != "defaults":
            yield from _chapter(f"## `{name}`", kind)
            for key, item in items(kind):
                yield from _chapter(f"### Each of `{name}.{key}`", item)
    yield from _chapter("## `defaults`", Tuning)


def _source_chapters() -> Iterator[str]:
    yield from _keys_table(SourceConfig, skip=Tuning.model_fields)
    for name, kind in sections(SourceConfig):
        yield from _chapter(f"### `{name}`", kind)


def _vendor_chapters() -> Iterator[str]:
    for _, vendor in sorted(load_all().items()):
        yield from _vendor(vendor)


def _families() -> Iterator[str]:
    yield from _table(("metric", "type", "labels", "meaning"), map(_family, ALL_FAMILIES))


def _labels() -> Iterator[str]:
    vendors = load_all()
    yield from _table(("label", *(f"`{name}`" for name in vendors)), _label_values(list(vendors.values())))


def _both_names() -> Iterator[str]:
    rows = (
        (f"`{family.name}`", f"`{otel_name(family)}`", _otel_kind(family), f"`{family.unit}`")
        for family in ALL_FAMILIES
    )
    yield from _table(("Prometheus", "OpenTelemetry", "type", "unit"), rows)


def _family(family: Family[Any]) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    marks = f"{family.kind}{', *now*' if family.perishable else ''}"
    return (
        f"`{family.name}`",
        marks,
        labels + (" +" if family.grouped else "") + (" @" if family.owned else ""),
        family.help,
    )


def _label_values(vendors: list[Vendor]) -> Iterator[tuple[str, ...]]:
    for label, field in {
        "severity": "severities",
        "reason of `vendor_alerts_closed_total`": "close_reasons",
        "operation": "operations",
        "channel": "channels",
        "reason of `vendor_alert_notice_failures_total`": "failure_reasons",
        "reason of `vendor_alert_notices_suppressed_total`": "suppressions",
        "event_type": "event_types",
    }.items():
        yield label, *(", ".join(getattr(vendor.labels, field)) or "–" for vendor in vendors)
    yield "endpoint", *(", ".join(vendor.endpoints) for vendor in vendors)


def _otel_kind(family: Family[Any]) -> str:
    if family.kind == "gauge" and is_additive(family):
        return "sum, non-monotonic"
    return {"counter": "sum, monotonic"}.get(family.kind, family.kind)


PAGES: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "configuration.md": {
        "flags": lambda: _table(("flag", "variable", "default", "meaning"), _flags()),
        "sections": _sections_chapters,
        "sources": _source_chapters,
        "vendors": _vendor_chapters,
    },
    "metrics.md": {"families": _families, "labels": _labels},
    "opentelemetry.md": {"names": _both_names},
}


def _flags() -> Iterator[tuple[str, ...]]:
    yield "`--config.file`", f"`{variable_for('config.file')}`", "none", f"{usage.FLAGS['config.file']['help']}"
    for flag, (section, key) in FLAGS.items():
        field = Config.model_fields[str(section)].annotation.model_fields[str(key)]  # type: ignore[union-attr]
        yield f"`--{flag}`", f"`{variable_for(flag)}`", _default(field), f"the key `{section}.{key}`"


def _vendor(vendor: Vendor) -> Iterator[str]:
    yield from _chapter(f"## Vendor `{vendor.name}`", vendor.config, skip=SourceConfig.model_fields)
    for name, kind in sections(vendor.config):
        if name not in SourceConfig.model_fields:
            yield from _chapter(f"### `{name}` of `{vendor.name}`{_which(kind)}", kind)
    yield f"### Example of `{vendor.name}`\n"
    yield f"```yaml\n{example_of(vendor.name)}```\n"


def _which(kind: type[Settings]) -> str:
    """Returns what sets this kind of section apart from others under the same key: a key that may have one value."""
    choices = ((name, get_args(field.annotation)) for name, field in kind.model_fields.items())
    return "".join(f", `{name}: {values[0]}`" for name, values in choices if len(values) == 1)


def example_of(vendor: str) -> str:
    """A configuration file with one source of this vendor."""
    return files(f"exporter.vendors.{vendor}").joinpath("example.yaml").read_text(encoding="utf-8")


def _members(kind: Any) -> Iterator[Any]:
    """Yields the types a setting may have, unions taken apart."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _members(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def items(kind: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    """Yields the keys whose value is a list of sections."""
    for name, field in kind.model_fields.items():
        for member in _members(field.annotation):
            for item in get_args(member) if get_origin(member) is list else ():
                if isinstance(item, type) and issubclass(item, Settings):
                    yield name, item


def sections(kind: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    """The keys whose value is a section; a section of several kinds comes once for each."""
    for name, field in kind.model_fields.items():
        for member in _members(field.annotation):
            if isinstance(member, type) and issubclass(member, Settings):
                yield name, member


def _chapter(heading: str, kind: type[Settings], *, skip: Iterable[str] = ()) -> Iterator[str]:
    yield f"{heading}\n"
    yield f"{_cell(kind.__doc__ or '')}\n"
    yield from _keys_table(kind, skip=skip)


def _keys_table(kind: type[Settings], *, skip: Iterable[str] = ()) -> Iterator[str]:
    fields = {name: field for name, field in kind.model_fields.items() if name not in skip}
    rows = (
        (_key(name, kind), _type(field), _default(field), field.description or "") for name, field in fields.items()
    )
    yield from _table(("key", "type", "default", "meaning"), rows)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _key(name: str, kind: type[Settings]) -> str:
    secret = issubclass(kind, Credentials) and name in kind.secret_names()
    return f"`{name}` or `{name}_file`" if secret else f"`{name}`"


_WORDS = {
    Secret: "secret",
    bool: "true or false",
    timedelta: "duration",
    ByteSize: "size",
    int: "whole number",
    float: "number",
    Path: "file",
    ZoneInfo: "time zone",
    str: "text",
}


def _type(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("format") == "uri":
        return "URL"
    return _type_of(field.annotation)


def _type_of(annotation: Any) -> str:
    # A secret from a file is said by the second name of its key.
    kinds = [kind for kind in _members(annotation) if kind is not type(None)]
    words = (_word(kind) for kind in kinds if kind is Secret or not _is_secret(kind))
    return " or ".join(dict.fromkeys(words))


def _is_secret(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Secret)


def _word(kind: Any) -> str:
    match get_origin(kind):
        case None if isinstance(kind, type) and issubclass(kind, StrEnum):
            return " or ".join(f"`{value}`" for value in kind)
        case None if isinstance(kind, type) and issubclass(kind, Settings):
            return "section"
        case None:
            return _WORDS[kind]
        case origin if origin is Literal:
            return " or ".join(f"`{value}`" for value in get_args(kind))
        case origin if origin is re.Pattern:
            return "regular expression"
        case origin if origin is dict:
            return f"map of text to {_type_of(get_args(kind)[1])}"
        case _:
            return f"list of {_type_of(get_args(kind)[0])}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True):
        case None | "":
            return "none"
        case Settings():
            return ""
        case timedelta() as span:
            return f"`{text_from(span)}`"
        case ByteSize() as size:
            return f"`{size.human_readable(separator='').replace('.0', '')}`"
        case bool() | int() | float() | list() | dict() as value:
            return f"`{json.dumps(value)}`"
        case value:
            return f"`{value}`"


def main() -> int:
    """Writes the pages if asked to with `--write`, else names those that are out of date; 1 if there are any."""
    outdated = [name for name in PAGES if (DOCS / name).read_text(encoding="utf-8") != page(name)]
    if "--write" in sys.argv[1:]:
        for name in outdated:
            (DOCS / name).write_text(page(name), encoding="utf-8")
        return 0
    sys.stdout.writelines(f"{DOCS / name} is out of date\n" for name in outdated)
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
