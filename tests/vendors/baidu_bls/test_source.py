"""The source against the simulated region, reached without a socket."""

import json
from datetime import timedelta
from typing import Any

import pytest

from exporter.errors import FetchError, Reason
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.reading import Details, Reading, Truncated
from exporter.model.records import Channel, Convergence, FailureReason, Notice, Suppression
from exporter.simulation.network import Fault, FaultKind, SimulatedNetwork, Site
from exporter.simulation.wire import Quirk, Request, Response
from exporter.simulation.world import Incident, World
from exporter.vendors.baidu_bls.simulator import TRAITS, BaiduBlsSimulator, simulator_for
from tests.rig import Rig, expected, told
from tests.vendors.baidu_bls.reading import NOW, Reader, a_window
from tests.vendors.reading import backlog_in, of_type, open_in, records_in, rejected_in, unfinished_in
from tests.vendors.recorded import BaiduBls

pytestmark = pytest.mark.anyio

BEGAN = NOW - timedelta(minutes=1)
TIMED_OUT = (FailureReason.TIMEOUT, "callback timeout")


class Region:
    """A quiet world, its simulator, a reader of it, and the memory that the state would have."""

    def __init__(self, **settings: Any) -> None:
        self.world = World(TRAITS, seed=1, start=BEGAN, quiet=True)
        self.simulator: BaiduBlsSimulator = simulator_for(self.world)
        self.site = Site(self.simulator, lambda: self.world.now)
        self.asked: list[str] = []
        answer = self.simulator.answer

        def noted(request: Request) -> Response:
            self.asked.append(request.query or json.loads(request.body)["state"])
            return answer(request)

        self.simulator.answer = noted  # type: ignore[method-assign]
        given = self.simulator.settings("http://bls.test") | {"detail_interval": "5m"} | settings
        self.reader = Reader(SimulatedNetwork(self.site), **given)
        self.open: dict[str, Alert] = {}
        self.first = True

    def advance(self, seconds: float) -> None:
        self.world.advance(self.world.now + timedelta(seconds=seconds))

    async def read(self, *, minutes: float = 10) -> tuple[list[Reading], FetchError | None]:
        """One poll; `asked` holds its calls."""
        self.asked.clear()
        window = a_window(end=self.world.now, minutes=minutes, first=self.first, open_alerts=dict(self.open))
        readings, error = await self.reader.read(window)
        for alert in records_in(readings, Alert):
            self.open.pop(alert.key, None)
        if error is None:
            self.open = {alert.key: alert for alert in open_in(readings).alerts}
            self.first = False
        return readings, error

    async def poll(self, *, minutes: float = 10) -> list[Reading]:
        """One poll that has to succeed."""
        readings, error = await self.read(minutes=minutes)
        assert error is None
        return readings

    @property
    def described(self) -> list[str]:
        """The ids whose details the last poll asked for."""
        return [asked.removeprefix("id=") for asked in self.asked if asked not in {"ALERT", "OK", "CLOSED"}]


def key(incident: Incident) -> str:
    return f"a-{incident.number:012x}"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_counters_equal_what_happened(seed: int) -> None:
    rig = Rig("baidu_bls", seed=seed)

    await rig.polls(40)

    rig.world.rest()  # nothing new; what is under way comes to its end
    await rig.polls(12)
    assert told(rig) == expected(rig)


async def test_the_counters_equal_what_happened_however_pages_overlap() -> None:
    rig = Rig("baidu_bls", seed=4)
    rig.simulator.quirks = {Quirk.DUPLICATE_ROWS}
    rig.simulator.page_size_limit = 3

    await rig.polls(40)

    rig.world.rest()
    await rig.polls(12)
    assert told(rig) == expected(rig)


@pytest.mark.parametrize("quirk", [Quirk.REPEAT_CURSOR, Quirk.ENDLESS_PAGES])
async def test_a_list_that_cannot_be_complete_fails_the_poll_as_truncated(quirk: Quirk) -> None:
    region = Region()
    for _ in range(5):
        region.world.open()
    region.simulator.page_size_limit = 2
    region.simulator.quirks = {quirk}

    readings, error = await region.read()

    assert error is not None
    assert error.reason is Reason.TRUNCATED
    assert readings == []


async def test_an_alarm_that_slips_to_the_page_before_is_found_there() -> None:
    region = Region()
    for _ in range(5):
        region.world.open()
    region.simulator.page_size_limit = 2
    region.simulator.quirks = {Quirk.SHIFT_ROWS}

    readings = await region.poll()

    assert len(open_in(readings).alerts) == 5
    assert region.asked.count("ALERT") == 3


async def test_max_pages_are_enough_for_exactly_so_many_and_not_for_one_row_more() -> None:
    region = Region(max_detail_requests=1)
    for _ in range(500):
        region.world.open()
    region.simulator.page_size_limit = 5

    readings = await region.poll()

    assert len(open_in(readings).alerts) == 500
    assert region.asked.count("ALERT") == 100
    region.world.open()
    [cut] = of_type(await region.poll(), Truncated)
    assert sum((cut.open_by_severity or {}).values()) == 501
    assert region.asked.count("ALERT") == 100 + 5


async def test_between_two_detail_intervals_unchanged_alarms_cost_only_list_pages() -> None:
    region = Region()
    incident = region.world.open()
    await region.poll()
    assert region.described == [key(incident)]

    costs = []
    for _ in range(6):
        region.advance(60)
        await region.poll()
        costs.append(len(region.described))

    assert costs == [0, 0, 0, 0, 1, 0]


async def test_an_alarm_that_ended_is_read_at_once_and_once_more() -> None:
    region = Region()
    incident = region.world.open(severity=Severity.WARNING)
    await region.poll()
    region.advance(10)
    region.world.converge(incident)
    region.world.tell(incident, Channel.EMAIL)
    region.world.tell(incident, Channel.WEBHOOK)
    region.world.end(incident, CloseReason.CLOSED)
    region.world.tell(incident, Channel.SMS, failure=TIMED_OUT)

    readings = await region.poll()

    [ended] = records_in(readings, Alert)
    assert (ended.severity, ended.close_reason, ended.ended_at) == (
        Severity.WARNING,
        CloseReason.CLOSED,
        BEGAN + timedelta(seconds=10),
    )
    assert {(notice.channel, notice.failure) for notice in records_in(readings, Notice)} == {
        (Channel.EMAIL, None),
        (Channel.WEBHOOK, None),
        (Channel.SMS, FailureReason.TIMEOUT),
    }
    [convergence] = records_in(readings, Convergence)
    assert convergence.at == BEGAN + timedelta(seconds=10)
    costs = []
    for _ in range(30):
        region.advance(60)
        await region.poll()
        costs.append(len(region.described))
    assert costs[:6] == [0, 0, 0, 0, 1, 0]
    assert sum(costs) <= 3


async def test_a_result_that_comes_late_is_told_when_it_is_there_and_under_one_identity() -> None:
    region = Region()
    incident = region.world.open()
    await region.poll()
    region.advance(10)
    region.world.end(incident, CloseReason.RECOVERED)
    region.world.tell(incident, Channel.SMS, failure=TIMED_OUT, settles_after=400)

    notices = []
    for _ in range(20):
        notices.append(records_in(await region.poll(), Notice))
        region.advance(60)

    told_at = [number for number, told in enumerate(notices) if told]
    assert told_at[0] in range(7, 16)
    assert {notice.failure for told in notices for notice in told} == {FailureReason.TIMEOUT}
    assert len({notice.key for told in notices for notice in told}) == 1


async def test_what_was_held_back_is_told_as_such() -> None:
    region = Region()
    incident = region.world.open()
    region.world.tell(incident, Channel.SMS, suppression=Suppression.FREQUENCY)

    [notice] = records_in(await region.poll(), Notice)

    assert notice.suppressed is Suppression.FREQUENCY


@pytest.mark.parametrize(("accepted", "refused"), [({"id"}, 0), ({"alarmId"}, 1), ({"id", "alarmId"}, 0)])
async def test_the_name_of_the_id_is_found_out_once(accepted: set[str], refused: int) -> None:
    region = Region(max_concurrency=1)
    region.simulator.id_parameters = accepted
    incident = region.world.open()
    region.world.tell(incident, Channel.SMS)
    region.advance(5)
    region.world.converge(incident)
    region.world.tell(incident, Channel.EMAIL, failure=TIMED_OUT)

    readings = await region.poll()

    told = records_in(readings, Notice)
    assert [notice.failure for notice in told] == [None, FailureReason.TIMEOUT]
    assert len(records_in(readings, Convergence)) == 1
    assert region.site.calls["describe_alarm_record", "400"] == refused
    region.world.open()
    region.advance(60)
    await region.poll()
    assert region.site.calls["describe_alarm_record", "400"] == refused


@pytest.mark.parametrize(("id_parameter", "calls"), [("id", 1), ("auto", 2)])
async def test_an_id_that_is_refused_by_every_name_is_a_failure_that_names_the_setting(
    id_parameter: str, calls: int
) -> None:
    region = Region(id_parameter=id_parameter)
    region.simulator.id_parameters = set()
    region.world.open()

    [details] = [reading for reading in await region.poll() if isinstance(reading, Details)]

    assert (details.answered, details.failed) == (0, {Reason.API_ERROR: 1})
    assert region.site.calls["describe_alarm_record", "400"] == calls


async def test_what_does_not_fit_into_a_poll_waits_oldest_first_and_is_told_of() -> None:
    region = Region(max_detail_requests=2, max_concurrency=1)
    incidents = [region.world.open() for _ in range(5)]

    asked, unfinished, backlogs = [], [], []
    for _ in range(3):
        readings = await region.poll()
        unfinished.append(unfinished_in(readings))
        asked += region.described
        backlogs.append(backlog_in(readings))
        region.advance(60)

    assert asked == [key(incident) for incident in incidents]
    assert unfinished == [[(0, 3)], [(0, 1)], []]
    assert backlogs == [3, 1, 0]


async def test_an_alarm_older_than_the_window_stays_open_by_its_detail() -> None:
    region = Region(open_window="1h")
    incident = region.world.open()
    await region.poll()
    region.advance(7200)

    readings = await region.poll()

    assert [alert.key for alert in open_in(readings).alerts] == [key(incident)]
    assert open_in(readings).unsure == frozenset()


async def test_an_end_that_no_list_shows_is_found_by_the_detail() -> None:
    region = Region(open_window="1h")
    incident = region.world.open()
    await region.poll()
    region.advance(7200)
    region.world.end(incident, CloseReason.RECOVERED)

    readings = await region.poll()

    [ended] = records_in(readings, Alert)
    assert (ended.key, ended.close_reason) == (key(incident), CloseReason.RECOVERED)
    assert open_in(readings).alerts == []


async def test_an_alarm_that_is_gone_is_left_out() -> None:
    region = Region()
    region.world.end(region.world.open(), CloseReason.RECOVERED)
    incident = region.world.open()
    await region.poll()
    region.world.end(incident, CloseReason.VANISHED)

    readings = await region.poll()

    assert open_in(readings).alerts == []
    assert open_in(readings).unsure == frozenset()
    assert records_in(readings, Alert)[0].key != key(incident)


async def test_details_that_fail_cost_only_themselves_and_are_asked_for_again() -> None:
    region = Region()
    broken, whole = region.world.open(), region.world.open()
    region.world.tell(whole, Channel.SMS)
    region.simulator.broken_details = {broken.number}

    readings = await region.poll()

    assert len(open_in(readings).alerts) == 2
    assert [notice.alert_key for notice in records_in(readings, Notice)] == [key(whole)]
    assert unfinished_in(readings) == [(1, 1)]
    region.advance(60)
    region.simulator.broken_details.clear()
    assert unfinished_in(await region.poll()) == []
    assert region.described == [key(broken)]


@pytest.mark.parametrize("alarm", [7, [], {"id": 7}, {"id": "a", "executions": "none"}])
async def test_a_detail_that_cannot_be_read_is_invalid_and_waits_for_its_interval(alarm: Any) -> None:
    listed = {"success": True, "result": {"alarms": [{"id": "a", "triggerCondition": {"level": "WARN"}}]}}
    network = BaiduBls({"lists": {"ALERT": [200, listed]}, "details": {"a": [200, {"success": True, "alarm": alarm}]}})
    reader = Reader(network, detail_interval="5m")

    found = []
    for seconds in (0, 60, 240, 300):
        network.asked.clear()
        readings, error = await reader.read(a_window(end=NOW + timedelta(seconds=seconds)))
        assert error is None
        assert [alert.key for alert in open_in(readings).alerts] == ["a"]
        found.append((network.asked.count({"id": "a"}), len(rejected_in(readings))))

    assert found == [(1, 1), (0, 0), (0, 0), (1, 1)]


async def test_throttling_leaves_the_other_details_for_the_next_poll() -> None:
    region = Region(max_concurrency=1)
    for _ in range(4):
        region.world.open()
    fault = Fault(kind=FaultKind.STATUS, status=429, endpoint="describe_alarm_record")
    region.site.faults = [fault]

    readings = await region.poll()

    assert unfinished_in(readings) == [(1, 4)]
    assert len(open_in(readings).alerts) == 4


async def test_alarms_that_ended_before_counting_began_cost_no_detail_call() -> None:
    region = Region()
    incident = region.world.open()
    region.world.end(incident, CloseReason.RECOVERED)
    window = a_window(end=NOW, first=True, counted_from=NOW)

    readings, error = await region.reader.read(window)

    assert error is None
    assert [alert.key for alert in records_in(readings, Alert)] == [key(incident)]
    assert region.described == []


async def test_lists_of_ended_alarms_are_walked_back_to_the_window_and_no_further() -> None:
    region = Region(max_detail_requests=1)
    for _ in range(30):
        region.world.end(region.world.open(), CloseReason.RECOVERED)
    region.advance(86400)
    for _ in range(12):
        region.world.end(region.world.open(), CloseReason.RECOVERED)
    region.simulator.page_size_limit = 5

    readings = await region.poll()

    assert len(records_in(readings, Alert)) == 12
    assert region.asked.count("OK") == 3


async def test_a_clock_that_is_wrong_is_corrected_and_the_request_signed_again_once() -> None:
    rig = Rig("baidu_bls", seed=5)
    rig.world.skew = timedelta(hours=3)

    await rig.poll()

    state = rig.watch.book.state
    assert state.up
    assert rig.requests()["list_alarm_record", "400"] == 1


async def test_a_signature_in_time_that_is_still_called_expired_is_clock_skew() -> None:
    region = Region()
    expired = Response(status=400, body=b'{"code": "RequestExpired", "message": "", "requestId": "1"}')
    region.simulator.answer = lambda request: expired  # type: ignore[method-assign]

    readings, error = await region.read()

    assert readings == []
    assert error is not None
    assert error.reason is Reason.CLOCK_SKEW
    assert sum(region.site.calls.values()) == 1


async def test_a_wrong_secret_is_refused_and_not_asked_with_again() -> None:
    region = Region()
    region.simulator.rotate()

    _, error = await region.read()

    assert error is not None
    assert error.reason is Reason.AUTH
    assert region.asked == ["ALERT"]


@pytest.mark.parametrize("seconds", [1, 2, 5])
async def test_details_that_do_not_fit_into_the_interval_wait_and_fail_no_poll(seconds: int) -> None:
    interval = f"{seconds}s"
    rig = Rig("baidu_bls", quiet=True, interval=interval, max_requests_per_second=5, detail_interval="10m")
    for _ in range(30):
        rig.world.open()

    await rig.polls(1, every=seconds)
    first = rig.watch.book.state
    await rig.polls(60 // seconds, every=seconds)

    last = rig.watch.book.state
    assert (first.up, first.partial_polls, first.backlog > 0) == (True, 1, True)
    assert (last.up, last.backlog, dict(last.poll_failures)) == (True, 0, {})
