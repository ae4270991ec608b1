"""Who is responsible for an alert: the first rule that its values match."""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

# The owner of alerts that no rule matches.
UNOWNED = "unowned"


_Matches = Callable[..., re.Match[str] | None]


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
        self._otherwise = UNOWNED
        self._rules: list[tuple[str, int, _Matches, list[tuple[int, _Matches]]]] = []
        for rule in here:
            conditions = [
                (self.fields.index(name), regex.fullmatch) for name, regex in rule.match.items() if name != "source"
            ]
            if not conditions:  # it takes all that is left
                self._otherwise = rule.owner
                break
            self._rules.append((rule.owner, *conditions[0], conditions[1:]))

    def owner_of(self, values: Sequence[str]) -> str:
        """Returns the owner of an alert whose `fields` have these values: that of the first rule that matches."""
        for owner, place, matches, more in self._rules:  # hundreds of rules are tried for each new name
            if matches(values[place]) and all(matches(values[place]) for place, matches in more):
                return owner
        return self._otherwise
