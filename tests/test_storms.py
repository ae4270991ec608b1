"""Storms: lists longer than can be walked. How many are open is exact meanwhile, and afterwards everything is."""

from collections import Counter
from typing import Any

import anyio
import pytest

from exporter.model.alert import Severity
from exporter.simulation.world import Incident
from tests.builders import known
from tests.rig import VENDORS, Rig, expected, told

# Vendors whose windows reach back as long as a list of open alerts is cut: their lists of what ended are as long as
# the storm was.
REACHING_BACK = {"huawei_aom", "key_astrom"}
SETTINGS: dict[str, dict[str, Any]] = {"blueking": {"lookback": "10m"}}

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("vendor", VENDORS)]


def quiet(vendor: str, **settings: Any) -> Rig:
    """A world that a test drives, in pages of ten."""
    rig = Rig(vendor, quiet=True, **({"max_requests_per_second": 100} | SETTINGS.get(vendor, {}) | settings))
    rig.simulator.page_size_limit = 10
    return rig


def assert_open_is_exact(rig: Rig, *, is_cut: bool | None) -> None:
    """What is shown as open is what the ledger says, and whether the list was cut is said."""
    state = rig.watch.book.state
    assert state.up, state.last_error
    assert is_cut is None or bool(state.list_truncated) is is_cut
    shown = Counter({Severity(severity): count for (severity,), count in known(rig.counts().open).items()})
    assert +shown == +Counter(state.open_by_severity) == +rig.truth().open


def end(rig: Rig, incidents: list[Incident], count: int) -> None:
    """Some of these alerts end, in the ways that this vendor knows."""
    for place in range(min(count, len(incidents))):
        rig.world.end(incidents.pop(), rig.world.traits.endings[place % len(rig.world.traits.endings)])


async def test_open_is_exact_in_a_storm_and_everything_is_after_it(vendor: str) -> None:
    rig = quiet(vendor, max_pages=3)
    calm = [rig.world.open() for _ in range(5)]
    await rig.polls(2)

    storm = [rig.world.open() for _ in range(80)]
    await rig.polls(1)
    assert_open_is_exact(rig, is_cut=True)
    before = {name: value for name, value in told(rig).items() if name in ("acknowledged", "suppressed")}
    for _ in range(5):  # longer than a missing alert is waited for
        end(rig, storm, 1)
        await rig.polls(1)
        assert_open_is_exact(rig, is_cut=True)
        assert {name: value for name, value in told(rig).items() if name in before} == before
    while storm:
        end(rig, storm, 2)
        await rig.polls(1)
        assert_open_is_exact(rig, is_cut=len(storm) + len(calm) > 30 or (None if vendor in REACHING_BACK else False))
    if vendor in REACHING_BACK:
        rig.reload(max_pages=100)
    await rig.polls(12)

    assert_open_is_exact(rig, is_cut=False)
    assert told(rig) == expected(rig)
    assert rig.watch.book.state.partial_polls > 0
    assert not rig.watch.book.state.poll_failures
    assert "vanished" not in {reason for _, reason in rig.counts().closed}


async def test_what_was_open_before_the_start_is_not_new_when_it_is_first_read(vendor: str) -> None:
    rig = quiet(vendor, max_pages=3)
    storm = [rig.world.open() for _ in range(80)]
    await anyio.sleep(60)
    rig.start()

    await rig.polls(2)
    assert_open_is_exact(rig, is_cut=True)
    while storm:
        end(rig, storm, 2)
        await rig.polls(1)
    rig.reload(max_pages=100)
    await rig.polls(5)

    assert Counter(rig.counts().opened).total() == 0
    assert Counter(rig.counts().closed).total() == 80


async def test_a_list_that_takes_longer_than_a_poll_is_cut_too(vendor: str) -> None:
    rig = quiet(vendor, max_pages=1000, max_requests_per_second=2)
    rig.simulator.page_size_limit = 2
    await rig.polls(2)

    for _ in range(300):
        rig.world.open()
    await rig.polls(1)

    assert_open_is_exact(rig, is_cut=True)


async def test_what_ends_all_at_once_is_counted_as_soon_as_there_are_pages_enough(vendor: str) -> None:
    rig = quiet(vendor, max_pages=3)
    await rig.polls(2)
    seen, unseen = [rig.world.open() for _ in range(15)], []
    await rig.polls(1)

    unseen = [rig.world.open() for _ in range(60)]
    await anyio.sleep(5)
    rig.world.advance(rig.now())
    end(rig, seen + unseen, 75)
    await rig.polls(3)
    assert_open_is_exact(rig, is_cut=True)
    rig.reload(max_pages=100)
    await rig.polls(12)

    assert_open_is_exact(rig, is_cut=False)
    assert told(rig) == expected(rig)
    assert Counter(rig.counts().closed).total() == 75


async def test_totals_by_severity_are_those_of_the_operators_map(vendor: str) -> None:
    levels = {"blueking": "1", "baidu_bls": "CRITICAL", "huawei_aom": "Critical", "key_astrom": "AVAILABILITY"}
    rig = quiet(vendor, max_pages=1, severity_map={levels[vendor]: "minor"})
    await rig.polls(1)

    for _ in range(30):
        rig.world.open(severity=Severity.CRITICAL)
    await rig.polls(1)

    assert rig.watch.book.state.open_by_severity == {Severity.MINOR: 30}
