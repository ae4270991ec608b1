"""Values for tests: an_alert(**changes), a_notice(...), a_window(...), a_poll(...)."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from exporter.errors import FetchError
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.reading import Poll, Reading, Window
from exporter.model.records import Channel, Convergence, Notice, Operation
from exporter.state.book import Keeping, SourceBook

Thing = TypeVar("Thing")

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def known(thing: Thing | None) -> Thing:
    """Returns what must be known here, such as a gauge of AlertCounts."""
    assert thing is not None
    return thing


def at(seconds: float) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


def an_alert(key: str = "a", /, **changes: Any) -> Alert:
    return Alert(**{"key": key, "severity": Severity.CRITICAL, "started_at": at(10), **changes})


def an_ended_alert(key: str = "a", /, **changes: Any) -> Alert:
    return an_alert(key, **{"ended_at": at(70), "close_reason": CloseReason.RECOVERED, **changes})


def a_notice(key: str = "n", /, **changes: Any) -> Notice:
    return Notice(**{"key": key, "alert_key": "a", "at": at(15), "channel": Channel.SMS, **changes})


def an_operation(key: str = "o", /, **changes: Any) -> Operation:
    return Operation(**{"key": key, "alert_key": "a", "at": at(15), "operation": "create", **changes})


def a_convergence(key: str = "c", /, **changes: Any) -> Convergence:
    return Convergence(**{"key": key, "alert_key": "a", "at": at(15), **changes})


def a_window(**changes: Any) -> Window:
    return Window(**{"start": at(-600), "end": at(60), "counted_from": START, "first": False, **changes})


def a_poll(*readings: Reading, error: FetchError | None = None, now: float = 60, **changes: Any) -> Poll:
    """A poll that began so many seconds after the start; keywords of a window go into its window."""
    return Poll(
        window=a_window(end=at(now), **changes),
        readings=readings,
        error=error,
        started_at=at(now),
        vendor_now=at(now),
        duration_seconds=1.0,
    )


def a_keeping(**changes: Any) -> Keeping:
    sets = LabelSets(severities=list(Severity)[:5], close_reasons=list(CloseReason))
    return Keeping(
        **{
            "name": "s",
            "vendor": "acme",
            "constant_labels": {},
            "label_sets": sets,
            "resolution": timedelta(milliseconds=1),
            "interval": timedelta(seconds=60),
            "stale_after": timedelta(minutes=5),
            "max_records": 1000,
            **changes,
        }
    )


def a_book(**changes: Any) -> SourceBook:
    return SourceBook(a_keeping(**changes))
