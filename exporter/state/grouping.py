"""Under which labels alerts count; at most so many sets, the rest is summed into "other", totals stay exact."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from exporter.model.alert import Alert
from exporter.model.owners import OwnerRule, owner_of, owners_of
from exporter.model.snapshot import Labels

V = TypeVar("V")

OTHER = "other"
# Label sets kept at hand, so that most alerts cost one look-up.
_CACHED = 50_000


class Admission:
    """Decides which label sets of one family have a series of their own.

    Only `extra` labels, the last ones but for an owner `behind` them, are the alerts' own: a set that is not admitted
    keeps the others and takes `other` for these.
    """

    def __init__(self, *, extra: int, limit: int, behind: bool = False) -> None:
        self._extra = extra
        self._behind = int(behind)
        self._limit = limit
        self._admitted: set[Labels] = set()

    def series_of(self, labels: Labels) -> Labels:
        """The label set to count under: this one if it has a place or gets one, else its `other`."""
        if not self._extra or labels in self._admitted:
            return labels
        if len(self._admitted) < self._limit:
            self._admitted.add(labels)
            return labels
        end = len(labels) - self._behind
        return labels[: end - self._extra] + (OTHER,) * self._extra + labels[end:]

    def grouped(self, values: Mapping[Labels, V], combine: Callable[[V, V], V]) -> dict[Labels, V]:
        """A gauge's values by admitted label sets; places of sets that are gone are free again."""
        if not self._extra:
            return dict(values)
        self._admitted.intersection_update(values)
        result: dict[Labels, V] = {}
        for labels, value in values.items():
            series = self.series_of(labels)
            result[series] = combine(result[series], value) if series in result else value
        return result


class Labelling:
    """Says under which labels an alert counts: its severity, the values of `group_by`, and its owner, if any.

    Args:
        source: the name of the source, which may decide about owners.
        group_by: names of the alert's fields that are extra labels.
        rules: say who is responsible for an alert; () where alerts have no owner.
    """

    def __init__(self, source: str, group_by: Sequence[str], rules: Sequence[OwnerRule]) -> None:
        self.owners = owners_of(rules)
        self.group_by = tuple(group_by)
        self._source = {"source": source}
        self._rules = [rule for rule in rules if "source" not in rule.match or rule.match["source"].fullmatch(source)]
        matched = {name for rule in self._rules for name in rule.match if name != "source"}
        self._fields = tuple(dict.fromkeys(("severity", *self.group_by, *sorted(matched))))
        self._values_of: Callable[[Alert], Labels] = (
            attrgetter(*self._fields) if len(self._fields) > 1 else lambda alert: (alert.severity,)
        )
        self._known: dict[Labels, Labels] = {}

    def labels_of(self, alert: Alert) -> Labels:
        """(severity, *group) or (severity, *group, owner)."""
        values = self._values_of(alert)
        labels = self._known.get(values)
        if labels is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            labels = values[: 1 + len(self.group_by)]
            if self.owners:
                labels += (owner_of(dict(zip(self._fields, values, strict=True)) | self._source, self._rules),)
            self._known[values] = labels
        return labels

    def owner_of(self, alert: Alert) -> Labels:
        """(owner,); () where alerts have none."""
        return self.labels_of(alert)[-1:] if self.owners else ()

    def admission(self, limit: int) -> Admission:
        """Admits `limit` label sets of a family; the rest becomes `other`, of the same owner."""
        return Admission(extra=len(self.group_by), behind=bool(self.owners), limit=limit)
