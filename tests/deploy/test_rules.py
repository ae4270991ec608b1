"""Alert and recording rules: right by promtool, proven by cases, explained in runbooks, tied to the catalogue."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from rules import generate
from tests.builders import known
from tests.deploy.queries import (
    ROOT,
    RULE_FILES,
    RULES,
    RUNBOOKS,
    alerts,
    dashboards,
    faults_in,
    known_labels,
    panel_queries,
    rules,
)
from tests.programs import program

ALERTS = alerts()
VENDORS = ("BlueKing", "Huawei AOM", "Key-ASTROM", "Baidu BLS")


@pytest.fixture(scope="module")
def promtool() -> Path:
    return program("promtool")


def run(promtool: Path, *arguments: str | Path) -> str:
    done = subprocess.run([promtool, *map(str, arguments)], cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_nothing_wrong_with_the_rules(promtool: Path) -> None:
    said = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)

    assert said.count("SUCCESS") == len(RULE_FILES) == len(list(RULES.glob("*.yaml")))


def test_committed_rules_are_what_the_generator_makes() -> None:
    assert generate.with_defaults() == {name: (RULES / name).read_text() for name in RULE_FILES}, (
        "run python deploy/rules/generate.py"
    )


def test_every_parameter_is_used_and_every_name_in_a_template_is_known() -> None:
    named = {name for text in generate.files({}).values() for name in re.findall(r"<<(\w+)>>", text)}

    assert named == generate.parameters().keys()


def test_every_alert_fires_in_its_case_and_is_silent_in_another(promtool: Path) -> None:
    files = sorted((RULES / "tests").glob("*.yaml"))

    said = run(promtool, "test", "rules", *files)

    cases = [case for file in files for case in yaml.safe_load(file.read_text())["tests"]]
    print(f"{said.count('SUCCESS')} alerts proven by {len(cases)} promtool cases")
    assert said.count("SUCCESS") == len(ALERTS)


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    proven = {}
    for file in (RULES / "tests").glob("*.yaml"):
        asked = [each for case in yaml.safe_load(file.read_text())["tests"] for each in case["alert_rule_test"]]
        assert {each["alertname"] for each in asked} == {file.stem}
        proven[file.stem] = {bool(each["exp_alerts"]) for each in asked}

    assert proven == {name: {True, False} for name in ALERTS}


def test_no_alert_of_a_source_has_labels_that_change_with_the_pod() -> None:
    fired = [
        (file.stem, set(alert["exp_labels"]))
        for file in (RULES / "tests").glob("*.yaml")
        for case in yaml.safe_load(file.read_text())["tests"]
        for each in case["alert_rule_test"]
        for alert in each["exp_alerts"]
    ]

    of_pods = {name for name, labels in fired if labels & {"instance", "pod", "container", "service"}}
    assert all(name.startswith("VendorExporter") for name in of_pods)


def severity_of(name: str) -> str:
    """Return the label of the alert, the gravest one where it depends on the vendor's alert."""
    return re.sub(r"\{\{ with .*? \}\}.*", "critical", str(ALERTS[name]["labels"]["severity"]))


def test_alerts_and_runbooks_match_one_to_one() -> None:
    pages = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md")}

    assert pages.keys() == ALERTS.keys()
    for name, text in pages.items():
        headings = re.findall(r"^##? ([A-Z].+)$", text, flags=re.MULTILINE)
        assert headings == [name, "Meaning", "Likely causes", "What to run", "How it ends"]
        assert f"Severity `{severity_of(name)}`" in text


@pytest.mark.parametrize("name", [name for name in ALERTS if "Exporter" not in name])
def test_a_runbook_names_the_likely_causes_for_every_vendor(name: str) -> None:
    causes = (RUNBOOKS / f"{name}.md").read_text().split("## Likely causes")[1].split("## ")[0]

    assert [vendor for vendor in VENDORS if vendor not in causes] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_go_on(name: str) -> None:
    rule = ALERTS[name]

    assert severity_of(name) in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert (ROOT / "docs/runbooks" / rule["annotations"]["runbook_url"].rpartition("/docs/runbooks/")[2]).is_file()
    assert rule["annotations"]["runbook_url"].endswith(f"/{name}.md")


def test_alerts_and_dashboard_panels_match_one_to_one() -> None:
    linked = [
        (link["title"].removeprefix("Runbook: "), link["url"], dashboard["uid"])
        for dashboard in dashboards().values()
        for panel in dashboard["panels"]
        for link in panel.get("links", ())
    ]

    notes = {name: rule["annotations"] for name, rule in ALERTS.items()}
    assert sorted(linked) == sorted(
        (name, note["runbook_url"], known(re.fullmatch(r"/d/([\w-]+)(\?var-source=.+)?", note["dashboard_url"]))[1])
        for name, note in notes.items()
    )


def test_rules_read_only_metrics_and_labels_that_exist() -> None:
    known = known_labels()

    assert {rule.get("alert") or rule["record"]: faults_in(rule["expr"], known) for rule in rules()} == {
        rule.get("alert") or rule["record"]: [] for rule in rules()
    }


def test_every_recorded_series_is_read_by_a_rule_or_a_dashboard() -> None:
    recorded = {re.sub(r"(5m|30m|1h|6h|3d)$", "", rule["record"]) for rule in rules() if "record" in rule}
    read = [rule["expr"] for rule in rules()] + [query.expr for query in panel_queries()]

    assert [name for name in recorded if not any(name in expr for expr in read)] == []
