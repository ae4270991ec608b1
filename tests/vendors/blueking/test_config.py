from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.vendors.blueking.config import Api, BluekingConfig
from tests.vendors.blueking.reading import BASIC

APP = {"app_code": "app", "app_secret": "canary-secret"}


def test_the_defaults_are_the_documented_ones() -> None:
    config = BluekingConfig.model_validate(BASIC)

    assert config.api is Api.ESB
    assert config.gateway_stage == "prod"
    assert config.timezone.key == "Asia/Shanghai"
    assert (config.lookback, config.detail_interval) == (timedelta(hours=1), timedelta(hours=6))
    assert config.operations
    assert config.notices


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bk_biz_ids": []}, r"write \[-1\] for all businesses"),
        ({"timezone": "Mars/Olympus"}, "invalid timezone"),
        ({"gateway_stage": "a/b"}, "pattern"),
        ({"detail_interval": "0s"}, "must be longer than 0 s"),
        ({"api": "rest"}, "'esb' or 'gateway'"),
        ({"auth": APP}, "the ESB needs a user"),
        ({"auth": {"username": "u"}}, r"auth.app_code\n  Field required(.|\n)*auth.app_secret\n  Field required"),
        ({"auth": {"app_code": "app"}}, r"auth.app_secret\n  Field required(.|\n)*auth\n  the ESB needs a user"),
        ({"auth": {"app_code": "app"}, "api": "gateway"}, r"1 validation error(.|\n)*auth.app_secret"),
        ({"endpoint": "https://bk.test/api/c/compapi"}, "must end before /api/c/compapi"),
        ({"endpoint": "https://bk.test/site/api/c/compapi/v2/monitor_v3"}, "must end before /api/c/compapi"),
        ({"endpoint": "https://bk.test/api/bk-monitor/prod/"}, "must end before /api/c/compapi"),
        ({"auth": {**APP, "username": "u", "token": "t"}}, "exclude each other"),
        ({"auth": {"access_token": "t", "token": "t"}}, "exclude each other"),
        ({"auth": {**APP, "username": "u", "token_file": "/nowhere/at/all"}}, "cannot read the file"),
        ({"bk_biz_id": 2}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_says_what_to_do_and_no_secret(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        BluekingConfig.model_validate({**BASIC, **settings})

    assert "canary-secret" not in str(caught.value)


def test_businesses_have_to_be_named() -> None:
    with pytest.raises(ValidationError, match="bk_biz_ids"):
        BluekingConfig.model_validate({name: value for name, value in BASIC.items() if name != "bk_biz_ids"})
