"""A server that has no search_action, or has none for a while: its logs tell of notices, and none counts twice."""

from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from exporter.model.facts import Fact
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.world import Form
from tests.builders import START
from tests.rig import Rig
from tests.test_exactly_once import assert_equals_the_ledger, pace, settle

pytestmark = pytest.mark.anyio

HALF_AN_HOUR = 30


def a_rig(seed: int = 3) -> Rig:
    return Rig("blueking", seed=seed, pace=pace(), history=timedelta(minutes=10), max_requests_per_second=1000)


@pytest.mark.parametrize("kind", [FaultKind.STATUS_HTML, FaultKind.STATUS])
async def test_a_404_that_is_not_the_servers_own_fails_its_poll_and_loses_nothing(kind: FaultKind) -> None:
    rig = a_rig()
    await rig.polls(HALF_AN_HOUR)
    rig.site.faults = [Fault(kind=kind, status=404, endpoint="search_action", times=1)]

    await rig.polls(1)
    failed = rig.watch.book.state
    await rig.polls(HALF_AN_HOUR)
    await settle(rig)

    assert failed.last_reason == "not_found"
    assert_equals_the_ledger(rig)


async def test_notices_of_a_time_without_search_action_are_made_up_for_when_it_is_back() -> None:
    rig = a_rig()
    await rig.polls(HALF_AN_HOUR)
    before = rig.counts().notices
    rig.simulator.has_actions = False

    await rig.polls(HALF_AN_HOUR)
    without = rig.watch.book.state
    rig.simulator.has_actions = True
    await rig.polls(HALF_AN_HOUR + 1)
    await settle(rig)

    assert without.up
    assert without.alerts is not None
    assert without.alerts.notices == before
    assert_equals_the_ledger(rig)


async def test_a_server_that_has_none_is_asked_again_every_hour() -> None:
    rig = a_rig()
    rig.simulator.has_actions = False

    await rig.polls(2 * 60 + 1)

    assert rig.site.calls["search_action", "200"] == 3  # ESB says it with HTTP 200
    assert rig.watch.book.state.facts >= {Fact.NOTICES}


async def test_a_server_that_gets_search_action_tells_of_no_notice_twice() -> None:
    rig = a_rig(seed=9)  # one of no two notices that fail alike within a second: a log shows those as one row
    rig.simulator.has_actions = False
    # Flow logs do not tell of summaries: there are none but for those that are under way.
    rig.world.traits = msgspec.structs.replace(rig.world.traits, forms=frozenset({Form.NOTICE}))
    await rig.polls(HALF_AN_HOUR)
    told = [tell for incident in rig.world.incidents for tell in incident.tells if tell.at >= START]
    summaries = [tell for tell in told if tell.form is Form.SUMMARY and tell.suppression is None]
    rig.simulator.has_actions = True

    await rig.polls(2 * HALF_AN_HOUR)
    await settle(rig)

    counts, truth = rig.counts(), rig.truth()
    assert counts.notices["unknown",] > 0
    assert len(counts.notices) > 2
    assert Counter(counts.notices).total() == truth.notices.total() - len(summaries)
    failed = [tell for tell in summaries if tell.failure]
    assert Counter(counts.notice_failures).total() == truth.notice_failures.total() - len(failed)
