"""Promises of normalising that hold for whatever the vendor sends."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ItemRejected
from exporter.model.alert import Severity
from exporter.model.records import Notice
from exporter.vendors.baidu_bls.normalise import SEVERITIES, alert_from, moment_from, told_from
from exporter.vendors.baidu_bls.payload import Alarm, TriggerCondition

SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
FIELDS = st.sampled_from(["time", "state", "noticeState", "reason", "notices", "values"])
TEMPLATES = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["t1", "t2", "t3"]),
            "methods": st.lists(st.sampled_from(["EMAIL", "SMS", "PHONE", "FAX"])) | st.none(),
            "callbacks": st.lists(st.just("http://hook.example/x"), max_size=2) | st.none(),
        }
    )
)


def an_alarm(executions: Any) -> Alarm:
    return Alarm(id="a", executions=msgspec.Raw(msgspec.json.encode(executions)))


@given(ANYTHING | st.lists(st.dictionaries(FIELDS, ANYTHING)))
def test_executions_of_any_shape_cost_at_most_themselves(executions: Any) -> None:
    alarm = an_alarm(executions)

    if executions is None:
        assert told_from(alarm) is None
    elif isinstance(executions, list):
        assert told_from(alarm) is not None
    else:
        with pytest.raises(ItemRejected):
            told_from(alarm)


FIELDS_OF_AN_ALARM = st.fixed_dictionaries(
    {"id": st.just("a"), "state": st.just("ALERT")},
    optional={
        **dict.fromkeys(["startTime", "endTime", "closeReason", "groups"], ANYTHING),
        "policy": ANYTHING | st.fixed_dictionaries({}, optional={"name": ANYTHING, "recoverWithoutNotice": ANYTHING}),
        "object": ANYTHING | st.fixed_dictionaries({}, optional={"project": ANYTHING, "logStoreName": ANYTHING}),
        "triggerCondition": ANYTHING | st.fixed_dictionaries({"level": ANYTHING}),
    },
)


@given(FIELDS_OF_AN_ALARM)
def test_an_odd_field_costs_only_itself(fields: dict[str, Any]) -> None:
    run = {"time": "2025-11-01T11:02:00Z", "state": "OK", "noticeState": "SENT"}

    alarm = msgspec.json.decode(msgspec.json.encode({**fields, "executions": [run]}), type=Alarm)

    alert, told = alert_from(alarm, SEVERITIES), told_from(alarm)
    assert (alert.key, alert.close_reason) == ("a", None)
    assert all(isinstance(name, str) for name in (alert.name, alert.policy, alert.resource_type, alert.provider))
    assert told is not None
    assert len(told.records) == 1


def test_an_odd_state_leaves_an_alarm_open_and_is_unmapped() -> None:
    alarm = msgspec.json.decode(b'{"id": "a", "state": ["OK"]}', type=Alarm)

    alert = alert_from(alarm, SEVERITIES)

    assert (alert.close_reason, alert.unmapped) == (None, ("state",))


@given(TEMPLATES)
def test_a_notice_keeps_its_identity_when_its_result_changes(templates: list[dict[str, Any]]) -> None:
    run = {"time": "2025-11-01T11:02:00Z", "state": "ALERT", "notices": templates}

    results = {}
    for result in ("NOT_SENT", "SENT", "FAIL"):
        told = told_from(an_alarm([{**run, "noticeState": result}]))
        assert told is not None
        results[result] = {record.key for record in told.records if isinstance(record, Notice)}

    ways = {(t["id"], method) for t in templates for method in t["methods"] or ()}
    hooks = {t["id"] for t in templates if t["callbacks"]}
    assert results["NOT_SENT"] == set()
    assert results["SENT"] == results["FAIL"]
    assert len(results["SENT"]) == (len(ways) + len(hooks) or 1)


@given(st.lists(st.integers(0, 59), unique=True), st.randoms())
def test_every_alarming_execution_but_the_earliest_is_a_convergence(minutes: list[int], order: Any) -> None:
    runs = [{"time": f"2025-11-01T11:{minute:02}:00Z", "state": "ALERT"} for minute in minutes]
    order.shuffle(runs)

    told = told_from(an_alarm(runs))

    assert told is not None
    found = sorted(record.at.minute for record in told.records if record.at)
    assert found == sorted(minutes)[1:]


@pytest.mark.parametrize("value", [None, "", 0, 1761996720123, True, "soon", "0001-01-01T00:00:00+08:00", "1970-01-01"])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert moment_from(value) is None


def test_times_have_a_zone_fractions_and_offsets_or_none() -> None:
    moment = datetime(2025, 11, 1, 11, 2, 0, 500_000, tzinfo=UTC)

    for text in ("2025-11-01T11:02:00.5Z", "2025-11-01T19:02:00.500+08:00", "2025-11-01T11:02:00.500"):
        assert moment_from(text) == moment


@pytest.mark.parametrize("level", ["CRITICAL", "critical", "Critical"])
def test_levels_and_states_are_read_in_any_case_of_letters(level: str) -> None:
    alert = alert_from(Alarm(id="a", state="alert", trigger_condition=TriggerCondition(level)), SEVERITIES)

    assert (alert.severity, alert.close_reason, alert.unmapped) == (Severity.CRITICAL, None, ())
