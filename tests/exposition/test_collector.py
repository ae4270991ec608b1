"""The catalogue as a collector: prometheus_client writes what we write, in both formats."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_from
from prometheus_client.parser import text_string_to_metric_families as text_from
from prometheus_client.samples import Sample

from exporter.exposition.catalogue import ALL_FAMILIES
from exporter.exposition.collector import SnapshotCollector
from exporter.exposition.prometheus import Renderer
from exporter.model.snapshot import Snapshot
from tests.exposition.snapshots import SNAPSHOTS

OURS = [family.name for family in ALL_FAMILIES]


def written_by_prometheus_client(snapshot: Snapshot) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: snapshot, version="1.2.3", revision="abc"))
    return registry


def families(text: bytes, parse: Callable[[str], Iterable[Metric]]) -> dict[str, tuple[str, str, str, list[Sample]]]:
    """Every family with its type, help, unit and samples."""
    return {
        family.name: (family.type, family.documentation, family.unit, family.samples) for family in parse(text.decode())
    }


@pytest.mark.parametrize("snapshot", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_prometheus_client_writes_the_same_families_and_samples(snapshot: Snapshot) -> None:
    exposition = Renderer(version="1.2.3", revision="abc").render(snapshot)
    registry = written_by_prometheus_client(snapshot)

    text = exposition.text.body(snapshot.moment, names=OURS)
    openmetrics = exposition.openmetrics.body(snapshot.moment, names=OURS)

    assert families(text, text_from) == families(generate_latest(registry), text_from)
    assert families(openmetrics, openmetrics_from) == families(generate_openmetrics(registry), openmetrics_from)
