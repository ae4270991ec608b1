from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ItemRejected
from exporter.model.facts import LabelSets
from exporter.vendors.blueking.config import BluekingConfig
from exporter.vendors.blueking.normalise import LABELS, alert_reader, notice_from_row, notices_from, operation_from
from exporter.vendors.blueking.payload import ActionRow, AlertRow, FlowRow
from tests.vendors.blueking.reading import BASIC

ZONE = ZoneInfo("Asia/Shanghai")
alert_from = alert_reader(BluekingConfig.model_validate(BASIC))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1", "2", "notice"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=4
)


def rows_like(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(kind.__struct_fields__, values))


def a_row(**changes: Any) -> FlowRow:
    row = {"operate": "CONVERGE", "status": "SUCCESS", "message": "m", "create_time": "2024-06-10 15:10:02", **changes}
    return msgspec.convert(row, FlowRow)


@given(rows_like(AlertRow))
def test_any_row_is_an_alert_of_known_labels_or_rejected(row: dict[str, Any]) -> None:
    try:
        alert = alert_from(msgspec.convert(row, AlertRow))
    except (ItemRejected, msgspec.ValidationError):
        return

    assert alert.severity in {*LABELS.severities, "unknown"}
    assert alert.close_reason is None or alert.close_reason in LABELS.close_reasons


@given(rows_like(FlowRow))
def test_any_flow_row_is_an_operation_of_known_labels_or_rejected(row: dict[str, Any]) -> None:
    try:
        flow_row = msgspec.convert(row, FlowRow)
        operation = operation_from("1", flow_row, ZONE)
    except (ItemRejected, msgspec.ValidationError):
        return

    assert operation.operation in LABELS.operations
    notice = notice_from_row("1", flow_row, ZONE)
    assert notice is None or notice.channel == "unknown"


@given(rows_like(ActionRow), st.sampled_from(["success", "failure", "shield", "skipped", "blocked", "running"]))
def test_any_handling_record_is_notices_of_known_labels_or_rejected(row: dict[str, Any], status: str) -> None:
    try:
        notices = notices_from(msgspec.convert({**row, "action_plugin_type": "notice", "status": status}, ActionRow))
    except (ItemRejected, msgspec.ValidationError):
        return

    labels: LabelSets = LABELS
    assert all(notice.channel in labels.channels for notice in notices)
    assert all(notice.failure is None or notice.failure in labels.failure_reasons for notice in notices)
    assert all(notice.suppressed is None or notice.suppressed in labels.suppressions for notice in notices)
    assert len({notice.key for notice in notices}) == len(notices)


def test_a_flow_row_is_told_apart_by_alert_kind_time_and_message() -> None:
    same = operation_from("1", a_row(), ZONE).key

    others = [
        operation_from("2", a_row(), ZONE).key,
        operation_from("1", a_row(operate="ACTION"), ZONE).key,
        operation_from("1", a_row(create_time="2024-06-10 15:10:03"), ZONE).key,
        operation_from("1", a_row(message="n"), ZONE).key,
    ]

    assert operation_from("1", a_row(status="FAILED", extend_info=""), ZONE).key == same
    assert len({same, *others}) == 5


@pytest.mark.parametrize(
    ("count", "anomalies"),
    [(50, 50), ("50", 50), (50.0, 50), (None, 1), ("", 1), (0, 1), ("00050", 50), (10**9, 10**9)],
)
def test_a_convergence_row_says_how_many_anomalies_it_folds(count: Any, anomalies: int) -> None:
    assert operation_from("1", a_row(extend_info={"anomaly_count": count}), ZONE).anomalies == anomalies


@pytest.mark.parametrize("count", [10**9 + 1, -1, 1.5, True, "many", "\u0665\u0660", "5\xb2", "9" * 400, "9" * 5_000])
def test_a_convergence_row_with_a_count_that_is_none_is_rejected(count: Any) -> None:
    with pytest.raises(ItemRejected, match="anomaly_count"):
        operation_from("1", a_row(extend_info={"anomaly_count": count}), ZONE)


def test_an_operation_and_the_notice_of_the_same_row_have_keys_of_their_own() -> None:
    row = a_row(operate="RECOVERY_NOTICE", status="SHIELDED")

    notice = notice_from_row("1", row, ZONE)

    assert notice is not None
    assert notice.suppressed == "shielded"
    assert notice.key != operation_from("1", row, ZONE).key


@pytest.mark.parametrize(
    ("created", "at"),
    [
        (datetime(2026, 10, 24, 12, 0, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 0, 29, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 0, 45, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_in_the_hour_that_comes_twice_a_row_is_not_older_than_its_alert(created: datetime, at: datetime) -> None:
    key = f"{created.timestamp():.0f}4410021"
    row = a_row(operate="ANOMALY_NOTICE", create_time="2026-10-25 02:30:00")

    operation = operation_from(key, row, ZoneInfo("Europe/Berlin"))
    notice = notice_from_row(key, row, ZoneInfo("Europe/Berlin"))

    assert notice is not None
    assert (operation.at, notice.at) == (at, at)
