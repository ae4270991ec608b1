"""The simulator, asked by a stranger: the vendor's own client, and by hand where it has no words."""

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason
from exporter.simulation.world import World
from exporter.vendors.baidu_bls.simulator import (
    ACCESS_KEY,
    SECRET_KEY,
    TRAITS,
    BaiduBlsSimulator,
    simulator_for,
)
from tests.served import served

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # the SDK's sources have escapes that Python calls invalid
    from baiducloud_python_sdk_bls.api.bls_client import BlsClient
    from baiducloud_python_sdk_bls.models.describe_alarm_record_request import DescribeAlarmRecordRequest
    from baiducloud_python_sdk_bls.models.list_alarm_record_request import ListAlarmRecordRequest
    from baiducloud_python_sdk_core.auth.bce_credentials import BceCredentials
    from baiducloud_python_sdk_core.bce_client_configuration import BceClientConfiguration
    from baiducloud_python_sdk_core.exception import BceHttpClientError
    from baiducloud_python_sdk_core.retry.retry_policy import NoRetryPolicy

# The SDK signs with a clock that Python calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:datetime.datetime.utcnow\(\) is deprecated:DeprecationWarning:baiducloud_python_sdk_core.utils"
)


@pytest.fixture
def simulator() -> BaiduBlsSimulator:
    # The stranger signs with the time of this machine; the world stands still at it.
    world = World(TRAITS, seed=3, start=datetime.now(UTC) - timedelta(minutes=1), quiet=True)
    first = world.open(severity=Severity.CRITICAL)
    world.tell(first, Channel.EMAIL)
    world.tell(first, Channel.WEBHOOK)
    second = world.open(severity=Severity.INFO)
    world.advance(world.now + timedelta(seconds=30))
    world.converge(first)
    world.tell(second, Channel.SMS, failure=(FailureReason.TIMEOUT, "callback timeout"), settles_after=600)
    world.end(second, CloseReason.CLOSED)
    world.open(severity=Severity.CRITICAL)
    world.advance(world.now + timedelta(seconds=30))
    return simulator_for(world)


@pytest.fixture
def url(simulator: BaiduBlsSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    with served(simulator.answer) as base:
        yield base


def client_of(url: str, *, secret: str = SECRET_KEY, access_key: str = ACCESS_KEY) -> BlsClient:
    credentials = BceCredentials(access_key, secret)
    return BlsClient(
        BceClientConfiguration(credentials=credentials, endpoint=url.encode(), retry_policy=NoRetryPolicy())
    )


def listed(url: str, **asked: Any) -> dict[str, Any]:
    request = ListAlarmRecordRequest(page_no=asked.pop("page_no", 1), page_size=asked.pop("page_size", 10), **asked)
    answer = client_of(url).list_alarm_record(request)
    assert answer.success
    result: dict[str, Any] = answer.result.to_dict()
    return result


def test_the_vendors_client_lists_records(url: str) -> None:
    result = listed(url)

    assert (result["totalCount"], result["pageNo"], result["pageSize"]) == (3, 1, 10)
    assert [alarm["state"] for alarm in result["alarms"]] == ["ALERT", "CLOSED", "ALERT"]
    assert [alarm["triggerCondition"]["level"] for alarm in result["alarms"]] == ["CRITICAL", "INFO", "CRITICAL"]
    assert result["alarms"][1]["closeReason"] == "POLICY_MODIFIED"
    assert result["alarms"][0]["endTime"] == ""
    assert "executions" not in result["alarms"][0]


def test_the_vendors_client_filters_orders_and_pages(url: str) -> None:
    by_start = listed(url, state="ALERT", level="CRITICAL", order_by="startTime", order="asc", page_size=1)
    second = listed(url, state="ALERT", level="CRITICAL", order_by="startTime", order="asc", page_size=1, page_no=2)
    beyond = listed(url, state="ALERT", page_no=9)
    long_ago = listed(url, end_date_time="2001-01-01T00:00:00Z", start_date_time="2000-01-01T00:00:00Z")

    assert [alarm["id"] for alarm in by_start["alarms"]] == ["a-000000000001"]
    assert [alarm["id"] for alarm in second["alarms"]] == ["a-000000000003"]
    assert (by_start["totalCount"], beyond["totalCount"], long_ago["totalCount"]) == (2, 2, 0)
    assert not beyond.get("alarms")


def test_the_vendors_client_describes_a_record(url: str, simulator: BaiduBlsSimulator) -> None:
    describe = client_of(url).describe_alarm_record

    first = describe(DescribeAlarmRecordRequest("a-000000000001")).alarm.to_dict()
    second = describe(DescribeAlarmRecordRequest("a-000000000002")).alarm.to_dict()

    assert [run["noticeState"] for run in first["executions"]] == ["SENT", "NOT_SENT"]
    [template] = first["executions"][0]["notices"]
    assert (template["methods"], len(template["callbacks"])) == (["EMAIL"], 1)
    assert first["groups"] == {"$1.zone": "bj-a"}
    assert second["groups"] == [{"key": "$1.zone", "value": "bj-a"}]
    assert [run["noticeState"] for run in second["executions"]] == ["NOT_SENT", "NOT_SENT"]
    simulator.world.advance(simulator.world.now + timedelta(minutes=20))
    later = describe(DescribeAlarmRecordRequest("a-000000000002")).alarm.to_dict()
    assert (later["executions"][1]["noticeState"], later["executions"][1]["reason"]) == ("FAIL", "callback timeout")


def test_the_vendors_client_is_told_that_there_is_no_such_alarm(url: str) -> None:
    answer = client_of(url).describe_alarm_record(DescribeAlarmRecordRequest("a-404"))

    assert (answer.success, answer.code) == (False, "AlarmNotFound")


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"secret": "another"}, "SignatureDoesNotMatch"), ({"access_key": "another"}, "InvalidAccessKeyId")],
)
def test_the_vendors_client_is_refused_without_the_right_keys(url: str, changes: dict[str, str], code: str) -> None:
    with pytest.raises(BceHttpClientError) as refused:
        client_of(url, **changes).describe_alarm_record(DescribeAlarmRecordRequest("a-000000000001"))

    assert refused.value.last_error.code == code


def test_the_vendors_client_is_refused_when_the_clocks_differ(url: str, simulator: BaiduBlsSimulator) -> None:
    simulator.world.skew = timedelta(hours=1)

    with pytest.raises(BceHttpClientError) as refused:
        client_of(url).describe_alarm_record(DescribeAlarmRecordRequest("a-000000000001"))

    assert refused.value.last_error.code == "RequestExpired"


@pytest.mark.parametrize(
    "changes",
    [{"page_size": 101}, {"page_size": 0}, {"page_no": 0}, {"state": "OPEN"}, {"order_by": "id"}, {"level": "MAJOR"},
     {"start_date_time": "yesterday"}],
)  # fmt: skip
def test_bad_parameters_are_refused(url: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BceHttpClientError) as refused:
        listed(url, **changes)

    assert refused.value.last_error.code == "InvalidParameter"


def test_a_request_that_is_not_signed_is_refused(url: str) -> None:
    answer = httpx.get(f"{url}/v1/alarm/record?id=a-000000000001", trust_env=False)

    assert answer.status_code == 400
    assert json.loads(answer.content)["code"] == "InvalidHTTPAuthHeader"
