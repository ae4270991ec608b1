"""BlueKing's own public client against the simulated site, over a real socket: the simulator is no friend of ours."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bkapi_client_core.exceptions import HTTPResponseError
from bkapi_component.open.client import Client

from exporter.model.alert import CloseReason
from exporter.model.records import Channel, FailureReason
from exporter.simulation.network import Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.world import World
from exporter.vendors.blueking.simulator import TRAITS, BluekingSimulator, Generation

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CREDENTIALS = {"bk_app_code": "alert-exporter", "bk_app_secret": "simulated-app-secret", "bk_username": "exporter-user"}


@pytest.fixture
def world() -> World:
    world = World(TRAITS, seed=1, start=NOW, quiet=True)
    incident = world.open()
    for second in range(3):
        world.advance(NOW + timedelta(seconds=60 * second))
        world.converge(incident)
    world.tell(incident, Channel.SMS, failure=(FailureReason.TIMEOUT, "sms gateway timeout"))
    world.end(world.open(), CloseReason.CLOSED)
    return world


@pytest.fixture
def api(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = SimulationServer([Site(BluekingSimulator(world, generation=Generation.G3), lambda: world.now)])
    server.start()
    with Client(endpoint=server.url, bk_api_ver="v2") as client:
        client.update_bkapi_authorization(**CREDENTIALS)
        yield client
    server.stop()


def searched(**more: Any) -> dict[str, Any]:
    now = int(NOW.timestamp())
    return {"bk_biz_ids": [-1], "start_time": now - 600, "end_time": now + 600, "page": 1, "page_size": 50, **more}


def test_the_public_client_lists_alerts_and_reads_their_flow_log(api: Any) -> None:
    listed = api.monitor_v3.search_alert(searched(status=["ABNORMAL"]))["data"]
    log = api.monitor_v3.get_event_log({"id": listed["alerts"][0]["id"]})

    assert listed["total"] == 1
    assert log["result"]
    assert [row["operate"] for row in log["data"]] == ["ACTION", "CONVERGE", "CONVERGE", "CREATE"]
    assert str(log["data"][0]["event_id"]) == listed["alerts"][0]["id"]


def test_the_public_client_reads_what_became_of_notices(api: Any) -> None:
    data = api.monitor_v3.search_action(searched(status=["failure"], show_overview=False))["data"]

    assert data["total"] == 1
    assert data["actions"][0]["ex_data"] == {"message": "sms gateway timeout"}


def test_the_public_client_is_refused_inside_http_200(api: Any) -> None:
    api.update_bkapi_authorization(**{**CREDENTIALS, "bk_app_secret": "wrong"})

    answer = api.monitor_v3.search_alert(searched())

    assert (answer["result"], answer["code"]) == (False, 1306000)


def test_an_unknown_path_is_an_error_to_the_public_client(api: Any) -> None:
    with pytest.raises(HTTPResponseError, match="404"):
        api.monitor_v3.get_ts_data({})
