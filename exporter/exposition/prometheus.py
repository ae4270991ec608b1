"""Renders the catalogue in both Prometheus formats, in parts that are kept until their source changes.

A scrape only joins parts. Each part is compressed separately, and deflate streams can be concatenated, so that a poll
of one source among hundreds costs only its own lines.
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, zip_longest
from struct import pack
from time import thread_time
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
    Family,
    Sample,
    Value,
    exporter_state,
    samples_of,
    stale_at,
)
from exporter.exposition.series import constant_names, extra_names, fit, rows_of
from exporter.model.snapshot import Histogram, Labels, Snapshot, SourceState

# Sources whose lines are compressed together: fewer compress badly, more are recompressed for each change.
BLOCK = 16
# Bytes of a compressed answer up to which it is assembled in advance.
READY_BYTES = 256 * 1024
# Share of time that rendering may take.
DUTY = 0.05

_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "info": ("_info",)}
_GZIP_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF])
_DEFLATE_END = b"\x03\x00"


class Part(msgspec.Struct, frozen=True):
    """Lines of one family, one item per source, and the same as a piece of a deflate stream.

    Those of a perishable family hold until `holds_until`, by a clock that is never set; from the moment of `until` on
    those of `stale` replace a source's lines.
    """

    lines: tuple[bytes, ...]
    packed: bytes
    holds_until: float = math.inf
    until: tuple[float, ...] = ()
    stale: tuple[bytes, ...] = ()

    def at(self, now: float) -> "Part":
        """Returns the part as of `now`."""
        if now < self.holds_until:
            return self
        sources = zip(self.lines, self.until, self.stale, strict=True)
        return _part(tuple(stale if now >= until else fresh for fresh, until, stale in sources))


class Section(msgspec.Struct, frozen=True):
    """A family in one format: every name a scraper may filter by, its head and its lines."""

    names: tuple[str, ...]
    head: Part
    parts: Sequence[Part]


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in one format, ready to join; `gzipped` is already joined and valid until `holds_until`."""

    content_type: str
    sections: Sequence[Section]
    end: Part
    gzipped: bytes = b""
    holds_until: float = -math.inf

    def body(self, now: float, *, names: Iterable[str] = (), gzipped: bool = False) -> bytes:
        """Returns the answer to a scrape at `now`, in seconds of the monotonic clock: the named families, or all."""
        wanted = frozenset(names)
        if gzipped and not wanted and now < self.holds_until:
            return self.gzipped
        parts: list[Part] = []
        for section in self.sections:
            if wanted and wanted.isdisjoint(section.names):
                continue
            found = [part for part in (part.at(now) for part in section.parts) if any(part.lines)]
            if found:
                parts += (section.head, *found)
        parts.append(self.end)
        return _gzipped(parts) if gzipped else b"".join([line for part in parts for line in part.lines])


class Exposition(msgspec.Struct, frozen=True):
    """One snapshot in both formats."""

    text: Text
    openmetrics: Text


class _Fragments(msgspec.Struct, frozen=True):
    """The lines of one source by family, fresh and stale, and what they were made from."""

    state: SourceState
    labels: tuple[Labels, Labels, bool]
    lines: Sequence[bytes]
    stale: Mapping[int, bytes]


class _Block(msgspec.Struct, frozen=True):
    """The parts of some sources by family, what they were made from, and how long they are valid."""

    sources: Sequence[_Fragments]
    holds_until: float
    parts: Sequence[Part]


class _One(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


class Renderer:
    """Renders snapshots as text, reusing what did not change. Not thread-safe."""

    def __init__(self, *, version: str, revision: str) -> None:
        self._version = version
        self._revision = revision
        self._known: dict[str, _Fragments] = {}
        self._blocks: list[_Block] = []
        self._heads: dict[bytes, Part] = {}
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)
        self.rest_seconds = 0.0
        """How long to wait before rendering again, to stay within DUTY."""

    def render(self, snapshot: Snapshot) -> Exposition:
        """Renders the snapshot in both formats."""
        began = thread_time()
        constant = constant_names(snapshot)
        self._known = {state.name: self._fragments(snapshot, state, constant) for state in snapshot.sources}
        sources = [*self._known.values()]
        blocks = [sources[start : start + BLOCK] for start in range(0, len(sources), BLOCK)]
        self._blocks = [
            _block(block, snapshot.moment, known) for block, known in zip_longest(blocks, self._blocks) if block
        ]
        written: list[tuple[Family[Any], Sequence[Part]]] = [
            (family, [block.parts[place] for block in self._blocks]) for place, family in enumerate(FAMILIES)
        ]
        itself = exporter_state(snapshot, version=self._version, revision=self._revision)
        written += [(family, [_part((_lines(family, family.samples(itself)),))]) for family in EXPORTER_FAMILIES]
        process = [*self._process.collect()]
        target = f'target_info{{service_name="vendor-alert-exporter",service_version="{self._version}"}} 1\n'
        exposition = Exposition(
            text=_ready(
                snapshot.moment,
                content_type=CONTENT_TYPE_PLAIN_0_0_4,
                sections=[
                    *(
                        Section(_names(family.name, family.kind), self._head(_head(family, family.name)), parts)
                        for family, parts in written
                    ),
                    *(_section(metric, generate_latest(_One(metric))) for metric in process),
                ],
                end=_NOTHING,
            ),
            openmetrics=_ready(
                snapshot.moment,
                content_type=CONTENT_TYPE_OPENMETRICS,
                sections=[
                    *(
                        Section(_names(family.name, family.kind), self._head(_openmetrics_head(family)), parts)
                        for family, parts in written
                    ),
                    Section(_names("target", "info"), self._head(_TARGET), [self._head(target.encode())]),
                    *(_section(metric, generate_openmetrics(_One(metric)).removesuffix(_EOF)) for metric in process),
                ],
                end=self._head(_EOF),
            ),
        )
        self.rest_seconds = (thread_time() - began) * (1 / DUTY - 1)
        return exposition

    def _fragments(self, snapshot: Snapshot, state: SourceState, constant: Labels) -> _Fragments:
        known = self._known.get(state.name)
        labels = constant, tuple(snapshot.group_by), snapshot.owned
        if known is not None and known.state is state and known.labels == labels:
            return known
        before = [_pair("source", fit(state.name)), _pair("vendor", fit(state.vendor))]
        behind = [_pair(name, fit(state.constant_labels.get(name, ""))) for name in constant]

        def spelled(family: Family[SourceState], *, stale: bool) -> bytes:
            return _lines(family, samples_of(family, state, stale=stale), before, behind, extra_names(family, snapshot))

        lines = [spelled(family, stale=False) for family in FAMILIES]
        if known is not None:  # an identical object needs no comparison and no compression
            lines = [old if old == new else new for old, new in zip(known.lines, lines, strict=True)]
        stale = {place: spelled(family, stale=True) for place, family in enumerate(FAMILIES) if family.perishable}
        return _Fragments(state, labels, lines, stale)

    def _head(self, text: bytes) -> Part:
        """Returns a part that never changes."""
        return self._heads.get(text) or self._heads.setdefault(text, _part((text,)))


def _section(metric: Metric, text: bytes) -> Section:
    return Section(_names(metric.name, metric.type), _NOTHING, [_part((text,))])


def _block(sources: Sequence[_Fragments], now: float, known: _Block | None) -> _Block:
    """Returns the parts of these sources, unchanged ones from `known`."""
    if known is not None and now < known.holds_until and [*map(id, sources)] == [*map(id, known.sources)]:
        return known
    moments = [stale_at(source.state) for source in sources]
    is_stale = [moment <= now for moment in moments]
    until = tuple(math.inf if moment <= now else moment for moment in moments)
    parts = []
    for place, family in enumerate(FAMILIES):
        stale = tuple(source.stale[place] for source in sources) if family.perishable else ()
        lines = tuple(source.lines[place] for source in sources)
        if stale:
            lines = tuple(old if gone else fresh for fresh, old, gone in zip(lines, stale, is_stale, strict=True))
        part = known.parts[place] if known is not None and known.parts[place].lines == lines else _part(lines)
        if stale:
            part = Part(lines, part.packed, min(until), until, stale)
        parts.append(part)
    return _Block(sources, min(until), parts)


def _part(lines: tuple[bytes, ...]) -> Part:
    if not any(lines):
        return Part(lines, b"")
    deflate = zlib.compressobj(level=2, wbits=-15)
    return Part(lines, b"".join([*map(deflate.compress, lines), deflate.flush(zlib.Z_FULL_FLUSH)]))


_NOTHING = _part(())
_EOF = b"# EOF\n"
_TARGET = b"# HELP target Target metadata.\n# TYPE target info\n"


def _ready(now: float, **given: Any) -> Text:
    """Returns the text with the most requested form assembled in advance, unless it is too large for that."""
    text = Text(**given)
    parts = [part for section in text.sections for part in section.parts]
    if sum(len(part.packed) for part in parts) > READY_BYTES:
        return text
    return msgspec.structs.replace(
        text, gzipped=text.body(now, gzipped=True), holds_until=min(part.holds_until for part in parts)
    )


def _gzipped(parts: Sequence[Part]) -> bytes:
    """Returns one gzip stream with no time in its header."""
    crc = size = 0
    for part in parts:
        for line in part.lines:
            crc = zlib.crc32(line, crc)
            size += len(line)
    return b"".join([_GZIP_HEADER, *(part.packed for part in parts), _DEFLATE_END, pack("<LL", crc, size & 0xFFFFFFFF)])


def _names(name: str, kind: str) -> tuple[str, ...]:
    """Returns the names of a family and of its samples."""
    base = name.removesuffix("_total") if kind == "counter" else name
    return (name, base, *(base + suffix for suffix in _SUFFIXES.get(kind, ())))


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
    """Returns the sample lines of one family, no two with the same labels."""
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
    """Returns the same for OpenMetrics: counters without `_total`, and a unit where the name ends with it."""
    name = family.name.removesuffix("_total")
    unit = f"# UNIT {name} seconds\n" if name.endswith("_seconds") else ""
    return _head(family, name) + unit.encode()
