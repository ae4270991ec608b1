"""CPU time of pushing 10,000 series over OTLP, against three Prometheus renderings of the same snapshot."""

import gzip
import time
from collections.abc import Callable, Iterator

import msgspec

from benchmarks.figures import ratio
from exporter.exposition.otlp import Encoder
from exporter.exposition.prometheus import Renderer
from exporter.model.snapshot import Snapshot
from tests.builders import known
from tests.exposition.states import NOW, a_polled_state, a_snapshot

SERIES = 10_000
ROUNDS = 7


def snapshots() -> list[Snapshot]:
    """As many snapshots as rounds, in each of which every source has polled anew."""
    open_ = {("critical", f"alert {number}"): number for number in range(60)}
    counts = msgspec.structs.replace(known(a_polled_state().alerts), open=open_, opened=open_)
    names = [f"source-{number}" for number in range(36)]
    return [
        a_snapshot(*(a_polled_state(name=name, alerts=counts, polls=round_) for name in names), group_by=("name",))
        for round_ in range(ROUNDS)
    ]


def cheapest(work: Callable[[Snapshot], object]) -> float:
    """CPU seconds of the process for one snapshot, in the best of all rounds."""
    costs = []
    for snapshot in snapshots():
        before = time.process_time()
        work(snapshot)
        costs.append(time.process_time() - before)
    return min(costs)


def run() -> Iterator[str]:
    """The ratio, in which every source has polled between two pushes and between two renderings."""
    renderer = Renderer(version="1", revision="r")
    encoder = Encoder({"service.instance.id": "i"}, version="1", revision="r", started_at=NOW)
    text = renderer.render(snapshots()[0]).text.body(0)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    assert series >= SERIES, series

    rendering = cheapest(renderer.render)
    pushing = cheapest(lambda snapshot: [gzip.compress(one.body, 2) for one in encoder.metrics(snapshot, 1)])

    what = f"CPU of pushing {series:,} series ({pushing * 1000:.0f} ms) against three renderings of the same"
    yield ratio(what, pushing / (3 * rendering), at_most=1.0)
