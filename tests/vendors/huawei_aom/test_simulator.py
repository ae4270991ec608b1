"""The simulator, asked by a stranger: the vendor's own SDK over a socket, and by hand where the SDK has no words."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkaom.v2 import (
    AomClient,
    EventQueryParam2,
    EventQueryParam2Sort,
    ListEventsRequest,
    ListEventsResponse,
    ListNotifiedHistoriesRequest,
    RelationModel,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig

from exporter.model.alert import CloseReason
from exporter.model.records import Channel, FailureReason
from exporter.simulation.wire import Request, Response
from exporter.simulation.world import World
from exporter.vendors.huawei_aom.simulator import (
    ACCESS_KEY,
    IAM_USER,
    PROJECT_ID,
    PROJECT_NAME,
    SECRET_KEY,
    TOKEN,
    TRAITS,
    HuaweiAomSimulator,
    simulator_for,
)
from tests.served import served

# The SDK signs by the machine's clock: four minutes after its start, the simulated world is at the same time.
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=4)

# The SDK asks the time in a way that Python has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcnow:DeprecationWarning:huaweicloudsdkcore.signer.signer"
)


@pytest.fixture
def simulator() -> HuaweiAomSimulator:
    world = World(TRAITS, seed=3, start=START, quiet=True)
    for severity in TRAITS.severities:
        world.open(severity=severity)
        world.advance(world.now + timedelta(minutes=1))
    world.open(is_event=True)
    world.end(world.incidents[0], CloseReason.EXPIRED)
    world.end(world.incidents[1], CloseReason.RECOVERED)
    return simulator_for(world)


@pytest.fixture
def url(simulator: HuaweiAomSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def answer(request: Request) -> Response:
        simulator.world.advance(datetime.now(UTC))
        return simulator.answer(request)

    with served(answer) as base:
        yield base


def client_of(url: str, secret_key: str = SECRET_KEY) -> AomClient:
    config = HttpConfig.get_default_config()
    config.timeout = (2, 5)
    credentials = BasicCredentials(ACCESS_KEY, secret_key, PROJECT_ID)
    return AomClient.new_builder().with_http_config(config).with_credentials(credentials).with_endpoint(url).build()


def listed(url: str, of_type: str | None, event_type: str, **request: Any) -> ListEventsResponse:
    body = EventQueryParam2(
        time_range="-1.-1.30",
        sort=EventQueryParam2Sort(order_by=["starts_at"], order="asc"),
        metadata_relation=[RelationModel(key="event_type", relation="AND", value=[event_type])],
    )
    client = client_of(url)
    response = client.list_events(ListEventsRequest(type=of_type, body=body, **request))
    client.close()
    return response


def test_the_sdk_reads_active_and_cleared_alarms_and_events(url: str, simulator: HuaweiAomSimulator) -> None:
    active = listed(url, "active_alert", "alarm", enterprise_project_id="all_granted_eps").events
    history = listed(url, "history_alert", "alarm").events
    events = listed(url, None, "event").events

    assert [alarm.metadata["event_severity"] for alarm in active] == ["Minor", "Info"]
    assert [alarm.ends_at for alarm in active] == [0, 0]
    assert [alarm.ends_at - alarm.starts_at >= alarm.timeout for alarm in history] == [True, False]
    assert [event.metadata["event_type"] for event in events] == ["event"]
    assert len({record.event_sn for record in [*active, *history, *events]}) == len(simulator.world.incidents)


def test_the_sdk_pages_by_marker(url: str) -> None:
    first = listed(url, None, "alarm", limit=3, marker="0")
    second = listed(url, None, "alarm", limit=3, marker=first.page_info.next_marker)

    assert [len(first.events), len(second.events)] == [3, 1]
    assert [page.page_info.current_count for page in (first, second)] == [3, 1]
    assert second.page_info.next_marker == ""


def test_the_sdk_reads_notified_histories(url: str, simulator: HuaweiAomSimulator) -> None:
    alarm = simulator.world.incidents[2]
    simulator.world.tell(alarm, Channel.PHONE)
    simulator.world.tell(alarm, Channel.SMS, failure=(FailureReason.NOT_SUBSCRIBED, ""))
    simulator.world.tell(alarm, Channel.EMAIL, failure=(FailureReason.REJECTED, "Topic not found."))
    simulator.world.tell(alarm, Channel.IM, settles_after=3600)
    event_sn = listed(url, "active_alert", "alarm").events[0].event_sn
    client = client_of(url)

    told = client.list_notified_histories(ListNotifiedHistoriesRequest(event_sn=event_sn)).notified_histories
    client.close()

    channels = [notification.smn_channel for notification in told[0].notifications]
    endpoints = [channel.smn_notified_history[0] for channel in channels]
    assert [channel.smn_response_code for channel in channels] == ["200", "200", "404"]
    assert json.loads(channels[2].smn_response_body)["message"] == "Topic not found."
    assert [end.smn_subscription_type for end in endpoints] == ["callnotify", "sms", "email"]
    assert [end.smn_subscription_status for end in endpoints] == [1, 0, 1]


def test_the_sdk_is_refused_with_a_wrong_key(url: str) -> None:
    client = client_of(url, "wrong")

    with pytest.raises(ClientRequestException) as caught:
        client.list_notified_histories(ListNotifiedHistoriesRequest(event_sn="1"))
    client.close()

    assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")


def ask(simulator: HuaweiAomSimulator, query: str = "", /, **body: Any) -> Response:
    headers = {"x-auth-token": TOKEN}
    content = json.dumps(body).encode()
    path = f"/v2/{PROJECT_ID}/events"
    return simulator.answer(Request(method="POST", path=path, query=query, headers=headers, body=content))


def minutes_in(minutes: int) -> int:
    return round((START.timestamp() + 60 * minutes) * 1000)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {}),
        ("", {"time_range": "\u20131.\u20131.30"}),
        ("", {"time_range": "-1.-1.0"}),
        ("", {"time_range": f"{minutes_in(-10)}.{minutes_in(0)}.8"}),
        ("", {"time_range": "-1.-1.30", "step": 1000}),
        ("", {"time_range": "-1.-1.30", "sort": {"order": "asc"}}),
        ("", {"time_range": "-1.-1.30", "metadata_relation": [{"value": ["alarm"]}]}),
        ("", {"time_range": "-1.-1.30", "metadata_relation": [{"key": "a", "value": ["b"], "relation": "XOR"}]}),
        ("limit=0", {"time_range": "-1.-1.30"}),
        ("marker=x", {"time_range": "-1.-1.30"}),
    ],
)
def test_a_wrong_request_is_refused_as_the_manual_shows(
    simulator: HuaweiAomSimulator, query: str, body: dict[str, Any]
) -> None:
    refused = ask(simulator, query, **body)

    assert refused.status == 400
    assert json.loads(refused.body) == {
        "error_code": "AOM.08032002",
        "error_message": "The request body is illegal",
    }


@pytest.mark.parametrize(
    ("time_range", "count"),
    [
        ("-1.-1.30", 5),
        ("-1.-1.2", 3),
        (f"-1.{minutes_in(1)}.1", 2),
        (f"{minutes_in(2)}.-1.60", 3),
        (f"{minutes_in(1)}.{minutes_in(2)}.1", 2),
    ],
    ids=["last 30 min", "last 2 min", "until", "since", "between"],
)
def test_a_range_selects_by_the_start_in_all_four_forms(
    simulator: HuaweiAomSimulator, time_range: str, count: int
) -> None:
    assert json.loads(ask(simulator, time_range=time_range).body)["page_info"]["current_count"] == count


@pytest.mark.parametrize(
    ("relations", "count"),
    [
        ([{"key": "event_severity", "value": ["Critical", "Info"], "relation": "AND"}], 2),
        ([{"key": "event_type", "value": ["event"], "relation": "NOT"}], 4),
        ([{"key": name, "value": ["Major"], "relation": "OR"} for name in ("event_severity", "namespace")], 1),
        ([{"key": "owner", "value": ["nobody"], "relation": "AND"}], 0),
    ],
)
def test_relations_select_by_metadata(simulator: HuaweiAomSimulator, relations: list[Any], count: int) -> None:
    simulator.world.incidents[-1].severity = TRAITS.severities[2]

    answer = ask(simulator, time_range="-1.-1.30", metadata_relation=relations)

    assert json.loads(answer.body)["page_info"]["current_count"] == count


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (-14, 200), (16, 401), (-16, 401)])
def test_a_signature_is_refused_when_the_clocks_differ_by_more_than_15_minutes(
    simulator: HuaweiAomSimulator, url: str, minutes: int, status: int
) -> None:
    simulator.world.skew = timedelta(minutes=minutes)
    client = client_of(url)

    try:
        found = client.list_notified_histories(ListNotifiedHistoriesRequest(event_sn="1")).status_code
    except ClientRequestException as error:
        found = error.status_code
    client.close()

    assert found == status


def test_a_token_lives_for_24_hours_and_only_for_the_right_user(simulator: HuaweiAomSimulator) -> None:
    def asked_with(**changes: str) -> Response:
        identity = {"methods": ["password"], "password": {"user": {**IAM_USER, **changes}}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": PROJECT_NAME}}}}
        request = Request(method="POST", path="/v3/auth/tokens", query="", headers={}, body=json.dumps(body).encode())
        return simulator.answer(request)

    def status_of(token: str) -> int:
        path, query = f"/v2/{PROJECT_ID}/alarm-notified-histories", "event_sn=1"
        return simulator.answer(Request(method="GET", path=path, query=query, headers={"x-auth-token": token})).status

    given = asked_with()
    token = given.headers["X-Subject-Token"]
    found = [status_of(token)]
    simulator.world.advance(simulator.world.now + timedelta(hours=24))
    found.append(status_of(token))

    assert given.status == 201
    assert found == [200, 401]
    assert asked_with(name="nobody").status == 401
