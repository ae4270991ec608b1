"""Grouping: the label sets alerts are counted under; those over the limit are summed into "other"."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from exporter.model.alert import Alert
from exporter.model.owners import OwnerRule, Owners
from exporter.model.snapshot import Labels

V = TypeVar("V")

OTHER = "other"
# Distinct alerts whose labels are cached.
_CACHED = 50_000


class Admission:
    """Decides which label sets of one family get their own series.

    Only the `extra` labels, the last ones but for an owner `behind` them, come from alerts: a set that is not admitted
    has `other` for these and keeps the rest.
    """

    def __init__(self, *, extra: int, limit: int, behind: bool = False) -> None:
        self._extra = extra
        self._behind = int(behind)
        self._limit = limit
        self._admitted: set[Labels] = set()

    def series_of(self, labels: Labels) -> Labels:
        """Returns the label set to count under: this one if admitted, else its `other`."""
        if not self._extra or labels in self._admitted:
            return labels
        if len(self._admitted) < self._limit:
            self._admitted.add(labels)
            return labels
        end = len(labels) - self._behind
        return labels[: end - self._extra] + (OTHER,) * self._extra + labels[end:]

    def grouped(self, values: Mapping[Labels, V], combine: Callable[[V, V], V]) -> dict[Labels, V]:
        """Returns a gauge's values by admitted label sets, and frees the places of sets that are gone."""
        if not self._extra:
            return dict(values)
        self._admitted.intersection_update(values)
        result: dict[Labels, V] = {}
        for labels, value in values.items():
            series = self.series_of(labels)
            result[series] = combine(result[series], value) if series in result else value
        return result


class Labelling:
    """Finds the labels an alert is counted under: its severity, the values of `group_by`, and its owner, if any.

    Args:
        source: the name of the source, which owner rules may match.
        group_by: names of the alert's fields that are extra labels.
        rules: the owner rules; () where alerts have no owner.
    """

    def __init__(self, source: str, group_by: Sequence[str], rules: Sequence[OwnerRule]) -> None:
        self._owners = Owners(rules, source)
        self.owners = self._owners.names
        self.group_by = tuple(group_by)
        self._own = 1 + len(self.group_by)
        self._values_of = _values_of(("severity", *self.group_by, *self._owners.fields))
        self._known: dict[Labels, Labels] = {}
        self._found: dict[Labels, str] = {}
        self.labels_of: Callable[[Alert], Labels] = self._labels_of if self.owners else self._values_of
        """(severity, *group) or (severity, *group, owner) of an alert."""

    def _labels_of(self, alert: Alert) -> Labels:
        values = self._values_of(alert)
        labels = self._known.get(values)
        if labels is None:
            labels = self._known[values] = (*values[: self._own], self._owner_of(values[self._own :]))
        return labels

    def _owner_of(self, values: Labels) -> str:
        if len(self._known) >= _CACHED:
            self._known.clear()
            self._found.clear()
        owner = self._found.get(values)
        if owner is None:
            owner = self._found[values] = self._owners.owner_of(values)
        return owner

    def owner_of(self, alert: Alert) -> Labels:
        """Returns (owner,); () where alerts have none."""
        return self.labels_of(alert)[-1:] if self.owners else ()

    def admission(self, limit: int) -> Admission:
        """Returns an Admission for `limit` label sets of a family; the rest becomes `other`, of the same owner."""
        return Admission(extra=len(self.group_by), behind=bool(self.owners), limit=limit)


def _values_of(names: Sequence[str]) -> Callable[[Alert], Labels]:
    """Returns a function that reads these fields of an alert, `severity` first, as a tuple."""
    return attrgetter(*names) if len(names) > 1 else lambda alert: (alert.severity,)
