"""Status: a snapshot for people and scripts, worst first, behind the landing page and /status."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from exporter.errors import Reason
from exporter.exposition.catalogue import is_stale
from exporter.exposition.series import fit
from exporter.model.alert import Severity
from exporter.model.snapshot import OpenAlert, Snapshot, SourceState

# Open alerts listed individually.
MOST_ALERTS = 100

_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class State(StrEnum):
    """The state of a source, worst first. A stale one has failed so long that its alerts are no longer known."""

    STALE = "stale"
    FAILING = "failing"
    WAITING = "waiting"
    UP = "up"


_PLACE = {state: place for place, state in enumerate(State)}


class DetailStatus(msgspec.Struct, frozen=True):
    """The outcome of one endpoint's detail calls."""

    answered: int
    failed: int
    waiting: int
    reason: Reason | None


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One source. `open` is None if unknown, which is not the same as none open."""

    source: str
    vendor: str
    state: State
    reason: Reason | None
    what_to_do: str | None
    last_success: datetime | None
    next_poll: datetime | None
    open: Mapping[Severity, int] | None
    details: Mapping[str, DetailStatus]


class AlertStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One open alert. `link` leads to the vendor's console; None where the vendor documents no such link."""

    source: str
    severity: Severity
    owner: str | None
    name: str
    started_at: datetime | None
    link: str | None = None


class ReloadStatus(msgspec.Struct, frozen=True):
    """The result of the last reload of the configuration."""

    successful: bool
    problems: Sequence[str]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole status: failing sources first; alerts by severity, then age."""

    version: str
    sources: Sequence[SourceStatus]
    alerts: Sequence[AlertStatus]
    alerts_omitted: int
    reload: ReloadStatus


def status_of(snapshot: Snapshot, moment: float, version: str) -> Status:
    """Returns the status as of `moment`, by the event loop's clock, without the alerts of stale sources."""
    states = {state.name: state_of(state, moment) for state in snapshot.sources}
    known = [state for state in snapshot.sources if _is_known(state, states[state.name])]
    listed = sorted(_listed(known), key=lambda one: _order(one[1]))[:MOST_ALERTS]
    return Status(
        version=version,
        sources=[
            _source(state, states[state.name])
            for state in sorted(snapshot.sources, key=lambda state: _PLACE[states[state.name]])
        ],
        alerts=[_alert(source, one) for source, one in listed],
        alerts_omitted=sum(sum(state.open_by_severity.values()) for state in known) - len(listed),
        reload=ReloadStatus(snapshot.reload.successful, snapshot.reload.problems),
    )


def state_of(state: SourceState, moment: float) -> State:
    """Returns the state of a source at this moment."""
    if state.last_poll_seconds is None:
        return State.WAITING
    if is_stale(state, moment):
        return State.STALE
    return State.UP if state.up else State.FAILING


def _is_known(state: SourceState, how: State) -> bool:
    return state.alerts is not None and how is not State.STALE


def _listed(states: Sequence[SourceState]) -> Iterator[tuple[str, OpenAlert]]:
    return ((state.name, one) for state in states for one in state.top_open)


def _order(one: OpenAlert) -> tuple[int, bool, float]:
    started_at = one.alert.started_at
    return _RANK[one.alert.severity], started_at is None, started_at.timestamp() if started_at else 0.0


def _source(state: SourceState, how: State) -> SourceStatus:
    counts = {severity: state.open_by_severity.get(severity, 0) for severity in state.label_sets.severities}
    return SourceStatus(
        source=state.name,
        vendor=state.vendor,
        state=how,
        reason=state.last_reason,
        what_to_do=state.remedies[state.last_reason] if state.last_reason is not None else None,
        last_success=state.last_success,
        next_poll=state.next_poll,
        open=counts | dict(state.open_by_severity) if _is_known(state, how) else None,
        details={
            endpoint: DetailStatus(one.answered, one.failed, one.waiting, one.reason)
            for endpoint, one in state.details.items()
        },
    )


def _alert(source: str, one: OpenAlert) -> AlertStatus:
    alert = one.alert
    return AlertStatus(
        source=source,
        severity=alert.severity,
        owner=fit(one.owner) or None,
        name=fit(alert.name or alert.key),
        started_at=alert.started_at,
    )
