"""The simulator, asked by a stranger: the public client of the API, and by hand where it has no words."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dynatrace import Dynatrace

from exporter.model.alert import CloseReason, Severity
from exporter.simulation.wire import Request, Response
from exporter.simulation.world import World
from exporter.vendors.key_astrom.simulator import ENVIRONMENT, TRAITS, KeyAstromSimulator, simulator_for
from tests.served import served
from tests.vendors.key_astrom.reading import NOW

CURSOR = '{"listing":"events","size":2}'


@pytest.fixture
def simulator() -> KeyAstromSimulator:
    world = World(TRAITS, seed=3, start=NOW, quiet=True)
    for severity in TRAITS.severities:
        world.open(severity=severity)
        world.advance(world.now + timedelta(seconds=1))
    world.open(is_event=True)
    world.converge(world.incidents[1])
    world.end(world.incidents[0], CloseReason.RECOVERED)
    return simulator_for(world)


@pytest.fixture
def url(simulator: KeyAstromSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    with served(simulator.answer) as base:
        yield f"{base}/e/{ENVIRONMENT}"


def test_the_public_client_reads_events_types_and_problems(simulator: KeyAstromSimulator, url: str) -> None:
    client = Dynatrace(url, simulator.token, timeout=5, retries=0)

    opened = client.events_v2.list(page_size=2, time_from="now-2h", event_selector='status("OPEN")')
    total, events = len(opened), list(opened)
    recent = list(client.events_v2.list(page_size=1000, time_from=NOW + timedelta(seconds=3)))
    types = {kind.type: str(kind.severity_level) for kind in client.events_v2.list_types(page_size=2)}
    problems = list(client.problems.list(problem_selector='status("open")', page_size=2, fields="evidenceDetails"))

    assert total == len(events) == 4  # three alerts and a report of INFO level, which lasts a while
    assert {event.status.value for event in events} == {"OPEN"}
    assert all(event.end_time is None for event in events)
    assert len(recent) == 5
    assert types["OSI_UNEXPECTEDLY_UNAVAILABLE"] == "AVAILABILITY"
    assert types["PROCESS_RESTART"] == "INFO"
    alerts = [event for event in events if types[event.event_type] != "INFO"]
    assert {problem.problem_id for problem in problems} == {f"{event.event_id}V2" for event in alerts}


def test_the_public_client_is_refused_with_a_wrong_token(url: str) -> None:
    with pytest.raises(Exception, match="Token Authentication failed"):
        Dynatrace(url, "dt0c01.PUBLIC.WRONG", timeout=5, retries=0).events_v2.list()


def ask(simulator: KeyAstromSimulator, path: str, **parameters: str) -> Response:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    headers = {"authorization": f"Api-Token {simulator.token}"}
    return simulator.answer(Request(method="GET", path=f"/e/{ENVIRONMENT}{path}", query=query, headers=headers))


def error_of(response: Response) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(response.body)["error"]
    assert error["code"] == response.status
    return error


def test_a_cursor_goes_alone_and_what_stands_beside_it_is_refused_as_recorded(simulator: KeyAstromSimulator) -> None:
    first = json.loads(ask(simulator, "/api/v2/events", pageSize="2").body)

    refused = ask(simulator, "/api/v2/events", nextPageKey=first["nextPageKey"], pageSize="2")

    assert error_of(refused) == {
        "code": 400,
        "message": "Constraints violated.",
        "constraintViolations": [
            {
                "path": "pageSize",
                "message": "must not be used in combination with nextPageKey query parameter.",
                "parameterLocation": "QUERY",
                "location": None,
            }
        ],
    }


def test_fields_go_beside_a_cursor_of_problems_and_are_forgotten_otherwise(simulator: KeyAstromSimulator) -> None:
    first = json.loads(ask(simulator, "/api/v2/problems", pageSize="1", fields="evidenceDetails").body)
    cursor = first["nextPageKey"]

    without = json.loads(ask(simulator, "/api/v2/problems", nextPageKey=cursor).body)
    repeated = json.loads(ask(simulator, "/api/v2/problems", nextPageKey=cursor, fields="evidenceDetails").body)

    assert "evidenceDetails" not in without["problems"][0]
    assert "evidenceDetails" in repeated["problems"][0]


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"pageSize": "1001"}, "pageSize"),
        ({"pageSize": "x"}, "pageSize"),
        ({"from": "yesterday"}, "from"),
        ({"from": "now-30s"}, "from"),
        ({"to": "now-3h"}, "from"),
        ({"nextPageKey": "AQANMTc2"}, "nextPageKey"),
        ({"eventSelector": 'status("OPEN","CLOSED")'}, "eventSelector"),
        ({"eventSelector": 'status("GONE")'}, "eventSelector"),
        ({"eventSelector": "status(OPEN"}, "eventSelector"),
        ({"eventSelector": 'severity("ERROR")'}, "eventSelector"),
        ({"eventSelector": 'eventId("' + "1" * 2000 + '")'}, "eventSelector"),
        ({"entitySelector": 'tag("x")'}, "entitySelector"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(
    simulator: KeyAstromSimulator, parameters: dict[str, str], path: str
) -> None:
    error = error_of(ask(simulator, "/api/v2/events", **parameters))

    assert error["constraintViolations"][0]["path"] == path


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({}, 5),
        ({"from": "now-2h", "to": "now-1h"}, 0),
        ({"from": "2026-01-01 10:30:03.500"}, 5),
        ({"from": "2026-01-01T13:30:05+03:00"}, 4),
        ({"from": "now/m"}, 5),
        ({"eventSelector": 'status("CLOSED")'}, 1),
        ({"eventSelector": 'eventType("PROCESS_RESTART"),underMaintenance(false)'}, 0),
        ({"eventSelector": 'eventType("HOST_LOG_ERROR"), suppressAlert(false)'}, 0),
        ({"eventSelector": 'eventType("SERVICE_ERROR_RATE_INCREASED"), suppressAlert(false)'}, 1),
        ({"entitySelector": 'type("NOTHING")'}, 0),
    ],
)
def test_a_window_overlaps_and_criteria_select(
    simulator: KeyAstromSimulator, parameters: dict[str, str], count: int
) -> None:
    simulator.world.advance(NOW + timedelta(seconds=20))

    assert json.loads(ask(simulator, "/api/v2/events", **parameters).body)["totalCount"] == count


def test_a_token_without_a_scope_is_refused_as_recorded(simulator: KeyAstromSimulator) -> None:
    simulator.scopes = {"events.read"}

    refused = ask(simulator, "/api/v2/problems")

    message = "Token is missing required scope. Use one of: problems.read (Read problems)"
    assert error_of(refused) == {"code": 403, "message": message}
    assert ask(simulator, "/api/v2/events").status == 200


def test_a_rotated_token_is_the_only_one_that_is_accepted(simulator: KeyAstromSimulator) -> None:
    before = {"authorization": f"Api-Token {simulator.token}"}
    path = f"/e/{ENVIRONMENT}/api/v2/events"

    simulator.rotate()

    assert simulator.answer(Request(method="GET", path=path, query="", headers=before)).status == 401
    assert ask(simulator, "/api/v2/events").status == 200


def test_severities_of_the_world_are_those_its_types_mean(simulator: KeyAstromSimulator) -> None:
    types = json.loads(ask(simulator, "/api/v2/eventTypes", pageSize="500").body)["eventTypeInfos"]

    assert {row["severityLevel"] for row in types} >= {"AVAILABILITY", "ERROR", "PERFORMANCE", "RESOURCE_CONTENTION"}
    assert Severity.CRITICAL in TRAITS.severities
