"""From response bytes to folded state, against `json.loads` of the same bytes: lists of 10,000 alerts, per vendor."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from time import thread_time
from typing import Any, TypeVar

import anyio
import httpx

from benchmarks.figures import ratio
from exporter.config import Metrics
from exporter.fleet import Watch
from exporter.model.alert import Alert
from exporter.model.reading import Poll, Window
from exporter.simulation.network import SimulatedNetwork, Site
from exporter.simulation.world import World
from exporter.vendorkit.contract import Source
from exporter.vendorkit.http import Http
from exporter.vendors import load_all

T = TypeVar("T")

ALERTS = 10_000
ROUNDS = 9
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = START + timedelta(hours=1)

# Lists are measured, not the calls about single alerts; where these cannot be turned off, there is one.
LISTS_ONLY: Mapping[str, Mapping[str, Any]] = {
    "baidu_bls": {"max_detail_requests": 1},
    "blueking": {"operations": False, "notices": False},
    "huawei_aom": {"notices": False},
    "key_astrom": {},
}


class Tape(Http):
    """Keeps the bodies of all answers; once it has a recording to play, it asks nobody any more."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        super().__init__(client, base_url)
        self.bodies: list[bytes] = []
        self.recording: Iterator[bytes] | None = None

    async def ask(self, endpoint: str, method: str, path: str, *, read: Callable[[bytes], T], **how: Any) -> T:
        if self.recording is not None:
            return read(next(self.recording))

        def kept(body: bytes) -> T:
            self.bodies.append(body)
            return read(body)

        return await super().ask(endpoint, method, path, read=kept, **how)


class Bench:
    """A source and its book, fed from a tape."""

    def __init__(self, vendor: str, site: Site, metrics: Metrics | None = None) -> None:
        config = load_all()[vendor].config.model_validate(
            {**site.simulator.settings("http://127.0.0.1:1"), "max_requests_per_second": 1000, **LISTS_ONLY[vendor]}
        )
        network = SimulatedNetwork(site)
        watch = Watch(vendor, config, metrics or Metrics(), published=lambda: None, network=network, now=lambda: NOW)
        self.book = watch.book
        self.tape = Tape(watch.client, config.endpoint)
        self._source: Source = load_all()[vendor].source(config, self.tape)

    async def poll(self, open_alerts: Mapping[str, Alert]) -> float:
        """One poll; its seconds of processor time, from the first question to the new state."""
        counted_from = START - timedelta(minutes=10)
        window = Window(start=counted_from, end=NOW, counted_from=counted_from, first=False, open_alerts=open_alerts)
        began = thread_time()
        readings = [reading async for reading in self._source.read(window)]
        self.book.enter(
            Poll(
                window=window,
                readings=readings,
                error=None,
                started_at=NOW,
                vendor_now=NOW,
                duration_seconds=1.0,
            )
        )
        return thread_time() - began


async def _measured(vendor: str) -> list[str]:
    module = import_module(f"exporter.vendors.{vendor}.simulator")
    world = World(module.TRAITS, seed=1, start=START, quiet=True)
    for number in range(ALERTS):
        world.advance(START + timedelta(milliseconds=300 * number))
        world.open()
    site = Site(module.simulator_for(world), lambda: NOW)
    bench = Bench(vendor, site)
    await bench.poll({})
    new, bench.tape.bodies = bench.tape.bodies, []
    await bench.poll(bench.book.open_alerts)
    unchanged = bench.tape.bodies
    assert len(bench.book.open_alerts) == ALERTS

    if vendor == "huawei_aom":
        new, unchanged = [[_as_in_the_manual(body) for body in bodies] for bodies in (new, unchanged)]

    times: dict[str, list[float]] = {"new": [], "unchanged": [], "json of new": [], "json of unchanged": []}
    for _ in range(ROUNDS):
        bench = Bench(vendor, site)
        bench.tape.recording = iter(new)
        times["new"].append(await bench.poll({}))
        times["json of new"].append(_json_seconds(new))
        bench.tape.recording = iter(unchanged)
        times["unchanged"].append(await bench.poll(bench.book.open_alerts))
        times["json of unchanged"].append(_json_seconds(unchanged))
    best = {what: min(seconds) for what, seconds in times.items()}
    return [
        ratio(
            f"{vendor}, {ALERTS:,} alerts {what}, of json.loads' {best[f'json of {what}'] * 1000:.0f} ms",
            best[what] / best[f"json of {what}"],
            at_most=1.0,
        )
        for what in ("new", "unchanged")
    ]


def _as_in_the_manual(body: bytes) -> bytes:
    """Huawei's page with all the annotations that records have in the manual's example of ListEvents."""
    page = json.loads(body)
    for record in page["events"]:
        record["annotations"] |= {"alarm_fix_suggestion_zh_cn": "修复建议", "alarm_probableCause_zh_cn": "可能原因"}
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


def _json_seconds(bodies: list[bytes]) -> float:
    began = thread_time()
    for body in bodies:
        json.loads(body)
    return thread_time() - began


def run() -> Iterator[str]:
    """Two lines per vendor: a list that is all new, and the same list again."""
    for vendor in sorted(load_all()):
        yield from anyio.run(_measured, vendor)
