"""The source against the simulated environment, reached without a socket."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest

from exporter.errors import Reason
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import Fact
from exporter.model.reading import Happened, Reading, Truncated, Window
from exporter.model.records import Convergence, Event
from exporter.simulation.network import Fault, FaultKind, SimulatedNetwork, Site
from exporter.simulation.wire import Quirk
from exporter.simulation.world import World
from exporter.vendors.key_astrom.simulator import TRAITS, KeyAstromSimulator, simulator_for
from tests.rig import Rig, expected, told
from tests.vendors.key_astrom.reading import NOW, Reader, a_window
from tests.vendors.reading import facts_in, of_type, open_in, unfinished_in

pytestmark = pytest.mark.anyio

BEGAN = NOW - timedelta(minutes=5)


class Environment:
    """A quiet world, its simulator and a reader of it."""

    def __init__(self, **settings: Any) -> None:
        self.world = World(TRAITS, seed=1, start=BEGAN, quiet=True)
        self.simulator: KeyAstromSimulator = simulator_for(self.world)
        self.site = Site(self.simulator, lambda: NOW)
        self.reader = Reader(
            SimulatedNetwork(self.site), **{**self.simulator.settings("http://astrom.test"), **settings}
        )

    async def read(self, *open_alerts: str, window: Window | None = None) -> list[Reading]:
        readings, error = await self.reader.read(window or a_window(*open_alerts))
        assert error is None
        return readings


def ended_in(readings: list[Reading]) -> list[Alert]:
    return [record for record in happened_in(readings) if isinstance(record, Alert)]


def happened_in(readings: list[Reading]) -> list[Any]:
    return [record for reading in readings if isinstance(reading, Happened) for record in reading.records]


async def test_tells_what_is_open_what_ended_what_happened_and_what_converged() -> None:
    env = Environment()
    shielded = env.world.open(severity=Severity.CRITICAL)
    env.world.shield(shielded, on=True)
    env.world.advance(BEGAN + timedelta(seconds=30))
    env.world.converge(shielded)
    ended = env.world.open(severity=Severity.WARNING)
    env.world.open(is_event=True)
    env.world.advance(BEGAN + timedelta(seconds=60))
    env.world.end(ended, CloseReason.RECOVERED)

    readings = await env.read()

    [alert] = open_in(readings).alerts
    assert (alert.severity, alert.suppressed, alert.started_at) == (Severity.CRITICAL, True, BEGAN)
    [gone] = ended_in(readings)
    assert (gone.severity, gone.close_reason) == (Severity.WARNING, CloseReason.RECOVERED)
    assert gone.ended_at == BEGAN + timedelta(seconds=60)
    [event] = [record for record in happened_in(readings) if isinstance(record, Event)]
    assert event.at == BEGAN + timedelta(seconds=30)
    [convergence] = [record for record in happened_in(readings) if isinstance(record, Convergence)]
    assert (convergence.alert_key, convergence.at) == (alert.key, BEGAN + timedelta(seconds=30))


async def test_convergences_are_a_fact_only_where_problems_are_read() -> None:
    assert facts_in(await Environment().read()) == {Fact.SUPPRESSED, Fact.EVENTS, Fact.CONVERGENCES}
    assert facts_in(await Environment(problems=False).read()) == {Fact.SUPPRESSED, Fact.EVENTS}


@pytest.mark.parametrize("quirks", [set(), {Quirk.DUPLICATE_ROWS}])
async def test_every_alert_is_read_once_over_many_pages(quirks: set[Quirk]) -> None:
    env = Environment()
    env.simulator.page_size_limit = 3
    env.simulator.quirks = quirks
    for _ in range(20):
        env.world.open()
        env.world.open(is_event=True)

    readings = await env.read()

    assert set(Counter(alert.key for alert in open_in(readings).alerts).values()) == {1}
    assert len(open_in(readings).alerts) == 20
    assert len({record.key for record in happened_in(readings) if isinstance(record, Event)}) == 20


async def test_a_walk_that_comes_back_to_a_cursor_fails_the_poll_and_nothing_is_said() -> None:
    env = Environment(max_pages=10)
    env.simulator.page_size_limit = 2
    env.simulator.quirks = {Quirk.REPEAT_CURSOR}
    for _ in range(5):
        env.world.open()

    readings, error = await env.reader.read(a_window())

    assert readings == []
    assert error is not None
    assert error.reason is Reason.TRUNCATED


async def test_of_a_walk_that_does_not_end_each_type_is_counted_until_all_open_events_are() -> None:
    env = Environment(max_pages=3, problems=False)
    env.simulator.page_size_limit = 2
    for severity in (Severity.CRITICAL, Severity.WARNING):
        for _ in range(20):
            env.world.open(severity=severity)
    for _ in range(3):
        env.world.open(is_event=True)

    readings, error = await env.reader.read(a_window())

    assert error is None
    [cut] = of_type(readings, Truncated)
    assert (cut.endpoint, cut.moves_on) == ("events", False)
    assert +Counter(cut.open_by_severity) == {Severity.CRITICAL: 20, Severity.WARNING: 20}
    assert len(open_in(readings).alerts) <= 6


async def test_where_one_type_is_selected_all_that_is_open_is_of_it() -> None:
    env = Environment(max_pages=1, problems=False, event_selector='eventType("SERVICE_SLOWDOWN")')
    env.simulator.page_size_limit = 2
    for _ in range(30):
        env.world.open(severity=Severity.MINOR)

    readings, _ = await env.reader.read(a_window())

    [cut] = of_type(readings, Truncated)
    assert cut.open_by_severity is not None
    assert [*cut.open_by_severity] == [Severity.MINOR]
    assert 0 < cut.open_by_severity[Severity.MINOR] < 30


async def test_types_are_asked_for_once_an_hour() -> None:
    env = Environment(problems=False)

    for minutes in (0, 1, 59, 60, 61):
        await env.read(window=a_window(end=NOW + timedelta(minutes=minutes)))

    assert env.site.calls["event_types", "200"] == 2


async def test_types_that_could_not_be_read_are_asked_for_again_after_five_minutes() -> None:
    env = Environment(problems=False)
    env.site.faults.append(Fault(kind=FaultKind.STATUS, endpoint="event_types", status=500, times=1))

    first = await env.read()
    second = await env.read(window=a_window(end=NOW + timedelta(minutes=4)))
    await env.read(window=a_window(end=NOW + timedelta(minutes=5)))

    assert unfinished_in(first) == [(1, 0)]
    assert not unfinished_in(second)
    assert env.site.calls == {("event_types", "500"): 1, ("event_types", "200"): 1, ("events", "200"): 6}


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_problems_that_cannot_be_read_cost_no_alert_and_are_made_up_for(status: int) -> None:
    rig = Rig("key_astrom")
    await rig.polls(2)
    before = told(rig)["convergences"]

    rig.site.faults = [Fault(kind=FaultKind.STATUS, endpoint="problems", status=status)]
    await rig.polls(3 * 60)
    during = rig.watch.book.state
    found, truth = told(rig), expected(rig)
    rig.site.faults = []
    rig.rest()
    await rig.polls(12)

    assert (during.up, during.partial_polls) == (True, 3 * 60)
    assert (found.pop("convergences"), found.pop("converged_anomalies")) == (before, before)
    assert found == {name: truth[name] for name in found}
    assert told(rig) == expected(rig)


async def test_an_environment_without_problems_is_asked_again_after_an_hour() -> None:
    env = Environment()
    env.site.faults.append(Fault(kind=FaultKind.STATUS, endpoint="problems", status=404, times=1))

    without = facts_in(await env.read())
    await env.read(window=a_window(end=NOW + timedelta(minutes=59)))
    again = facts_in(await env.read(window=a_window(end=NOW + timedelta(minutes=60))))

    assert Fact.CONVERGENCES not in without
    assert Fact.CONVERGENCES in again
    assert env.site.calls["problems", "404"] == env.site.calls["problems", "200"] == 1


async def test_the_first_poll_reads_all_that_later_ones_can_reach() -> None:
    env = Environment(overlap="30m", interval="60s", problems=False)
    asked: list[str] = []
    network = SimulatedNetwork(env.site)

    async def noted(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("from", ""))
        return await network.handle_async_request(request)

    reader = Reader(httpx.MockTransport(noted), **{**env.simulator.settings("http://h"), "overlap": "30m"})
    await reader.read(a_window(first=True))

    # 10 minutes of window, two intervals, the overlap of the next poll and a minute for its rounding.
    assert asked[2] == "now-43m"


async def test_many_missing_alerts_are_looked_up_with_selectors_the_api_accepts() -> None:
    env = Environment(event_selector="suppressProblem(false)", max_detail_requests=3)
    gone = [f"-{10**18 + number}_1767261600000" for number in range(200)]

    readings = await env.read(*gone)

    # The simulator refuses selectors of more than 2,000 characters; 53 ids fit beside the operator's criterion.
    assert unfinished_in(readings) == [(0, 1)]
    assert open_in(readings).unsure == frozenset(gone[159:])


async def test_an_alert_whose_look_up_fails_is_neither_open_nor_gone() -> None:
    env = Environment()
    incident = env.world.open()
    [alert] = open_in(await env.read()).alerts
    env.simulator.broken_details = {incident.number}
    incident.visible = NOW + timedelta(hours=1)  # it slips through the lists

    readings = await env.read(alert.key)

    assert open_in(readings).unsure == {alert.key}
    assert unfinished_in(readings) == [(1, 0)]


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    env = Environment(max_response_bytes=20_000, problems=False)
    for _ in range(100):
        env.world.open()

    readings = await env.read()

    assert len(open_in(readings).alerts) == 100


async def test_a_size_of_pages_that_is_refused_is_made_smaller_and_not_tried_again() -> None:
    env = Environment()
    env.simulator.page_size_beside_fields = 10
    for _ in range(25):
        env.world.converge(env.world.open())

    first = await env.read()
    asked_first = Counter(env.site.calls)
    second = await env.read()

    for readings in (first, second):
        assert len(open_in(readings).alerts) == 25
        assert len([record for record in happened_in(readings) if isinstance(record, Convergence)]) == 25
    assert (asked_first["problems", "400"], asked_first["problems", "200"]) == (2, 3)
    assert env.site.calls - asked_first == {("events", "200"): 2, ("problems", "200"): 3}


async def test_rows_that_are_too_large_one_by_one_fail_the_poll() -> None:
    env = Environment(max_response_bytes=300, problems=False)
    env.site.faults.append(Fault(kind=FaultKind.STATUS, endpoint="event_types", status=404))
    env.world.open()

    readings, error = await env.reader.read(a_window())

    assert readings == []
    assert error is not None
    assert error.reason is Reason.TOO_LARGE


async def test_errors_show_no_token_and_nothing_of_the_body_but_names_of_parameters() -> None:
    violations = [{"path": "eventSelector"}, {"path": "dt0c01.X secret\n"}, {"path": None}]
    body = {"error": {"code": 400, "message": "CANARY", "constraintViolations": violations}}
    reader = Reader(httpx.MockTransport(lambda _request: httpx.Response(400, content=json.dumps(body).encode())))

    _, error = await reader.read(a_window())

    assert str(error) == "HTTP 400: the request was refused because of eventSelector"
