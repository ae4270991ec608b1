"""A vendor's clock that is a little off, learnt only when the vendor answers at last: nothing is lost or twice."""

from datetime import timedelta

import pytest

from exporter.simulation.network import Fault, FaultKind
from tests.builders import START
from tests.rig import VENDORS, Rig
from tests.test_exactly_once import assert_equals_the_ledger, pace, settle

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("vendor", VENDORS)]


@pytest.mark.parametrize("seconds", [6, -6, 10, -10, 60, 300])
async def test_what_happened_before_a_clock_that_is_off_was_learnt_counts_once(vendor: str, seconds: int) -> None:
    rig = Rig(vendor, pace=pace(late=0.0), history=timedelta(0), max_requests_per_second=1000)
    rig.world.skew = timedelta(seconds=seconds)
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]

    await rig.polls(3)
    rig.site.faults = []
    await rig.polls(3)
    await settle(rig)

    assert_equals_the_ledger(rig, counted_from=START + timedelta(seconds=seconds))
