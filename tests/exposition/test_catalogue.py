import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.exposition.catalogue import (
    ALL_FAMILIES,
    FAMILIES,
    Family,
    Sample,
    is_stale,
    samples_of,
    stale_at,
)
from exporter.model.facts import Fact
from exporter.model.snapshot import AlertCounts, Histogram, SourceState
from exporter.vendors import load_all
from tests.exposition.states import a_polled_state, a_state

LABELS = {
    "vendor_alerts_open": "severity",
    "vendor_alerts_acknowledged": "severity",
    "vendor_alerts_suppressed": "severity",
    "vendor_alerts_unattended": "severity",
    "vendor_alerts_oldest_open_timestamp_seconds": "severity",
    "vendor_alerts_opened_total": "severity",
    "vendor_alerts_closed_total": "severity reason",
    "vendor_alert_open_duration_seconds": "severity",
    "vendor_alert_acknowledge_delay_seconds": "severity",
    "vendor_alert_detection_delay_seconds": "",
    "vendor_alert_operations_total": "operation",
    "vendor_alert_operation_failures_total": "operation",
    "vendor_alert_convergences_total": "",
    "vendor_alert_converged_anomalies_total": "",
    "vendor_alert_notices_total": "channel",
    "vendor_alert_notice_failures_total": "channel reason",
    "vendor_alert_notices_suppressed_total": "reason",
    "vendor_alert_info": "severity key name policy resource_type namespace",
    "vendor_alert_info_omitted": "",
    "vendor_events_total": "event_type",
    "vendor_source_up": "",
    "vendor_source_last_success_timestamp_seconds": "",
    "vendor_source_interval_seconds": "",
    "vendor_source_last_poll_duration_seconds": "",
    "vendor_source_polls_total": "",
    "vendor_source_poll_failures_total": "reason",
    "vendor_source_partial_polls_total": "",
    "vendor_source_requests_total": "endpoint code",
    "vendor_source_request_duration_seconds": "endpoint",
    "vendor_source_records_total": "kind outcome",
    "vendor_source_tracked_records": "kind",
    "vendor_source_tracked_records_limit": "",
    "vendor_source_evicted_records_total": "kind",
    "vendor_source_detail_backlog": "",
    "vendor_source_detail_failures_total": "endpoint reason",
    "vendor_source_details_up": "endpoint",
    "vendor_source_list_truncated": "endpoint",
    "vendor_source_unmapped_values_total": "field",
    "vendor_source_clock_offset_seconds": "",
    "vendor_exporter_build_info": "version revision python_version",
    "vendor_exporter_log_lines_dropped_total": "",
    "vendor_exporter_config_last_reload_successful": "",
    "vendor_exporter_config_last_reload_success_timestamp_seconds": "",
    "vendor_otlp_exports_total": "signal",
    "vendor_otlp_export_failures_total": "signal",
    "vendor_otlp_dropped_total": "signal",
}
HISTOGRAMS = {name for name in LABELS if name.endswith(("_duration_seconds", "_delay_seconds"))} - {
    "vendor_source_last_poll_duration_seconds"
}
GROUPED = set(list(LABELS)[:7])
OWNED = {name for name in LABELS if name.startswith("vendor_alert")}
PRESENT_ONLY = {*list(LABELS)[:5], "vendor_alert_info", "vendor_alert_info_omitted"}
NEEDS = {
    "vendor_alerts_acknowledged": Fact.ACKNOWLEDGED,
    "vendor_alerts_unattended": Fact.ACKNOWLEDGED,
    "vendor_alert_acknowledge_delay_seconds": Fact.ACKNOWLEDGED,
    "vendor_alerts_suppressed": Fact.SUPPRESSED,
    "vendor_alert_operations_total": Fact.OPERATIONS,
    "vendor_alert_operation_failures_total": Fact.OPERATIONS,
    "vendor_alert_convergences_total": Fact.CONVERGENCES,
    "vendor_alert_converged_anomalies_total": Fact.CONVERGENCES,
    "vendor_alert_notices_total": Fact.NOTICES,
    "vendor_alert_notice_failures_total": Fact.NOTICES,
    "vendor_alert_notices_suppressed_total": Fact.SUPPRESSED_NOTICES,
    "vendor_events_total": Fact.EVENTS,
}
BY_NAME = {family.name: family for family in FAMILIES}


def rows(name: str, state: SourceState, *, stale: bool = False) -> list[Sample]:
    return list(samples_of(BY_NAME[name], state, stale=stale))


def told(state: SourceState, *, stale: bool = False) -> set[str]:
    return {name for name in BY_NAME if rows(name, state, stale=stale)}


def test_every_promised_family_is_there_with_its_labels() -> None:
    assert {family.name: " ".join(family.labels) for family in ALL_FAMILIES} == LABELS
    assert len(ALL_FAMILIES) == len(LABELS)
    assert {family.name for family in ALL_FAMILIES if family.grouped} == GROUPED
    assert {family.name for family in ALL_FAMILIES if family.owned} == OWNED


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_a_family_is_of_the_type_its_name_says_and_explains_itself(family: Family[Any]) -> None:
    expected = "counter" if family.name.endswith("_total") else "histogram" if family.name in HISTOGRAMS else "gauge"

    assert family.kind == expected
    assert (family.unit == "s") == family.name.endswith("_seconds")
    assert family.help.endswith(".")
    assert family.help.isprintable()
    assert list(text_string_to_metric_families(f"# HELP {family.name} {family.help}\n"))


def test_before_the_first_poll_a_source_is_down_and_nothing_is_said_about_alerts() -> None:
    state = a_state()

    assert not {name for name in told(state) if not name.startswith("vendor_source_")}
    assert rows("vendor_source_up", state) == [((), 0)]
    assert rows("vendor_source_last_success_timestamp_seconds", state) == [((), 0)]
    assert rows("vendor_source_last_poll_duration_seconds", state) == []
    assert rows("vendor_source_clock_offset_seconds", state) == []
    assert rows("vendor_source_unmapped_values_total", state) == []


def test_the_closed_label_sets_have_zeros_from_the_first_success_on() -> None:
    state = a_state(alerts=AlertCounts())

    assert dict(rows("vendor_alerts_open", state)) == {("critical",): 0, ("warning",): 0}
    assert dict(rows("vendor_alerts_opened_total", state)) == {("critical",): 0, ("warning",): 0, ("unknown",): 0}
    assert dict(rows("vendor_alerts_closed_total", state)) == {
        (severity, reason): 0 for severity in ("critical", "warning", "unknown") for reason in ("recovered", "vanished")
    }
    assert len(rows("vendor_alert_notice_failures_total", state)) == 4
    assert dict(rows("vendor_alert_operation_failures_total", state)).keys() == {("create",), ("converge",), ("other",)}
    assert rows("vendor_alert_convergences_total", state) == [((), 0)]
    assert rows("vendor_source_unmapped_values_total", state) == [(("severity",), 0), (("state",), 0)]
    assert rows("vendor_alerts_oldest_open_timestamp_seconds", state) == []
    for _, histogram in rows("vendor_alert_open_duration_seconds", state):
        assert isinstance(histogram, Histogram)
        assert sum(histogram.counts) == 0


@pytest.mark.parametrize("vendor", load_all())
def test_every_field_whose_values_a_vendors_records_left_unmapped_has_a_zero(vendor: str) -> None:
    cases = [case.read_text() for case in (Path(__file__).parent.parent / "vendors" / vendor / "cases").glob("*.json")]
    met = {
        field
        for case in cases
        for fields in re.findall(r'"unmapped": (\[.*?\])', case, re.DOTALL)
        for field in json.loads(fields)
    }

    assert met
    assert met <= set(load_all()[vendor].labels.unmapped)


def test_what_was_counted_takes_the_place_of_its_zero() -> None:
    state = a_polled_state()

    assert rows("vendor_alerts_open", state) == [(("critical",), 2), (("warning",), 0)]
    assert dict(rows("vendor_alert_notice_failures_total", state))["email", "timeout"] == 2
    assert dict(rows("vendor_source_poll_failures_total", state))[("timeout",)] == 1
    assert rows("vendor_source_unmapped_values_total", state) == [(("severity",), 1), (("state",), 0)]


@pytest.mark.parametrize(("name", "fact"), NEEDS.items())
def test_a_family_the_source_cannot_supply_is_absent_and_not_zero(name: str, fact: Fact) -> None:
    lacking = a_polled_state(facts=frozenset(Fact) - {fact})

    assert name in told(a_polled_state())
    assert told(a_polled_state()) - told(lacking) == {other for other in NEEDS if NEEDS[other] is fact}


def test_kinds_of_records_the_source_cannot_have_are_not_told() -> None:
    state = a_state(facts=frozenset({Fact.CONVERGENCES}))

    assert {labels[0] for labels, _ in rows("vendor_source_records_total", state)} == {"alert", "operation"}
    assert dict(rows("vendor_source_tracked_records", state)) == {("alert",): 0, ("operation",): 0}


def test_what_a_stale_source_said_about_the_present_is_withdrawn_and_its_counters_stay() -> None:
    state = a_polled_state()

    assert told(state) - told(state, stale=True) == PRESENT_ONLY
    assert rows("vendor_source_up", state) == [((), 1)]
    assert rows("vendor_source_up", state, stale=True) == [((), 0)]


def test_a_source_is_stale_once_it_has_not_succeeded_for_long_enough() -> None:
    state = a_polled_state(succeeded=1000.0, stale_after_seconds=300.0)

    assert stale_at(state) == 1300.0
    assert not is_stale(state, 1299.9)
    assert is_stale(state, 1300.0)
    assert not is_stale(a_state(), 10**9)


def test_the_series_of_single_alerts_are_opt_in() -> None:
    state = a_polled_state(alerts=AlertCounts(info=None))

    assert rows("vendor_alert_info", state) == rows("vendor_alert_info_omitted", state) == []
    assert rows("vendor_alert_info_omitted", a_state(alerts=AlertCounts(info=[]))) == [((), 0)]


def test_open_and_opened_have_zeros_for_each_owner_and_the_other_zeros_an_empty_one() -> None:
    counts = AlertCounts(open={("critical", "disk", "db"): 2}, notices={("email", "db"): 1})
    state = a_state(alerts=counts, owners=("db", "unowned"), group_by=("name",))

    assert dict(rows("vendor_alerts_open", state)) == {
        ("critical", "disk", "db"): 2,
        ("critical", "", "db"): 0,
        ("critical", "", "unowned"): 0,
        ("warning", "", "db"): 0,
        ("warning", "", "unowned"): 0,
    }
    assert len(rows("vendor_alerts_opened_total", state)) == 6
    assert dict(rows("vendor_alert_notices_total", state)) == {("email", "db"): 1, ("email",): 0, ("phone",): 0}
    assert rows("vendor_alert_convergences_total", state) == [((), 0)]
