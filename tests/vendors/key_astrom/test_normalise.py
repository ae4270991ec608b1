import random

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ItemRejected
from exporter.model.alert import Alert, Severity
from exporter.model.records import Event
from exporter.vendors.key_astrom.normalise import LEVELS, SEVERITIES, convergences_from, meanings_from, record_from
from exporter.vendors.key_astrom.payload import Event as Row
from exporter.vendors.key_astrom.payload import EventType, Evidence, EvidenceDetails, Problem

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20)
rows = st.builds(
    Row,
    event_id=scalars,
    event_type=scalars | st.sampled_from(sorted(LEVELS)),
    start_time=scalars,
    end_time=scalars,
    status=scalars | st.sampled_from(["OPEN", "CLOSED"]),
    suppress_alert=scalars,
)


def test_the_table_has_the_names_of_both_generations_of_the_api_and_every_level() -> None:
    assert set(LEVELS.values()) == set(SEVERITIES)
    assert LEVELS["OSI_LOW_DISK_SPACE"] == LEVELS["LOW_DISK_SPACE"] == "RESOURCE_CONTENTION"
    assert LEVELS["PGI_OF_SERVICE_UNAVAILABLE"] == "ERROR"
    assert LEVELS["WARNING"] == "INFO"
    assert len(LEVELS) == 144 + 4 + 34


def test_a_type_without_a_name_or_level_changes_nothing() -> None:
    told = [EventType(type=None, severity_level="ERROR"), EventType(type="CUSTOM_ALERT", severity_level=None)]

    assert meanings_from(told, SEVERITIES) == meanings_from((), SEVERITIES)


def test_a_level_in_another_spelling_is_the_same_level() -> None:
    assert meanings_from([EventType(type="X", severity_level="availability")], SEVERITIES)["X"] is Severity.CRITICAL


@given(rows)
def test_any_row_is_an_alert_or_an_event_or_is_rejected(row: Row) -> None:
    try:
        record = record_from(row, meanings_from((), SEVERITIES))
    except ItemRejected:
        return

    assert record.key
    if isinstance(record, Alert):
        assert (record.close_reason is None) or row.status != "OPEN"
        assert record.ended_at is None or record.close_reason is not None
    else:
        assert isinstance(record, Event)
        assert LEVELS[record.event_type] == "INFO"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), unique_by=lambda item: item[0]), st.randoms())
def test_in_any_order_every_event_of_a_problem_but_one_is_a_convergence(
    joined: list[tuple[int, int]], chance: random.Random
) -> None:
    evidence: list[Evidence | None] = [
        Evidence(evidence_type="EVENT", event_id=f"{number}", start_time=1767261600000 + at) for number, at in joined
    ]
    in_order = convergences_from(Problem(problem_id="p", evidence_details=EvidenceDetails(evidence)))
    chance.shuffle(evidence)

    shuffled = convergences_from(Problem(problem_id="p", evidence_details=EvidenceDetails(evidence)))

    assert shuffled == in_order
    assert len(shuffled.items) == max(0, len(joined) - 1)
