"""Writes the pages of docs/ that tell what the code says anyway: `python -m exporter.reference --write`."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from exporter import cli
from exporter.config import FLAGS, Config, HeadersFile, members_of, variable_for
from exporter.exposition.catalogue import EXPORTER_FAMILIES, FAMILIES, Family, is_additive, otel_name
from exporter.vendorkit.contract import SourceConfig, Tuning, Vendor
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.settings import Settings, text_from
from exporter.vendors import load_all

DOCS = Path(__file__).parent.parent / "docs"

_GENERATED = "<!-- Made by `python -m exporter.reference --write` from the code: change that, not this. -->"

_INTRODUCTION = """
Settings come from, each over the one before: built-in defaults, the file named by `--config.file` (YAML), environment
variables, flags. Without a file, sources come from the environment alone. `vendor-alert-exporter check-config` names
every mistake by its path, without asking any vendor. Unknown keys, and keys given twice, are mistakes.

| written | means |
|---|---|
| duration | `30s`, `5m`, `2h`, `15d`, `1h30m`, or a number of seconds |
| size | `32MiB`, `10MB`, or a number of bytes |
| secret | text, or the name of a file that holds it: see [Secrets](#secrets) |
| file | the name of a file that exists; in the configuration file, relative to the folder of that file |
"""

_ENVIRONMENT = """
## Environment variables

Every key has a variable: the prefix `VENDOR_ALERT_EXPORTER_`, then the path of the key with `__` between its parts, as
in `VENDOR_ALERT_EXPORTER_METRICS__GROUP_LIMIT` or `VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__AUTH__SECRET_KEY`.

- Values are merged into the file's. Case does not matter, and in the name of a source or another key of a map `-` and
  `_` are the same, so `AOM_PROD` names the source `aom-prod` of the file. A source that only the environment names is
  called by that name in lower case: `aom_prod`.
- Lists of plain values are written with commas or as JSON (`name,policy`, `["name", "policy"]`), maps as JSON. Maps are
  merged key by key. An empty value means none where a key may be empty.
- A variable with the prefix and a `__` that names no key is a mistake. Without a `__` it is not ours and is ignored:
  Kubernetes sets `VENDOR_ALERT_EXPORTER_SERVICE_HOST` and others for a Service of that name.
"""

_SECRETS = """
## Secrets

Every secret `X` may be given as `X_file` instead, the name of a file that holds it. The file is read again when it
changes, so that a rotated secret needs no restart; white space around the value is left out. Both at once is a mistake,
and so is a file that is missing at the start; one that vanishes later keeps its last value. A secret in the
environment, in either form, takes the place of the one in the configuration file. Secrets are never shown: not in logs,
metrics, pages or errors.
"""

_SOURCES = """
## `sources`

Each source is one account, project or environment of a vendor, under a name of letters, digits, `-` and `_` that starts
with a letter or digit. Names that differ only in case or in `-` and `_` are a mistake. At least one source is needed.

A source takes what it does not say itself from `defaults`; `severity_map` and `labels` are merged key by key. A
`timeout` longer than the `interval` is cut to it. The metrics of all sources have the same label names: a source
without one of another's `labels` has it empty. The vendor's own table of severities stays in force for levels that
`severity_map` does not name.
"""


def configuration_page() -> str:
    """docs/configuration.md: every key, flag and rule, from the models."""
    sections = {name: kind for name, kind in _sections(Config) if name != "defaults"}
    return "\n".join(
        [
            "# Configuration\n",
            _GENERATED,
            _INTRODUCTION,
            "## Flags\n",
            *_table(("flag", "variable", "default", "meaning"), _flags()),
            _ENVIRONMENT.strip(),
            _SECRETS,
            *(line for name, kind in sections.items() for line in _chapter(f"## `{name}`", kind)),
            *_chapter("## `defaults`", Tuning),
            _SOURCES.lstrip(),
            *_keys_table(SourceConfig, skip=Tuning.model_fields),
            *(line for name, kind in _sections(SourceConfig) for line in _chapter(f"### `{name}`", kind)),
            *(line for name in sorted(load_all()) for line in _vendor(load_all()[name])),
        ]
    )


_METRICS = """
Labels of every family but the exporter's own: `source`, `vendor`, then the family's, then the constant `labels` of the
configuration; then, on families marked with `+`, the names in `metrics.group_by`; last, on families marked with `@` and
only where owners are configured, `owner`. Then open and opened have zeros for each owner; other zeros have an empty
`owner`, as they have empty `group_by` labels.

Label values that a vendor can produce by its manual are there with 0 from the first successful poll on, so that
`increase()` sees the first one. A family that only detail calls feed gets its zeros with the first call that is
answered, or with a complete poll that had nothing to ask; while all of them fail it is absent. A family a vendor cannot
supply is absent for its sources, never a false 0. Families
marked *now* describe the present: they are withdrawn when a source has not succeeded for `metrics.stale_after`.
`process_*`, `python_*` and, in OpenMetrics, `target_info` come along.
"""


def metrics_page() -> str:
    """docs/metrics.md: every family, and what each vendor can say."""
    vendors = load_all()
    families: tuple[Family[Any], ...] = (*FAMILIES, *EXPORTER_FAMILIES)
    return "\n".join(
        [
            "# Metrics\n",
            _GENERATED,
            _METRICS,
            *_table(("metric", "type", "labels", "meaning"), map(_family, families)),
            "## What the labels can say, by vendor\n",
            *_table(("label", *(f"`{name}`" for name in vendors)), _label_values(list(vendors.values()))),
        ]
    )


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


_FROM_HERE = "<!-- The table is made by `python -m exporter.reference --write` from the code. -->\n"


def opentelemetry_page() -> str:
    """docs/opentelemetry.md, of which only the table at its end is made here."""
    written, _, _ = _written("opentelemetry.md").partition(_FROM_HERE)
    families: tuple[Family[Any], ...] = (*FAMILIES, *EXPORTER_FAMILIES)
    rows = (
        (f"`{family.name}`", f"`{otel_name(family)}`", _otel_kind(family), f"`{family.unit}`") for family in families
    )
    return f"{written}{_FROM_HERE}\n" + "\n".join(_table(("Prometheus", "OpenTelemetry", "type", "unit"), rows))


def _otel_kind(family: Family[Any]) -> str:
    if family.kind == "gauge" and is_additive(family):
        return "sum, non-monotonic"
    return {"counter": "sum, monotonic"}.get(family.kind, family.kind)


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration_page,
    "metrics.md": metrics_page,
    "opentelemetry.md": opentelemetry_page,
}


def _flags() -> Iterator[tuple[str, ...]]:
    yield "`--config.file`", f"`{variable_for('config.file')}`", "none", f"{cli.FLAGS['config.file']['help']}"
    for flag, (section, key) in FLAGS.items():
        field = Config.model_fields[str(section)].annotation.model_fields[str(key)]  # type: ignore[union-attr]
        yield f"`--{flag}`", f"`{variable_for(flag)}`", _default(field), f"the key `{section}.{key}`"


def _vendor(vendor: Vendor) -> Iterator[str]:
    yield from _chapter(f"## Vendor `{vendor.name}`", vendor.config, skip=SourceConfig.model_fields)
    for name, kind in _sections(vendor.config):
        if name not in SourceConfig.model_fields:
            yield from _chapter(f"### `{name}` of `{vendor.name}`{_which(kind)}", kind)
    yield f"### Example of `{vendor.name}`\n"
    yield f"```yaml\n{example_of(vendor.name)}```\n"


def _which(kind: type[Settings]) -> str:
    """What tells this kind of section from the others under the same key: the one value a key of it may have."""
    choices = ((name, get_args(field.annotation)) for name, field in kind.model_fields.items())
    return "".join(f", `{name}: {values[0]}`" for name, values in choices if len(values) == 1)


def example_of(vendor: str) -> str:
    """A configuration file with one source of this vendor."""
    return files(f"exporter.vendors.{vendor}").joinpath("example.yaml").read_text(encoding="utf-8")


def _sections(kind: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    """The keys whose value is a section; a section of several kinds comes once for each."""
    for name, field in kind.model_fields.items():
        for member in members_of(field.annotation):
            if isinstance(member, type) and issubclass(member, Settings):
                yield name, member


def _chapter(heading: str, kind: type[Settings], *, skip: Iterable[str] = ()) -> Iterator[str]:
    yield f"{heading}\n"
    yield f"{_cell(kind.__doc__ or '')}\n"
    yield from _keys_table(kind, skip=skip)


def _keys_table(kind: type[Settings], *, skip: Iterable[str] = ()) -> Iterator[str]:
    fields = {name: field for name, field in kind.model_fields.items() if name not in skip}
    rows = (
        (_key(name, field), _type(field), _default(field), field.description or "") for name, field in fields.items()
    )
    yield from _table(("key", "type", "default", "meaning"), rows)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _key(name: str, field: FieldInfo) -> str:
    return f"`{name}` or `{name}_file`" if Secret in members_of(field.annotation) else f"`{name}`"


_WORDS = {
    HeadersFile: "file",
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
    words = (_word(member) for member in members_of(annotation) if member is not type(None))
    return " or ".join(dict.fromkeys(words))


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
    outdated = [name for name, page in PAGES.items() if _written(name) != page()]
    if "--write" in sys.argv[1:]:
        for name in outdated:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        return 0
    sys.stdout.writelines(f"{DOCS / name} is out of date\n" for name in outdated)
    return 1 if outdated else 0


def _written(name: str) -> str:
    file = DOCS / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
