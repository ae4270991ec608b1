"""The source against a simulated site: what is asked, how often, and what is told."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from exporter.errors import Reason
from exporter.model.alert import CloseReason, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Details, OpenAlerts, Reading, Truncated
from exporter.model.records import Channel, FailureReason, Notice, Operation, Suppression
from exporter.simulation.network import Fault, FaultKind, SimulatedNetwork, Site
from exporter.simulation.truth import Since
from exporter.simulation.wire import Quirk, Request
from exporter.simulation.world import Form, Incident, World
from exporter.vendorkit.http import ATTEMPTS
from exporter.vendors.blueking.client import PAGE_SIZE
from exporter.vendors.blueking.simulator import TRAITS, BluekingSimulator, Generation
from tests.rig import Rig, expected, told
from tests.vendors.blueking.reading import NOW, Reader, a_window
from tests.vendors.reading import backlog_in, facts_in, of_type, open_in, records_in, unfinished_in

pytestmark = pytest.mark.anyio

START = NOW - timedelta(hours=1)


class Scene:
    """A quiet world that a test drives, its site, and a reader of it."""

    def __init__(self, generation: Generation = Generation.G1, *, has_actions: bool = True, **settings: Any) -> None:
        self.world = World(TRAITS, seed=1, start=START, quiet=True)
        self.simulator = BluekingSimulator(self.world, generation=generation, has_actions=has_actions)
        self.site = Site(self.simulator, lambda: self.world.now)
        self.reader = Reader(SimulatedNetwork(self.site), **{**self.simulator.settings("http://bk.test"), **settings})

    def wait(self, seconds: float) -> None:
        self.world.advance(self.world.now + timedelta(seconds=seconds))

    async def poll(self, *open_alerts: str, first: bool = False, counted_from: datetime = START) -> list[Reading]:
        window = a_window(*open_alerts, end=self.world.now, first=first, counted_from=counted_from)
        readings, error = await self.reader.read(window)
        assert error is None, error
        return readings

    async def calls_of_a_poll(self, *open_alerts: str) -> Counter[str]:
        before = len(self.reader.attempts)
        await self.poll(*open_alerts)
        return Counter(attempt.endpoint for attempt in self.reader.attempts[before:])


def keys(readings: list[Reading]) -> set[str]:
    return {alert.key for reading in readings if isinstance(reading, OpenAlerts) for alert in reading.alerts}


def key_of(incident: Incident) -> str:
    return f"{int(incident.started.timestamp())}{incident.number:08d}"


@pytest.mark.parametrize("generation", list(Generation))
@pytest.mark.parametrize("has_actions", [True, False])
async def test_a_lively_hour_is_told_as_it_was(generation: Generation, has_actions: bool) -> None:
    scene = Scene(generation, has_actions=has_actions)
    scene.world = world = World(TRAITS, seed=7, start=START)
    scene.simulator.world = world
    told: dict[str, Operation] = {}
    notices: dict[str, Notice] = {}
    readings: list[Reading] = []
    since = Since(counted_from=START, first_success=START)

    for _ in range(40):
        scene.wait(30)
        readings = await scene.poll()
        told |= {operation.key: operation for operation in records_in(readings, Operation)}
        notices |= {notice.key: notice for notice in records_in(readings, Notice)}
        if len(world.incidents) > 100:
            world._agenda.clear()

    truth = scene.simulator.truth(since)
    assert len(keys(readings)) == truth.open.total()
    assert Counter(operation.operation for operation in told.values()) == truth.operations
    assert Counter(each.operation for each in told.values() if each.failed) == +truth.operation_failures
    assert sum(operation.anomalies for operation in told.values()) == truth.converged_anomalies
    assert Counter(each.channel for each in notices.values() if not each.suppressed) == truth.notices
    assert Counter((each.channel, each.failure) for each in notices.values() if each.failure) == truth.notice_failures
    assert Counter(each.suppressed for each in notices.values() if each.suppressed) == truth.notices_suppressed
    assert truth.operations["create"] > 90


async def test_unchanged_alerts_cost_only_the_pages_of_the_lists() -> None:
    scene = Scene(max_detail_requests=1000)
    for _ in range(600):
        scene.world.open()
    scene.wait(60)
    await scene.poll()

    calls = await scene.calls_of_a_poll()

    assert calls == {"search_alert": 3, "search_action": 2}


async def test_the_log_is_read_again_when_the_alert_changes() -> None:
    scene = Scene()
    quiet, lively = scene.world.open(), scene.world.open()
    scene.wait(60)
    await scene.poll()
    scene.world.converge(lively)
    scene.wait(60)

    readings = await scene.poll()

    assert scene.reader.calls("get_event_log") == 3
    assert {operation.alert_key for operation in records_in(readings, Operation)} == {key_of(lively)}
    assert key_of(quiet) in keys(readings)


async def test_an_alert_that_changed_just_now_is_read_once_more_for_it_may_change_again_in_the_same_second() -> None:
    scene = Scene()
    incident = scene.world.open()
    first = await scene.poll()
    scene.world.converge(incident)
    scene.wait(30)

    second = await scene.poll()
    scene.wait(30)

    assert [operation.operation for operation in records_in(first, Operation)] == ["create"]
    assert [operation.operation for operation in records_in(second, Operation)] == ["converge", "create"]
    assert not (await scene.calls_of_a_poll())["get_event_log"]


async def test_alerts_that_changed_last_before_counting_began_cost_no_call_at_the_first_poll() -> None:
    scene = Scene()
    scene.world.open()
    scene.wait(60)
    counted_from = scene.world.now
    scene.world.open()
    scene.wait(60)

    await scene.poll(first=True, counted_from=counted_from)
    await scene.poll(counted_from=counted_from)

    assert scene.reader.calls("get_event_log") == 1


async def test_a_clock_learnt_during_the_first_poll_does_not_lose_what_happened_meanwhile() -> None:
    scene = Scene()
    scene.world.open()
    scene.wait(60)

    await scene.poll(first=True, counted_from=scene.world.now)
    readings = await scene.poll(first=True, counted_from=START)

    assert [operation.operation for operation in records_in(readings, Operation)] == ["create"]


async def test_what_does_not_fit_into_a_poll_waits_for_the_next_oldest_first() -> None:
    scene = Scene(max_detail_requests=2)
    for _ in range(5):
        scene.world.open()
        scene.wait(20)

    backlogs, unfinished = [], []
    for _ in range(3):
        readings = await scene.poll()
        backlogs.append(backlog_in(readings))
        unfinished += unfinished_in(readings)

    assert backlogs == [3, 1, 0]
    assert unfinished == [(0, 3), (0, 1)]


async def test_a_log_that_lastingly_fails_costs_its_alert_alone_and_is_asked_for_ever_more_rarely() -> None:
    scene = Scene(detail_interval="6h")
    broken, sound = scene.world.open(), scene.world.open()
    scene.simulator.broken_details.add(broken.number)
    partial: list[int] = []
    readings: list[Reading] = []

    for minute in range(60):
        scene.wait(60)
        readings = await scene.poll()
        partial += [minute] * len(unfinished_in(readings))

    assert keys(readings) == {key_of(broken), key_of(sound)}
    assert partial == [0, 1, 3, 7, 15, 31]
    assert scene.reader.calls("get_event_log") <= len(partial) + 2
    scene.simulator.broken_details.clear()
    scene.wait(3600)
    assert "create" in {operation.operation for operation in records_in(await scene.poll(), Operation)}


async def actions_told(scene: Scene, polls: int, every: float = 60) -> int:
    told: set[str] = set()
    for _ in range(polls):
        scene.wait(every)
        records = records_in(await scene.poll(), Operation)
        told |= {record.key for record in records if record.operation == "action"}
    return len(told)


async def test_rows_of_what_is_done_about_an_alert_are_read_though_the_alert_does_not_change() -> None:
    scene = Scene(Generation.G3, detail_interval="6h")
    incident = scene.world.open()
    await scene.poll()
    told = 0
    for seconds in (3, 22, 8):
        scene.wait(seconds)
        scene.world.tell(incident, Channel.SMS)
        told += await actions_told(scene, 1, every=10)

    assert told == 1 + 2 + 3  # each time the log as a whole
    assert incident.updated == incident.started


async def test_a_job_that_ends_after_its_alert_is_read() -> None:
    scene = Scene(Generation.G3, detail_interval="6h")
    incident = scene.world.open()
    await scene.poll()
    scene.wait(6)
    scene.world.end(incident, CloseReason.RECOVERED)
    await scene.poll()
    scene.wait(24)
    scene.world.tell(incident, Channel.UNKNOWN, form=Form.JOB, settles_after=90)

    assert await actions_told(scene, 1) == 1
    assert await actions_told(scene, 1) == 2


async def test_what_nothing_else_shows_is_read_when_it_is_the_alerts_turn() -> None:
    scene = Scene(Generation.G3, detail_interval="30m")
    open_still, ended = scene.world.open(), scene.world.open()
    scene.wait(60)
    scene.world.end(ended, CloseReason.RECOVERED)
    await scene.poll()
    scene.wait(60)
    scene.world.act(open_still)
    scene.world.act(ended)

    assert await actions_told(scene, 6) >= 1  # that of the one that ended, five minutes later
    assert await actions_told(scene, 30) >= 1


@pytest.mark.parametrize(("apart", "every", "rows", "counted"), [(1, 5, 38, 16), (60, 60, 38, 38)])
async def test_of_adjacent_rows_two_of_an_alert_and_poll_are_seen(
    apart: int, every: int, rows: int, counted: int
) -> None:
    scene = Scene(Generation.G3)
    incident = scene.world.open()
    told: set[str] = set()
    for second in range(1, rows * apart + 3):
        scene.wait(1)
        if second % apart == 0 and len(incident.anomalies) < rows:
            scene.world.converge(incident)
        if second % every == 0:
            records = records_in(await scene.poll(), Operation)
            told |= {record.key for record in records if record.operation == "converge"}

    assert (len(incident.anomalies), len(told)) == (rows, counted)
    assert len(told) <= 2 * (rows * apart // every + 1)


async def test_quiet_alerts_take_turns() -> None:
    scene = Scene(detail_interval="1h", max_detail_requests=1000)
    for _ in range(900):
        scene.world.open()
    scene.wait(60)
    await scene.poll()
    scene.wait(60)
    await scene.poll()

    asked = []
    for _ in range(60):
        scene.wait(60)
        asked.append((await scene.calls_of_a_poll())["get_event_log"])

    assert sum(asked) == pytest.approx(900, abs=30)
    assert max(asked) < 40


async def test_an_alert_of_late_data_that_ended_before_it_was_known_opens_and_closes() -> None:
    rig = Rig("blueking", quiet=True)
    await rig.polls(20)
    rig.world.open_backdated(began=25 * 60, lasted=5 * 60, ending=CloseReason.RECOVERED)
    await rig.polls(2)

    assert told(rig) == expected(rig)
    assert (sum(rig.counts().opened.values()), sum(rig.counts().closed.values())) == (1, 1)


async def test_a_notice_that_names_no_receiver_is_a_failed_one() -> None:
    rig = Rig("blueking", quiet=True)
    await rig.polls(1)
    incident = rig.world.open()
    rig.world.tell(incident, Channel.UNKNOWN, form=Form.NOBODY, failure=(FailureReason.NO_RECEIVER, ""))
    rig.world.tell(incident, Channel.SMS, suppression=Suppression.CONVERGED)
    await rig.polls(3)

    assert told(rig) == expected(rig)
    assert told(rig)["notice_failures"] == {("unknown", "no_receiver"): 1}


async def test_a_server_that_lists_no_parents_costs_only_notices_to_nobody() -> None:
    scene = Scene()
    scene.world.tell(scene.world.open(), Channel.SMS)
    scene.wait(60)
    fault = Fault(kind=FaultKind.ENVELOPE, endpoint="search_action", skip=1)
    scene.site.faults.append(fault)

    readings = await scene.poll()

    assert [notice.channel for notice in records_in(readings, Notice)] == [Channel.SMS]
    assert unfinished_in(readings) == [(1, 0)]


@pytest.mark.parametrize(("shielded", "after"), [(False, 610), (True, 635)])
async def test_an_acknowledgement_is_dated_by_its_duration_where_that_fits(shielded: bool, after: float) -> None:
    scene = Scene(api="gateway")
    incident = scene.world.open()
    scene.world.shield(incident, on=shielded)
    scene.wait(610)
    scene.world.acknowledge(incident)
    scene.wait(25)
    scene.world.converge(incident)

    [alert] = next(reading for reading in await scene.poll() if isinstance(reading, OpenAlerts)).alerts

    assert alert.acknowledged_at == incident.started + timedelta(seconds=after)


async def test_a_list_beyond_ten_thousand_rows_is_asked_for_by_severity() -> None:
    scene = Scene(operations=False, notices=False)
    for place in range(12_000):
        scene.world.open(severity=TRAITS.severities[place % 3])

    readings = await scene.poll()

    assert len(keys(readings)) == 12_000
    assert scene.reader.calls("search_alert") == 1 + 3 * 8 + 1 + 1


async def test_ended_alerts_beyond_that_are_asked_for_by_time() -> None:
    scene = Scene(operations=False, notices=False)
    for _ in range(11):
        for _ in range(1000):
            scene.world.end(scene.world.open(severity=Severity.INFO), CloseReason.RECOVERED)
        scene.wait(300)

    readings = await scene.poll()

    assert len(records_in(readings, object)) == 11_000


async def test_open_alerts_of_one_severity_beyond_that_are_asked_for_by_their_creation() -> None:
    scene = Scene(operations=False, notices=False)
    for _ in range(25):
        for _ in range(1000):
            scene.world.open(severity=Severity.INFO)
        scene.wait(1)

    readings = await scene.poll()

    assert len(keys(readings)) == 25_000
    assert of_type(readings, Truncated) == []
    assert scene.reader.calls("search_alert") < 25_000 / PAGE_SIZE * 1.3


async def test_of_more_within_one_second_the_server_says_how_many_are_open() -> None:
    scene = Scene(operations=False, notices=False)
    for _ in range(10_001):
        scene.world.open(severity=Severity.INFO)

    readings = await scene.poll("1")

    assert len(keys(readings)) == 10_000
    assert open_in(readings).unsure == {"1"}
    assert of_type(readings, Truncated) == [Truncated("search_alert", {Severity.INFO: 10_001})]


@pytest.mark.parametrize("quirk", [Quirk.REPEAT_CURSOR, Quirk.ENDLESS_PAGES])
async def test_pages_that_repeat_or_never_end_fail_the_poll(quirk: Quirk) -> None:
    scene = Scene()
    for _ in range(30):
        scene.world.open()
    scene.simulator.quirks.add(quirk)
    scene.simulator.page_size_limit = 10

    readings, error = await scene.reader.read(a_window(end=scene.world.now))

    assert not readings
    assert error is not None
    assert error.reason == "truncated"


async def test_of_pages_beyond_the_cap_the_server_says_how_many_alerts_are_open() -> None:
    scene = Scene(max_pages=2)
    for _ in range(30):
        scene.world.open(severity=Severity.WARNING)
    scene.simulator.page_size_limit = 10

    readings = await scene.poll()

    assert len(keys(readings)) == 20
    assert of_type(readings, Truncated) == [Truncated("search_alert", {Severity.WARNING: 30})]


async def test_of_records_beyond_the_cap_those_that_were_read_count_and_the_others_are_asked_for_again() -> None:
    scene = Scene(max_pages=2)
    incident = scene.world.open()
    for _ in range(30):
        scene.world.tell(incident, Channel.SMS)
    scene.simulator.page_size_limit = 10
    scene.wait(60)

    first = await scene.poll(incident.rule)
    scene.wait(3 * 3600)
    scene.simulator.page_size_limit = None
    second = await scene.poll(incident.rule)

    assert len(records_in(first, Notice)) == 20
    [asked] = [each for each in of_type(first, Details) if each.endpoint == "search_action"]
    assert (asked.answered, asked.failed) == (1, {Reason.TRUNCATED: 1})
    assert len({notice.key for notice in records_in(second, Notice)}) == 30


async def test_rows_that_stand_on_two_pages_are_one_alert() -> None:
    scene = Scene()
    opened = {key_of(scene.world.open()) for _ in range(30)}
    scene.simulator.quirks.add(Quirk.DUPLICATE_ROWS)
    scene.simulator.page_size_limit = 10

    assert keys(await scene.poll()) == opened


async def test_an_alert_that_slips_between_two_pages_is_found_by_a_second_walk() -> None:
    scene = Scene(operations=False, notices=False)
    opened = {key_of(scene.world.open()) for _ in range(30)}
    scene.simulator.quirks.add(Quirk.SHIFT_ROWS)
    scene.simulator.page_size_limit = 10

    readings = await scene.poll()

    assert keys(readings) == opened
    assert scene.reader.calls("search_alert") == 3 + 3 + 1


async def test_a_notice_is_told_when_its_result_is_known_however_late_and_is_reached_back_for() -> None:
    scene = Scene()
    incident = scene.world.open()
    failure = (FailureReason.TIMEOUT, "sms gateway timeout")
    scene.world.tell(incident, Channel.SMS, failure=failure, settles_after=4 * 3600)
    scene.wait(60)

    early = await scene.poll()
    scene.wait(5 * 3600)
    late = await scene.poll()

    assert not records_in(early, Notice)
    assert [(notice.channel, notice.failure) for notice in records_in(late, Notice)] == [("sms", "timeout")]


async def test_a_server_without_search_action_is_asked_for_it_once_and_is_not_at_fault() -> None:
    scene = Scene(has_actions=False)
    scene.world.tell(scene.world.open(), Channel.SMS, failure=(FailureReason.OTHER, "sms failed"))
    scene.wait(60)

    first, second = await scene.poll(), await scene.poll()

    assert scene.reader.calls("search_action") == 1
    assert [(notice.channel, notice.failure) for notice in records_in(first, Notice)] == [("unknown", "other")]
    assert Fact.NOTICES in facts_in(second)


async def test_a_gateway_without_search_action_supplies_no_notices() -> None:
    scene = Scene(has_actions=False, api="gateway")
    incident = scene.world.open()

    readings = await scene.poll()

    assert keys(readings) == {key_of(incident)}
    assert facts_in(readings) == {Fact.ACKNOWLEDGED, Fact.SUPPRESSED}
    assert scene.reader.calls("get_event_log") == 0


async def test_a_look_up_that_is_throttled_leaves_the_others_for_the_next_poll() -> None:
    scene = Scene(operations=False, notices=False)
    gone = [str(number) for number in range(1, 1501)]
    scene.site.faults.append(Fault(kind=FaultKind.STATUS, status=429, endpoint="search_alert", skip=2 + 1))

    with anyio.fail_after(300):
        readings = await scene.poll(*gone)

    refused = Counter(attempt.code for attempt in scene.reader.attempts)["429"]
    assert refused == ATTEMPTS
    (opened,) = (reading for reading in readings if isinstance(reading, OpenAlerts))
    assert len(opened.unsure) == 1400
    assert unfinished_in(readings)


@pytest.mark.parametrize("total", ["9" * 5_000, -1, "many", True])
async def test_a_total_that_is_no_number_is_no_answer(total: Any) -> None:
    answer = {"result": True, "code": 200, "data": {"alerts": [], "total": total}}

    readings, error = await Reader(httpx.MockTransport(lambda _: httpx.Response(200, json=answer))).read(a_window())

    assert not readings
    assert error is not None
    assert error.reason == "bad_response"


async def test_an_answer_of_another_shape_is_no_empty_log() -> None:
    scene = Scene()
    scene.world.open()
    scene.wait(60)
    scene.site.faults.append(Fault(kind=FaultKind.WRONG_TYPE, endpoint="get_event_log", times=1))

    spoilt = await scene.poll()
    scene.wait(60)
    mended = await scene.poll()

    assert unfinished_in(spoilt) == [(1, 0)]
    assert [operation.operation for operation in records_in(mended, Operation)] == ["create"]


async def test_lists_stay_when_the_notices_fail() -> None:
    scene = Scene()
    scene.world.open()
    scene.site.faults.append(Fault(kind=FaultKind.HTML, endpoint="search_action"))

    readings, error = await scene.reader.read(a_window(end=scene.world.now))

    assert len(keys(readings)) == 1
    assert error is not None
    assert error.reason == "bad_response"


# The simulated site itself, where the reader does not reach.


def asked(scene: Scene, path: str, *, method: str = "GET", query: str = "", body: Any = None, **headers: str) -> Any:
    request = Request(
        method=method, path=path, query=query, headers=headers, body=msgspec.json.encode(body) if body else b""
    )
    response = scene.simulator.answer(request)
    return response.status, msgspec.json.decode(response.body)


LOG = "/api/c/compapi/v2/monitor_v3/get_event_log/"
SEARCH = "/api/bk-monitor/prod/app/alert/search/"
IN_QUERY = "bk_app_code=alert-exporter&bk_app_secret=simulated-app-secret&bk_username=exporter-user&id=17"


@pytest.mark.parametrize(
    ("path", "query", "headers", "answer"),
    [
        (LOG, IN_QUERY, {}, (200, 3324002)),
        (LOG, IN_QUERY, {"x-bkapi-authorization": "{}"}, (200, 1306000)),
        (LOG, IN_QUERY, {"x-bkapi-authorization": "no json"}, (200, 1306406)),
        (LOG, IN_QUERY.replace("id=17", "id=x"), {}, (200, 3300002)),
        (LOG, "id=17", {"x-bkapi-authorization": '{"access_token": "simulated-access-token"}'}, (200, 3324002)),
        (SEARCH, IN_QUERY, {}, (400, 1640001)),
        (SEARCH, "", {"x-bkapi-authorization": "no json"}, (400, 1640001)),
        (SEARCH, "", {"x-bkapi-authorization": '{"bk_app_code": "alert-exporter"}'}, (400, 1640001)),
    ],
)
async def test_the_simulated_site_reads_credentials_as_its_routes_do(
    path: str, query: str, headers: dict[str, str], answer: tuple[int, int]
) -> None:
    status, body = asked(Scene(), path, query=query, **headers)

    assert (status, body["code"]) == answer


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"start_time": None}, 3300002),
        ({"page_size": 5001}, 3300002),
        ({"page": 0}, 3300002),
        ({"page": 21}, 500),
        ({"status": ["INVENTED"], "show_overview": True}, 500),
        ({"conditions": [{"key": "id", "value": "1"}]}, 3300002),
    ],
)
async def test_the_simulated_site_refuses_wrong_parameters(changes: dict[str, Any], code: int) -> None:
    body = {"start_time": 1, "end_time": 2, "bk_biz_ids": [-1], "page": 1, "page_size": 500, **changes}
    header = '{"access_token": "simulated-access-token"}'

    _, answer = asked(
        Scene(),
        LOG.replace("get_event_log", "search_alert"),
        method="POST",
        body=body,
        **{"x-bkapi-authorization": header},
    )

    assert answer["code"] == code


async def test_a_rotated_secret_locks_the_old_one_out() -> None:
    scene = Scene()
    scene.simulator.rotate()

    readings, error = await scene.reader.read(a_window(end=scene.world.now))

    assert not readings
    assert error is not None
    assert error.reason == "auth"
