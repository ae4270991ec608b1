"""Dashboards: equal to what the generator makes, and tied to the catalogue."""

import re

import pytest

from dashboards import generate
from exporter.exposition.catalogue import ALL_FAMILIES
from tests.deploy.queries import (
    DASHBOARDS,
    dashboards,
    faults_in,
    known_labels,
    metrics_in,
    panel_queries,
    rules,
    with_all_chosen,
)


def test_committed_dashboards_are_what_the_generator_makes() -> None:
    made = generate.files()

    assert {file.name: text for file, text in made.items()} == {
        file.name: file.read_text() for file in DASHBOARDS.glob("*.json")
    }, "run python deploy/dashboards/generate.py"


def test_every_family_of_the_catalogue_is_in_a_dashboard_or_a_rule() -> None:
    read = {name for query in panel_queries() for name in metrics_in(query.expr)}
    read |= {name for rule in rules() for name in metrics_in(rule["expr"])}

    families = {family.name for family in ALL_FAMILIES}
    assert families - read - {name.removesuffix("_bucket") for name in read} == set()


def test_panels_read_only_metrics_and_labels_that_exist() -> None:
    known = known_labels()

    assert [(query, fault) for query in panel_queries() for fault in faults_in(query.expr, known)] == []


def test_legends_name_only_labels_that_are_left_after_aggregation() -> None:
    for query in panel_queries():
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", query.expr)))) or None
        named = set(re.findall(r"{{(\w+)}}", query.legend))

        assert kept is None or named <= kept, query


@pytest.mark.parametrize("name", ["overview", "source", "vendor", "slo", "exporter"])
def test_a_dashboard_is_ready_for_grafana_12(name: str) -> None:
    dashboard = dashboards()[name]

    assert dashboard["uid"] == f"vendor-alerts-{name}"
    assert dashboard["schemaVersion"] >= 41
    assert "style" not in dashboard
    choice = dashboard["templating"]["list"][0]
    assert (choice["name"], choice["type"], choice["query"]) == ("datasource", "datasource", "prometheus")
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("name", ["overview", "vendor"])
def test_alerts_can_be_narrowed_to_vendor_source_and_severity(name: str) -> None:
    variables = [variable["name"] for variable in dashboards()[name]["templating"]["list"]]

    assert variables[:6] == ["datasource", "cluster", "job", "vendor", "source", "severity"]


def test_no_two_panels_lie_on_each_other() -> None:
    for name, dashboard in dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

            assert max(x for x, _ in cells) < 24, (name, panel["title"])
            assert not cells & taken, (name, panel["title"])
            taken |= cells


TARGET = 'cluster=~"$cluster", job=~"$job"'


@pytest.mark.parametrize(
    ("query", "filters"),
    [
        ("sum(vendor_alerts_open%s)", f'{{{TARGET}, vendor=~"$vendor", source=~"$source", severity=~"$severity"}}'),
        ("max(vendor_source_up%s)", f'{{{TARGET}, vendor=~"$vendor", source=~"$source"}}'),
        ("sum by (vendor, source) (vendor_source_up%s > 0)", f'{{{TARGET}, vendor=~"$vendor", source=~"$source"}}'),
        ("source:vendor_source_fresh:bool%s", f'{{{TARGET}, vendor=~"$vendor", source=~"$source"}}'),
        ("vendor_owner:vendor_notice_delivery:ratio3d%s", f'{{{TARGET}, vendor=~"$vendor"}}'),
        ("last_over_time(vendor_exporter_build_info%s[1d])", f"{{{TARGET}}}"),
        ("up%s", ""),
    ],
)
def test_filters_follow_the_labels_a_series_has(query: str, filters: str) -> None:
    assert generate.filtered(query % "") == query % filters


def test_a_filter_that_a_query_has_itself_stays() -> None:
    assert generate.filtered('vendor_source_requests_total{code="429", vendor="a"}[5m]') == (
        f'vendor_source_requests_total{{code="429", vendor="a", {TARGET}, source=~"$source"}}[5m]'
    )


def test_graphs_of_many_sources_show_the_highest_only() -> None:
    for query in panel_queries():
        kind = next(panel for panel in dashboards()[query.dashboard]["panels"] if panel["title"] == query.panel)["type"]

        assert (kind == "timeseries" and "{{source}}" in query.legend) == query.expr.startswith(("topk(", "bottomk("))


def test_numbers_of_open_alerts_are_the_last_known_ones_and_say_when_nothing_is_known() -> None:
    stats = [panel for panel in dashboards()["overview"]["panels"] if panel["type"] == "stat"]

    open_alerts = [panel for panel in stats if re.search("[Aa]lerts? open|[Oo]ldest", panel["title"])]
    assert len(open_alerts) == 2 + ("Oldest critical alert" in {panel["title"] for panel in stats})
    assert all(":last_known" in panel["targets"][0]["expr"] for panel in open_alerts)
    assert all(panel["fieldConfig"]["defaults"]["noValue"] for panel in stats)


def test_starts_reloads_and_firing_rules_are_marked_in_every_dashboard() -> None:
    known = known_labels()
    for dashboard in dashboards().values():
        marks = dashboard["annotations"]["list"]

        assert [mark["name"] for mark in marks] == ["Exporter started", "Configuration read", "Rule firing"]
        assert [fault for mark in marks for fault in faults_in(with_all_chosen(mark["expr"]), known)] == []
