from typing import Any

import pytest
from pydantic import ValidationError

from exporter.vendors.huawei_aom import VENDOR
from tests.vendors.huawei_aom.reading import BASIC, PROJECT_ID

AKSK = {"access_key": "AK", "secret_key": "CANARY"}


def errors_of(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        VENDOR.config.model_validate({**BASIC, **changes})
    assert "CANARY" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("auth", "method"),
    [
        (AKSK, "aksk"),
        ({**AKSK, "method": "aksk", "security_token": "T"}, "aksk"),
        ({"method": "token", "token": "T"}, "token"),
        (
            {
                "method": "password",
                "iam_endpoint": "https://iam.test/",
                "domain": "d",
                "username": "u",
                "password": "p",
                "project_name": "cn-north-4",
            },
            "password",
        ),
    ],
)
def test_there_are_three_ways_to_be_let_in_of_which_signing_is_the_usual_one(auth: dict[str, str], method: str) -> None:
    config = VENDOR.config.model_validate({**BASIC, "auth": auth})

    assert config.auth.method == method  # type: ignore[attr-defined]


def test_a_missing_key_is_named_by_its_path() -> None:
    assert "auth.secret_key\n  Field required" in errors_of(auth={"access_key": "AK"})
    assert "auth.domain\n  Field required" in errors_of(auth={"method": "password"})


def test_a_key_of_another_method_says_which_method_it_belongs_to() -> None:
    message = errors_of(auth={"token": "CANARY"})

    assert "token only with `method: token`, and the method is aksk: change it" in message
    assert "password_file only with `method: password`" in errors_of(auth={**AKSK, "password_file": "/x"})


def test_an_unknown_method_is_told_what_there_is() -> None:
    assert "'aksk', 'token', 'password'" in errors_of(auth={**AKSK, "method": "basic"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"endpoint": "https://aom.test/v2"}, "must end before /v2/"),
        ({"endpoint": f"https://aom.test/v2/{PROJECT_ID}"}, "must end before /v2/"),
        ({"endpoint": f"https://aom.test/gateway/v2/{PROJECT_ID}/events/"}, "must end before /v2/"),
        ({"open_window": "32d"}, "between 1m and 31d"),
        ({"open_window": "5s"}, "between 1m and 31d"),
        ({"project_id": "../x"}, "copy it from the console"),
        ({"enterprise_project_id": "a b"}, "copy it from the console"),
        ({"auth": {**AKSK, "access_key": "A, K"}}, "without spaces and commas"),
        ({"auth": {**AKSK, "method": ["aksk"]}}, "auth"),
    ],
)
def test_a_wrong_value_says_what_to_write(changes: dict[str, Any], says: str) -> None:
    assert says in errors_of(**changes)


def test_a_gateway_may_have_a_path_that_begins_as_the_documented_one() -> None:
    config = VENDOR.config.model_validate({**BASIC, "endpoint": "https://gw.example/v2/aom"})

    assert config.endpoint == "https://gw.example/v2/aom"
