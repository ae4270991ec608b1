import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.vendors.blueking.auth import auth_for
from exporter.vendors.blueking.config import BluekingConfig
from tests.vendors.blueking.reading import BASIC


def header_of(auth: dict[str, Any], **settings: Any) -> str:
    """What is sent for these credentials."""
    config = BluekingConfig.model_validate({**BASIC, "auth": auth, **settings})
    flow = auth_for(config, lambda: datetime.now(UTC)).auth_flow(httpx.Request("GET", "https://bk.test/?id=1"))
    request = next(flow)
    assert str(request.url) == "https://bk.test/?id=1"
    return request.headers["X-Bkapi-Authorization"]


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        (
            {"app_code": "app", "app_secret": "s", "username": "admin"},
            {"bk_app_code": "app", "bk_app_secret": "s", "bk_username": "admin"},
        ),
        (
            {"app_code": "app", "app_secret": "s", "token": "t"},
            {"bk_app_code": "app", "bk_app_secret": "s", "bk_token": "t"},
        ),
        ({"access_token": "a"}, {"access_token": "a"}),
        ({"app_code": "app", "app_secret": "s", "access_token": "a"}, {"access_token": "a"}),
    ],
)
def test_credentials_stand_in_the_header_as_json(auth: dict[str, str], sent: dict[str, str]) -> None:
    assert json.loads(header_of(auth)) == sent


def test_an_application_alone_is_enough_for_the_gateway() -> None:
    header = header_of({"app_code": "app", "app_secret": "s"}, api="gateway")

    assert json.loads(header) == {"bk_app_code": "app", "bk_app_secret": "s"}


def test_the_header_is_one_line_of_ascii_whatever_the_credentials_hold() -> None:
    header = header_of({"app_code": "应用", "app_secret": 'a"b\nc', "username": "管理员"})

    assert header.isascii()
    assert "\n" not in header
    assert json.loads(header)["bk_app_secret"] == 'a"b\nc'


def test_a_rotated_secret_is_sent_with_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first")
    config = BluekingConfig.model_validate(
        {**BASIC, "auth": {"app_code": "app", "app_secret_file": str(file), "username": "admin"}}
    )
    auth = auth_for(config, lambda: datetime.now(UTC))

    file.write_text("the second")
    request = next(auth.auth_flow(httpx.Request("GET", "https://bk.test/")))

    assert json.loads(request.headers["X-Bkapi-Authorization"])["bk_app_secret"] == "the second"
