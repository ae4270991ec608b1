"""What a complete list does to the alerts we track: opened, changed, missing, vanished."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import NamedTuple

from exporter.model.alert import Alert

# Complete polls in a row that an open alert is missing from before it has vanished.
PATIENCE = 3
# A time further ahead than this is a mistake of the vendor's: the alert counts, its age does not.
ABSURD = timedelta(days=1)


class Changes(NamedTuple):
    """What a list says against what we track. `changed` pairs the alert as it was and as it is."""

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
    """How often in a row each missing alert was missed, this poll included; those unsure of keep their number."""
    return {key: times.get(key, 0) + (key not in unsure) for key in missing}
