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


class Owners:
    """Finds the owners of the alerts of one source.

    Args:
        rules: in the order in which they are tried.
        source: the name of the source.
    """

    def __init__(self, rules: Sequence[OwnerRule], source: str) -> None:
        self.names = (*dict.fromkeys([*(rule.owner for rule in rules), UNOWNED]),) if rules else ()
        """Every owner there can be, in the order of the rules; none where there are no rules."""
        here = [rule for rule in rules if "source" not in rule.match or rule.match["source"].fullmatch(source)]
        self.fields = sorted({field for rule in here for field in rule.match} - {"source"})
        """The fields of an alert that decide."""
        places = {field: place for place, field in enumerate(self.fields)}
        self._rules = [
            (rule.owner, [(places[field], regex.fullmatch) for field, regex in rule.match.items() if field != "source"])
            for rule in here
        ]

    def owner_of(self, values: Sequence[str]) -> str:
        """Returns the owner of an alert whose `fields` have these values: that of the first rule that matches."""
        for owner, conditions in self._rules:  # plain loops: hundreds of rules are tried for each new name
            for place, matches in conditions:
                if matches(values[place]) is None:
                    break
            else:
                return owner
        return UNOWNED
