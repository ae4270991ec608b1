"""What 200 owners add to a poll: a list of 10,000 alerts of 250 names, with owners and without, in one run."""

from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module

import anyio

from benchmarks.figures import ratio
from benchmarks.pipeline import ALERTS, NOW, ROUNDS, START, Bench
from exporter.config import Metrics, Owner
from exporter.simulation.network import Site
from exporter.simulation.world import World

OWNERS = 200
NAMES = 250
# What 200 owners may cost of a poll, as a ratio to the same poll without.
AT_MOST = 1.1
# Its alerts are named after the rule that raised them.
VENDOR = "blueking"


def _by_name(number: int) -> Owner:
    return Owner.model_validate({"owner": f"team {number}", "match": {"name": f"rule {number} .*"}})


async def _measured() -> list[str]:
    module = import_module(f"exporter.vendors.{VENDOR}.simulator")
    world = World(module.TRAITS, seed=1, start=START, quiet=True)
    for number in range(ALERTS):
        world.advance(START + timedelta(milliseconds=300 * number))
        world.open().rule = f"rule {number % NAMES} breached"
    site = Site(module.simulator_for(world), lambda: NOW)
    recorder = Bench(VENDOR, site)
    await recorder.poll({})
    new, recorder.tape.bodies = recorder.tape.bodies, []
    await recorder.poll(recorder.book.open_alerts)
    unchanged = recorder.tape.bodies

    owners = [*map(_by_name, range(OWNERS))]
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for who, metrics in (("nobody", Metrics()), ("owners", Metrics(owners=owners))):
            bench = Bench(VENDOR, site, metrics)
            bench.tape.recording = iter(new)
            times.setdefault(f"new {who}", []).append(await bench.poll({}))
            bench.tape.recording = iter(unchanged)
            times.setdefault(f"unchanged {who}", []).append(await bench.poll(bench.book.open_alerts))
    best = {what: min(seconds) for what, seconds in times.items()}
    return [
        ratio(
            f"{ALERTS:,} alerts {what} with {OWNERS} owners, of {best[f'{what} nobody'] * 1000:.0f} ms without",
            best[f"{what} owners"] / best[f"{what} nobody"],
            at_most=AT_MOST,
        )
        for what in ("new", "unchanged")
    ]


def run() -> Iterator[str]:
    """A list that is all new, and the same list again."""
    yield from anyio.run(_measured)
