"""Random walks: a simulated vendor lives, fails and recovers while polled; after each recovery all is compared."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.wire import Quirk
from exporter.simulation.world import Pace
from tests.rig import LIVELY, Rig, expected, told
from tests.vendors.spoiling import UNREADABLE, Spoiled, changed

# Opened alerts are compared by severity, so none may change before it is first seen.
PACE = msgspec.structs.replace(LIVELY, between_alerts=80.0, severity_changed=0.0)
STATUSES = [400, 401, 403, 404, 429, 500, 502, 503]
OVERLAPS = ["6m", "10m", "25m"]
DETAILS = {
    "baidu_bls": ("list_alarm_record", "describe_alarm_record"),
    "blueking": ("search_alert", "get_event_log", "search_action"),
    "huawei_aom": ("list_events", "list_notified_histories"),
    "key_astrom": ("events", "event_types", "problems"),
}


class Step(msgspec.Struct, frozen=True):
    """One step of a walk: what is done, with what, for how many polls.

    A reload comes so many seconds into a poll; with another overlap it changes the source. Rows are spoilt in one of
    several ways, those of every third alert.
    """

    what: str
    polls: int = 1
    fault: FaultKind | None = None
    endpoint: int | None = None
    times: int | None = None
    status: int = 503
    retry_after: int = 0
    quirk: Quirk | None = None
    overlap: str | None = None
    seconds: float = 0.0
    way: int = 0


class Figures(msgspec.Struct):
    """What a walk did."""

    steps: int = 0
    polls: int = 0
    faults: int = 0
    comparisons: int = 0
    records: int = 0
    mismatches: list[str] = []


def a_step(chance: random.Random) -> Step:
    """A step as a seeded soak takes it; the property test draws the same steps."""
    kinds = {"live": 6, "fault": 5, "quirk": 2, "burst": 1, "restart": 0.2, "reload": 0.6, "recover": 0.3, "spoil": 1.5}
    what = chance.choices([*kinds], [*kinds.values()])[0]
    return Step(
        what=what,
        polls=chance.randint(1, 3),
        fault=chance.choice([*FaultKind]) if what == "fault" else None,
        endpoint=chance.choice([None, 0, 1, 2]),
        times=chance.choice([None, 1, 2, 7]),
        status=chance.choice(STATUSES),
        retry_after=chance.choice([0, 0, 20, 100]),
        quirk=chance.choice([Quirk.DUPLICATE_ROWS, Quirk.SHIFT_ROWS]) if what == "quirk" else None,
        overlap=chance.choice([None, *OVERLAPS]),
        seconds=chance.uniform(0.0, 12.0),
        way=chance.randint(0, 11),
    )


class Walk:
    """A rig, walked step by step. The first poll is left alone, since what it is not shown it cannot remember."""

    def __init__(self, vendor: str, seed: int, pace: Pace = PACE, **settings: Any) -> None:
        if vendor == "baidu_bls":
            settings = {"detail_interval": "3m", **settings}
        self.rig = Rig(
            vendor, seed=seed, pace=pace, max_requests_per_second=1000, max_response_bytes="4MiB", **settings
        )
        self.rig.simulator.page_size_limit = 25
        self.rig.site.simulator = self._spoiled = Spoiled(self.rig.simulator)
        self._has_spoilt = False
        self.figures = Figures()
        self._counted = 0

    async def take(self, steps: Sequence[Step]) -> None:
        """The steps, and a recovery at the end."""
        await self._poll(1)
        for step in steps:
            await self._take(step)
        await self._recover()

    async def _take(self, step: Step) -> None:
        self.figures.steps += 1
        rig = self.rig
        match step.what:
            case "fault" if step.fault is not None:
                self.figures.faults += 1
                endpoints = DETAILS[rig.simulator.vendor]
                endpoint = None if step.endpoint is None else endpoints[step.endpoint % len(endpoints)]
                rig.site.faults = [
                    Fault(
                        kind=step.fault,
                        endpoint=endpoint,
                        times=step.times,
                        size=8 * 1024 * 1024,
                        status=step.status,
                        headers={"Retry-After": str(step.retry_after)} if step.retry_after else {},
                    )
                ]
                await self._poll(step.polls)
                rig.site.faults = []
            case "quirk" if step.quirk is not None:
                for _ in range(step.polls):  # never twice in a row: what is hidden every time has vanished
                    rig.simulator.quirks = {step.quirk}
                    await self._poll(1)
                    rig.simulator.quirks = set()
                    await self._poll(1)
            case "spoil":
                self._has_spoilt = True
                ways = UNREADABLE[rig.simulator.vendor]
                for number in range(step.polls):  # never for longer than it takes what opened and ended to be forgotten
                    way = step.way + number
                    self._spoiled.change = lambda place, row, way=way: (
                        changed(row, ways[way % len(ways)]) if (place + way) % 3 == 0 else None
                    )
                    await self._poll(1)
                    self._spoiled.change = None
                    await self._poll(1)
            case "burst":
                for _ in range(10 * step.polls):
                    rig.world.open()
                await self._poll(1)
            case "restart":
                await self._recover()
                await rig.watch.close()
                rig.start()
                self._counted = 0
                await self._poll(1)
            case "reload":
                await self._reload(step)
            case "recover":
                await self._recover()
            case _:
                await self._poll(step.polls)

    async def _reload(self, step: Step) -> None:
        """In the middle of a slow poll; a source that reads the same is not disturbed, any other goes on elsewhere."""
        rig = self.rig
        before, reads_the_same = rig.watch, step.overlap in {None, rig.given.get("overlap", "10m")}
        rig.site.faults = [Fault(kind=FaultKind.SLOW_HEADERS, seconds=3.0)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll, 1)
            await anyio.sleep(step.seconds)
            rig.reload(**({"overlap": step.overlap} if step.overlap is not None else {}))
            rig.site.faults = []
            if not reads_the_same:
                tasks.cancel_scope.cancel()  # as its scope does to the task that the daemon gives a watch
        if (rig.watch is before, before.scope.cancel_called) != (reads_the_same, not reads_the_same):
            self.figures.mismatches.append(f"a reload with overlap {step.overlap} kept or stopped the wrong source")
        if not reads_the_same:
            await before.close()
            await self._poll(1)

    async def _poll(self, times: int) -> None:
        await self.rig.polls(times)
        self.figures.polls += times

    async def _recover(self) -> None:
        """Everything quiet and whole for long enough; then every counter and gauge equals the ledger."""
        rig = self.rig
        rig.rest()
        rig.site.faults = []
        rig.simulator.quirks = set()
        await self._poll(20)
        self.figures.comparisons += 1
        state = rig.watch.book.state
        if not state.up:
            self.figures.mismatches.append(f"down after recovery: {state.last_error}")
        elif lost := rig.facts - state.facts:
            self.figures.mismatches.append(f"not supplied any more: {', '.join(sorted(lost))}")
        else:
            found, truth = told(rig), expected(rig)
            if self._has_spoilt:  # an alert that is first seen in a row that cannot be read is of unknown severity
                found["opened"], truth["opened"] = (Counter(each["opened"]).total() for each in (found, truth))
            self.figures.mismatches += [f"{k}: {found[k]} is not {truth[k]}" for k in truth if found[k] != truth[k]]
            answered = Counter({key: count for key, count in rig.requests().items() if key[1] != "error"})
            if answered != +rig.site.calls:
                self.figures.mismatches.append("requests are not what the vendor's access log shows")
        if rig.network.in_use:
            self.figures.mismatches.append(f"{rig.network.in_use} connections were not given back")
        self.figures.records += sum(state.records.values()) - self._counted
        self._counted = sum(state.records.values())
        rig.world.begin()
