"""Snapshots of every kind, which all outputs have to show alike."""

import msgspec

from exporter.model.snapshot import LIFE_BUCKETS, AlertCounts, Deliveries, empty_histogram
from tests.exposition.states import MOMENT, a_polled_state, a_snapshot, a_state

GROUPED = AlertCounts(
    open={("critical", "disk"): 2, ("critical", ""): 1}, closed={("warning", "expired", "é" * 200): 3}
)
OWNED = AlertCounts(
    open={("critical", "disk", "db"): 2},
    notices={("sms", "db"): 1},
    convergences={("db",): 3},
    detection_delay={("db",): empty_histogram(LIFE_BUCKETS).observed(5)},
    info=[("critical", "id", "disk", "", "", "", "db")],
    info_omitted={("unowned",): 2},
)
BEYOND = AlertCounts(opened={("critical",): 2**53 + 1}, convergences={(): 2**63}, converged_anomalies={(): 10**4_000})
SNAPSHOTS = {
    "nothing known yet": a_snapshot(a_state()),
    "a bit of everything": a_snapshot(a_polled_state(), a_polled_state(name="other")),
    "grouped": a_snapshot(a_polled_state(alerts=GROUPED), group_by=("name",)),
    "owned": a_snapshot(
        a_polled_state(alerts=OWNED, owners=("db", "unowned"), group_by=("name",)), group_by=("name",), owned=True
    ),
    "stale": a_snapshot(a_polled_state(succeeded=MOMENT - 3600)),
    "constant labels of one": a_snapshot(a_polled_state(constant_labels={"team": "db"}), a_state(name="other")),
    "facts missing": a_snapshot(a_polled_state(facts=frozenset())),
    "rows that become equal": a_snapshot(a_polled_state(unmapped={"x" * 130: 1, "x" * 131: 2, "\ud800": 3})),
    "counts beyond what a float holds": a_snapshot(a_polled_state(alerts=BEYOND)),
    "pushes counted": msgspec.structs.replace(
        a_snapshot(a_polled_state()), deliveries=Deliveries({"metrics": 3}, {"metrics": 1}, {"metrics": 0})
    ),
}
