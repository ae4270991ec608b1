"""Owners: who is responsible for an alert; the first rule that matches it wins (pure)."""

import re
from collections.abc import Mapping, Sequence

import msgspec

UNOWNED = "unowned"


class OwnerRule(msgspec.Struct, frozen=True):
    """Gives the alerts that match to an owner; `match` holds a regular expression for the whole value of each field."""

    owner: str
    match: Mapping[str, str]


class Owners:
    """Finds the owner of each alert of one source.

    Args:
        rules: in the order in which they are tried; their fields are those of an alert, and `source`.
        source: the name of the source.
    """

    def __init__(self, rules: Sequence[OwnerRule], source: str) -> None:
        self.names = tuple(dict.fromkeys([*(rule.owner for rule in rules), UNOWNED])) if rules else ()
        """The values of the label `owner`; () where alerts have none."""
        here = [rule for rule in rules if re.fullmatch(rule.match.get("source", ".*"), source)]
        self.fields = tuple(dict.fromkeys(field for rule in here for field in rule.match if field != "source"))
        """The fields of an alert that decide whose it is."""
        self._rules = [
            (
                rule.owner,
                [
                    (place, re.compile(rule.match[field]))
                    for place, field in enumerate(self.fields)
                    if field in rule.match
                ],
            )
            for rule in here
        ]

    def owner_of(self, values: Sequence[str]) -> str:
        """The owner of an alert whose `fields` have these values."""
        for owner, conditions in self._rules:
            if all(regex.fullmatch(values[place]) for place, regex in conditions):
                return owner
        return UNOWNED
