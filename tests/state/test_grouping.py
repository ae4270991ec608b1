from operator import add

from hypothesis import given
from hypothesis import strategies as st

from exporter.state.grouping import Admission

labels = st.tuples(st.sampled_from(["critical", "info"]), st.text(max_size=3))


@given(st.dictionaries(labels, st.integers(0, 9)), st.integers(1, 5))
def test_totals_stay_exact_and_series_are_bounded_however_many_groups_there_are(
    values: dict[tuple[str, ...], int], limit: int
) -> None:
    grouped = Admission(extra=1, limit=limit).grouped(values, add)

    assert sum(grouped.values()) == sum(values.values())
    assert len([series for series in grouped if series[-1] != "other"]) <= limit
    assert {series[0] for series in grouped} == {series[0] for series in values}


def test_a_label_set_that_is_gone_makes_room_in_a_gauge() -> None:
    admission = Admission(extra=1, limit=1)

    first = admission.grouped({("info", "a"): 1, ("info", "b"): 1}, add)
    second = admission.grouped({("info", "b"): 1}, add)

    assert first == {("info", "a"): 1, ("info", "other"): 1}
    assert second == {("info", "b"): 1}


def test_a_counter_keeps_the_series_of_a_label_set_for_ever() -> None:
    admission = Admission(extra=1, limit=1)

    series = [admission.series_of(("info", name)) for name in ("a", "b", "a", "b")]

    assert series == [("info", "a"), ("info", "other"), ("info", "a"), ("info", "other")]


def test_without_extra_labels_nothing_is_limited() -> None:
    admission = Admission(extra=0, limit=1)

    assert [admission.series_of((str(n),)) for n in range(3)] == [("0",), ("1",), ("2",)]
