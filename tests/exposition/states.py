"""Source states and snapshots to show."""

from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.errors import Reason
from exporter.model.alert import CloseReason, Severity
from exporter.model.facts import Fact, LabelSets
from exporter.model.records import Channel, FailureReason, Kind, Suppression
from exporter.model.snapshot import (
    LIFE_BUCKETS,
    REQUEST_BUCKETS,
    AlertCounts,
    Detailed,
    ReloadState,
    Snapshot,
    SourceState,
    empty_histogram,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# NOW by the monotonic clock, in seconds.
MOMENT = 5000.0

LABEL_SETS = LabelSets(
    severities=(Severity.CRITICAL, Severity.WARNING),
    close_reasons=(CloseReason.RECOVERED, CloseReason.VANISHED),
    operations=("create", "converge", "other"),
    channels=(Channel.EMAIL, Channel.PHONE),
    failure_reasons=(FailureReason.TIMEOUT, FailureReason.OTHER),
    suppressions=(Suppression.CONVERGED,),
    event_types=("event",),
    unmapped=("severity", "state"),
    lists=("events",),
)


def a_state(**changes: Any) -> SourceState:
    """A source before its first poll, able to supply everything."""
    given: dict[str, Any] = {
        "name": "prod",
        "vendor": "acme",
        "constant_labels": {},
        "label_sets": LABEL_SETS,
        "facts": frozenset(Fact),
        "interval_seconds": 60.0,
        "stale_after_seconds": 300.0,
    }
    return SourceState(**given | changes)


def a_polled_state(**changes: Any) -> SourceState:
    """A source that has met a bit of everything."""
    alerts = AlertCounts(
        open={("critical",): 2},
        acknowledged={("critical",): 1},
        unattended={("critical",): 1},
        oldest_open={("critical",): NOW - timedelta(hours=3)},
        opened={("critical",): 5, ("warning",): 1},
        closed={("critical", "recovered"): 3},
        open_duration={("critical",): empty_histogram(LIFE_BUCKETS).observed(90).observed(10**7)},
        operations={("create",): 5},
        detection_delay={(): empty_histogram(LIFE_BUCKETS).observed(20)},
        convergences={(): 4},
        converged_anomalies={(): 40},
        notices={("email",): 7},
        notice_failures={("email", "timeout"): 2},
        info=[("critical", "id-1", "disk full", "disks", "host", "2")],
        info_omitted={(): 1},
    )
    given: dict[str, Any] = {
        "alerts": alerts,
        "open_by_severity": {Severity.CRITICAL: 2},
        "up": True,
        "last_success": NOW - timedelta(seconds=20),
        "succeeded": MOMENT - 20,
        "last_poll_seconds": 1.5,
        "next_poll": NOW + timedelta(seconds=40),
        "polls": 9,
        "poll_failures": {Reason.TIMEOUT: 1},
        "requests": {("events", "200"): 18, ("events", "error"): 1},
        "request_seconds": {"events": empty_histogram(REQUEST_BUCKETS).observed(0.2)},
        "records": {("alert", "new"): 6},
        "tracked": {Kind.ALERT: 6},
        "unmapped": {"severity": 1},
        "details": {"logs": Detailed(answered=3, failed=1, reason=Reason.TIMEOUT)},
        "detail_failures": {("logs", Reason.TIMEOUT): 2},
        "clock_offset_seconds": -0.25,
    }
    return a_state(**given | changes)


def a_snapshot(*sources: SourceState, **more: Any) -> Snapshot:
    reload = ReloadState(successful=True, succeeded_at=NOW)
    return Snapshot(**{"at": NOW, "moment": MOMENT, "sources": sources, "reload": reload, **more})
