import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import Reason, SourceUnreachable
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.facts import Fact
from exporter.model.owners import OwnerRule
from exporter.model.reading import Details, Happened, OpenAlerts, Rejections, Supplied, Truncated
from exporter.model.records import Channel, Event, FailureReason, Kind, Notice, Record, Suppression
from exporter.model.snapshot import AlertCounts, Detailed
from exporter.state.book import SourceBook
from tests.builders import (
    a_book,
    a_convergence,
    a_keeping,
    a_notice,
    a_poll,
    an_alert,
    an_ended_alert,
    an_operation,
    at,
    known,
)

CRITICAL = ("critical",)
FED = frozenset({Fact.OPERATIONS, Fact.NOTICES})
DOWN = SourceUnreachable("no answer", reason=Reason.TIMEOUT)


def counts(book: SourceBook) -> AlertCounts:
    assert book.state.alerts is not None
    return book.state.alerts


def started(book: SourceBook) -> SourceBook:
    """After a first poll that found nothing."""
    book.enter(a_poll(OpenAlerts([]), first=True, now=5))
    return book


def test_what_was_open_before_the_start_shows_in_the_gauge_and_in_no_counter() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(-500))]), first=True))

    assert counts(book).open == {CRITICAL: 1}
    assert counts(book).opened == {}
    assert book.state.records["alert", "baseline"] == 1


def test_what_opened_since_the_start_counts_even_in_the_first_poll() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(3))]), first=True, now=30))

    assert counts(book).opened == {CRITICAL: 1}
    assert counts(book).detection_delay[()].total == 27


def test_the_start_is_compared_in_the_vendors_resolution() -> None:
    book = a_book(resolution=timedelta(seconds=1))

    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(0))]), first=True, counted_from=at(0.9)))

    assert counts(book).opened == {CRITICAL: 1}


def test_an_alert_that_came_into_being_after_the_start_counts_though_its_data_is_older() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(-60), appeared_at=at(1))]), first=True))

    assert counts(book).opened == {CRITICAL: 1}


def test_a_baseline_alert_that_ends_later_counts_as_closed_and_not_as_opened() -> None:
    book = a_book()
    old = {"started_at": at(-500)}

    book.enter(a_poll(OpenAlerts([an_alert(**old)]), first=True))
    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert(**old)]), now=120))

    assert counts(book).opened == {}
    assert counts(book).closed == {("critical", "recovered"): 1}
    assert counts(book).open_duration[CRITICAL].total == 570
    assert counts(book).open == {}


def test_an_alert_that_opened_and_ended_between_two_polls_counts_as_both() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert()])))

    assert counts(book).opened == {CRITICAL: 1}
    assert counts(book).closed == {("critical", "recovered"): 1}


def test_what_ended_before_the_start_is_remembered_and_never_counted() -> None:
    book = a_book()
    past = an_ended_alert(started_at=at(-90), ended_at=at(-30))

    for first in (True, False):
        book.enter(a_poll(OpenAlerts([]), Happened([past]), first=first))

    assert counts(book).closed == {}
    assert counts(book).opened == {}


def test_a_record_that_appears_only_later_counts_however_old_it_is() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert(started_at=at(-9000), ended_at=at(-8000))])))

    assert counts(book).closed == {("critical", "recovered"): 1}


def test_an_alert_in_both_lists_of_one_poll_has_ended() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([an_ended_alert()])))

    assert counts(book).open == {}
    assert counts(book).closed == {("critical", "recovered"): 1}


def test_a_missing_alert_vanishes_with_the_third_complete_poll() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()])))

    seen = []
    for error in (None, None, DOWN, None):
        book.enter(a_poll(*(() if error else (OpenAlerts([]),)), error=error))
        seen.append(dict(known(counts(book).open)))

    assert seen == [{CRITICAL: 1}, {CRITICAL: 1}, {CRITICAL: 1}, {}]
    assert counts(book).closed == {("critical", "vanished"): 1}
    assert counts(book).open_duration == {}


def test_an_alert_that_could_not_be_looked_up_does_not_come_nearer_to_vanishing() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()])))

    for _ in range(9):
        book.enter(a_poll(OpenAlerts([], unsure=frozenset("a"))))

    assert counts(book).open == {CRITICAL: 1}


def test_an_alert_found_again_starts_afresh_before_it_can_vanish() -> None:
    book = started(a_book())

    for listed in ([an_alert()], [], [], [an_alert()], [], []):
        book.enter(a_poll(OpenAlerts(listed)))

    assert counts(book).open == {CRITICAL: 1}


def test_a_closed_alert_open_again_under_the_same_key_opens_again() -> None:
    book = started(a_book())

    for reading in (OpenAlerts([an_alert()]), Happened([an_ended_alert()]), OpenAlerts([an_alert()])):
        book.enter(a_poll(reading))

    assert counts(book).opened == {CRITICAL: 2}
    assert counts(book).open == {CRITICAL: 1}
    assert sum(counts(book).detection_delay[()].counts) == 1  # its first beginning was noticed once


def test_a_changed_severity_moves_the_gauge_and_the_close_takes_the_last() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([an_alert(severity=Severity.WARNING)])))
    book.enter(a_poll(OpenAlerts([an_alert()])))
    moved = dict(known(counts(book).open))
    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert()])))

    assert moved == {CRITICAL: 1}
    assert counts(book).opened == {("warning",): 1}
    assert counts(book).closed == {("critical", "recovered"): 1}


def test_a_failed_poll_changes_no_gauge_and_is_counted_by_its_reason() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()])))

    book.enter(a_poll(error=DOWN))

    assert counts(book).open == {CRITICAL: 1}
    assert not book.state.up
    assert book.state.poll_failures == {Reason.TIMEOUT: 1}
    assert book.state.last_error == str(DOWN)


def test_before_the_first_success_nothing_is_known() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert()]), error=DOWN, first=True))

    assert book.state.alerts is None
    assert book.state.last_success is None


def test_details_that_are_unfinished_make_a_successful_poll_partial() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([]), Details("logs", failed={Reason.TIMEOUT: 1}, waiting=2), first=True))

    assert (book.state.up, book.state.partial_polls, book.state.backlog) == (True, 1, 2)


def test_what_only_details_feed_is_unknown_while_none_of_their_calls_is_answered() -> None:
    book = a_book()
    supplied = Supplied(frozenset({Fact.SUPPRESSED, Fact.OPERATIONS, Fact.NOTICES}))
    facts = []
    for logs, error in (
        (Details("logs", FED, failed={Reason.TIMEOUT: 2}), None),
        (Details("logs", FED, waiting=1), None),
        (Details("logs", FED), DOWN),
        (Details("logs", FED, answered=1, failed={Reason.TIMEOUT: 1}), None),
        (Details("logs", FED, failed={Reason.TIMEOUT: 2}), None),
    ):
        facts.append(book.enter(a_poll(OpenAlerts([]), supplied, logs, error=error)).facts)

    assert facts == [supplied.facts - FED] * 3 + [supplied.facts] * 2


def test_what_only_details_feed_is_nothing_where_a_complete_poll_had_nothing_to_ask() -> None:
    state = a_book().enter(a_poll(OpenAlerts([]), Supplied(FED), Details("logs", FED), first=True))

    assert state.facts == FED


def test_what_two_kinds_of_details_feed_is_known_once_one_of_them_is_answered() -> None:
    denied = Details("actions", FED, failed={Reason.PERMISSION: 1})

    state = a_book().enter(a_poll(OpenAlerts([]), Supplied(FED), denied, Details("logs", FED, answered=1), first=True))

    assert state.facts == FED


@pytest.mark.parametrize("baseline", [True, False])
def test_what_happened_to_a_baseline_alert_before_the_start_does_not_count(baseline: bool) -> None:
    book = a_book()
    alert = an_alert(started_at=at(-500 if baseline else 1))
    happened: list[Record] = [a_notice("before", at=at(-1)), a_notice("after", at=at(0)), a_convergence(at=at(-3))]

    book.enter(a_poll(OpenAlerts([alert]), first=True))
    book.enter(a_poll(Happened(happened), now=120))

    assert counts(book).notices == {("sms",): 1 if baseline else 2}
    assert sum(counts(book).convergences.values()) == (0 if baseline else 1)


def test_a_notice_that_fails_only_later_is_one_notice_and_one_failure() -> None:
    book = started(a_book())
    failed = a_notice(failure=FailureReason.TIMEOUT)

    for notice in (a_notice(), a_notice(), failed, failed):
        book.enter(a_poll(OpenAlerts([an_alert()]), Happened([notice])))

    assert counts(book).notices == {("sms",): 1}
    assert counts(book).notice_failures == {("sms", "timeout"): 1}


def test_a_notice_held_back_is_no_notice() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([a_notice(suppressed=Suppression.SHIELDED)])))

    assert counts(book).notices == {}
    assert counts(book).notices_suppressed == {("shielded",): 1}


def test_a_converge_row_counts_its_anomalies() -> None:
    book = started(a_book())
    rows = [an_operation("1"), an_operation("2", operation="converge", anomalies=50, failed=True)]

    book.enter(a_poll(OpenAlerts([an_alert()]), Happened(rows)))

    assert counts(book).operations == {("create",): 1, ("converge",): 1}
    assert counts(book).operation_failures[("converge",)] == 1
    assert (counts(book).convergences, counts(book).converged_anomalies) == ({(): 1}, {(): 50})


def test_the_delay_of_an_acknowledgement_is_observed_once_and_the_log_row_knows_it_better() -> None:
    book = started(a_book())
    acknowledged = an_alert(acknowledged=True, acknowledged_at=at(55))
    row = an_operation(operation="ack", at=at(40))

    for _ in range(2):
        book.enter(a_poll(OpenAlerts([acknowledged]), Happened([row])))

    delay = counts(book).acknowledge_delay[CRITICAL]
    assert (sum(delay.counts), delay.total) == (1, 30)
    assert counts(book).acknowledged == {CRITICAL: 1}


def test_an_absurd_time_costs_the_age_and_not_the_alert() -> None:
    book = started(a_book())

    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(10**9)), an_alert("b", started_at=None)])))

    assert counts(book).open == {CRITICAL: 2}
    assert counts(book).oldest_open == {}
    assert counts(book).detection_delay == {}


def test_a_rejected_item_is_counted_as_invalid() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([], Rejections({Kind.ALERT: 2}, {Kind.ALERT: "id is missing"})), first=True))

    assert book.state.records["alert", "invalid"] == 2


def test_an_unmapped_value_is_counted_once_per_record() -> None:
    book = a_book()

    for first in (True, False):
        book.enter(a_poll(OpenAlerts([an_alert(unmapped=("severity",))]), first=first))

    assert book.state.unmapped == {"severity": 1}


def test_memory_is_bounded_and_open_alerts_never_leave_it() -> None:
    book = started(a_book(max_records=50))
    open_alerts = [an_alert(str(n)) for n in range(20)]

    for round_ in range(20):
        ended = [an_ended_alert(f"{round_}-{n}", ended_at=at(70 + round_)) for n in range(30)]
        book.enter(a_poll(OpenAlerts(open_alerts), Happened(ended)))

    assert book.state.tracked[Kind.ALERT] == 50
    assert book.state.evicted[Kind.ALERT] == 570
    assert counts(book).open == {CRITICAL: 20}
    assert counts(book).closed == {("critical", "recovered"): 600}


def test_what_was_forgotten_is_not_counted_again_and_what_is_newer_is() -> None:
    book = started(a_book(max_records=10))
    many = [a_notice(f"{n}", at=at(n)) for n in range(30)]
    known = OpenAlerts([an_alert()])

    for _ in range(3):
        book.enter(a_poll(known, Happened(many)))
    book.enter(a_poll(known, Happened([*many, a_notice("new", at=at(31))])))

    assert sum(counts(book).notices.values()) == 31
    assert book.state.evicted[Kind.NOTICE] > 0


@pytest.mark.parametrize("ahead", [0, 3, 10**9])
def test_a_memory_smaller_than_what_is_open_neither_doubles_nor_loses(ahead: float) -> None:
    book = started(a_book(max_records=1))
    open_alerts = OpenAlerts([an_alert(str(n)) for n in range(6)])

    for poll in range(20):
        notices = [a_notice(f"{n}-{n % 6}", alert_key=str(n % 6), at=at(60 + ahead + n)) for n in range(min(poll, 12))]
        book.enter(a_poll(open_alerts, Happened(notices)))

    assert sum(counts(book).notices.values()) == 12
    assert book.state.records_limit == 1


@given(st.lists(st.lists(st.integers(0, 80), max_size=25), max_size=10), st.integers(1, 30))
def test_a_small_memory_never_counts_a_record_twice(polls: list[list[int]], limit: int) -> None:
    """Whatever leaves it, and whether its time is past, just ahead or absurd."""
    book = started(a_book(max_records=limit))
    seconds = [0.0, 59.0, 61.0, 10.0**9, 10.0**10]

    for poll in polls:
        notices = [a_notice(str(n), at=at(seconds[n % 5] + n)) for n in poll]
        book.enter(a_poll(OpenAlerts([an_alert()]), Happened(notices)))

    assert sum(counts(book).notices.values()) <= len({n for poll in polls for n in poll})


def test_a_time_that_is_absurd_makes_nothing_else_look_old() -> None:
    book = started(a_book(max_records=10))

    for second in range(100):
        notices = [a_notice(f"{second}", at=at(second)), a_notice("absurd", at=at(10**9))]
        book.enter(a_poll(OpenAlerts([an_alert()]), Happened(notices[: 1 + (second == 0)]), now=second))

    assert sum(counts(book).notices.values()) == 101


def test_event_types_beyond_the_limit_are_summed() -> None:
    book = started(a_book(group_limit=2))

    book.enter(a_poll(Happened([Event(key=str(n), at=at(1), event_type=f"T{n}") for n in range(5)])))
    book.enter(a_poll())

    assert counts(book).events == {("T0",): 1, ("T1",): 1, ("other",): 3}


def test_grouping_labels_follow_the_labels_of_the_family() -> None:
    book = started(a_book(group_by=("policy", "namespace")))
    placed = {"policy": "p", "namespace": "ns"}

    book.enter(a_poll(OpenAlerts([an_alert("1", **placed)]), Happened([an_ended_alert("2", **placed)])))
    book.enter(a_poll())

    assert counts(book).open == {("critical", "p", "ns"): 1}
    assert counts(book).closed == {("critical", "recovered", "p", "ns"): 1}


def owned(**owners: str) -> tuple[OwnerRule, ...]:
    """Owners by the names of their alerts."""
    return tuple(OwnerRule(owner=owner, match={"name": re.compile(name)}) for owner, name in owners.items())


def test_everything_that_happens_to_an_alert_counts_for_its_owner() -> None:
    book = started(a_book(owners=owned(db="disk.*"), alert_info=True, alert_info_limit=1))
    disk = {"name": "disk full"}

    book.enter(a_poll(OpenAlerts([an_alert(**disk), an_alert("b", started_at=at(11))])))
    book.enter(a_poll(Happened([a_notice(failure=FailureReason.OTHER), a_notice("m", alert_key="b"), a_convergence()])))
    book.enter(a_poll(OpenAlerts([an_alert("b")]), Happened([an_ended_alert(**disk), an_operation()])))
    book.enter(
        a_poll(Happened([a_notice("late", suppressed=Suppression.SHIELDED), a_notice("x", alert_key="never seen")]))
    )
    book.enter(a_poll())

    found = counts(book)
    assert found.open == {("critical", "unowned"): 1}
    assert found.opened == {("critical", "db"): 1, ("critical", "unowned"): 1}
    assert found.closed == {("critical", "recovered", "db"): 1}
    assert found.notices == {("sms", "db"): 1, ("sms", "unowned"): 2}
    assert found.notice_failures == {("sms", "other", "db"): 1}
    assert found.notices_suppressed == {("shielded", "db"): 1}
    assert found.operations == {("create", "db"): 1}
    assert found.convergences == {("db",): 1}
    assert found.open_duration.keys() == {("critical", "db")}
    assert {owner: sum(delays.counts) for owner, delays in found.detection_delay.items()} == {
        ("db",): 1,
        ("unowned",): 1,
    }
    assert [labels[-1] for labels in found.info or ()] == ["unowned"]
    assert book.state.owners == ("db", "unowned")


def test_other_owners_move_the_gauges_and_restart_no_counter() -> None:
    book = started(a_book(owners=owned(db="disk.*")))
    book.enter(a_poll(OpenAlerts([an_alert(name="disk full")])))

    book.keep(a_keeping(owners=owned(storage="disk.*")), at(100))
    book.enter(a_poll(OpenAlerts([an_alert(name="disk full")])))

    assert counts(book).open == {("critical", "storage"): 1}
    assert counts(book).opened == {("critical", "db"): 1}
    assert book.state.owners == ("storage", "unowned")


def test_an_owner_stays_with_what_is_summed_into_other() -> None:
    book = started(a_book(owners=owned(db="disk.*"), group_by=("name",), group_limit=1))

    book.enter(
        a_poll(OpenAlerts([an_alert(str(n), name=name) for n, name in enumerate(["cpu", "disk 1", "disk 2", "net"])]))
    )

    assert counts(book).open == {
        ("critical", "cpu", "unowned"): 1,
        ("critical", "other", "db"): 2,
        ("critical", "other", "unowned"): 1,
    }


@pytest.mark.parametrize("other", [{"group_by": ("name",)}, {"group_limit": 7}, {"constant_labels": {"team": "db"}}])
def test_other_labels_begin_the_counters_again_and_lose_no_memory(other: dict[str, Any]) -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([a_notice(), an_ended_alert("b")])))

    book.keep(a_keeping(**other), at(100))
    begun = book.state
    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([a_notice(), a_notice("m"), an_ended_alert("b")])))
    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert()])))
    book.enter(a_poll())

    assert (begun.polls, begun.up, begun.counts_from) == (0, True, at(100))
    assert begun.alerts is not None
    assert sum((begun.alerts.open or {}).values()) == 1  # nothing that is open goes out of sight
    assert begun.alerts.opened == {}
    found = counts(book)
    assert (sum(found.opened.values()), sum(found.closed.values()), found.notices) == (0, 1, {("sms",): 1})


def test_settings_that_leave_the_labels_alone_let_everything_go_on() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([a_notice()])))

    book.keep(a_keeping(max_records=5, interval=timedelta(hours=1)), at(100))

    assert counts(book).opened == {CRITICAL: 1}
    assert (book.state.polls, book.state.counts_from, book.state.records_limit) == (2, None, 5)
    assert (book.state.interval_seconds, book.state.stale_after_seconds) == (3600, 3 * 3600)


def test_a_new_label_set_is_shown_with_0_before_it_counts() -> None:
    """So that `increase()`, which sees no value but differences, sees the first one."""
    book = started(a_book(group_by=("name",), owners=owned(db="disk.*")))

    seen = []
    polls: list[tuple[list[Alert], list[Record]]] = [
        ([an_alert(name="disk")], [a_notice()]),
        ([an_alert(name="disk")], [an_ended_alert("b", name="cpu"), Event(key="e", at=at(1), event_type="T")]),
        ([], []),
    ]
    for listed, happened in polls:
        book.enter(a_poll(OpenAlerts(listed), Happened(happened), error=None))
        found = counts(book)
        seen.append([dict(found.opened), dict(found.closed), dict(found.notices), dict(found.events)])

    disk, cpu = ("critical", "disk", "db"), ("critical", "cpu", "unowned")
    closed = ("critical", "recovered", "cpu", "unowned")
    assert seen == [
        [{disk: 0}, {}, {("sms", "db"): 0}, {}],
        [{disk: 1, cpu: 0}, {closed: 0}, {("sms", "db"): 1}, {("T",): 0}],
        [{disk: 1, cpu: 1}, {closed: 1}, {("sms", "db"): 1}, {("T",): 1}],
    ]


def test_what_was_counted_at_first_is_shown_at_once() -> None:
    book = a_book(group_by=("name",))

    book.enter(a_poll(OpenAlerts([an_alert(name="disk")]), first=True))

    assert counts(book).opened == {("critical", "disk"): 1}


TOTALS = {Severity.CRITICAL: 7, Severity.INFO: 90_000}


def test_while_a_list_is_truncated_open_is_what_the_vendor_counts_and_the_rest_stays() -> None:
    book = started(a_book(alert_info=True))
    book.enter(a_poll(OpenAlerts([an_alert(acknowledged=True), an_alert("b", started_at=at(20))])))
    before = counts(book)

    for _ in range(5):
        book.enter(a_poll(OpenAlerts([an_alert("c", started_at=at(5))]), Truncated("events", TOTALS)))
    during, state = counts(book), book.state
    book.enter(a_poll(error=DOWN))
    failed, while_down = counts(book), book.state
    book.enter(a_poll(OpenAlerts([an_alert("c")]), Happened([an_ended_alert(), an_ended_alert("b")])))

    assert (state.up, {*state.list_truncated}, state.partial_polls) == (True, {"events"}, 5)
    assert during.open == failed.open == {("critical",): 7, ("info",): 90_000}
    assert state.open_by_severity == while_down.open_by_severity == TOTALS
    assert while_down.list_truncated == {"events"}
    for name in ("acknowledged", "suppressed", "unattended", "oldest_open", "info", "info_omitted"):
        assert getattr(during, name) == getattr(before, name), name
    assert during.opened == {CRITICAL: 3}  # what was read counts, once
    assert during.closed == {}
    assert book.state.list_truncated == frozenset()
    assert (counts(book).open, counts(book).closed) == ({CRITICAL: 1}, {("critical", "recovered"): 2})


def test_a_list_that_is_truncated_from_the_first_makes_no_zeros() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert()]), Truncated("events", TOTALS), first=True))

    assert counts(book).open == {("critical",): 7, ("info",): 90_000}
    assert counts(book).acknowledged is counts(book).unattended is counts(book).oldest_open is None


def test_without_totals_a_truncated_list_leaves_open_as_it_was_known() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()])))

    book.enter(a_poll(OpenAlerts([an_alert("b")]), Truncated("events")))

    assert counts(book).open == {CRITICAL: 1}
    assert book.state.open_by_severity == {Severity.CRITICAL: 1}


def test_what_the_vendor_counts_beyond_the_rows_that_were_read_is_of_unknown_group_and_owner() -> None:
    book = started(a_book(group_by=("name",), owners=owned(db="disk.*")))

    book.enter(a_poll(OpenAlerts([an_alert(name="disk")]), Truncated("events", TOTALS)))

    assert counts(book).open == {
        ("critical", "disk", "db"): 1,
        ("critical", "other", ""): 6,
        ("info", "other", ""): 90_000,
    }


def test_a_person_is_shown_the_most_severe_first_and_of_these_the_oldest() -> None:
    book = a_book(owners=owned(db="disk.*"))
    listed = [an_alert(str(n), severity=Severity.INFO, started_at=at(n)) for n in range(200)]
    listed += [an_alert("new", started_at=at(9)), an_alert("old", name="disk"), an_alert("never", started_at=None)]

    book.enter(a_poll(OpenAlerts(listed), first=True))

    shown = book.state.top_open
    assert [one.alert.key for one in shown[:4]] == ["new", "old", "never", "0"]
    assert [one.owner for one in shown[:2]] == ["unowned", "db"]
    assert len(shown) == 100


def test_failed_detail_calls_are_counted_by_their_reasons() -> None:
    book = started(a_book())
    failed = {Reason.TIMEOUT: 1, Reason.AUTH: 3}

    for readings in ([Details("logs", failed=failed, waiting=2)], [], [Details("logs", answered=2, failed=failed)]):
        book.enter(a_poll(OpenAlerts([]), *readings))

    assert book.state.detail_failures == {("logs", Reason.TIMEOUT): 2, ("logs", Reason.AUTH): 6}
    assert book.state.details == {"logs": Detailed(answered=2, failed=4, waiting=0, reason=Reason.AUTH)}


def test_alert_info_shows_the_most_severe_first_then_the_newest_and_counts_the_rest() -> None:
    book = a_book(alert_info=True, alert_info_limit=2)
    alerts = [
        an_alert("old", started_at=at(1)),
        an_alert("new", started_at=at(2)),
        an_alert("mild", severity=Severity.INFO),
    ]

    book.enter(a_poll(OpenAlerts(alerts), first=True))

    assert counts(book).info is not None
    assert [labels[1] for labels in counts(book).info or ()] == ["new", "old"]
    assert counts(book).info_omitted == {(): 1}


def test_a_snapshot_does_not_change_with_the_next_poll() -> None:
    book = started(a_book())
    book.enter(a_poll(OpenAlerts([an_alert()]), Happened([a_notice()])))
    before = book.state
    seen = (dict(known(counts(book).open)), dict(counts(book).notices), dict(before.records))

    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert(), a_notice("n2")])))

    assert before.alerts is not None
    assert (dict(known(before.alerts.open)), dict(before.alerts.notices), dict(before.records)) == seen


notices = st.builds(
    a_notice,
    st.integers(0, 8).map(str),
    channel=st.sampled_from([Channel.SMS, Channel.EMAIL]),
    failure=st.none() | st.just(FailureReason.OTHER),
)


@given(st.lists(st.lists(notices, max_size=8), max_size=8))
def test_counts_each_notice_once_however_windows_overlap(windows: list[list[Notice]]) -> None:
    book = started(a_book())

    for window in windows:
        book.enter(a_poll(OpenAlerts([an_alert()]), Happened(window)))

    seen = [notice for window in windows for notice in window]
    assert sum(counts(book).notices.values()) == len({notice.key for notice in seen})
    assert sum(counts(book).notice_failures.values()) == len({notice.key for notice in seen if notice.failure})


alerts = st.dictionaries(st.integers(0, 6).map(str), st.booleans(), max_size=6)


@given(st.lists(alerts | st.none(), max_size=15))
def test_what_opened_is_open_or_closed_whatever_lists_say_and_fail(polls: list[dict[str, bool] | None]) -> None:
    """Each poll lists some keys as open (True) or ended (False), or fails; a key that ended may open again."""
    book = started(a_book())

    for listed in polls:
        if listed is None:
            book.enter(a_poll(error=DOWN))
            continue
        open_alerts: list[Alert] = [an_alert(key) for key, is_open in listed.items() if is_open]
        ended: list[Alert] = [an_ended_alert(key) for key, is_open in listed.items() if not is_open]
        book.enter(a_poll(Happened(ended), OpenAlerts(open_alerts)))

    opened, closed = Counter(counts(book).opened).total(), Counter(counts(book).closed).total()
    assert opened - closed == Counter(known(counts(book).open)).total() == len(book.open_alerts)


def test_a_vanished_alert_keeps_its_place_for_the_end_that_comes_late() -> None:
    book = started(a_book())
    for listed in ([an_alert()], [], [], []):
        book.enter(a_poll(OpenAlerts(listed)))

    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert()])))

    assert counts(book).closed == {("critical", str(CloseReason.VANISHED)): 1}


def test_a_key_of_any_length_is_counted_once_and_little_is_kept_of_it() -> None:
    book = a_book()
    alike = ["x" * 1_000_000 + end for end in ("a", "b")]
    notices = [a_notice(key) for key in alike]

    for _ in range(2):
        book.enter(a_poll(Happened(notices)))

    assert book.state.records["notice", "new"] == 2
    assert book.state.records["notice", "duplicate"] == 2
    assert max(len(key) for _, key in book._ledger._marks) < 300
