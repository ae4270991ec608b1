"""Truth: the true history in the metrics' words, for tests to compare counters with."""

from collections import Counter
from datetime import datetime

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason, Suppression
from exporter.simulation.world import Form, Incident, World, floored


class Truth(msgspec.Struct, kw_only=True):
    """The true values of every counter and gauge of one source.

    `opened` is by the first severity the alert ever had; where severities change before an alert is first seen only
    its total is certain. `operations` are in the vendor's words and filled in by its simulator.
    """

    open: Counter[Severity] = msgspec.field(default_factory=Counter)
    acknowledged: Counter[Severity] = msgspec.field(default_factory=Counter)
    suppressed: Counter[Severity] = msgspec.field(default_factory=Counter)
    opened: Counter[Severity] = msgspec.field(default_factory=Counter)
    closed: Counter[tuple[Severity, CloseReason]] = msgspec.field(default_factory=Counter)
    convergences: int = 0
    converged_anomalies: int = 0
    operations: Counter[str] = msgspec.field(default_factory=Counter)
    operation_failures: Counter[str] = msgspec.field(default_factory=Counter)
    notices: Counter[Channel] = msgspec.field(default_factory=Counter)
    notice_failures: Counter[tuple[Channel, FailureReason]] = msgspec.field(default_factory=Counter)
    notices_suppressed: Counter[Suppression] = msgspec.field(default_factory=Counter)
    events: Counter[str] = msgspec.field(default_factory=Counter)


class Since(msgspec.Struct, frozen=True):
    """The start of counting: `counted_from` is a stamp of the vendor's clock, `first_success` the true time of the
    first successful poll; what became visible only after it counts however old it is.
    """

    counted_from: datetime
    first_success: datetime

    def is_baseline(self, incident: Incident, world: World) -> bool:
        """Returns whether this alert was there before counting began, and seen then."""
        edge = floored(self.counted_from, world.traits.resolution)
        return incident.created < edge and incident.visible <= self.first_success

    def counts(self, at: datetime, incident: Incident, world: World) -> bool:
        """Returns whether something that happened to this alert at a stamp counts."""
        return not self.is_baseline(incident, world) or at >= floored(self.counted_from, world.traits.resolution)


def truth_of(world: World, since: Since) -> Truth:
    """Returns the ledger as of now, of everything the vendor's API has been able to show.

    Assumes the exporter has polled since the last change; what was removed counts as vanished.
    """
    truth = Truth()
    for incident in world.incidents:
        if incident.visible > world.now or _was_never_shown(incident, world):
            continue
        if incident.is_event:
            truth.events["event"] += since.counts(incident.started, incident, world)
            continue
        if not since.is_baseline(incident, world):
            truth.opened[incident.first_severity] += 1
        if incident.ending is None:
            truth.open[incident.severity] += 1
            truth.acknowledged[incident.severity] += incident.acknowledged is not None
            truth.suppressed[incident.severity] += incident.shielded
        elif incident.ended is not None and since.counts(incident.ended, incident, world):
            truth.closed[incident.severity, incident.ending] += 1
        told = [at for at in incident.anomalies if since.counts(at, incident, world)]
        truth.convergences += len(told)
        truth.converged_anomalies += len(told)
        for tell in incident.tells:
            if (
                tell.settles > world.now
                or tell.form in {Form.IDLE, Form.JOB}
                or not since.counts(tell.at, incident, world)
            ):
                continue
            if tell.suppression is not None:
                truth.notices_suppressed[tell.suppression] += 1
                continue
            truth.notices[tell.channel] += 1
            if tell.failure is not None:
                truth.notice_failures[tell.channel, tell.failure[0]] += 1
    return truth


def _was_never_shown(incident: Incident, world: World) -> bool:
    """Returns whether an alert was removed before its late row came to be shown."""
    return incident.removed and incident.ended is not None and incident.ended - world.skew <= incident.visible
