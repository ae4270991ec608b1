"""The source over time, against the simulated project."""

from collections import Counter
from datetime import timedelta
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from exporter.model.alert import CloseReason, Severity
from exporter.model.facts import Fact
from exporter.model.records import Channel, FailureReason
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.world import Incident
from exporter.vendors.huawei_aom.simulator import IAM_USER, PROJECT_NAME, TOKEN
from tests.builders import known
from tests.rig import Rig
from tests.vendors.huawei_aom.reading import NOW, Reader, a_window
from tests.vendors.reading import open_in

pytestmark = pytest.mark.anyio

ASKED = ("list_notified_histories", "200")
HALF_MINUTE = timedelta(seconds=30)


def a_rig(**settings: Any) -> Rig:
    return Rig("huawei_aom", quiet=True, **settings)


def began_earlier(incident: Incident, **before: float) -> Incident:
    incident.started -= timedelta(**before)
    incident.visible -= timedelta(**before)
    return incident


async def calls_of(rig: Rig, polls: int, every: float = 60.0) -> list[Counter[tuple[str, str]]]:
    """What each of so many polls asked."""
    each = []
    for _ in range(polls):
        before = rig.site.calls.copy()
        await rig.polls(1, every)
        each.append(rig.site.calls - before)
    return each


PASSWORD = {
    "method": "password",
    "iam_endpoint": "http://127.0.0.1:1",
    "domain": "acme",
    "username": IAM_USER["name"],
    "password": IAM_USER["password"],
    "project_name": PROJECT_NAME,
}


async def test_a_password_is_turned_into_a_token_that_lasts_for_its_life() -> None:
    rig = a_rig(auth=PASSWORD, interval="1h")

    await rig.polls(49, every=3600)

    assert rig.watch.book.state.poll_failures == {}
    assert rig.site.calls["create_token", "201"] == 3  # at the start, and after 20 and 40 hours
    assert rig.site.calls["list_events", "401"] == 0


async def test_a_token_that_somebody_else_renews_is_sent() -> None:
    rig = a_rig(auth={"method": "token", "token": TOKEN})

    await rig.polls(2)

    assert rig.watch.book.state.up


@pytest.mark.parametrize("auth", [{"method": "token", "token": "x"}, {**PASSWORD, "password": "x"}])
async def test_a_wrong_secret_is_refused_once_per_poll(auth: dict[str, str]) -> None:
    rig = a_rig(auth=auth)

    (calls,) = await calls_of(rig, 1)

    assert rig.watch.book.state.last_reason == "auth"
    assert list(calls.values()) == [1]


async def test_a_rotated_key_is_refused_once_per_poll() -> None:
    rig = a_rig()
    await rig.polls(1)
    rig.world.open()
    rig.simulator.rotate()

    calls = await calls_of(rig, 3)

    assert calls == [{("list_events", "401"): 1}] * 3
    assert rig.watch.book.state.last_reason == "auth"


@pytest.mark.parametrize(("interval", "minutes"), [(60, [0, 1, 2, 4, 8, 15]), (30, [0, 1, 2, 4, 8, 15])])
async def test_a_new_alarm_is_asked_about_ever_more_rarely_and_again_when_it_ended(
    interval: int, minutes: list[int]
) -> None:
    rig = a_rig(interval=interval)
    await rig.polls(1, every=interval)
    alarm = rig.world.open()

    async def asked_at() -> list[float]:
        each = []
        for number in range(20 * 60 // interval):
            (calls,) = await calls_of(rig, 1, every=interval)
            each += [number * interval / 60] * calls[ASKED]
        return each

    opened = await asked_at()
    rig.world.end(alarm, CloseReason.RECOVERED)
    ended = await asked_at()

    assert opened == minutes
    assert ended == minutes


async def test_a_failure_that_shows_after_twelve_minutes_is_counted() -> None:
    rig = a_rig()
    await rig.polls(1)
    rejected = (FailureReason.REJECTED, "Topic not found.")
    rig.world.tell(rig.world.open(), Channel.EMAIL, failure=rejected, settles_after=12 * 60)

    await rig.polls(20)

    assert rig.counts().notice_failures == {("email", "rejected"): 1}
    assert rig.site.calls[ASKED] == 6


async def test_a_result_that_comes_late_counts_once_and_one_after_the_recheck_time_does_not() -> None:
    rig = a_rig(notice_recheck="5m")
    await rig.polls(1)
    alarm = rig.world.open()
    rig.world.tell(alarm, Channel.SMS, settles_after=200)
    rig.world.tell(alarm, Channel.EMAIL, failure=(FailureReason.REJECTED, "Topic not found."), settles_after=280)
    rig.world.tell(alarm, Channel.IM, settles_after=400)

    await rig.polls(10)

    assert rig.counts().notices == {("sms",): 1, ("email",): 1}
    assert rig.counts().notice_failures == {("email", "rejected"): 1}


async def test_the_first_poll_asks_only_about_alarms_that_may_still_be_told_of() -> None:
    rig = a_rig()
    old, young = began_earlier(rig.world.open(), minutes=16), began_earlier(rig.world.open(), minutes=14)

    first, second = await calls_of(rig, 2)
    rig.world.end(old, CloseReason.RECOVERED)
    rig.world.tell(old, Channel.SMS)
    (third,) = await calls_of(rig, 1)

    assert young.ending is None
    assert [first[ASKED], second[ASKED], third[ASKED]] == [1, 1, 2]
    assert rig.counts().notices == {("sms",): 1}
    assert sum(rig.counts().closed.values()) == 1


async def test_details_beyond_the_limit_wait_their_turn() -> None:
    rig = a_rig(max_detail_requests=4, notice_recheck=0)
    await rig.polls(1)
    for _ in range(10):
        rig.world.open()

    backlog = []
    for _ in range(4):
        await rig.polls(1)
        backlog.append(rig.watch.book.state.backlog)

    assert backlog == [6, 2, 0, 0]
    assert rig.site.calls[ASKED] == 10
    assert rig.watch.book.state.partial_polls == 2


async def test_a_region_without_notified_histories_is_asked_once_and_stays_up() -> None:
    rig = a_rig(max_concurrency=1)
    rig.simulator.has_histories = False
    for _ in range(5):
        rig.world.open()

    await rig.polls(3)

    state = rig.watch.book.state
    assert state.up
    assert state.facts == {Fact.EVENTS}
    assert state.backlog == 0
    assert state.partial_polls == 0
    assert rig.site.calls["list_notified_histories", "404"] == 1


async def test_a_404_that_is_not_the_gateways_own_costs_one_call_and_loses_nothing() -> None:
    rig = a_rig(max_concurrency=1)
    await rig.polls(1)
    rig.world.tell(rig.world.open(), Channel.SMS)
    rig.site.faults = [Fault(kind=FaultKind.STATUS_HTML, status=404, endpoint="list_notified_histories", times=1)]

    await rig.polls(1)
    failed = rig.watch.book.state
    await rig.polls(1)

    assert failed.up
    assert failed.partial_polls == 1
    assert rig.counts().notices == {("sms",): 1}


async def test_notices_of_a_time_without_notified_histories_are_made_up_for_when_they_are_back() -> None:
    rig = a_rig(max_concurrency=1)
    await rig.polls(1)
    rig.world.tell(rig.world.open(), Channel.SMS)
    await rig.polls(1)

    rig.simulator.has_histories = False
    rig.world.tell(rig.world.open(), Channel.EMAIL)
    ended = rig.world.open()
    rig.world.tell(ended, Channel.PHONE)
    await rig.polls(5)
    rig.world.end(ended, CloseReason.RECOVERED)
    await rig.polls(30)
    without = rig.watch.book.state
    rig.simulator.has_histories = True
    await rig.polls(30)

    assert without.up
    assert without.facts == {Fact.EVENTS}
    assert without.backlog == 0
    assert rig.site.calls["list_notified_histories", "404"] == 2  # asked again at once, since it had answered before
    assert rig.counts().notices == {("sms",): 1, ("email",): 1, ("phone",): 1}


async def test_a_region_without_notified_histories_is_asked_again_every_hour() -> None:
    rig = a_rig(max_concurrency=1)
    rig.simulator.has_histories = False
    rig.world.open()

    await rig.polls(2 * 60 + 1)

    assert rig.site.calls["list_notified_histories", "404"] == 3


async def test_notices_and_events_that_are_not_wanted_are_not_asked_for() -> None:
    rig = a_rig(notices=False, events=False)
    rig.world.open()
    await rig.polls(1)

    (calls,) = await calls_of(rig, 1)

    assert rig.watch.book.state.facts == frozenset()
    assert calls == {("list_events", "200"): 2}


async def test_ten_thousand_open_and_unchanged_alarms_cost_only_their_pages() -> None:
    rig = a_rig(max_requests_per_second=1000)
    for _ in range(10_000):
        began_earlier(rig.world.open(), days=1)

    _, calls = await calls_of(rig, 2)

    assert calls == {("list_events", "200"): 10 + 1 + 1}
    assert sum(known(rig.counts().open).values()) == 10_000


async def test_an_alarm_that_ended_before_the_first_answer_counts_as_closed_however_old_it_was() -> None:
    rig = a_rig()
    rig.site.faults = [Fault(kind=FaultKind.REFUSED)]
    alarm = began_earlier(rig.world.open(severity=Severity.MAJOR), days=1)

    await rig.polls(2)
    rig.world.end(alarm, CloseReason.RECOVERED)
    rig.site.faults = []
    await rig.polls(4)

    assert rig.watch.book.state.up
    assert rig.counts().closed == {("major", "recovered"): 1}
    assert rig.counts().opened == {}


async def test_an_event_of_before_the_start_never_counts() -> None:
    rig = a_rig()
    for seconds in range(0, 1200, 7):
        began_earlier(rig.world.open(is_event=True), seconds=seconds + 1)
    await anyio.sleep(3)

    await rig.polls(20)

    assert rig.counts().events == {}


async def test_the_enterprise_project_is_named_in_every_list() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Enterprise-Project-Id"))
        assert "enterprise-project-id;" in request.headers["Authorization"]
        return httpx.Response(200, json={"events": []})

    await Reader(httpx.MockTransport(answer), enterprise_project_id="all_granted_eps").read(a_window())

    assert asked == ["all_granted_eps"] * 3


async def test_a_full_page_of_an_old_deployment_may_be_cut_and_is_no_list() -> None:
    rows = [{"event_sn": str(number), "starts_at": 1} for number in range(1000)]
    whole = httpx.MockTransport(lambda _: httpx.Response(200, content=msgspec.json.encode({"events": rows[1:]})))
    cut = httpx.MockTransport(lambda _: httpx.Response(200, content=msgspec.json.encode({"events": rows})))

    readings, _ = await Reader(whole).read(a_window())
    nothing, error = await Reader(cut).read(a_window())

    assert len(open_in(readings).alerts) == 999
    assert nothing == []
    assert error is not None
    assert error.reason == "truncated"


async def test_the_first_poll_looks_for_what_ended_over_the_whole_open_window() -> None:
    ranges: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("type") == "history_alert":
            ranges.append(msgspec.json.decode(request.content)["time_range"])
        return httpx.Response(200, json={"events": []})

    reader = Reader(httpx.MockTransport(answer), open_window="1d")
    for window in (a_window(first=True), a_window(), a_window(end=NOW + HALF_MINUTE, start=NOW - HALF_MINUTE)):
        await reader.read(window)

    assert ranges == ["-1.-1.13", "-1.-1.1440", "-1.-1.11", "-1.-1.2"]
