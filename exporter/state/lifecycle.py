"""Lifecycle: compares complete lists with tracked alerts: opened, changed, missing, vanished."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import NamedTuple

from exporter.model.alert import Alert

# Consecutive complete polls an open alert must be missing from to have vanished.
PATIENCE = 3
# Time ahead beyond which a start is the vendor's mistake: the alert counts, its age does not.
ABSURD = timedelta(days=1)


class Changes(NamedTuple):
    """The differences between a list and the tracked alerts. `changed` pairs the old and the new alert."""

    opened: list[Alert]
    changed: list[tuple[Alert, Alert]]
    unchanged: int


def changes(tracked: Mapping[str, Alert], listed: Mapping[str, Alert]) -> Changes:
    """Compares the alerts listed as open with those believed open."""
    opened: list[Alert] = []
    changed: list[tuple[Alert, Alert]] = []
    known = tracked.get
    for key, alert in listed.items():
        before = known(key)
        if before is None:
            opened.append(alert)
        elif before != alert:
            changed.append((before, alert))
    return Changes(opened, changed, len(listed) - len(opened) - len(changed))


def missed(times: Mapping[str, int], missing: Collection[str], unsure: Collection[str]) -> dict[str, int]:
    """Returns how many polls in a row, including this one, missed each alert; unsure ones keep their number."""
    return {key: times.get(key, 0) + (key not in unsure) for key in missing}
