"""Makes what the chart repeats from elsewhere: values.schema.json, the README's table of values, copies of other files.

Run `python deploy/helm/generate.py` after a change of values.yaml, the settings, the dashboards or the rules.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from exporter import config
from exporter.exposition.webconfig import WebFile
from exporter.vendors import load_all
from rules import generate as rule_files

CHART = Path(__file__).parent / "vendor-alert-exporter"
DEPLOY = CHART.parent.parent
TABLE = "<!-- values: made by generate.py from values.yaml -->\n"

# What a default value does not tell.
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "image.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "sharding.replicas": {"minimum": 1, "maximum": 1024},
    "sidecar.mode": {"enum": ["auto", "native", "container"]},
    "containerPort": {"minimum": 1, "maximum": 65535},
    "service.port": {"minimum": 1, "maximum": 65535},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "extraManifests": {"items": {"type": ["object", "string"]}},
    "extraArgs": {"items": {"type": "string"}},
    "revisionHistoryLimit": {"type": ["integer", "null"], "minimum": 0},
    "serviceMonitor.targetLabels": {"items": {"type": "string"}},
    "serviceMonitor.podTargetLabels": {"items": {"type": "string"}},
    "podMonitor.podTargetLabels": {"items": {"type": "string"}},
    "podDisruptionBudget": {
        "properties": {
            "minAvailable": {"type": ["integer", "string"]},
            "maxUnavailable": {"type": ["integer", "string"]},
            "unhealthyPodEvictionPolicy": {"enum": ["IfHealthyBudget", "AlwaysAllow"]},
        },
        "additionalProperties": False,
        "not": {"required": ["minAvailable", "maxUnavailable"]},
    },
}
# Keys of other charts, with what this one calls them.
ELSEWHERE = {
    "replicaCount": "sharding.replicas: pods with the same sources would count everything twice",
    "replicas": "sharding.replicas: pods with the same sources would count everything twice",
    "autoscaling": "sharding.replicas, or verticalPodAutoscaler",
    "env": "extraEnv",
    "extraContainer": "extraContainers",
    "extraEnvVars": "extraEnv",
    "extraObjects": "extraManifests",
    "extraSecretMounts": "existingSecret, or extraVolumes and extraVolumeMounts",
    "pod": "podLabels, podAnnotations",
    "prometheus": "serviceMonitor, podMonitor, prometheusRule",
    "rbac": "serviceAccount: the exporter needs no rights",
    "secretConfig": "existingSecret",
    "configReloader": "autoReload",
    "serviceMonitor.labels": "additionalLabels",
    "podMonitor.labels": "additionalLabels",
    "prometheusRule.labels": "additionalLabels",
    "prometheusRule.rules": "alerts, or a PrometheusRule of your own in extraManifests",
    "prometheusRule.disabled": "alerts: {NAME: {enabled: false}}",
    "image.pullSecrets": "imagePullSecrets, beside image",
    "service.enabled": "sidecar.enabled, without which there is always a Service",
}
_NUMBER = {"type": "number", "minimum": 0}
# Maps of text to text; other open maps are left to Kubernetes to judge.
_TEXT_MAPS = (
    "additionalLabels additionalRuleLabels annotations commonLabels labels matchLabels nodeSelector podAnnotations "
    "podLabels"
).split()
# A vector selector that the rules use, and whether it has matchers.
_SELECTOR = re.compile(r"(?<![\w:\"])(up|process_start_time_seconds|(?:\w+:)?vendor_\w+(?::\w+)*)(?![\w:(])(\{?)")


def outputs() -> dict[Path, str]:
    """Every file made here, with its content."""
    readme = CHART / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(TABLE)
    after = rest[rest.index("\n## ") :]
    copies = sorted(DEPLOY.glob("dashboards/*.json"))
    return {
        CHART / "values.schema.json": _json(schema()),
        CHART / "files" / "secrets.json": _json(secrets()),
        CHART / "files" / "rules.json": _json(rules()),
        readme: before + TABLE + table() + after,
        **{CHART / "files" / path.relative_to(DEPLOY): path.read_text(encoding="utf-8") for path in copies},
    }


def rules() -> dict[str, Any]:
    """Return the rules and their parameters, with marks where values may add matchers or set a parameter."""
    groups = _rule_groups()
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = _SELECTOR.sub(
            lambda found: found[1] + ("{<matchers,>" if found[2] else "<{matchers}>"), rule["expr"]
        )
    return {"groups": groups, "parameters": {name: each.default for name, each in rule_files.parameters().items()}}


def _rule_groups() -> list[dict[str, Any]]:
    return [group for text in rule_files.files({}).values() for group in yaml.safe_load(text)["groups"]]


def _rule_parameters() -> dict[str, Any]:
    """Return the schema of the rules' parameters."""
    return {
        name: {
            "description": f"{each.about} By default {each.default}.",
            **({"type": "string", "pattern": "^[a-z]+$"} if isinstance(each.default, str) else _NUMBER),
        }
        for name, each in rule_files.parameters().items()
    }


def _alert_changes() -> dict[str, Any]:
    """Return the schema of what the values may change of each alert."""
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    duration = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
    alerts = {}
    for rule in (rule for group in _rule_groups() for rule in group["rules"] if "alert" in rule):
        usual, held = rule["labels"]["severity"], rule.get("for", "0s")
        if "{{" in usual:
            usual = "as the parameters say"
        properties = {
            "enabled": {"type": "boolean", "description": "Whether the alert is installed."},
            "severity": {"type": "string", "description": f"Its label `severity`; by default {usual}."},
            "labels": {**texts, "description": "Further labels of the alert."},
            "for": {**duration, "description": f"How long it must hold to fire; by default {held}."},
            "keep_firing_for": {**duration, "description": "How long it fires on; needs Prometheus 2.42 or later."},
        }
        alerts[rule["alert"]] = {"type": "object", "additionalProperties": False, "properties": properties}
    return alerts


def secrets() -> dict[str, list[str]]:
    """Of each vendor the keys of `auth` that are secrets; what the templates refuse even if no schema was asked."""
    definitions = config.schema()["$defs"]
    found = {}
    for name, vendor in sorted(load_all().items()):
        auths = [node for node in _nodes(definitions[vendor.config.__name__]["properties"]["auth"]) if "$ref" in node]
        keys = {
            key
            for auth in auths
            for key, value in definitions[auth["$ref"].rpartition("/")[2]]["properties"].items()
            if _is_secret(value)
        }
        found[name] = sorted(keys)
    return found


def schema() -> dict[str, Any]:
    """JSON Schema of values.yaml, in draft 7 for the sake of older Helm 3 versions."""
    settings = config.schema()
    definitions = settings.pop("$defs")
    web = definitions["Web"]["properties"]
    for key in ("listen_address", "config_file"):  # set by the chart
        del web[key]
    del settings["properties"]["shard"]  # likewise; by hand it would leave sources to a pod that is not there
    settings["properties"]["sources"]["additionalProperties"]["required"] = ["vendor"]
    toolkit = WebFile.model_json_schema()
    definitions |= toolkit.pop("$defs")
    toolkit["properties"]["basic_auth_users"]["additionalProperties"] |= {
        "if": {"not": {"pattern": r"^\$2[aby]?\$[0-9]{2}\$.{53}$"}},
        "then": _refused("a bcrypt hash, such as `htpasswd -nBC 10 USER` prints"),
    }
    for vendor in load_all().values():
        definitions[vendor.config.__name__]["properties"]["proxy"] |= {
            "if": {"type": "string", "pattern": "@"},
            "then": _refused("without a password: a proxy that needs one is named by a variable, from extraEnvFrom"),
        }
    CONSTRAINTS["prometheusRule.parameters"] = {"additionalProperties": False, "properties": _rule_parameters()}
    CONSTRAINTS["prometheusRule.alerts"] = {"additionalProperties": False, "properties": _alert_changes()}
    root = _section(_values(), "")
    root["properties"] |= {
        "config": _plain(settings),
        "webConfig": _plain(toolkit),
        "global": {"type": "object", "description": "Set by a parent chart; of it `imageRegistry` is used."},
        "enabled": {"type": "boolean", "description": "For the `condition` of a parent chart."},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **root,
        "definitions": {name: _plain(node) for name, node in sorted(definitions.items())},
    }


def _plain(node: Any, key: str = "") -> Any:
    """The node in words that draft 7 and Helm know, with secrets refused."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node.replace("#/$defs/", "#/definitions/") if key == "$ref" else node
    if _is_secret(node):
        if key.endswith("_file"):
            return {"type": "string", "description": node["description"]}
        return _refused(f"left out here: put it into existingSecret and name its file in {key}_file")
    if "discriminator" in node:
        return _discriminated(node)
    unused = {"title", "default", "discriminator", "$schema", "gt", "format"}
    return {
        name: {each: _plain(value, each) for each, value in child.items()}
        if name in ("properties", "$defs")
        else _plain(child, key if name == "additionalProperties" else name)
        for name, child in node.items()
        if name not in unused
    }


def _refused(advice: str) -> dict[str, Any]:
    """A schema no value matches; of all such Helm prints this one's text, and not the value."""
    return {"const": advice}


def _discriminated(node: dict[str, Any]) -> dict[str, Any]:
    """A choice by the value of a key: with `oneOf` Helm would tell what is wrong with each of the choices."""
    key = node["discriminator"]["propertyName"]
    mapping = node["discriminator"]["mapping"]
    chosen = [
        {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": {"$ref": ref}}
        for value, ref in mapping.items()
    ]
    unnamed = {"if": {"not": {"required": [key]}}, "then": {"$ref": next(iter(mapping.values()))}}
    properties = {key: {"enum": list(mapping)}}
    return {"type": "object", "properties": properties, "allOf": _plain([*chosen, unnamed])}


def _is_secret(node: Any) -> bool:
    choices = [node, *node.get("anyOf", [])] if isinstance(node, dict) else []
    return any(choice.get("writeOnly") for choice in choices)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict):
        yield node
    for child in children:
        yield from _nodes(child)


Values = dict[str, "tuple[str, Any] | Values"]


def _values() -> Values:
    """values.yaml as a tree of sections and documented values, each with its comment and its default."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()

    def comment(line: int) -> str:
        said: list[str] = []
        while line and lines[line - 1].lstrip().startswith("# "):
            line -= 1
            said.insert(0, lines[line].strip().removeprefix("# "))
            if said[0].startswith("-- "):
                return " ".join(said).removeprefix("-- ")
        return ""

    def read(node: yaml.MappingNode, given: dict[str, Any]) -> Values:
        found: Values = {}
        for key, value in node.value:
            if about := comment(key.start_mark.line):
                found[key.value] = (about, given[key.value])
            elif isinstance(value, yaml.MappingNode):
                found[key.value] = read(value, given[key.value])
            else:
                raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {key.value} has no comment `# -- …`")
        return found

    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 for the type checker
    return read(root, yaml.safe_load(text))


def _section(values: Values, path: str) -> dict[str, Any]:
    properties = {
        key: _section(value, f"{path}{key}.") if isinstance(value, dict) else _documented(f"{path}{key}", *value)
        for key, value in values.items()
    }
    for foreign, ours in ELSEWHERE.items():
        section, _, key = foreign.rpartition(".")
        if path.rstrip(".") == section:
            properties[key] = _refused(f"left out here: use {ours}")
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _documented(path: str, about: str, default: Any) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    kind: dict[str, Any] = {"type": kinds[type(default)]}
    name = path.rpartition(".")[2]
    if name in _TEXT_MAPS:
        kind["additionalProperties"] = {"type": "string"}
    elif isinstance(default, list):
        kind["items"] = {"type": "object"}
    return {"description": about, **kind, **CONSTRAINTS.get(path, {})}


def table() -> str:
    """The values in a Markdown table."""

    def rows(values: Values, path: str) -> Iterator[str]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from rows(value, f"{path}{key}.")
            else:
                about, default = value
                yield f"| `{path}{key}` | `{json.dumps(default)}` | {about.replace('|', chr(92) + '|')} |\n"

    return "\n| value | default | meaning |\n|---|---|---|\n" + "".join(rows(_values(), ""))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, content in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    sys.stdout.write(f"{len(outputs())} files written\n")
