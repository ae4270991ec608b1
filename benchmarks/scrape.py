"""A scrape of 10,000 series while sources are polled, against prometheus_client writing the same families."""

import http.client
import statistics
from collections.abc import Iterable, Iterator
from time import perf_counter, sleep

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from benchmarks.figures import absolute, ratio
from benchmarks.stage import Running, polling, wait_until

SERIES = 10_000
# Twelve times as often as by default.
INTERVAL = "5s"
# Long enough for several polls of every source, at moments that have nothing to do with them.
SECONDS = 10.0
PAUSE_SECONDS = 0.003
# Where other programs want the processor too, a thread may wait for several slices of 3 to 4 ms.
BUSY = 10.0
ROUNDS = 5
# Four sources with so many groups in three families, and a few hundred other series each.
NAMES = 1200
ASKED = {
    "gzip": {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "Accept-Encoding": "gzip"},
    "plain": {"Accept-Encoding": "identity"},
}


class _Told(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = [*families]

    def collect(self) -> Iterable[Metric]:
        return self._families


def _scrape_seconds(running: Running, headers: dict[str, str]) -> list[float]:
    """Wall time of scrapes over one connection, the shortest first."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    seconds = []
    until = perf_counter() + SECONDS
    while (began := perf_counter()) < until:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        answer.read()
        seconds.append(perf_counter() - began)
        assert answer.status == 200
        sleep(PAUSE_SECONDS)
    connection.close()
    return sorted(seconds)


def run() -> Iterator[str]:
    """What Prometheus asks for, then plain text, then the ratio."""
    settings = {
        "metrics": {"group_by": ["name"], "group_limit": 5 * NAMES},
        "defaults": {"interval": INTERVAL, "timeout": INTERVAL, "first_poll": "backfill", "overlap": "3h"},
    }
    with polling(open_alerts=NAMES, names=NAMES, **settings) as running:
        running.wait_until_ready(within=60)
        wait_until(lambda: running.get("/metrics").count("\n") >= SERIES, 30, f"not {SERIES:,} series")
        families = [*text_string_to_metric_families(running.get("/metrics"))]
        scraped = {what: _scrape_seconds(running, headers) for what, headers in ASKED.items()}
        failed = running.samples("vendor_source_poll_failures_total")
    assert not any(failed.values()), failed
    registry = CollectorRegistry()
    registry.register(_Told(families))
    written = []
    for _ in range(ROUNDS):
        began = perf_counter()
        generate_latest(registry)
        written.append(perf_counter() - began)

    series = sum(len(family.samples) for family in families)
    for what, seconds in scraped.items():
        told = f"{len(seconds):,} scrapes of {series:,} series as {what}"
        yield absolute(f"p50 of {told}", statistics.median(seconds) * 1000, "ms", below=5, tolerance=BUSY)
        yield absolute(f"p99 of {told}", seconds[len(seconds) * 99 // 100] * 1000, "ms", below=5, tolerance=BUSY)
    took = statistics.median(written)
    what = f"p50 of plain scrapes, of generate_latest's {took * 1000:.0f} ms for the same families"
    yield ratio(what, statistics.median(scraped["plain"]) / took, at_most=0.1)
