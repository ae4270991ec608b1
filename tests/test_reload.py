"""What a reload keeps: memory and counters of the same account, and what happened since the last success of others."""

from datetime import timedelta
from typing import Any

import anyio
import pytest

from exporter.config import Config, Metrics
from exporter.model.reading import Happened
from exporter.model.records import Kind
from exporter.simulation.network import Fault, FaultKind
from exporter.vendorkit.contract import SourceConfig
from exporter.vendorkit.details import Due, Follow, OptionalApi
from exporter.vendors import load_all
from tests.builders import START, a_notice, a_poll, known
from tests.rig import VENDORS, Rig
from tests.test_exactly_once import assert_equals_the_ledger, pace, settle
from tests.walks import DETAILS

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
    opened = sum(rig.counts().opened.values())

    rig.metrics, changed_at = Metrics(**grouping), rig.now()
    rig.reload()
    await rig.poll()

    assert rig.watch.book.state.counts_from == changed_at
    assert sum(rig.counts().opened.values()) < opened
    assert sum(known(rig.counts().open).values()) == len(rig.watch.book.open_alerts)


async def test_a_changed_source_of_the_same_account_counts_on(vendor: str) -> None:
    """Through an outage, with details that wait and records that come late: nothing is lost, or counted twice."""
    rig = Rig(vendor, pace=pace(), max_detail_requests=1)
    await rig.polls(5)
    before, opened = rig.watch, sum(rig.counts().opened.values())
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]
    await rig.polls(8)
    rig.site.faults.clear()

    for changed in ({"overlap": "20m"}, {"max_detail_requests": 200, "max_concurrency": 3}, {"interval": "50s"}):
        rig.reload(**changed)
        await anyio.sleep(3)
        await rig.polls(3)
    await settle(rig)

    assert rig.watch is not before
    assert rig.watch.book is before.book
    assert before.scope.cancel_called
    assert sum(rig.counts().opened.values()) > opened
    assert_equals_the_ledger(rig)


async def test_what_waits_for_its_details_survives_a_reload(vendor: str) -> None:
    rig = Rig(vendor, quiet=True, max_detail_requests=1)
    await rig.polls(2)
    for _ in range(12):
        rig.world.open()
    await rig.polls(2)

    rig.reload(max_detail_requests=200)
    await rig.polls(1)
    rig.rest()
    await rig.polls(25)

    assert_equals_the_ledger(rig)


async def test_another_account_begins_again_with_what_happened_since_the_last_success(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())
    await rig.polls(5)
    before, last_success = rig.watch, rig.last_success
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]
    await rig.polls(8)
    rig.site.faults.clear()

    rig.reload(endpoint=f"{rig.given['endpoint']}/")
    unchanged = rig.watch
    changed_at = rig.now()
    rig.reload(endpoint=rig.given["endpoint"].replace("127.0.0.1", "localhost"))

    await anyio.sleep(3)
    await rig.polls(3)
    await settle(rig)
    assert unchanged is before
    assert rig.watch.book is not before.book
    assert (before.book.state.counts_from, rig.watch.book.state.counts_from) == (None, changed_at)
    assert rig.started == last_success <= rig.now() - timedelta(minutes=8)
    assert sum(rig.truth().opened.values()) > 5
    assert_equals_the_ledger(rig)


# Attributes that follow from the configuration, or that are of one poll only.
LEARNT_AGAIN = {"_severities", "_meanings", "_types", "_rows"}


async def test_all_that_a_source_remembers_between_polls_is_handed_on(vendor: str) -> None:
    rig = Rig(vendor, pace=pace())
    source = rig.watch.poller._source
    parts = [source, *(part for part in vars(source).values() if hasattr(type(part), "REMEMBERED"))]
    before = [dict(vars(part)) for part in parts]
    await rig.polls(3)
    rig.site.faults = [Fault(kind=FaultKind.STATUS, status=503, endpoint=name) for name in DETAILS[vendor][1:]]
    await rig.polls(3)

    for part, first in zip(parts, before, strict=True):
        kept = {
            name
            for name, value in vars(part).items()
            if value is not first[name] or isinstance(value, Follow | OptionalApi | Due | dict | list | set)
        }
        assert kept - LEARNT_AGAIN <= {*type(part).REMEMBERED}, type(part)


async def test_sources_that_come_and_go_share_the_memory_with_those_that_stay(vendor: str) -> None:
    """What has to be forgotten is what was not seen for longest; it shows as evicted, and never counts again."""
    rig = Rig(vendor, pace=pace())
    await rig.polls(3)
    watch, book = rig.watch, rig.watch.book
    began = rig.now()
    notices = [a_notice(f"shared-{n}", at=began + timedelta(seconds=n / 100)) for n in range(30_000)]

    def read() -> None:
        book.enter(a_poll(Happened(notices), now=(rig.now() - START).total_seconds() + 600, counted_from=START))

    def follow(*more: str, **settings: Any) -> list[int]:
        other = load_all()[vendor].config.model_validate(rig.given | settings)
        rig.fleet.follow(Config(sources={vendor: rig.config} | dict.fromkeys(more, other)))
        return [each.book.state.records_limit for each in rig.fleet.watches.values()]

    read()
    counted, polls = sum(rig.counts().notices.values()), book.state.polls

    assert follow() == [1_000_000]
    assert follow("b", "c") == [333_333] * 3
    assert follow("b", max_records=7) == [1_000_000, 7]
    assert follow(*(f"more-{n}" for n in range(119))) == [10_000] * 120
    read()
    read()

    state = book.state
    assert rig.watch is watch
    assert not watch.scope.cancel_called
    assert state.polls == polls + 2
    assert sum(state.tracked.values()) == 10_000
    assert state.evicted[Kind.NOTICE] >= 20_000
    assert sum(rig.counts().notices.values()) == counted
    assert follow() == [1_000_000]


OTHERS: dict[str, dict[str, Any]] = {
    "baidu_bls": {"auth": {"access_key": "another", "secret_key": "s"}},
    "blueking": {"bk_biz_ids": [99]},
    "huawei_aom": {"project_id": "f" * 32},
    "key_astrom": {"endpoint": "http://elsewhere.example"},
}


async def test_whose_memory_goes_on_is_decided_by_what_is_read_and_not_by_how(vendor: str) -> None:
    rig = Rig(vendor)
    config, given = rig.config, rig.given

    def like(**changed: Any) -> SourceConfig:
        return type(config).model_validate({**given, **changed})

    assert config.is_same_account(like(tls={"insecure_skip_verify": True}, proxy="none", max_records=7))
    assert config.is_same_account(like(severity_map={"X": "info"}, labels={"team": "db"}, first_poll="backfill"))
    assert not config.is_same_account(like(**OTHERS[vendor]))


async def test_a_rotated_secret_is_of_the_same_account(vendor: str) -> None:
    rig = Rig(vendor)
    before = rig.config
    names = rig.given["auth"].keys() & {"secret_key", "app_secret", "api_token"}

    rig.reload(auth={**rig.given["auth"], **dict.fromkeys(names, "rotated-secret")})

    assert names
    assert rig.config != before
    assert before.is_same_account(rig.config)
