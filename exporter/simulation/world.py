"""World: a simulated history from a seed. Alerts open, change, cause notices and end, the same way every time."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason, Suppression


class Form(StrEnum):
    """Kinds of attempts to tell a person, and of other actions on an alert."""

    NOTICE = "notice"
    SUMMARY = "summary"  # one message in place of notices that were folded
    IDLE = "idle"  # a summary that found nothing folded: nothing is sent
    NOBODY = "nobody"  # a notice that names no receiver
    JOB = "job"  # an action that tells nobody


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """The behaviour of a vendor's alerts. `failures` are texts as the vendor words them, with the reason they mean;
    where `backdates` is set, an alert of late data may have ended before the vendor learns of it.
    """

    severities: Sequence[Severity]
    endings: Sequence[CloseReason]
    resolution: timedelta
    channels: Sequence[Channel] = ()
    failures: Sequence[tuple[FailureReason, str]] = ()
    suppressions: Sequence[Suppression] = ()
    acknowledges: bool = False
    shields: bool = False
    changes_severity: bool = False
    converges: bool = False
    has_events: bool = False
    forms: frozenset[Form] = frozenset({Form.NOTICE})
    backdates: bool = False


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast things happen, as means in seconds at speed 1, and how often, as shares."""

    between_alerts: float = 8.0
    life: float = 240.0
    between_anomalies: float = 45.0
    result_delay: float = 10.0
    late_by: float = 90.0
    late: float = 0.1
    acknowledged: float = 0.3
    shielded: float = 0.1
    severity_changed: float = 0.15
    failed: float = 0.15
    held_back: float = 0.1
    events: float = 0.15
    removed: float = 0.0
    nobody: float = 0.05
    jobs: float = 0.2
    backdated: float = 0.04


class Tell(msgspec.Struct, kw_only=True):
    """One attempt to tell a person. The result shows at the vendor from `settles` on, in true time.

    `at` and `ended` are stamps of the vendor's clock, as it was set when the attempt began.
    """

    number: int
    form: Form = Form.NOTICE
    at: datetime
    ended: datetime
    settles: datetime
    channel: Channel
    failure: tuple[FailureReason, str] | None = None
    suppression: Suppression | None = None
    recovery: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One line of an incident's history: created, anomaly, notified, action, acknowledged, severity, recovered …"""

    at: datetime
    what: str


class Incident(msgspec.Struct, kw_only=True):
    """One alert, or with `is_event` something that only happened.

    Times are stamps of the vendor's clock; `visible` is the true time from which the vendor's API shows it. `created`
    is when the vendor made the record, which is later than `started` where its data came late.
    """

    number: int
    severity: Severity
    first_severity: Severity
    rule: str
    policy: str
    resource_type: str
    resource: str
    provider: str
    namespace: str
    started: datetime
    created: datetime
    visible: datetime
    updated: datetime
    is_event: bool = False
    ended: datetime | None = None
    ending: CloseReason | None = None
    acknowledged: datetime | None = None
    shielded: bool = False
    removed: bool = False
    anomalies: list[datetime] = []
    tells: list[Tell] = []
    history: list[Entry] = []


_RULES = (
    ("disk almost full", "HOST", "os"),
    ("cpu saturated", "HOST", "os"),
    ("pod restarts", "POD", "kubernetes"),
    ("http 5xx rate", "SERVICE", "apm"),
    ("latency above target", "SERVICE", "apm"),
    ("replication lag", "DATABASE", "db"),
    ("queue backlog", "QUEUE", "middleware"),
    ("certificate expires", "ENDPOINT", "synthetic"),
    ("port down", "HOST", "network"),
    ("log pattern found", "LOGSTORE", "logs"),
)
_NAMESPACES = ("prod", "staging", "payments")
_EVENT_RULES = ("deployment finished", "process restarted", "node added")


class World:
    """The true history of one vendor account, up to the time it was advanced to.

    Args:
        traits: what this vendor's alerts can do.
        seed: two worlds of one seed, start and pace are equal.
        start: true time of the beginning.
        speed: divides all spans of time; the clock itself runs as it does.
        quiet: nothing happens by itself; a test drives it.
    """

    def __init__(
        self,
        traits: Traits,
        *,
        seed: int,
        start: datetime,
        pace: Pace | None = None,
        speed: float = 1.0,
        quiet: bool = False,
    ) -> None:
        self.traits = traits
        self.start = start
        self.now = start
        self.skew = timedelta(0)
        self.incidents: list[Incident] = []
        self._pace = pace or Pace()
        self._speed = speed
        self._random = random.Random(seed)  # noqa: S311 a scenario, not a secret
        self._agenda: list[tuple[datetime, int, Callable[[], None]]] = []
        self._count = 0
        self._tells = 0
        self._planned = 0
        if not quiet:
            self.begin()

    def stamp(self) -> datetime:
        """Returns what the vendor's clock shows now, in the vendor's resolution."""
        return floored(self.now + self.skew, self.traits.resolution)

    def advance(self, now: datetime) -> None:
        """Advances to `now`: runs everything due by then, in order."""
        while self._agenda and self._agenda[0][0] <= now:
            at, _, act = heappop(self._agenda)
            self.now = max(self.now, at)
            act()
        self.now = max(self.now, now)

    def begin(self, pace: Pace | None = None) -> None:
        """Starts the scenario, at a new pace if given."""
        self._pace = pace or self._pace
        self._plan(self._span(self._pace.between_alerts), self._next_alert)

    def rest(self) -> None:
        """Stops the scenario."""
        self._agenda.clear()

    def forget(self, before: datetime) -> None:
        """Drops what ended before a stamp, as a vendor does with old records."""
        self.incidents = [each for each in self.incidents if each.ended is None or each.ended >= before]

    def visible(self) -> list[Incident]:
        """Returns what the vendor's API can show now: begun, not late any more, not removed."""
        return [incident for incident in self.incidents if incident.visible <= self.now and not incident.removed]

    # Actions. Tests call these; the scenario below does too.

    def open(self, *, late_by: float = 0.0, is_event: bool = False, severity: Severity | None = None) -> Incident:
        """Opens an alert now, or records an event."""
        chosen = self._random
        level = severity or chosen.choices(self.traits.severities, weights=range(1, len(self.traits.severities) + 1))[0]
        rule, resource_type, provider = chosen.choice(_RULES)
        stamp = self.stamp()
        self._count += 1
        incident = Incident(
            number=self._count,
            severity=level,
            first_severity=level,
            rule=chosen.choice(_EVENT_RULES) if is_event else rule,
            policy=f"{rule} policy",
            resource_type=resource_type,
            resource=f"{resource_type.lower()}-{chosen.randrange(40):02d}",
            provider=provider,
            namespace=chosen.choice(_NAMESPACES),
            started=stamp,
            created=stamp,
            visible=self.now + timedelta(seconds=late_by),
            updated=stamp,
            is_event=is_event,
            ended=stamp if is_event else None,
        )
        incident.history.append(Entry(stamp, "created"))
        self.incidents.append(incident)
        return incident

    def open_backdated(self, *, began: float, lasted: float, ending: CloseReason) -> Incident:
        """Opens an alert of late data: it began and ended some time ago, and the vendor learns of both only now."""
        incident = self.open()
        incident.started -= timedelta(seconds=began)
        incident.history[:] = [Entry(incident.created, "created")]
        self.end(incident, ending)
        incident.ended = incident.started + timedelta(seconds=lasted)
        return incident

    def converge(self, incident: Incident) -> None:
        """Folds a further anomaly into an open alert."""
        if incident.ending is None:
            incident.anomalies.append(self._note(incident, "anomaly"))

    def acknowledge(self, incident: Incident) -> None:
        """Acknowledges an open alert, once."""
        if incident.ending is None and incident.acknowledged is None:
            incident.acknowledged = self._note(incident, "acknowledged")

    def shield(self, incident: Incident, *, on: bool) -> None:
        """Shields an open alert, or ends that."""
        if incident.ending is None:
            incident.shielded = on
            self._note(incident, "shielded" if on else "unshielded")

    def change_severity(self, incident: Incident, severity: Severity) -> None:
        """Makes an open alert more or less severe."""
        if incident.ending is None and severity is not incident.severity:
            incident.severity = severity
            self._note(incident, "severity")

    def tell(
        self,
        incident: Incident,
        channel: Channel,
        *,
        failure: tuple[FailureReason, str] | None = None,
        suppression: Suppression | None = None,
        settles_after: float = 0.0,
        form: Form = Form.NOTICE,
    ) -> Tell:
        """Attempts to tell a person, or holds the notice back; the alert's own record does not change."""
        self._tells += 1
        told = Tell(
            number=self._tells,
            form=form,
            at=self.stamp(),
            ended=floored(self.now + self.skew + timedelta(seconds=settles_after), self.traits.resolution),
            settles=self.now + timedelta(seconds=settles_after),
            channel=channel,
            failure=failure,
            suppression=suppression,
            recovery=incident.ending is not None,
        )
        incident.tells.append(told)
        incident.history.append(Entry(told.at, "notified"))
        return told

    def act(self, incident: Incident) -> None:
        """Writes into an alert's history, and leaves the alert's own record as it is."""
        incident.history.append(Entry(self.stamp(), "action"))

    def end(self, incident: Incident, ending: CloseReason) -> None:
        """Ends an open alert; a removed one is never seen again."""
        if incident.ending is not None:
            return
        incident.ending = ending
        incident.ended = self._note(incident, "recovered" if ending is CloseReason.RECOVERED else "closed")
        incident.removed = ending is CloseReason.VANISHED

    def reopen(self, incident: Incident) -> None:
        """Reopens an ended alert under the same identity."""
        incident.ending = incident.ended = None
        self._note(incident, "created")

    def _note(self, incident: Incident, what: str) -> datetime:
        stamp = self.stamp()
        incident.updated = stamp
        incident.history.append(Entry(stamp, what))
        return stamp

    # The scenario: how one alert leads to the next thing.

    def _span(self, mean: float) -> timedelta:
        return timedelta(seconds=max(0.05, self._random.expovariate(1 / mean)) / self._speed)

    def _plan(self, after: timedelta, act: Callable[[], None]) -> None:
        self._planned += 1
        heappush(self._agenda, (self.now + after, self._planned, act))

    def _next_alert(self) -> None:
        pace, chance, traits = self._pace, self._random.random, self.traits
        self._plan(self._span(pace.between_alerts), self._next_alert)
        late_by = self._random.uniform(0, pace.late_by) / self._speed if chance() < pace.late else 0.0
        if traits.has_events and chance() < pace.events:
            self.open(late_by=late_by, is_event=True)
            return
        if traits.backdates and chance() < pace.backdated:
            began = self._random.uniform(900, 2400) / self._speed
            self.open_backdated(began=began, lasted=began * chance(), ending=self._random.choice(traits.endings))
            return
        incident = self.open(late_by=late_by)
        life = self._span(pace.life)
        gone = chance() < pace.removed
        self._plan(life, lambda: self._end(incident, gone=gone))
        self._plan(self._span(4.0), lambda: self._tell(incident))
        if traits.converges:
            self._plan(self._span(pace.between_anomalies), lambda: self._anomaly(incident))
        if traits.acknowledges and chance() < pace.acknowledged:
            self._plan(life * chance(), lambda: self.acknowledge(incident))
        if traits.shields and chance() < pace.shielded:
            self._plan(life * chance(), lambda: self.shield(incident, on=True))
        if traits.changes_severity and chance() < pace.severity_changed:
            other = self._random.choice(traits.severities)
            self._plan(life * chance(), lambda: self.change_severity(incident, other))

    def _anomaly(self, incident: Incident) -> None:
        if incident.ending is None:
            self.converge(incident)
            self._plan(self._span(self._pace.between_anomalies), lambda: self._anomaly(incident))

    def _tell(self, incident: Incident) -> None:
        forms = self.traits.forms
        if Form.JOB in forms:
            self._work(incident)
        if not self.traits.channels:
            return
        if Form.NOBODY in forms and self._random.random() < self._pace.nobody:
            self.tell(incident, Channel.UNKNOWN, form=Form.NOBODY, failure=(FailureReason.NO_RECEIVER, ""))
            return
        folded: list[Channel] = []
        for channel in self._random.sample(self.traits.channels, k=min(2, len(self.traits.channels))):
            roll = self._random.random()
            failure = suppression = None
            if roll < self._pace.failed and self.traits.failures:
                failure = self._random.choice(self.traits.failures)
            elif roll < self._pace.failed + self._pace.held_back and self.traits.suppressions:
                suppression = self._random.choice(self.traits.suppressions)
            settles_after = self._random.uniform(0, self._pace.result_delay) / self._speed
            self.tell(incident, channel, failure=failure, suppression=suppression, settles_after=settles_after)
            if suppression is Suppression.CONVERGED:
                folded.append(channel)
        if Form.SUMMARY in forms:
            self._plan(timedelta(seconds=60) / self._speed, lambda: self._sum_up(incident, folded))

    def _sum_up(self, incident: Incident, folded: Sequence[Channel]) -> None:
        """Sends one message for the notices folded in the last minute; without any, a summary that is not sent."""
        roll = self._random.random()
        failure = self._random.choice(self.traits.failures) if roll < self._pace.failed else None
        blocked = Suppression.BLOCKED if roll > 1 - self._pace.held_back else None
        form = Form.SUMMARY if folded else Form.IDLE
        for channel in folded or self.traits.channels[:1]:
            self.tell(incident, channel, failure=failure, suppression=blocked, form=form)

    def _work(self, incident: Incident) -> None:
        """Plans an action on an alert within three minutes that tells nobody."""
        chance, pace, speed = self._random.random, self._pace, self._speed
        if chance() < pace.jobs:
            self._plan(timedelta(seconds=60 * chance() / speed), lambda: self._run_job(incident, 120 * chance()))
        if chance() < pace.jobs:
            self._plan(timedelta(seconds=180 * chance() / speed), lambda: self.act(incident))

    def _run_job(self, incident: Incident, lasts: float) -> None:
        self.tell(incident, Channel.UNKNOWN, form=Form.JOB, settles_after=lasts / self._speed)

    def _end(self, incident: Incident, *, gone: bool) -> None:
        self.end(incident, CloseReason.VANISHED if gone else self._random.choice(self.traits.endings))
        if not gone:
            self._tell(incident)


def floored(moment: datetime, resolution: timedelta) -> datetime:
    """Returns a moment in a resolution: whole milliseconds, whole seconds."""
    past = timedelta(microseconds=moment.microsecond)
    return moment - past % resolution
