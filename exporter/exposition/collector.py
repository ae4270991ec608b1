"""The catalogue as a prometheus_client collector, for the registries of other programs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.exposition.catalogue import (
    EXPORTER_FAMILIES,
    FAMILIES,
    Family,
    Sample,
    exporter_state,
    is_stale,
    samples_of,
)
from exporter.exposition.series import constant_names, extra_names, fit, rows_of
from exporter.model.snapshot import Histogram, Labels, Snapshot


class SnapshotCollector(Collector):
    """Collects the families of the newest snapshot, except those without samples."""

    def __init__(self, newest: Callable[[], Snapshot], *, version: str, revision: str) -> None:
        self._newest = newest
        self._version = version
        self._revision = revision

    def collect(self) -> Iterator[Metric]:
        """Yields the families in turn."""
        snapshot = self._newest()
        constant = constant_names(snapshot)
        for family in FAMILIES:
            names = extra_names(family, snapshot)
            metric = _metric(family)
            for state in snapshot.sources:
                about = {"source": fit(state.name), "vendor": fit(state.vendor)}
                about |= {name: fit(state.constant_labels.get(name, "")) for name in constant}
                _add(metric, family, samples_of(family, state, stale=is_stale(state, snapshot.moment)), about, names)
            yield from _unless_empty(metric)
        itself = exporter_state(snapshot, version=self._version, revision=self._revision)
        for own in EXPORTER_FAMILIES:
            metric = _metric(own)
            _add(metric, own, own.samples(itself))
            yield from _unless_empty(metric)


def _metric(family: Family[Any]) -> Metric:
    name = family.name.removesuffix("_total")
    return Metric(name, family.help, family.kind, unit="seconds" if name.endswith("_seconds") else "")


def _unless_empty(metric: Metric) -> Iterator[Metric]:
    if metric.samples:
        yield metric


def _add(
    metric: Metric, family: Family[Any], samples: Iterable[Sample], about: Mapping[str, str] = {}, extra: Labels = ()
) -> None:
    names = (*family.labels, *extra)
    for values, value in rows_of(family, samples, names).items():
        labels = {**about, **dict(zip(names, values, strict=True))}
        if not isinstance(value, Histogram):
            metric.add_sample(family.name, labels, value)
            continue
        counts = list(accumulate(value.counts))
        for bound, count in zip((*map(str, value.bounds), "+Inf"), counts, strict=True):
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
        metric.add_sample(f"{family.name}_sum", labels, value.total)
        metric.add_sample(f"{family.name}_count", labels, counts[-1])
