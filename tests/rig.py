"""Rig: one source polling one simulated vendor in this process, on virtual time, held against the ledger."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec

from exporter.config import Config, Metrics
from exporter.fleet import Fleet, Watch
from exporter.model.facts import Fact
from exporter.model.snapshot import AlertCounts, Labels
from exporter.simulation.network import SimulatedNetwork, Site
from exporter.simulation.truth import Since, Truth
from exporter.simulation.world import Pace, World
from exporter.vendorkit.contract import SourceConfig
from exporter.vendors import load_all
from tests.builders import START

VENDORS = sorted(load_all())
HISTORY = timedelta(hours=1)

# An anomaly or a result soon after the alert, so that a run of an hour of virtual time sees all of it.
LIVELY = Pace(between_alerts=40.0, life=600.0, between_anomalies=120.0, result_delay=30.0, late_by=240.0)


class Rig:
    """A watch on a simulated vendor. Must be made inside the event loop."""

    def __init__(
        self,
        vendor: str,
        *,
        seed: int = 1,
        pace: Pace = LIVELY,
        quiet: bool = False,
        history: timedelta = HISTORY,
        metrics: Metrics | None = None,
        secrets_in: Path | None = None,
        **settings: Any,
    ) -> None:
        self._began = anyio.current_time()
        module = import_module(f"exporter.vendors.{vendor}.simulator")
        self.world = World(module.TRAITS, seed=seed, start=START - history, pace=pace, quiet=quiet)
        self.world.advance(START)
        self.simulator = module.simulator_for(self.world)
        self.site = Site(self.simulator, self.now)
        self.own_clock_off = timedelta(0)
        given = self.simulator.settings("http://127.0.0.1:1") | settings
        if secrets_in is not None:
            given["auth"] = _in_files(given["auth"], secrets_in)
        self.given = given
        self.metrics = metrics or Metrics()
        self.network = SimulatedNetwork(self.site)
        self.start()

    def start(self) -> None:
        """A new exporter, as after a restart: it remembers nothing, and what happened before it is its baseline."""
        self.fleet = Fleet(self._made, lambda _name, _watch: None)
        self.last_success = self.now()
        self.reload()

    def reload(self, **settings: Any) -> None:
        """The configuration read again, with these settings changed. Polling is up to the test."""
        self.given |= settings
        self.config = load_all()[self.simulator.vendor].config.model_validate(self.given)
        self.fleet.follow(Config(metrics=self.metrics, sources={self.simulator.vendor: self.config}))

    @property
    def watch(self) -> Watch:
        """The source as it is polled now."""
        return self.fleet.watches[self.simulator.vendor]

    def _made(self, name: str, config: SourceConfig, metrics: Metrics, before: Watch | None) -> Watch:
        if before is None or not before.config.is_same_account(config):
            self.started = self.last_success
            self.first_success: datetime | None = None
            self.site.calls.clear()
        self.published = 0
        return Watch(
            name,
            config,
            metrics,
            published=self._count,
            before=before,
            network=self.network,
            now=lambda: self.now() + self.own_clock_off,
        )

    def now(self) -> datetime:
        """True time."""
        return START + timedelta(seconds=anyio.current_time() - self._began)

    def _count(self) -> None:
        self.published += 1

    async def poll(self) -> None:
        """One poll; notes when the first one succeeded."""
        began = self.now()
        await self.watch.poller.poll()
        if self.watch.book.state.up:
            if self.first_success is None:
                self.first_success, self.facts = began, self.watch.book.state.facts
            self.last_success = began

    async def polls(self, times: int, every: float = 60.0) -> None:
        """So many polls, an interval apart."""
        for _ in range(times):
            began = anyio.current_time()
            await self.poll()
            await anyio.sleep(max(0.0, every - (anyio.current_time() - began)))

    def rest(self) -> None:
        """Nothing more happens by itself; what was due by now has happened, whether anybody asked meanwhile or not."""
        self.world.advance(self.now())
        self.world.rest()

    def counts(self) -> AlertCounts:
        alerts = self.watch.book.state.alerts
        assert alerts is not None, self.watch.book.state.last_error
        return alerts

    def truth(self, counted_from: datetime | None = None) -> Truth:
        assert self.first_success is not None
        since = Since(counted_from=counted_from or self.started, first_success=self.first_success)
        truth: Truth = self.simulator.truth(since)
        return truth

    def requests(self) -> Counter[Labels]:
        return Counter(self.watch.book.state.requests)


def _in_files(auth: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same credentials, with what a rotation changes in files of its name."""
    found = dict(auth)
    for name in auth.keys() & {"secret_key", "app_secret", "api_token"}:
        (folder / name).write_text(found.pop(name))
        found[f"{name}_file"] = str(folder / name)
    return found


def told(rig: Rig) -> dict[str, Any]:
    """What the metrics say, in the ledger's shape; what this source could not supply from the first is left out.

    Where alerts have owners these are summed up.
    """
    counts, facts = rig.counts(), rig.watch.book.state.facts
    if rig.watch.book.state.owners:
        counts = _of_all_owners(counts)
    assert facts >= rig.facts, f"{rig.facts - facts} are not supplied any more"
    found: dict[str, Any] = {
        "open": _plain(counts.open),
        "opened": _plain(counts.opened),
        "closed": _plain(counts.closed),
    }
    if Fact.ACKNOWLEDGED in facts:
        found["acknowledged"] = _plain(counts.acknowledged)
    if Fact.SUPPRESSED in facts:
        found["suppressed"] = _plain(counts.suppressed)
    if Fact.OPERATIONS in facts:
        found["operations"] = _plain(counts.operations)
        found["operation_failures"] = _plain(counts.operation_failures)
    if Fact.CONVERGENCES in facts:
        found["convergences"] = sum(counts.convergences.values())
        found["converged_anomalies"] = sum(counts.converged_anomalies.values())
    if Fact.NOTICES in facts:
        found["notices"] = _plain(counts.notices)
        found["notice_failures"] = _plain(counts.notice_failures)
    if Fact.SUPPRESSED_NOTICES in facts:
        found["notices_suppressed"] = _plain(counts.notices_suppressed)
    if Fact.EVENTS in facts:
        found["events"] = _plain(counts.events)
    return found


def expected(rig: Rig, **since: Any) -> dict[str, Any]:
    """What the ledger says, for the same facts."""
    truth = msgspec.structs.asdict(rig.truth(**since))
    return {name: _plain(truth[name]) if isinstance(truth[name], dict) else truth[name] for name in told(rig)}


def _of_all_owners(counts: AlertCounts) -> AlertCounts:
    """The same counts without the label `owner`."""

    def summed(family: Mapping[Labels, Any]) -> Mapping[Labels, Any]:
        found: Counter[Labels] = Counter()
        for labels, count in family.items():
            found[labels[:-1]] += count
        return found

    owned = "open acknowledged suppressed unattended opened closed operations operation_failures convergences "
    names = (owned + "converged_anomalies notices notice_failures notices_suppressed").split()
    return msgspec.structs.replace(counts, **{name: summed(getattr(counts, name)) for name in names})


def _plain(counts: Any) -> dict[tuple[str, ...], int]:
    """Counts by tuples of text, without zeros."""
    return {
        tuple(map(str, key)) if isinstance(key, tuple) else (str(key),): count for key, count in counts.items() if count
    }
