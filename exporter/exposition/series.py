"""The series of a family as every output shows them: labels and values any receiver accepts, no two rows alike."""

import sys
from collections.abc import Iterable
from typing import Any

from exporter.exposition.catalogue import Family, Sample, Value
from exporter.model.snapshot import Labels, Snapshot
from exporter.model.text import HIDDEN

LONGEST_VALUE = 128
# Largest exact integer: receivers store numbers as 64-bit floats.
_EXACT = 2**53


def fit(value: str) -> str:
    """Returns a label value any receiver accepts: bounded, and valid Unicode."""
    return value[:LONGEST_VALUE] if value.isprintable() else HIDDEN.sub("\ufffd", value[:LONGEST_VALUE])


def constant_names(snapshot: Snapshot) -> Labels:
    """Returns the names of the constant labels of all sources."""
    return tuple(sorted({name for state in snapshot.sources for name in state.constant_labels}))


def extra_names(family: Family[Any], snapshot: Snapshot) -> Labels:
    """Returns the names of the labels after the family's own and the constant ones."""
    return (*(snapshot.group_by if family.grouped else ()), *(("owner",) if family.owned and snapshot.owned else ()))


def rows_of(family: Family[Any], samples: Iterable[Sample], names: Labels) -> dict[Labels, Value]:
    """Returns the family's rows by the values of `names`, its own and the extra labels; no two are equal."""
    rows: dict[Labels, Value] = {}
    for labels, value in samples:
        values = (*map(fit, labels), *("",) * (len(names) - len(labels)))
        rows[values] = family.merge(rows[values], value) if values in rows else value
    return {values: _readable(value) for values, value in rows.items()}


def _readable(value: Value) -> Value:
    """Returns the value as any receiver can read it: an integer beyond _EXACT becomes a float."""
    if not isinstance(value, int) or -_EXACT <= value <= _EXACT:
        return value
    return float(max(-sys.float_info.max, min(value, sys.float_info.max)))
