"""The doctor names the first thing that fails, and why; it asks little, and a bad signature once."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import anyio
import msgspec
import pytest

from exporter.doctor import Diagnosis, Result, Step, diagnosed
from exporter.errors import Reason
from exporter.simulation.network import Fault, FaultKind, SimulatedNetwork, Site
from exporter.simulation.world import World
from exporter.vendorkit.contract import SourceConfig
from exporter.vendors import load_all
from tests.builders import START
from tests.rig import HISTORY, LIVELY, VENDORS
from tests.test_faults import CASES, LIST

pytestmark = pytest.mark.anyio

# Faults of the way to a vendor, and the step that names them.
ON_THE_WAY = {
    FaultKind.REFUSED: "connect",
    FaultKind.DNS: "dns",
    FaultKind.TLS_UNKNOWN: "tls",
    FaultKind.TLS_EXPIRED: "tls",
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_first_step_that_failed_and_its_reason_are_right(vendor: str, name: str) -> None:
    case = CASES[name]
    patient = Patient(vendor, case.fault)

    found = await patient.diagnosis(max_response_bytes="512KiB")

    [failed, *_] = [step for step in found.steps if step.result is Result.FAILED]
    on_the_way = ON_THE_WAY.get(case.fault.kind, "auth" if case.reason is Reason.AUTH else None)
    assert failed.step in ((on_the_way,) if on_the_way else patient.first_apis)
    assert failed.reason == case.reason
    assert failed.what_to_do
    assert [step.result for step in found.steps[-2:]] == [Result.SKIPPED, Result.SKIPPED]
    assert not found.is_well


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_source_that_is_well_passes_every_step_and_has_a_forecast(vendor: str) -> None:
    patient = Patient(vendor)

    found = await patient.diagnosis()

    assert found.is_well
    apis = set(load_all()[vendor].requests_per_day(patient.config(), patient.load))
    assert [step.step for step in found.steps if step.step not in apis] == ["config", "auth", "clock", "data"]
    assert {step.step for step in found.steps} >= apis
    assert {step.result for step in found.steps} == {Result.OK}
    assert found.forecast is not None
    assert set(found.forecast.by_endpoint) == apis
    assert found.forecast.requests_per_day == pytest.approx(sum(found.forecast.by_endpoint.values()), abs=len(apis))
    assert found.forecast.share_of_limit > 0


@pytest.mark.parametrize("vendor", VENDORS)
async def test_lists_of_many_pages_are_no_failure_and_the_forecast_has_all_that_is_open(vendor: str) -> None:
    patient = Patient(vendor)
    for _ in range(2500):
        incident = patient.world.open()
        for channel in patient.world.traits.channels[:1]:
            patient.world.tell(incident, channel)

    found = await patient.diagnosis()

    assert found.is_well
    assert found.forecast is not None
    [listed, *_] = [count for endpoint, count in found.forecast.by_endpoint.items() if endpoint == LIST[vendor]]
    assert listed >= 3 * 1440
    # Key-ASTROM counts each type by itself.
    assert sum(patient.site.calls.values()) <= (20 if vendor == "key_astrom" else 12)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_it_asks_a_page_of_each_list_and_one_detail(vendor: str) -> None:
    patient = Patient(vendor)

    await patient.diagnosis()

    assert sum(patient.site.calls.values()) <= 9


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_bad_signature_is_sent_once(vendor: str) -> None:
    patient = Patient(vendor, Fault(kind=FaultKind.STATUS, status=401))

    found = await patient.diagnosis()

    assert sum(patient.site.calls.values()) == 1
    assert [step.step for step in found.steps if step.result is Result.FAILED] == ["auth"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_nothing_secret_and_nothing_personal_is_in_it(vendor: str) -> None:
    patient = Patient(vendor)

    text = msgspec.json.encode(await patient.diagnosis()).decode()

    secrets = [value for value in patient.settings["auth"].values() if len(value) > 8]
    names = {alert.title for alert in patient.world.alerts.values()} if hasattr(patient.world, "alerts") else set()
    assert [secret for secret in [*secrets, *names] if secret in text] == []


async def test_where_the_way_is_barred_nothing_is_asked() -> None:
    patient = Patient("huawei_aom")

    async def barred(_config: SourceConfig) -> AsyncGenerator[Step]:
        yield Step(step="dns", result=Result.OK)
        yield Step(step="connect", result=Result.FAILED, reason=Reason.CONNECTION, what_to_do="refused")

    found = await diagnosed("a", patient.config(), reach=barred, network=patient.network, now=patient.now)

    assert not patient.site.calls
    assert [step.step for step in found.steps] == [
        "config", "dns", "connect", "auth", "list_events", "list_notified_histories", "clock", "data"
    ]  # fmt: skip
    assert found.forecast is None


class Patient:
    """A simulated vendor that may have a fault, to be examined on virtual time."""

    def __init__(self, vendor: str, fault: Fault | None = None) -> None:
        self._began = anyio.current_time()
        self.vendor = vendor
        module = import_module(f"exporter.vendors.{vendor}.simulator")
        self.world = World(module.TRAITS, seed=1, start=START - HISTORY, pace=LIVELY, quiet=False)
        self.world.advance(START)
        simulator = module.simulator_for(self.world)
        self.site = Site(simulator, self.now)
        if fault is not None:
            self.site.faults.append(msgspec.structs.replace(fault))
        self.network = SimulatedNetwork(self.site)
        self.settings: dict[str, Any] = simulator.settings("http://127.0.0.1:1")
        self.load = import_module("exporter.vendorkit.contract").Load(open=1, new_per_day=1)

    @property
    def first_apis(self) -> tuple[str, ...]:
        """The calls that a poll begins with."""
        return ("event_types", "events") if self.vendor == "key_astrom" else (LIST[self.vendor],)

    def now(self) -> datetime:
        return START + timedelta(seconds=anyio.current_time() - self._began)

    def config(self, **changes: Any) -> SourceConfig:
        return load_all()[self.vendor].config.model_validate(self.settings | changes)

    async def diagnosis(self, **changes: Any) -> Diagnosis:
        return await diagnosed("a", self.config(**changes), reach=_open, network=self.network, now=self.now)


async def _open(_config: SourceConfig) -> AsyncGenerator[Step]:
    """A way that nothing bars."""
    steps: tuple[Step, ...] = ()
    for step in steps:
        yield step
