"""What the deployed queries are: read from rules and dashboards, taken apart with a PromQL parser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.config import Grouping
from exporter.exposition.catalogue import EXPORTER_FAMILIES, FAMILIES

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "rules"
DASHBOARDS = ROOT / "deploy" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"

# In the order in which they build on each other.
RULE_FILES = ("recording.yaml", "slo.yaml", "alerts.yaml")
_TARGET = {"cluster", "job", "instance"}
# What the Prometheus operator adds to a target; rules may only aggregate it away.
_POD = {"pod", "container", "service", "endpoint"}
_GROUPS = set(Grouping)


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for name in RULE_FILES
        for group in yaml.safe_load((RULES / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


class PanelQuery(NamedTuple):
    dashboard: str
    panel: str
    legend: str
    expr: str


def dashboards() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries() -> list[PanelQuery]:
    """Every query of every dashboard, with All chosen in each variable."""
    return [
        PanelQuery(name, panel["title"], target.get("legendFormat", ""), with_all_chosen(target["expr"]))
        for name, dashboard in dashboards().items()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def with_all_chosen(expr: str) -> str:
    return re.sub(r"\$(cluster|job|vendor|source|severity|owner)\b", ".*", expr.replace("$__rate_interval", "5m"))


def known_labels() -> dict[str, set[str]]:
    """Label names of every series that Prometheus can have, by the series' name."""
    known: dict[str, set[str]] = {"up": set(), "scrape_duration_seconds": set(), "scrape_samples_scraped": set()}
    known["ALERTS"] = known["ALERTS_FOR_STATE"] = {
        "alertname",
        "alertstate",
        "severity",
        "vendor_severity",
        "source",
        "vendor",
        "owner",
    }
    for family in FAMILIES:
        extra = {*(_GROUPS if family.grouped else ()), *(("owner",) if family.owned else ())}
        labels = {"source", "vendor", *family.labels, *extra}
        if family.kind == "histogram":
            known |= {f"{family.name}_{suffix}": labels for suffix in ("sum", "count")}
            known[f"{family.name}_bucket"] = labels | {"le"}
        else:
            known[family.name] = labels
    known |= {family.name: set(family.labels) for family in EXPORTER_FAMILIES}
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    known |= {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}
    for rule in rules():
        if "record" in rule:
            grouped = _GROUPS if rule["record"].startswith("key:") else set()
            read = known[rule["record"]] = {"source", "vendor"}  # it may read itself
            read |= {label for name in metrics_in(rule["expr"]) for label in known[name]} - (_GROUPS - grouped)
    return {name: labels | _TARGET for name, labels in known.items()}


def _nodes(expr: Any) -> Iterator[Any]:
    found: list[Any] = []
    promql.walk(expr, lambda node: found.append(node))
    for node in found:
        yield node.vector_selector if isinstance(node, promql.MatrixSelector) else node


def metrics_in(expr: str) -> set[str]:
    """The names of the series an expression reads."""
    return {node.name or "" for node in _nodes(promql.parse(expr)) if isinstance(node, promql.VectorSelector)}


def faults_in(expr: str, known: dict[str, set[str]]) -> list[str]:
    """Metrics and labels of an expression that nothing can ever have."""
    found = []
    for node in _nodes(promql.parse(expr)):
        if isinstance(node, promql.VectorSelector):
            if node.name not in known:
                found.append(f"no such metric: {node.name}")
                continue
            asked = {matcher.name for matcher in node.matchers.matchers}
            readable = known[node.name]
        else:
            asked = _labels_named_by(node)
            readable = {label for name in metrics_in(node.prettify()) for label in known.get(name, ())}
        found += [f"no such label: {label} in {node.prettify()}" for label in sorted(asked - readable)]
    return found


def _labels_named_by(node: Any) -> set[str]:
    if isinstance(node, promql.AggregateExpr) and node.modifier:
        return set(node.modifier.labels) - (_POD if " without " in node.prettify() else set())
    if isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
        return set(node.modifier.matching.labels)
    return set()
