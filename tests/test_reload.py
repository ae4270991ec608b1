"""What a reload keeps: every counter that can go on, and what happened since the last success of one that cannot."""

from datetime import timedelta
from typing import Any

import anyio
import pytest

from exporter.config import Metrics
from exporter.simulation.network import Fault, FaultKind
from tests.rig import VENDORS, Rig
from tests.test_exactly_once import assert_equals_the_ledger, pace, settle

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("vendor", VENDORS)]


@pytest.mark.parametrize("shown", [{"alert_info": True}, {"alert_info_limit": 1}, {"stale_after": "10m"}])
async def test_what_only_shows_the_alerts_otherwise_restarts_no_counter(vendor: str, shown: dict[str, Any]) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(10)
    before, polls = rig.watch, rig.watch.book.state.polls

    rig.metrics = Metrics(**shown)
    rig.reload()

    await rig.polls(5)
    await settle(rig)
    state = rig.watch.book.state
    assert rig.watch is before
    assert state.polls > polls
    assert (rig.counts().info is not None) == ("alert_info" in shown)
    assert state.stale_after_seconds == (600 if "stale_after" in shown else 300)
    assert_equals_the_ledger(rig)


@pytest.mark.parametrize("grouping", [{"group_by": ["name"]}, {"group_limit": 2}])
async def test_other_labels_restart_the_counters(vendor: str, grouping: dict[str, Any]) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(10)
    before, opened = rig.watch, sum(rig.counts().opened.values())

    rig.metrics = Metrics(**grouping)
    rig.reload()
    await rig.poll()

    assert rig.watch is not before
    assert before.scope.cancel_called
    assert sum(rig.counts().opened.values()) < opened


async def test_a_source_that_is_changed_counts_what_happened_since_its_last_success(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(5)
    before, last_success = rig.watch, rig.last_success
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]
    await rig.polls(8)
    rig.site.faults.clear()

    rig.reload(overlap="20m")

    await anyio.sleep(3)
    await rig.polls(3)
    await settle(rig)
    assert rig.watch is not before
    assert rig.started == last_success <= rig.now() - timedelta(minutes=8)
    assert sum(rig.truth().opened.values()) > 5
    assert_equals_the_ledger(rig)
