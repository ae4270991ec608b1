"""Rendering in a fleet of 1,000 sources: how fresh a scrape is, and what answering one takes."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle, islice
from time import thread_time

import msgspec

from benchmarks.figures import absolute, ratio
from exporter.exposition.prometheus import DUTY, Renderer
from exporter.model.snapshot import SourceState
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_snapshot

SOURCES = 1_000
SERIES = 240_000
INTERVAL_SECONDS = 60.0
RENDERINGS = 12


def _polled(state: SourceState) -> SourceState:
    """The state after another poll that brought nothing new."""
    polls = state.polls + 1
    return msgspec.structs.replace(
        state,
        polls=polls,
        last_success=NOW + timedelta(seconds=polls * INTERVAL_SECONDS),
        last_poll_seconds=1.0 + polls / 1000,
        requests={key: count + 1 for key, count in state.requests.items()},
        request_seconds={of: histogram.observed(0.2) for of, histogram in state.request_seconds.items()},
        records={key: count + 1 for key, count in state.records.items()},
    )


def run() -> Iterator[str]:
    """The steady state: each rendering finds as many sources polled anew as are in the time from one to the next."""
    counts = a_polled_state().alerts
    assert counts is not None
    groups = {("critical", f"alert {number}"): number for number in range(35)}
    alerts = msgspec.structs.replace(counts, open=groups, opened=groups)
    states = [a_polled_state(name=f"source-{number}", alerts=alerts) for number in range(SOURCES)]
    renderer = Renderer(version="1", revision="r")
    exposition = renderer.render(a_snapshot(*states, group_by=("name",)))
    series = sum(not line.startswith(b"#") for line in exposition.text.body(MOMENT).splitlines())
    assert series >= SERIES, series

    turns = cycle(range(SOURCES))
    shares, periods = [], []
    period = INTERVAL_SECONDS / 10
    for _ in range(RENDERINGS):
        for place in islice(turns, min(SOURCES, round(SOURCES * period / INTERVAL_SECONDS))):
            states[place] = _polled(states[place])
        began = thread_time()
        exposition = renderer.render(a_snapshot(*states, group_by=("name",)))
        took = thread_time() - began
        period = took + renderer.rest_seconds
        shares.append(took / period)
        periods.append(period)
    steady = sorted(periods[RENDERINGS // 2 :])
    where = f"{SOURCES:,} sources, {series:,} series"
    yield ratio(f"share of the time that rendering takes, {where}", max(shares), at_most=DUTY * 1.1)
    yield absolute(f"age of what a scrape shows, at most, {where}", steady[len(steady) // 2], "s", below=10)
    for what, gzipped in (("gzip", True), ("plain", False)):
        body = exposition.openmetrics.body(MOMENT, gzipped=gzipped)
        seconds = []
        for _ in range(RENDERINGS):
            began = thread_time()
            exposition.openmetrics.body(MOMENT, gzipped=gzipped)
            seconds.append(thread_time() - began)
        told = f"putting together {len(body) / 2**20:.1f} MiB of {what}, {where}"
        yield absolute(told, min(seconds) * 1000, "ms", below=100)
