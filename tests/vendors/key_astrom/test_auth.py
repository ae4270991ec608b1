from datetime import datetime
from pathlib import Path

import httpx
import pytest

from exporter.errors import SourceRefused
from exporter.vendors.key_astrom import VENDOR
from tests.vendors.key_astrom.reading import BASIC, NOW


def signed(**auth: str) -> httpx.Request:
    config = VENDOR.config.model_validate({**BASIC, "auth": auth})
    request = httpx.Request("GET", "https://astrom.test/api/v2/events")
    return next(VENDOR.auth(config, now).auth_flow(request))


def now() -> datetime:
    return NOW


def test_the_manuals_example_token_goes_into_the_header_as_the_manual_shows_it() -> None:
    request = signed(api_token="dt0c01.abc123.abcdefjhij1234567890")

    assert request.headers["Authorization"] == "Api-Token dt0c01.abc123.abcdefjhij1234567890"
    assert str(request.url) == "https://astrom.test/api/v2/events"


def test_an_old_token_without_the_documented_form_is_sent_as_it_is() -> None:
    assert signed(api_token="abcdefjhij1234567890").headers["Authorization"] == "Api-Token abcdefjhij1234567890"


def test_a_rotated_token_file_is_used_by_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    config = VENDOR.config.model_validate({**BASIC, "auth": {"api_token_file": str(file)}})
    auth = VENDOR.auth(config, now)

    file.write_text("the second\n")

    request = next(auth.auth_flow(httpx.Request("GET", "https://astrom.test/")))
    assert request.headers["Authorization"] == "Api-Token the second"


@pytest.mark.parametrize("token", ["sec\nret", "sécret", "sec\tret\0"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(SourceRefused, match="characters that no HTTP header can carry") as caught:
        signed(api_token=token)

    assert "ret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_refused_token_is_not_sent_again() -> None:
    config = VENDOR.config.model_validate(dict(BASIC))
    flow = VENDOR.auth(config, now).auth_flow(httpx.Request("GET", "https://astrom.test/"))
    next(flow)

    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401))
