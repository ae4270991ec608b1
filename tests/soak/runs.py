"""The long runs: walks, churn, flood, hostile answers; each for one vendor: a line of figures, and whether it held."""

import ctypes
import gc
import random
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from exporter.config import Grouping, Metrics
from exporter.exposition.prometheus import Renderer
from exporter.model.records import Kind
from exporter.model.snapshot import ReloadState, Snapshot
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.world import Pace
from tests.builders import START
from tests.rig import Rig
from tests.test_hostile import CASES, survive
from tests.walks import Figures, Step, Walk, a_step

STEPS = 10_000
DAYS = 30
STEPS_PER_WALK = 100
INPUTS = 2_000
# Thirty days in which alerts come and go all the time, polled every five minutes.
CHURN = Pace(between_alerts=60.0, life=1800.0, between_anomalies=900.0, severity_changed=0.1)
GROUPS: list[Grouping] = [Grouping.NAME, Grouping.POLICY]
# Memory of the exporter with one source in a storm, at its peak, in MiB; the Helm chart allows 512.
PEAK_MIB = 400


def resident_mib() -> float:
    """Memory of this process, in MiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def open_files() -> int:
    """How many file descriptors this process has."""
    return len([*Path("/proc/self/fd").iterdir()])


def series_of(rig: Rig) -> int:
    """How many series `/metrics` shows."""
    reload = ReloadState(successful=True, succeeded_at=START)
    snapshot = Snapshot(
        at=rig.now(), moment=trio.current_time(), sources=[rig.watch.book.state], group_by=GROUPS, reload=reload
    )
    text = Renderer(version="soak", revision="soak").render(snapshot).text.body(0)
    return sum(not line.startswith(b"#") for line in text.splitlines())


def walks(vendor: str, share: float) -> tuple[str, bool]:
    """Seeded random walks, each compared with the ledger after every recovery."""
    total, seed = Figures(), 0
    while total.steps < STEPS * share:
        seed += 1
        chance = random.Random(f"{vendor} {seed}")
        steps = [a_step(chance) for _ in range(STEPS_PER_WALK)]
        walk_seed = seed

        async def one(steps: list[Step] = steps, walk_seed: int = walk_seed) -> Figures:
            walk = Walk(vendor, walk_seed)
            await walk.take(steps)
            return walk.figures

        figures = trio.run(one, clock=MockClock(autojump_threshold=0))
        for name in ("steps", "polls", "faults", "comparisons", "records"):
            setattr(total, name, getattr(total, name) + getattr(figures, name))
        total.mismatches += [f"seed {seed}: {each}" for each in figures.mismatches]
    line = (
        f"{total.steps} steps, {total.polls} polls, {total.faults} faults injected, {total.records} records, "
        f"{total.comparisons} comparisons with the ledger, {len(total.mismatches)} mismatches"
    )
    return "\n".join([line, *total.mismatches[:10]]), not total.mismatches


def churn(vendor: str, share: float) -> tuple[str, bool]:
    """A month of alerts that come and go, with a fault every hour: memory, series, tasks, files, connections stay."""
    days = max(8, round(DAYS * share))
    kinds = cycle(FaultKind)

    async def month() -> tuple[str, bool]:
        settings: dict[str, Any] = {
            "interval": "5m",
            "max_records": 5000,
            "max_requests_per_second": 1000,
            "max_response_bytes": "4MiB",
        }
        metrics = Metrics(group_by=GROUPS, group_limit=20, alert_info=True)
        rig = Rig(vendor, pace=CHURN, metrics=metrics, **settings)
        module = import_module(f"exporter.vendors.{vendor}.simulator")
        memory, series, tasks, files = [], [], [], []
        for _ in range(days):
            for _ in range(24):
                rig.site.faults = [Fault(kind=next(kinds), size=8 * 1024 * 1024)]
                await rig.polls(1, every=300.0)
                rig.site.faults = []
                await rig.polls(11, every=300.0)
            rig.world.forget(rig.world.stamp() - timedelta(hours=2))
            quirks = rig.simulator.quirks
            rig.simulator = rig.site.simulator = module.simulator_for(rig.world)  # its caches go with it
            rig.simulator.quirks = quirks
            memory.append(resident_mib())
            series.append(series_of(rig))
            tasks.append(trio.lowlevel.current_statistics().tasks_living)
            files.append(open_files())
        state = rig.watch.book.state
        warm = days // 4
        tracked, evicted = sum(state.tracked.values()), sum(state.evicted.values())
        holds = (
            max(memory[warm:]) <= memory[warm] * 1.05
            and max(series[warm:]) <= max(series[: warm + 1]) * 1.2
            and tracked <= 5000 + len(rig.watch.book.open_alerts)
            and evicted > 0
            and (tasks[-1], files[-1]) == (tasks[warm], files[warm])
            and rig.network.in_use == 0
            and state.up
        )
        failed, records = sum(state.poll_failures.values()), sum(state.records.values())
        line = ", ".join(
            [
                f"{days} days, {state.polls} polls of which {failed} failed, {records} records",
                f"memory {memory[warm]:.1f} MiB on day {warm + 1}, {memory[-1]:.1f} on day {days}",
                f"at most {max(memory[warm:]):.1f}",
                f"series {series[warm]} and {series[-1]}, tracked {tracked} of 5000, evicted {evicted}",
                f"tasks {tasks[warm]} and {tasks[-1]}, file descriptors {files[warm]} and {files[-1]}",
                f"connections in use {rig.network.in_use}",
            ]
        )
        return line, holds

    return trio.run(month, clock=MockClock(autojump_threshold=0))


def flood(vendor: str, share: float) -> tuple[str, bool]:
    """100,000 alerts within 100 seconds, of 10,000 names, and 900 with titles of 1 MB, in pages within the size limit.

    As many are shown as are open, whether all could be read or not; series, and the memory at its peak, are bounded.
    """
    alone = resident_mib()

    async def storm(number: int, giants: int, page_size: int | None) -> tuple[str, bool]:
        metrics = Metrics(group_by=GROUPS, alert_info=True)
        rig = Rig(vendor, quiet=True, metrics=metrics, interval="30m", timeout="5m", max_requests_per_second=1000)
        await rig.polls(1)
        rig.simulator.page_size_limit = page_size
        for place in range(number):
            if place % 1000 == 0:
                await trio.sleep(1)
                rig.world.advance(rig.now())
            rig.world.open().rule = f"rule {place % 10_000}" + ("x" * 1_000_000 if place < giants else "")
        # What the vendor keeps of its answers is not the exporter's: another exporter has asked before.
        watched = rig.fleet
        rig.start()
        await rig.poll()
        rig.fleet = watched
        before = _begin_peak()
        await rig.poll()
        peak = alone + _peak_mib() - before
        state = rig.watch.book.state
        shown, counted = sum(state.open_by_severity.values()), state.records[Kind.ALERT, "new"]
        hidden = shown - len(rig.watch.book.open_alerts)
        series = series_of(rig)
        del rig.world, rig.simulator, rig.site.simulator
        _give_back()
        kept = resident_mib()
        holds = state.up and shown == number and counted + hidden == number
        holds &= bool(state.list_truncated) == (hidden > 0) and series < 3000 and max(peak, kept) < PEAK_MIB
        how = "up" if state.up else f"failed as {state.last_reason}"
        line = f"{number} alerts, {giants} with titles of 1 MB: {how}, {shown} shown, {counted} counted, {hidden} not "
        return line + f"readable; {series} series, {kept:.0f} MiB kept, {peak:.0f} MiB at the peak", holds

    storms = [(round(100_000 * share), 8, None), (round(900 * share), round(900 * share), 10)]
    told = [trio.run(storm, *each, clock=MockClock(autojump_threshold=0)) for each in storms]
    return "; ".join(line for line, _ in told), all(holds for _, holds in told)


def _give_back() -> None:
    """Gives memory that was freed back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _begin_peak() -> float:
    """Returns the memory of this process now, in MiB, and lets its peak begin anew."""
    _give_back()
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mib()


def _peak_mib() -> float:
    """Returns the most memory this process had since the peak began anew, in MiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def hostile(vendor: str, share: float) -> tuple[str, bool]:
    """Answers spoilt at random, others each time: none is a crash, and what comes of each can be scraped."""
    lines: list[str] = []
    for of_vendor, more in CASES:
        if of_vendor == vendor:
            try:
                lines.append(survive(vendor, more, round(INPUTS * share), repeatable=False))
            except Exception as error:  # noqa: BLE001 whatever it is, it is the finding
                return f"{error}\n{''.join(getattr(error, '__notes__', ()))}", False
    return "; ".join(lines), True


RUNS: dict[str, Callable[[str, float], tuple[str, bool]]] = {
    "walks": walks,
    "churn": churn,
    "flood": flood,
    "hostile": hostile,
}
