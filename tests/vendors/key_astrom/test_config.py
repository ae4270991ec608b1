from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.vendors.key_astrom import VENDOR
from exporter.vendors.key_astrom.config import KeyAstromConfig
from tests.vendors.key_astrom.reading import BASIC


def test_the_defaults_are_the_documented_ones() -> None:
    config = KeyAstromConfig.model_validate(dict(BASIC))

    assert config.lookback == timedelta(hours=6)
    assert config.open_window == timedelta(days=30)
    assert (config.event_selector, config.entity_selector, config.problems) == ("", "", False)
    assert VENDOR.lookback(config) == timedelta(hours=6)


@pytest.mark.parametrize(
    ("settings", "where", "why"),
    [
        ({"endpoint": "https://h/e/1/api/v2"}, "endpoint", "must end before /api/v2"),
        ({"endpoint": "https://h/e/1/api/v2/"}, "endpoint", "must end before /api/v2"),
        ({"endpoint": "https://h/e/1/api/v2/events"}, "endpoint", "must end before /api/v2"),
        ({"open_window": 0}, "open_window", "longer than 0 s"),
        ({"event_selector": 'status("OPEN")'}, "event_selector", "must not have a status criterion"),
        ({"event_selector": 'eventType("X"), status ("OPEN")'}, "event_selector", "must not have a status criterion"),
        ({"entity_selector": 'tag("prod")'}, "entity_selector", 'needs type("…") or entityId("…")'),
        ({"entity_selector": 'type("HOST"),' + "x" * 10_000}, "entity_selector", "at most 10000 characters"),
        ({"auth": {}}, "auth.api_token", "Field required"),
        ({"severities": {}}, "severities", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(settings: dict[str, Any], where: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KeyAstromConfig.model_validate({**BASIC, **settings})

    errors = caught.value.errors()
    assert [".".join(map(str, error["loc"])) for error in errors] == [where]
    assert why in errors[0]["msg"]


def test_a_selector_that_only_looks_like_a_status_criterion_is_accepted() -> None:
    config = KeyAstromConfig.model_validate({**BASIC, "event_selector": 'property.status("x"),eventType("A"),'})

    assert config.event_selector == 'property.status("x"),eventType("A")'


@pytest.mark.parametrize("endpoint", ["https://gw.example/api", "https://gw.example/api/v2/astrom"])
def test_a_gateway_may_have_a_path_that_begins_as_the_documented_one(endpoint: str) -> None:
    assert KeyAstromConfig.model_validate({**BASIC, "endpoint": endpoint}).endpoint == endpoint
