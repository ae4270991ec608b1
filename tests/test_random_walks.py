"""Exactly once as a property: whatever is done to a vendor, after it recovers every number equals the ledger."""

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from exporter.simulation.network import FaultKind
from exporter.simulation.wire import Quirk
from tests.rig import VENDORS
from tests.walks import OVERLAPS, STATUSES, Step, Walk

polls = st.integers(1, 4)
steps = st.one_of(
    st.builds(Step, what=st.just("live"), polls=polls),
    st.builds(
        Step,
        what=st.just("fault"),
        polls=polls,
        fault=st.sampled_from(FaultKind),
        endpoint=st.none() | st.integers(0, 2),
        times=st.none() | st.integers(1, 8),
        status=st.sampled_from(STATUSES),
        retry_after=st.sampled_from([0, 20, 100]),
    ),
    st.builds(
        Step, what=st.just("quirk"), polls=polls, quirk=st.sampled_from([Quirk.DUPLICATE_ROWS, Quirk.SHIFT_ROWS])
    ),
    st.builds(Step, what=st.sampled_from(["burst", "restart", "recover"]), polls=polls),
    st.builds(Step, what=st.just("spoil"), polls=polls, way=st.integers(0, 11)),
    st.builds(Step, what=st.just("reload"), overlap=st.none() | st.sampled_from(OVERLAPS), seconds=st.floats(0, 12)),
)


@pytest.mark.parametrize("vendor", VENDORS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**16), st.lists(steps, max_size=8))
def test_whatever_happens_every_number_equals_the_ledger_after_recovery(
    vendor: str, seed: int, taken: list[Step]
) -> None:
    async def walk() -> list[str]:
        walk = Walk(vendor, seed)
        await walk.take(taken)
        return walk.figures.mismatches

    assert trio.run(walk, clock=MockClock(autojump_threshold=0)) == []
