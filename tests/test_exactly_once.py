"""Every vendor against the simulated world: counters and gauges equal the ledger of what really happened."""

from collections import Counter
from datetime import timedelta
from typing import Any

import anyio
import pytest

from exporter.config import Metrics, Owner
from exporter.model.alert import CloseReason
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.wire import Quirk
from exporter.simulation.world import Pace
from exporter.vendors import load_all
from tests.builders import START, known
from tests.rig import LIVELY, VENDORS, Rig, expected, told

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("vendor", VENDORS)]

# Severities that change before an alert is first seen leave only the total of opened alerts certain.
OWNERS = {"vowels": "[aeiouAEIOU].*", "hosts": "[b-hB-H].*"}
STEADY = {"severity_changed": 0.0}


def pace(**changes: Any) -> Pace:
    return Pace(**{name: getattr(LIVELY, name) for name in LIVELY.__struct_fields__} | STEADY | changes)


async def settle(rig: Rig) -> None:
    """Nothing new happens any more; what is late, unsettled or vanishing gets the time it needs."""
    rig.rest()
    rig.site.faults.clear()
    await rig.polls(12)


def assert_equals_the_ledger(rig: Rig, **since: Any) -> None:
    assert rig.watch.book.state.up, rig.watch.book.state.last_error
    assert rig.watch.book.state.backlog == 0
    assert told(rig) == expected(rig, **since)
    answered = Counter({key: count for key, count in rig.requests().items() if key[1] != "error"})
    assert answered == +rig.site.calls


async def test_an_hour_of_everything(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())

    await anyio.sleep(3)
    await rig.polls(60)
    await settle(rig)

    assert_equals_the_ledger(rig)
    assert sum(rig.truth().opened.values()) > 50


async def test_the_counts_of_all_owners_come_to_the_ledgers_totals(vendor: str) -> None:
    owners = [Owner.model_validate({"owner": name, "match": {"name": regex}}) for name, regex in OWNERS.items()]
    rig = Rig(vendor, pace=pace(), metrics=Metrics(owners=owners))

    await anyio.sleep(3)
    await rig.polls(30)
    during = rig.watch.book.state.open_by_severity
    assert sum(during.values()) == sum(known(rig.counts().open).values()) > 0
    await settle(rig)

    assert_equals_the_ledger(rig)
    assert len({labels[-1] for labels in rig.counts().opened}) > 1
    assert {labels[-1] for labels in rig.counts().closed} <= {*OWNERS, "unowned"}


async def test_changing_severities_leave_every_total_exact(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(severity_changed=0.9))

    await rig.polls(40)
    await settle(rig)

    found, truth = told(rig), expected(rig)
    assert Counter(found.pop("opened")).total() == Counter(truth.pop("opened")).total()
    assert found == truth


async def test_the_first_poll_counts_what_happened_since_the_start_though_the_vendor_was_down(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]

    await rig.polls(15)
    rig.site.faults = []
    await rig.polls(1)
    await settle(rig)

    assert_equals_the_ledger(rig)


async def test_a_backfill_counts_the_whole_first_window(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(late=0.0), first_poll="backfill")
    reach = load_all()[vendor].lookback(rig.config) or rig.config.overlap

    await rig.polls(10)
    await settle(rig)

    assert_equals_the_ledger(rig, counted_from=START - reach)


@pytest.mark.parametrize("outage", [FaultKind.REFUSED, FaultKind.HANG, FaultKind.STATUS, FaultKind.TRUNCATED])
async def test_an_outage_of_an_hour_is_made_up_for(vendor: str, outage: FaultKind) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(5)
    before = len(rig.world.incidents)

    rig.site.faults = [Fault(kind=outage)]
    await rig.polls(60)
    down = rig.watch.book.state
    await settle(rig)

    assert not down.up
    assert len(rig.world.incidents) > before + 50
    assert_equals_the_ledger(rig)


async def test_an_outage_in_which_the_vendors_clock_is_set_right_is_made_up_for(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(late=0.0, life=120.0), history=timedelta(0))
    rig.world.skew = timedelta(minutes=20)
    await rig.polls(30)
    before = len(rig.world.incidents)

    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]
    rig.world.skew = timedelta(0)
    await rig.polls(40)
    await settle(rig)
    await rig.polls(20)  # until no stamp lies in the future any more

    found, truth = told(rig), expected(rig, counted_from=START + timedelta(minutes=20))
    assert len(rig.world.incidents) > before + 30
    assert Counter(found["opened"]).total() == Counter(truth["opened"]).total()
    assert found["open"] == truth["open"]


async def test_dates_of_another_time_make_nothing_of_the_past_count(vendor: str) -> None:
    """As of a cache in between, for one poll, when the exporter has only just started."""
    rig = Rig(vendor, pace=pace(late=0.0))
    await rig.polls(3)

    rig.site.date_off = timedelta(minutes=-45)
    await rig.polls(1)
    rig.site.date_off = timedelta(0)
    await settle(rig)

    assert_equals_the_ledger(rig)


async def test_what_had_to_be_forgotten_is_not_counted_again(vendor: str) -> None:
    rig = Rig(vendor, quiet=True, max_records=40)
    await rig.polls(1)
    incidents = [rig.world.open() for _ in range(60)]
    await rig.polls(1)

    for incident in incidents[:55]:
        rig.world.end(incident, rig.world.traits.endings[0])
    await rig.polls(12)

    found, truth = told(rig), expected(rig)
    assert sum(rig.watch.book.state.evicted.values()) > 0
    assert {name: found[name] for name in ("open", "opened", "closed")} == {
        name: truth[name] for name in ("open", "opened", "closed")
    }


async def test_a_memory_smaller_than_what_is_open_neither_doubles_nor_loses(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(), max_records=1)

    await rig.polls(30)
    await settle(rig)

    assert len(rig.watch.book.open_alerts) > 1
    assert_equals_the_ledger(rig)


async def test_a_request_that_fails_now_and_then_changes_nothing(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(), max_response_bytes="4MiB")
    size = 8 * 1024 * 1024
    rig.site.faults = [Fault(kind=kind, times=2, skip=17 * n, size=size) for n, kind in enumerate([*FaultKind] * 2)]

    await rig.polls(60)
    await settle(rig)

    assert_equals_the_ledger(rig)


@pytest.mark.parametrize("quirk", [Quirk.DUPLICATE_ROWS, Quirk.SHIFT_ROWS])
async def test_rows_that_repeat_or_shift_between_pages_count_once(vendor: str, quirk: Quirk) -> None:
    rig = Rig(vendor, pace=pace(), max_requests_per_second=100)
    rig.simulator.page_size_limit = 7
    await rig.polls(1)

    for _ in range(15):
        rig.simulator.quirks.add(quirk)
        await rig.polls(1)
        rig.simulator.quirks.clear()
        await rig.polls(1)
    await settle(rig)

    assert_equals_the_ledger(rig)


@pytest.mark.parametrize("quirk", [Quirk.REPEAT_CURSOR, Quirk.ENDLESS_PAGES])
async def test_a_list_that_never_ends_leaves_the_gauges_or_makes_them_the_vendors_totals(
    vendor: str, quirk: Quirk
) -> None:
    rig = Rig(vendor, pace=pace(), max_requests_per_second=1000)
    rig.simulator.page_size_limit = 7
    await rig.polls(5)
    before = rig.counts().open

    rig.simulator.quirks.add(quirk)
    await rig.polls(1)
    failed, truth = rig.watch.book.state, rig.truth()
    rig.simulator.quirks.clear()
    await settle(rig)

    # New cursors without end are a long list; pages that repeat are none at all.
    is_long = quirk is Quirk.ENDLESS_PAGES and vendor in {"huawei_aom", "key_astrom"}
    assert failed.alerts is not None
    if is_long:
        assert +Counter(failed.open_by_severity) == +truth.open
    else:
        assert failed.last_reason == "truncated"
        assert failed.alerts.open == before
    assert_equals_the_ledger(rig)


@pytest.mark.parametrize("minutes", [20, -20])
async def test_a_vendors_clock_that_is_off_is_no_matter(vendor: str, minutes: int) -> None:
    rig = Rig(vendor, pace=pace(late=0.0), history=timedelta(0))
    rig.world.skew = timedelta(minutes=minutes)

    await rig.polls(15)
    await settle(rig)

    assert_equals_the_ledger(rig, counted_from=START + timedelta(minutes=minutes))
    assert rig.watch.book.state.clock_offset_seconds == pytest.approx(60 * minutes, abs=1)


@pytest.mark.parametrize("minutes", [20, -20])
async def test_a_vendors_clock_that_is_set_makes_nothing_count_twice(vendor: str, minutes: int) -> None:
    """Set back, it gives two moments one stamp and lets alerts end before they began: less may be told, never more."""
    rig = Rig(vendor, pace=pace(late=0.0), history=timedelta(0))
    await rig.polls(20)

    rig.world.skew = timedelta(minutes=minutes)
    await rig.polls(20)
    await settle(rig)

    found, truth = told(rig), expected(rig)
    assert Counter(found["opened"]) == Counter(truth["opened"])
    assert Counter(found.pop("closed")).total() == Counter(truth.pop("closed")).total()
    assert found["open"] == truth["open"]
    for name, value in found.items():
        assert Counter(value) <= Counter(truth[name]) if isinstance(value, dict) else value <= truth[name], name


async def test_an_alert_the_vendor_never_mentions_again_vanishes(vendor: str) -> None:
    rig = Rig(vendor, quiet=True)
    await rig.polls(1)
    kept, gone = rig.world.open(), rig.world.open()
    await rig.polls(2)

    rig.world.end(gone, CloseReason.VANISHED)
    await rig.polls(2)
    before = Counter(known(rig.counts().open)).total()
    await rig.polls(1)

    assert before == 2
    assert Counter(known(rig.counts().open)).total() == 1
    assert {reason: count for (_severity, reason), count in rig.counts().closed.items()} == {"vanished": 1}
    assert kept.ending is None


async def test_details_that_fail_for_ever_cost_only_their_alert(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(2)
    rig.simulator.broken_details.update(incident.number for incident in rig.world.incidents[-3:])

    await rig.polls(20)
    await rig.poll()
    during = rig.watch.book.state
    rig.simulator.broken_details.clear()
    await rig.polls(20)  # they are asked for ever more rarely
    await settle(rig)

    assert during.up
    # Key-ASTROM has no details: alerts are looked up only when the list does not show them.
    assert (during.partial_polls > 0) == (vendor != "key_astrom")
    assert_equals_the_ledger(rig)


async def test_an_alert_open_again_under_the_same_identity_opens_again(vendor: str) -> None:
    rig = Rig(vendor, quiet=True)
    await rig.polls(1)
    incident = rig.world.open()
    await rig.polls(1)

    rig.world.end(incident, rig.world.traits.endings[0])
    await rig.polls(1)
    rig.world.reopen(incident)
    await rig.polls(1)

    assert Counter(rig.counts().opened).total() == 2
    assert Counter(rig.counts().closed).total() == 1
    assert Counter(known(rig.counts().open)).total() == 1
