"""Writes the Grafana dashboards beside this file from panels.yaml: `python deploy/dashboards/generate.py`.

What the catalogue and the alert rules know is not repeated in the panels: units, the meaning of each metric, which
labels a query can be filtered by, and where the runbooks are.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from exporter.exposition.catalogue import ALL_FAMILIES, FAMILIES, Family  # noqa: E402 found by the line above
from exporter.model.alert import Severity  # noqa: E402

Builder = stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel

OF_SOURCES = {family.name: family for family in FAMILIES}
CATALOGUE = {family.name: family for family in ALL_FAMILIES}
RUNBOOKS: dict[str, str] = {
    rule["alert"]: rule["annotations"]["runbook_url"]
    for file in sorted((HERE.parent / "rules").glob("*.yaml"))
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
DATA_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLOURS = {
    Severity.CRITICAL: "dark-red",
    Severity.MAJOR: "dark-orange",
    Severity.MINOR: "orange",
    Severity.WARNING: "yellow",
    Severity.INFO: "blue",
    Severity.UNKNOWN: "purple",
}
# A Prometheus without clusters has no such label, which the choice of all matches.
TARGET = 'cluster=~"$cluster", job=~"$job"'
VARIABLES = {
    "cluster": "label_values(vendor_exporter_build_info, cluster)",
    "job": 'label_values(vendor_exporter_build_info{cluster=~"$cluster"}, job)',
    "vendor": f"label_values(vendor_source_up{{{TARGET}}}, vendor)",
    "source": f'label_values(vendor_source_up{{{TARGET}, vendor=~"$vendor"}}, source)',
    "severity": f'label_values(vendor_alerts_open{{{TARGET}, vendor=~"$vendor", source=~"$source"}}, severity)',
    "owner": f'label_values(vendor_alerts_open{{{TARGET}, vendor=~"$vendor", source=~"$source"}}, owner)',
}
# Of the Grafana 12 that the example runs.
SCHEMA_VERSION = 41
# More lines than one can tell apart hide each other.
MOST_LINES = 25
# What happened, as marks in every graph; a value that is a Unix time says when.
ANNOTATIONS = [
    {
        "name": "Exporter started",
        "expr": f"1000 * process_start_time_seconds and on (job, instance) vendor_exporter_build_info{{{TARGET}}}",
        "useValueForTime": "on",
        "textFormat": "{{instance}}",
        "iconColor": "blue",
    },
    {
        "name": "Configuration read",
        "expr": f"1000 * vendor_exporter_config_last_reload_success_timestamp_seconds{{{TARGET}}}",
        "useValueForTime": "on",
        "textFormat": "{{instance}}",
        "iconColor": "purple",
    },
    {
        "name": "Rule firing",
        "expr": 'ALERTS{alertname=~"Vendor.*", alertname!="VendorAlert", alertstate="firing", job=~"$job|"}',
        "textFormat": "{{alertname}} {{source}}",
        "iconColor": "red",
    },
]
# What a recorded series is still divided by, by the first part of its name.
LEVELS = {
    "key": {"vendor", "source", "severity"},
    "source": {"vendor", "source"},
    "source_severity": {"vendor", "source", "severity"},
    "vendor": {"vendor"},
    "vendor_owner": {"vendor"},
}
HEALTH = models.ValueMap(
    options={
        "0": models.ValueMappingResult(text="failing", color="red"),
        "1": models.ValueMappingResult(text="ok", color="green"),
    }
)
COLOURED = {"type": "color-background", "mode": "basic"}
RED_FROM_1 = {"mode": "absolute", "steps": [{"color": "transparent", "value": None}, {"color": "red", "value": 1}]}
# How the columns of tables look, by their names.
COLUMNS: dict[str, dict[str, object]] = {
    "State": {"mappings": [HEALTH], "custom.cellOptions": COLOURED},
    "Critical": {"thresholds": RED_FROM_1, "custom.cellOptions": COLOURED},
    "Oldest": {"unit": "s"},
    "Firing for": {"unit": "s"},
    "name": {"links": [{"title": "What to do", "url": f"{RUNBOOKS['VendorAlert']}", "targetBlank": True}]},
    "Last success": {"unit": "s"},
    "Failed notices, 1 h": {"decimals": 0},
    "source": {"links": [{"title": "Show this source", "url": "/d/vendor-alerts-source?var-source=${__value.raw}"}]},
    "alertname": {
        "links": [
            {
                "title": "Runbook",
                "url": next(iter(RUNBOOKS.values())).rpartition("/")[0] + "/${__value.raw}.md",
                "targetBlank": True,
            }
        ]
    },
}
HIDDEN_COLUMNS = ("Time", "__name__", "job", "instance", "cluster", "alertstate")


class Panel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One panel of panels.yaml."""

    title: str
    queries: Mapping[str, str]
    about: str = ""
    kind: Literal["graph", "area", "bars", "stat", "table", "timeline"] = "graph"
    empty: str = ""
    width: int = 12
    unit: str | None = None
    limits: Mapping[str, float] = {}
    alerts: Sequence[str] = ()
    health: bool = False


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One dashboard of panels.yaml; `rows` are headed groups of panels."""

    name: str
    title: str
    about: str
    rows: Mapping[str, Sequence[Panel]]


def families_in(expression: str) -> Iterator[Family[Any]]:
    """Yield the catalogue's families an expression reads, by themselves or through a recorded series, each once."""
    for name in dict.fromkeys(re.findall(r"(?:\b|(?<=:))vendor_\w+", expression)):
        family = CATALOGUE.get(name) or CATALOGUE.get(re.sub(r"_(bucket|sum|count)$", "", name))
        if family is not None:
            yield family


def filtered(expression: str) -> str:
    """Return the expression with its series limited to the variables; a label it names itself stays as it is."""

    def with_matchers(found: re.Match[str]) -> str:
        level, name, given = found["level"], found["name"], found["given"] or ""
        labels = ["cluster", "job"]
        if level:
            labels += [label for label in ("vendor", "source", "severity") if label in LEVELS[level]]
        elif (family := next(families_in(name), None)) is None:
            return found[0]
        elif family.name in OF_SOURCES:
            labels += ["vendor", "source", *({"severity"} & set(family.labels))]
        added = [f'{label}=~"${label}"' for label in labels if not re.search(rf"\b{label}\b", given)]
        return f"{name}{{{', '.join([*filter(None, [given]), *added])}}}"

    series = r"(?P<name>(?:(?P<level>\b\w+):|\b)vendor_\w+(?::\w+)*)(?:\{(?P<given>[^}]*)\})?"
    return re.sub(series, with_matchers, expression)


def query_of(panel: Panel, legend: str, expression: str) -> str:
    """Return the query as it is asked: limited to the variables, and to so many lines as can be told apart."""
    asked = filtered(expression)
    by_source = panel.kind in {"graph", "area", "bars"} and "{{source}}" in legend
    return f"topk({MOST_LINES}, {asked})" if by_source and not asked.startswith("bottomk") else asked


def _properties(values: Mapping[str, object]) -> list[models.DynamicConfigValue]:
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]


def _graph(panel: Panel) -> timeseries.Panel:
    builder = timeseries.Panel().height(8).axis_soft_min(0).show_points(options.VisibilityMode.NEVER)
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    legend = common.VizLegendOptions().show_legend(True).display_mode(options.LegendDisplayMode.LIST)
    builder.tooltip(tooltip).legend(legend.placement(options.LegendPlacement.BOTTOM))
    if panel.kind in {"area", "bars"}:
        builder.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL)).fill_opacity(60)
    if panel.kind == "bars":
        builder.draw_style(options.GraphDrawStyle.BARS).interval("1m")  # counts per minute, never per second
    if panel.limits:
        builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.DASHED))
    if "{{severity}}" in panel.queries:
        for severity, colour in COLOURS.items():
            builder.override_by_name(severity, _properties({"color": {"mode": "fixed", "fixedColor": colour}}))
    return builder


def _table(panel: Panel) -> table.Panel:
    """All queries side by side, one row for each set of labels."""
    names = {f"Value #{chr(65 + place)}": legend for place, legend in enumerate(panel.queries) if legend}
    hidden = dict.fromkeys(HIDDEN_COLUMNS if names else (*HIDDEN_COLUMNS, "Value"), True)
    builder = table.Panel().height(9).show_header(True)
    builder.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    builder.with_transformation(
        models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": names})
    )
    for name, values in COLUMNS.items():
        builder.override_by_name(name, _properties(values))
    return builder


def _builder_for(panel: Panel) -> Builder:
    match panel.kind:
        case "stat":
            last = common.ReduceDataOptions().calcs(["lastNotNull"])
            return stat.Panel().height(4).reduce_options(last).graph_mode(options.BigValueGraphMode.NONE)
        case "timeline":
            return statetimeline.Panel().height(8).show_value(options.VisibilityMode.NEVER).row_height(0.8)
        case "table":
            return _table(panel)
        case _:
            return _graph(panel)


def built(panel: Panel, number: int) -> Builder:
    """A panel ready to be placed."""
    families = list(families_in(" ".join(panel.queries.values())))
    about = [*filter(None, [panel.about]), *(f"`{family.name}`: {family.help}" for family in families)]
    builder = _builder_for(panel).id(number).title(panel.title).span(panel.width).datasource(DATA_SOURCE)
    builder.description("\n\n".join(about))
    if panel.kind != "table":
        builder.unit(panel.unit or ("s" if families[0].unit == "s" else "short"))
    if panel.empty:
        builder.no_value(panel.empty)
    steps = [models.Threshold(value=value, color=colour) for colour, value in panel.limits.items()]
    steps = [models.Threshold(value=None, color="green"), *steps]
    builder.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.health:
        builder.mappings([HEALTH])
    link = models.DashboardLinkType.LINK
    builder.links(
        [
            dashboard.DashboardLink(f"Runbook: {alert}").type(link).url(RUNBOOKS[alert]).target_blank(True)
            for alert in panel.alerts
        ]
    )
    for place, (legend, expression) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().ref_id(chr(65 + place)).expr(query_of(panel, legend, expression))
        query.legend_format(legend)
        if panel.kind == "table":
            query.format(PromQueryFormat.TABLE)
        builder.with_target(query.instant() if panel.kind in {"stat", "table"} else query.range())
    return builder


def dashboard_for(page: Page) -> dashboard.Dashboard:
    """The dashboard of a page, with those variables that its queries use."""
    made = dashboard.Dashboard(page.title).uid(f"vendor-alerts-{page.name}").description(page.about)
    made.tags(["vendor-alerts"]).time("now-6h", "now").refresh("1m").timezone("browser")
    made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("Vendor alerts").type(models.DashboardLinkType.DASHBOARDS).tags(["vendor-alerts"])
    made.link(others.include_vars(True).keep_time(True))
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    queries = " ".join(filtered(query) for row in page.rows.values() for each in row for query in each.queries.values())
    if "$vendor" in queries:
        queries += TARGET
    for name, query in VARIABLES.items():
        if f"${name}" in queries:
            variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(DATA_SOURCE).query(query)
            variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            variable.sort(models.VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*")
            made.with_variable(variable.current(models.VariableOption(text="All", value="$__all")))
    number = 0
    for title, panels in page.rows.items():
        number += 1
        made.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(built(panel, number))
    return made


def pages() -> list[Page]:
    """The dashboards as panels.yaml tells them."""
    return msgspec.convert(yaml.safe_load((HERE / "panels.yaml").read_text(encoding="utf-8")), list[Page])


def files() -> dict[Path, str]:
    """What the file of every dashboard has to contain."""
    made = {}
    for page in pages():
        built = json.loads(json.dumps(dashboard_for(page).build(), cls=JSONEncoder))
        built["schemaVersion"] = SCHEMA_VERSION
        del built["style"]
        source = {"type": "prometheus", "uid": "${datasource}"}
        built["annotations"] = {"list": [{"datasource": source, "enable": True, **each} for each in ANNOTATIONS]}
        text = json.dumps(built, indent=2, sort_keys=True, ensure_ascii=False)
        made[HERE / f"{page.name}.json"] = text + "\n"
    return made


if __name__ == "__main__":
    for file, text in files().items():
        file.write_text(text, encoding="utf-8")
