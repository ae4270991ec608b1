from typing import Any

import pytest
from pydantic import ValidationError

from exporter.vendors.baidu_bls.config import BaiduBlsConfig
from tests.vendors.baidu_bls.reading import BASIC


def problems_of(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        BaiduBlsConfig.model_validate({**BASIC, **settings})
    return str(caught.value)


def test_needs_an_access_key_pair() -> None:
    problems = problems_of(auth={})

    assert "auth.access_key" in problems
    assert "auth.secret_key" in problems


def test_an_endpoint_ends_before_the_documented_path() -> None:
    assert "must end before /v1/alarm" in problems_of(endpoint="https://bls-log.bj.baidubce.com/v1/alarm/record")
    assert "must end before /v1/alarm" in problems_of(endpoint="https://bls-log.bj.baidubce.com/v1/")


@pytest.mark.parametrize(
    ("endpoint", "is_doubted"),
    [
        ("https://bls.bj.baidubce.com", True),
        ("https://bls.baidubce.com", True),
        ("https://bls-log.bj.baidubce.com", False),
        ("https://bls-log.REGION.baidubce.com", True),
        ("https://proxy.example/bls.bj.baidubce.com", False),
    ],
)
def test_a_host_that_is_not_that_of_the_log_service_is_doubted(endpoint: str, is_doubted: bool) -> None:
    doubts = [key for key, _ in BaiduBlsConfig.model_validate({**BASIC, "endpoint": endpoint}).doubts()]

    assert doubts == (["endpoint"] if is_doubted else [])


@pytest.mark.parametrize("key", ["open_window", "detail_interval"])
def test_spans_are_longer_than_nothing(key: str) -> None:
    assert f"{key}\n  Value error, must be longer than 0 s" in problems_of(**{key: "0s"})


def test_the_id_parameter_is_one_of_the_two_that_the_vendor_names_or_found_out() -> None:
    assert "'auto', 'id' or 'alarmId'" in problems_of(id_parameter="alarm")


def test_no_secret_is_shown_in_an_error() -> None:
    assert "canary" not in problems_of(auth={"access_key": "canary-1", "secret_key": "canary-2", "token": "canary-3"})
