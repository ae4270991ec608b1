"""Spells the catalogue in the two formats of Prometheus, once per poll and never per scrape."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.exposition.catalogue import (
    EXPORTER_FAMILIES,
    FAMILIES,
    ExporterState,
    Family,
    Sample,
    Value,
    is_stale,
    samples_of,
)
from exporter.exposition.series import constant_names, extra_names, fit, rows_of
from exporter.model.snapshot import Histogram, Labels, Snapshot, SourceState

_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "info": ("_info",)}


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in one format, ready to be sent; `families` by each name a scraper may filter by."""

    content_type: str
    families: Mapping[str, bytes]
    end: bytes
    whole: bytes
    gzipped: bytes

    def only(self, names: Iterable[str]) -> bytes:
        """The named families, each once; unknown names add nothing."""
        return b"".join(dict.fromkeys(self.families[name] for name in names if name in self.families)) + self.end


class Exposition(msgspec.Struct, frozen=True):
    """One snapshot, spelled out."""

    text: Text
    openmetrics: Text


class _Fragments(msgspec.Struct, frozen=True):
    """The sample lines of one source, a piece for each family, and what they were made from."""

    state: SourceState
    stale: bool
    labels: tuple[Labels, Labels, bool]
    lines: Sequence[bytes]


class _Collected(Collector):
    """What collectors told once, so that both formats tell the same."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = [*registry.collect()]

    def collect(self) -> Iterable[Metric]:
        return self._families


class Renderer:
    """Turns snapshots into text; remembers the lines of sources that did not change since. For one thread at a time."""

    def __init__(self, *, version: str, revision: str) -> None:
        self._version = version
        self._revision = revision
        self._known: dict[str, _Fragments] = {}
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def render(self, snapshot: Snapshot, now: datetime) -> Exposition:
        """The snapshot in both formats, as of `now`, which decides what has become stale."""
        constant = constant_names(snapshot)
        self._known = {
            state.name: self._fragments(snapshot, state, is_stale(state, now), constant) for state in snapshot.sources
        }
        bodies: list[tuple[Family[Any], bytes]] = [
            (family, b"".join(fragments.lines[place] for fragments in self._known.values()))
            for place, family in enumerate(FAMILIES)
        ]
        itself = ExporterState(self._version, self._revision, snapshot.reload, snapshot.deliveries)
        bodies += [(family, _lines(family, family.samples(itself))) for family in EXPORTER_FAMILIES]
        written = [(family, body) for family, body in bodies if body]
        process = _Collected(self._process)
        target = f'target_info{{service_name="vendor-alert-exporter",service_version="{self._version}"}} 1\n'
        return Exposition(
            text=_text(
                CONTENT_TYPE_PLAIN_0_0_4,
                [(family.name, family.kind, _head(family, family.name) + body) for family, body in written],
                generate_latest(process).decode(),
            ),
            openmetrics=_text(
                CONTENT_TYPE_OPENMETRICS,
                [(family.name, family.kind, _openmetrics_head(family) + body) for family, body in written],
                f"# HELP target Target metadata.\n# TYPE target info\n{target}"
                + generate_openmetrics(process).decode(),  # type: ignore[no-untyped-call]
            ),
        )

    def _fragments(self, snapshot: Snapshot, state: SourceState, stale: bool, constant: Labels) -> _Fragments:
        known = self._known.get(state.name)
        labels = constant, tuple(snapshot.group_by), snapshot.owned
        if known is not None and known.state is state and (known.stale, known.labels) == (stale, labels):
            return known
        before = [_pair("source", fit(state.name)), _pair("vendor", fit(state.vendor))]
        behind = [_pair(name, fit(state.constant_labels.get(name, ""))) for name in constant]
        lines = [
            _lines(family, samples_of(family, state, stale=stale), before, behind, extra_names(family, snapshot))
            for family in FAMILIES
        ]
        return _Fragments(state, stale, labels, lines)


def _pair(name: str, value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", r"\\").replace('"', r"\"")
    return f'{name}="{value}"'


def _lines(
    family: Family[Any],
    samples: Iterable[Sample],
    before: Sequence[str] = (),
    behind: Sequence[str] = (),
    extra: Labels = (),
) -> bytes:
    """The sample lines of one family; no two have the same labels."""
    names = (*family.labels, *extra)
    own = len(family.labels)
    lines: list[str] = []
    for values, value in rows_of(family, samples, names).items():
        pairs = [_pair(name, text) for name, text in zip(names, values, strict=True)]
        lines += _sample_lines(family.name, ",".join((*before, *pairs[:own], *behind, *pairs[own:])), value)
    return "".join(lines).encode()


def _sample_lines(name: str, labels: str, value: Value) -> Iterator[str]:
    if not isinstance(value, Histogram):
        yield f"{name}{{{labels}}} {value!r}\n" if labels else f"{name} {value!r}\n"
        return
    counts = list(accumulate(value.counts))
    for bound, count in zip((*map(repr, value.bounds), "+Inf"), counts, strict=True):
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}\n'
    yield f"{name}_sum{{{labels}}} {value.total!r}\n"
    yield f"{name}_count{{{labels}}} {counts[-1]}\n"


def _head(family: Family[Any], name: str) -> bytes:
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n".encode()


def _openmetrics_head(family: Family[Any]) -> bytes:
    """As above; a counter is named without `_total`, and a unit is told where the name ends with it."""
    name = family.name.removesuffix("_total")
    unit = f"# UNIT {name} seconds\n" if name.endswith("_seconds") else ""
    return _head(family, name) + unit.encode()


def _text(content_type: str, families: Iterable[tuple[str, str, bytes]], others: str) -> Text:
    """Our families, then those that were written by prometheus_client."""
    written = [*families]
    others, end, _ = others.partition("# EOF\n")
    for other in re.split(r"^(?=# HELP )", others, flags=re.MULTILINE)[1:]:
        name, kind = other.split("# TYPE ", 1)[1].split("\n", 1)[0].split(" ")
        written.append((name, kind, other.encode()))
    whole = b"".join(body for _name, _kind, body in written) + end.encode()
    by_name: dict[str, bytes] = {}
    for name, kind, body in written:
        base = name.removesuffix("_total") if kind == "counter" else name
        by_name |= dict.fromkeys((name, base, *(base + suffix for suffix in _SUFFIXES.get(kind, ()))), body)
    deflate = zlib.compressobj(level=2, wbits=31)  # gzip, whose header then has no time in it
    gzipped = deflate.compress(whole) + deflate.flush()
    return Text(content_type=content_type, families=by_name, end=end.encode(), whole=whole, gzipped=gzipped)
