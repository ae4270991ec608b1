"""What scripts are told: /status."""

import json
from datetime import timedelta

import msgspec

from exporter.errors import REMEDIES, Reason
from exporter.exposition.recent import LastHour
from exporter.exposition.status import MOST_ALERTS, status_of
from exporter.model.alert import Severity
from exporter.model.snapshot import Detailed, OpenAlert, ReloadState, Snapshot
from tests.builders import an_alert
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_snapshot, a_state


def told(snapshot: Snapshot) -> object:
    return json.loads(msgspec.json.encode(status_of(snapshot, MOMENT, "1.2.3")))


def test_the_status_of_a_failing_source_has_all_that_was_promised_and_no_text_of_the_vendor() -> None:
    alert = an_alert(name="disk full", title="<b>free text</b>", started_at=NOW - timedelta(hours=1))
    state = a_polled_state(
        up=False,
        last_error="free text of an error",
        last_reason=Reason.AUTH,
        remedies=REMEDIES | {Reason.AUTH: "what this vendor calls a key"},
        top_open=[OpenAlert(alert, "storage")],
        details={"events": Detailed(answered=1, failed=2, waiting=3, reason=Reason.PERMISSION)},
    )
    reload = ReloadState(False, NOW, ["sources.x: wrong"])

    status = told(Snapshot(at=NOW, moment=MOMENT, sources=[state], reload=reload))

    assert status == {
        "version": "1.2.3",
        "sources": [
            {
                "source": "prod",
                "vendor": "acme",
                "state": "failing",
                "reason": "auth",
                "what_to_do": "what this vendor calls a key",
                "last_success": "2026-03-01T11:59:40Z",
                "next_poll": "2026-03-01T12:00:40Z",
                "open": {"critical": 2, "warning": 0},
                "details": {"events": {"answered": 1, "failed": 2, "waiting": 3, "reason": "permission"}},
            }
        ],
        "alerts": [
            {
                "source": "prod",
                "severity": "critical",
                "owner": "storage",
                "name": "disk full",
                "started_at": "2026-03-01T11:00:00Z",
                "link": None,
            }
        ],
        "alerts_omitted": 1,
        "reload": {"successful": False, "problems": ["sources.x: wrong"]},
    }


def test_what_is_not_known_is_null_and_not_zero() -> None:
    status = status_of(a_snapshot(a_state(name="a"), a_polled_state(name="b", succeeded=MOMENT - 1e6)), MOMENT, "1")

    assert [(source.source, source.state, source.open) for source in status.sources] == [
        ("b", "stale", None),
        ("a", "waiting", None),
    ]


def test_alerts_of_all_sources_come_most_severe_and_oldest_first_and_no_more_than_are_readable() -> None:
    def source(name: str, *ages: tuple[Severity, int]) -> object:
        top = [
            OpenAlert(an_alert(name=f"{name}{age}", severity=severity, started_at=NOW - timedelta(minutes=age)))
            for severity, age in ages
        ]
        return a_polled_state(name=name, top_open=top, open_by_severity={Severity.WARNING: 1000})

    critical = source("a", (Severity.CRITICAL, 5), (Severity.WARNING, 90))
    others = source("b", (Severity.CRITICAL, 7), *((Severity.WARNING, age) for age in range(150)))

    status = status_of(a_snapshot(critical, others), MOMENT, "1")  # type: ignore[arg-type]

    assert [alert.name for alert in status.alerts][:4] == ["b7", "a5", "b149", "b148"]
    assert len(status.alerts) == MOST_ALERTS
    assert status.alerts_omitted == 2000 - MOST_ALERTS


def test_the_growth_of_the_last_hour_forgets_what_is_older_and_begins_anew_with_the_counter() -> None:
    last = LastHour()

    grown = [last.grown("a", value, minute * 60.0) for minute, value in ((0, 2), (10, 5), (59, 5), (69, 6), (71, 6))]

    assert grown == [2, 5, 5, 6, 1]
    assert last.grown("a", 1, 72 * 60.0) == 1
    assert last.grown("b", 0, 72 * 60.0) == 0
