"""Who is responsible for an alert."""

import re

import pytest

from exporter.model.owners import OwnerRule, Owners


def _rule(owner: str, **match: str) -> OwnerRule:
    return OwnerRule(owner=owner, match={name: re.compile(pattern) for name, pattern in match.items()})


def owner_by(rules: list[OwnerRule], *, source: str = "", **values: str) -> str:
    owners = Owners(rules, source)
    return owners.owner_of([values.get(field, "") for field in owners.fields])


RULES = [
    _rule("database", name="mysql.*|redis", namespace="prod"),
    _rule("web", source="aom-.*"),
    _rule("database", resource_type="rds"),
]


@pytest.mark.parametrize(
    ("values", "owner"),
    [
        ({"name": "mysql-slow", "namespace": "prod", "source": "aom-1"}, "database"),
        ({"name": "mysql-slow", "namespace": "test", "source": "aom-1"}, "web"),
        ({"name": "a redis", "namespace": "prod"}, "unowned"),
        ({"name": "redis-2", "namespace": "prod"}, "unowned"),
        ({"resource_type": "rds"}, "database"),
        ({}, "unowned"),
    ],
)
def test_the_first_rule_whose_patterns_all_match_whole_values_names_the_owner(
    values: dict[str, str], owner: str
) -> None:
    assert owner_by(RULES, **values) == owner


def test_a_value_that_is_not_there_is_the_empty_text() -> None:
    assert owner_by([_rule("nobody", policy="")]) == "nobody"
    assert owner_by([_rule("somebody", policy=".+")]) == "unowned"


def test_every_owner_there_can_be_is_known_once_and_unowned_too() -> None:
    assert Owners(RULES, "s").names == ("database", "web", "unowned")
    assert Owners([], "s").names == ()
