"""Listed is open: an alert whose row cannot be read is neither gone nor new, in any vendor, for any field."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from exporter.errors import Reason
from tests.builders import known
from tests.rig import VENDORS, Rig
from tests.vendors.spoiling import IDS, Changes, Spoiled, changed, fields_of, says_more

ODD = [None, "", "nonsense", "1e400", 5, -3.5, 10**30, True, [], [7], {}, {"id": 1}]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def a_rig(vendor: str) -> tuple[Rig, Spoiled]:
    rig = Rig(vendor, quiet=True, max_requests_per_second=1000)
    spoiled = Spoiled(rig.simulator)
    rig.site.simulator = spoiled
    return rig, spoiled


def sums(rig: Rig) -> tuple[int, int, int]:
    """How many alerts are open, were opened, were closed."""
    counts = rig.counts()
    return Counter(counts.open).total(), Counter(counts.opened).total(), Counter(counts.closed).total()


def in_virtual_time(run: Callable[[], Awaitable[Any]]) -> Any:
    return trio.run(run, clock=MockClock(autojump_threshold=0))


async def live_through(
    vendor: str, alerts: int, change: Callable[[int, dict[str, Any]], None], *, from_the_first: bool
) -> None:
    """Rows are spoilt for longer than it takes an alert to vanish, and healed."""
    rig, spoiled = a_rig(vendor)
    for _ in range(alerts):
        rig.world.open()
    if not from_the_first:
        await rig.polls(2)
        assert sums(rig)[0] == alerts

    spoiled.change = change
    await rig.poll()
    opened = sums(rig)[1]
    for _ in range(4):
        await rig.polls(1)
        assert rig.watch.book.state.up, rig.watch.book.state.last_error
        assert sums(rig) == (alerts, opened, 0)

    spoiled.change = None
    await rig.polls(3)
    assert sums(rig) == (alerts, opened, 0)
    assert "unknown" not in {severity for (severity, *_), count in known(rig.counts().open).items() if count}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("from_the_first", [True, False])
def test_whatever_is_in_a_field_of_its_row_an_alert_that_is_listed_stays_open(
    vendor: str, from_the_first: bool
) -> None:
    ways: list[Changes] = [{path: value} for path in fields_of(vendor) for value in ODD]

    def change(place: int, row: dict[str, Any]) -> None:
        changed(row, ways[place])

    async def run() -> None:
        await live_through(vendor, len(ways), change, from_the_first=from_the_first)

    in_virtual_time(run)


@pytest.mark.parametrize("vendor", VENDORS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, *HealthCheck])
@given(data=st.data(), from_the_first=st.booleans())
def test_whatever_is_done_to_several_fields_an_alert_that_is_listed_stays_open(
    vendor: str, data: st.DataObject, from_the_first: bool
) -> None:
    ways = data.draw(
        st.lists(st.dictionaries(st.sampled_from(fields_of(vendor)), VALUES, min_size=1, max_size=4), min_size=1)
    )

    def change(place: int, row: dict[str, Any]) -> None:
        if place < len(ways):
            changed(row, ways[place])
            assume(not says_more(vendor, row))

    async def run() -> None:
        await live_through(vendor, len(ways) + 1, change, from_the_first=from_the_first)

    in_virtual_time(run)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("odd", [None, {}, [1], True])
def test_a_row_without_a_readable_id_makes_no_alert_vanish(vendor: str, odd: Any) -> None:
    async def run() -> None:
        rig, spoiled = a_rig(vendor)
        for _ in range(3):
            rig.world.open()
        await rig.polls(2)
        spoiled.change = lambda place, row: changed(row, _ids(vendor, odd) if place == 1 else {})

        await rig.polls(5)

        assert rig.watch.book.state.up
        assert sums(rig)[0] == 3
        assert sums(rig)[2] == 0
        assert rig.watch.book.state.records["alert", "invalid"] >= 5

    in_virtual_time(run)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("from_the_first", [True, False])
def test_a_list_of_which_no_row_has_a_readable_id_fails_the_poll(vendor: str, from_the_first: bool) -> None:
    async def run() -> None:
        rig, spoiled = a_rig(vendor)
        for _ in range(3):
            rig.world.open()
        if not from_the_first:
            await rig.polls(2)
        spoiled.change = lambda _place, row: changed(row, _ids(vendor, []))

        await rig.polls(5)

        state = rig.watch.book.state
        assert (state.up, state.last_reason) == (False, Reason.BAD_RESPONSE)
        assert (state.alerts is None) == from_the_first
        assert from_the_first or sums(rig)[::2] == (3, 0)

    in_virtual_time(run)


def _ids(vendor: str, value: Any) -> Changes:
    return {(name,): value for name in ({"id", IDS[vendor]} if vendor == "huawei_aom" else {IDS[vendor]})}
