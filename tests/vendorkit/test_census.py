"""The census: whatever lists and look-ups show, only a record that says so or a complete absence ends an alert."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ItemRejected, Reason, SourceUnintelligible
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.reading import Happened, OpenAlerts, Rejections, Truncated
from exporter.model.records import Event, Kind
from exporter.vendorkit.census import Census
from exporter.vendorkit.items import Decoded, Rows
from tests.builders import a_window, an_alert, at

KEYS = "abcdef"


class Row(msgspec.Struct, frozen=True):
    """A vendor's row: `state` is open, ended, event, odd (it cannot be read), or torn (of another shape)."""

    key: str | None
    state: str = "open"
    life: int = 0


def key_from(row: Row) -> str:
    if row.key is None:
        raise ItemRejected("no id")
    return row.key


def record_from(row: Row) -> Alert | Event:
    key = key_from(row)
    match row.state:
        case "open":
            return an_alert(key, started_at=at(row.life))
        case "ended":
            return an_alert(key, started_at=at(row.life), ended_at=at(row.life + 5), close_reason=CloseReason.RECOVERED)
        case "event":
            return Event(key=key, at=None, event_type="")
        case _:
            raise ItemRejected("odd")


def listed(*rows: Row) -> Rows[Row]:
    """As a decoder leaves them: of a row of another shape only what names it is left."""
    torn = [row for row in rows if row.state == "torn"]
    found: Rows[Row] = Rows()
    rejected = Rejections({Kind.ALERT: len(torn)}, {Kind.ALERT: "torn"}) if torn else Rejections()
    found.add(Decoded(None, [row for row in rows if row.state != "torn"], rejected, torn))
    return found


def a_census(known: Sequence[str] = "", life: int = 0, **more: Any) -> Census[Row]:
    window = a_window(open_alerts={key: an_alert(key, name="known", started_at=at(life)) for key in known})
    return Census(window, key_from=key_from, record_from=record_from, **more)


def said(census: Census[Row]) -> tuple[Mapping[str, Alert], set[str], frozenset[str]]:
    """What is open, what happened, and what is unsure."""
    opened, happened, *_ = census.readings()
    assert isinstance(opened, OpenAlerts)
    assert isinstance(happened, Happened)
    assert len({alert.key for alert in opened.alerts}) == len(opened.alerts)
    return {alert.key: alert for alert in opened.alerts}, {record.key for record in happened.records}, opened.unsure


rows = st.builds(
    Row,
    key=st.none() | st.sampled_from(KEYS),
    state=st.sampled_from(["open", "open", "ended", "event", "odd", "torn"]),
    life=st.integers(0, 2),
)


class Seen(msgspec.Struct, frozen=True):
    is_open: bool
    rows: list[Row]
    asked: list[str] | None


seen = st.builds(
    Seen,
    is_open=st.booleans(),
    rows=st.lists(rows, max_size=6),
    asked=st.none() | st.lists(st.sampled_from(KEYS), max_size=3, unique=True),
)


def show(census: Census[Row], all_seen: list[Seen]) -> None:
    for each in all_seen:
        if each.asked is not None:
            census.looked_up(each.asked, listed(*each.rows))
            continue
        try:
            census.saw(listed(*each.rows), is_open=each.is_open)
        except SourceUnintelligible:
            assert each.rows
            assert all(row.key is None for row in each.rows)


def shown(all_seen: list[Seen], *states: str) -> set[str]:
    """The alerts with a row of such a state, in a list or in a look-up of them."""
    return {
        row.key
        for each in all_seen
        for row in each.rows
        if row.key is not None and row.state in states and (each.asked is None or row.key in each.asked)
    }


@given(st.sets(st.sampled_from(KEYS)), st.lists(seen, max_size=4))
def test_an_alert_that_was_known_is_over_only_by_a_record_that_says_so_or_by_complete_absence(
    known: set[str], all_seen: list[Seen]
) -> None:
    census = a_census(sorted(known))
    show(census, all_seen)

    is_open, happened, unsure = said(census)

    has_nameless = any(row.key is None for each in all_seen for row in each.rows)
    asked = {key for each in all_seen for key in each.asked or ()}
    ended, read = shown(all_seen, "ended"), shown(all_seen, "open", "ended", "event")
    gone = known - is_open.keys() - happened - unsure
    assert happened & known <= ended
    assert gone <= asked - read - shown(all_seen, "odd", "torn")
    assert not (gone and has_nameless)
    assert unsure <= known
    assert not unsure & (is_open.keys() | happened)
    assert not is_open.keys() & happened


@given(st.sets(st.sampled_from(KEYS)), st.lists(seen, max_size=4))
def test_a_row_that_cannot_be_read_keeps_its_alert_as_it_was_known(known: set[str], all_seen: list[Seen]) -> None:
    census = a_census(sorted(known))
    show(census, all_seen)

    is_open, _, _ = said(census)

    unread = shown(all_seen, "odd", "torn") - shown(all_seen, "open", "ended", "event")
    open_lists = [each for each in all_seen if each.is_open and each.asked is None]
    assert all(is_open[key].name == "known" for key in unread & known)
    for key in unread - known:
        found = is_open.get(key)
        assert (found is not None) == (key in shown(open_lists, "odd", "torn"))
        assert found is None or (found.severity, found.started_at) == (Severity.UNKNOWN, None)


@given(st.permutations([Row("a"), Row("a", "ended"), Row("a", life=1), Row("a", "ended", life=2)]))
def test_of_two_records_the_one_of_the_higher_rank_counts_in_whatever_order(four: list[Row]) -> None:
    by_life, plain = a_census(rank=lambda _record, row: row.life), a_census()
    for row in four:
        by_life.saw(listed(row), is_open=False)
        plain.saw(listed(row), is_open=False)

    assert [said(census)[:2] for census in (by_life, plain)] == [({}, {"a"})] * 2
    by_life.saw(listed(Row("a", life=3)), is_open=False)
    plain.saw(listed(Row("a", life=3)), is_open=False)
    assert said(by_life)[0].keys() == {"a"}  # it began later than the one that ended
    assert said(plain)[0] == {}


def test_beside_a_row_that_cannot_be_read_the_end_of_an_earlier_life_ends_nothing() -> None:
    census = a_census("a", life=100)
    census.saw(listed(Row("a", "odd")), is_open=True)
    census.saw(listed(Row("a", "ended", life=1)), is_open=False)

    is_open, happened, _ = said(census)

    assert (is_open["a"].name, happened) == ("known", set())


@pytest.mark.parametrize("life", [-10, 10**6])
def test_in_a_list_of_open_alerts_an_end_that_cannot_be_is_not_believed(life: int) -> None:
    def absurd(row: Row) -> Alert:
        return an_alert(row.key or "", ended_at=at(life), close_reason=CloseReason.RECOVERED)

    census = Census(a_window(open_alerts={"a": an_alert("a")}), key_from=key_from, record_from=absurd)
    census.saw(listed(Row("a")), is_open=True)

    assert said(census)[:2] == ({"a": an_alert("a")}, set())


def test_a_row_that_cannot_be_read_and_is_no_alert_opens_none() -> None:
    census = a_census("a", is_other=lambda row: row.life == 1)
    census.saw(listed(Row("a", "odd", 1), Row("b", "odd", 1), Row("c", "torn", 1), Row("d", "odd")), is_open=True)

    assert said(census)[0].keys() == {"a", "d"}


def test_what_is_missing_is_to_be_looked_up_and_what_cannot_be_read_among_the_ended_too() -> None:
    census = a_census("abcd")
    census.saw(listed(Row("a"), Row("b", "odd")), is_open=True)
    census.saw(listed(Row("c", "torn")), is_open=False)

    assert [*census.missing] == ["c", "d"]
    census.looked_up("cd", listed(Row("c", "ended"), Row("e", "ended")))
    is_open, happened, unsure = said(census)
    assert ({*is_open}, happened, {*unsure}) == ({"a", "b"}, {"c"}, set())


@pytest.mark.parametrize(("is_open", "state"), [(True, "odd"), (False, "torn")])
def test_a_list_of_which_no_row_has_a_readable_id_is_no_answer(is_open: bool, state: str) -> None:
    with pytest.raises(SourceUnintelligible):
        a_census("a").saw(listed(Row(None, state), Row(None, state)), is_open=is_open)


def test_a_list_that_was_cut_is_one_in_which_nothing_is_missing() -> None:
    census = a_census("ab")
    census.saw(listed(Row("a"), Row("c")), is_open=True)
    census.cut("alerts", {Severity.CRITICAL: 7})

    assert census.missing == {}
    is_open, _, unsure = said(census)
    assert ({*is_open}, {*unsure}) == ({"a", "c"}, {"b"})
    assert [*census.readings()][2] == Truncated("alerts", {Severity.CRITICAL: 7})


def test_a_list_that_was_cut_and_that_the_vendor_does_not_count_says_nothing() -> None:
    with pytest.raises(SourceUnintelligible) as caught:
        a_census("a").cut("alerts", None)

    assert caught.value.reason is Reason.TRUNCATED


def test_while_the_list_of_what_ended_is_cut_the_open_ones_are_those_listed_and_windows_stay() -> None:
    census = a_census("abc")
    census.saw(listed(Row("a"), Row("d", "odd")), is_open=True)
    census.saw(listed(Row("b", "ended")), is_open=False)
    census.cut_ended("alerts")

    assert [*census.missing] == ["c"]
    is_open, happened, unsure = said(census)
    assert ({*is_open}, happened, {*unsure}) == ({"a", "d"}, {"b"}, {"c"})
    assert [*census.readings()][2] == Truncated("alerts", {Severity.CRITICAL: 1, Severity.UNKNOWN: 1}, moves_on=False)


def test_what_cannot_be_read_is_counted_but_not_in_a_list_that_is_asked_for_some_alone() -> None:
    census = a_census("a")
    three = listed(Row("a", "odd"), Row(None), Row("b", "torn"))
    census.saw(three, is_open=True)
    census.saw(three, is_open=True, wanted=lambda _record: True)
    census.looked_up("a", three)

    [opened, *_] = census.readings()

    assert isinstance(opened, OpenAlerts)
    assert opened.rejected.counts == {Kind.ALERT: 3}
