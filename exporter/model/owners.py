"""Who is responsible for an alert: the first rule that its values match."""

import re
from collections.abc import Mapping, Sequence

import msgspec

# The owner of alerts that no rule matches.
UNOWNED = "unowned"


class OwnerRule(msgspec.Struct, frozen=True, kw_only=True):
    """An owner, and the values its alerts have; a pattern matches a whole value, as Prometheus' matchers do.

    `match` has patterns of `name`, `policy`, `resource_type`, `provider`, `namespace` and `source`; all must match.
    """

    owner: str
    match: Mapping[str, re.Pattern[str]]

    def covers(self, values: Mapping[str, str]) -> bool:
        """Whether the alert with these values belongs to this owner; a value that is not there is the empty text."""
        return all(pattern.fullmatch(values.get(name, "")) for name, pattern in self.match.items())


def owner_of(values: Mapping[str, str], rules: Sequence[OwnerRule]) -> str:
    """Returns the owner of an alert with these values: that of the first rule that covers it, else UNOWNED."""
    return next((rule.owner for rule in rules if rule.covers(values)), UNOWNED)


def owners_of(rules: Sequence[OwnerRule]) -> tuple[str, ...]:
    """Returns every owner there can be, in the order of the rules; none where there are no rules."""
    return (*dict.fromkeys([*(rule.owner for rule in rules), UNOWNED]),) if rules else ()
