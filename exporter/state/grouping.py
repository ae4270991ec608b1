"""Extra labels, at most `limit` label sets; the rest is summed into "other", totals stay exact."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from exporter.model.snapshot import Labels

V = TypeVar("V")

OTHER = "other"


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
