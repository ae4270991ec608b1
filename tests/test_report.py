"""What `poll` says of a source: counts where they are known, and blindness where it is not."""

import pytest

from exporter.errors import Reason
from exporter.report import report_from
from exporter.simulation.network import Fault, FaultKind
from exporter.tables import _state_of
from tests.rig import Rig

pytestmark = pytest.mark.anyio

# The detail calls of which notices are counted.
NOTICES_FROM = {"baidu_bls": "describe_alarm_record", "huawei_aom": "list_notified_histories"}


@pytest.mark.parametrize("vendor", NOTICES_FROM)
async def test_a_source_whose_every_detail_call_fails_is_partial_and_its_notices_are_unknown(vendor: str) -> None:
    rig = Rig(vendor, first_poll="backfill")
    rig.site.faults.append(Fault(kind=FaultKind.STATUS, status=500, endpoint=NOTICES_FROM[vendor]))

    await rig.poll()

    report = report_from(rig.watch.book.state)
    assert report.up
    assert report.blind_in == (NOTICES_FROM[vendor], Reason.SERVER_ERROR)
    assert not report.is_complete
    assert (report.notices, report.notice_failures) == (None, None)
    assert report.details[NOTICES_FROM[vendor]].failed > 0


async def test_operations_that_cannot_be_read_are_unknown_and_not_0() -> None:
    rig = Rig("blueking", first_poll="backfill")
    rig.site.faults.append(Fault(kind=FaultKind.STATUS, status=500, endpoint="get_event_log"))

    await rig.poll()

    report = report_from(rig.watch.book.state)
    assert report.blind_in == ("get_event_log", Reason.SERVER_ERROR)
    assert report.convergences is None
    assert report.notices is not None


@pytest.mark.parametrize("vendor", [*NOTICES_FROM, "blueking", "key_astrom"])
async def test_a_source_whose_details_answer_is_complete(vendor: str) -> None:
    rig = Rig(vendor, first_poll="backfill")

    await rig.poll()

    assert report_from(rig.watch.book.state).is_complete


async def test_a_list_that_is_too_long_is_said_and_its_totals_are_complete() -> None:
    rig = Rig("blueking", quiet=True, first_poll="backfill", max_pages=1)
    rig.simulator.page_size_limit = 10
    for _ in range(30):
        rig.world.open()

    await rig.poll()

    report = report_from(rig.watch.book.state)
    assert report.list_truncated == ["search_alert"]
    assert sum(report.open.values()) == 30
    assert report.is_complete
    assert str(_state_of(report)) == "partial: search_alert truncated"
