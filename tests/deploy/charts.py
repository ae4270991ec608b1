"""Rendering charts with Helm's own engine, and judging the objects by Kubernetes' own schemas."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.programs import HELM_ENGINE, module

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "helm" / "vendor-alert-exporter"
EXAMPLES = {path.name.removesuffix("-values.yaml"): path for path in sorted(CHART.glob("ci/*-values.yaml"))}
# The oldest that the chart supports, one between, and the newest the schemas are at hand for.
VERSIONS = ("1.25", "1.31", "1.37")
# Native sidecars came with 1.29.
VERSIONS_WITH_SIDECARS = ("1.29", "1.33", "1.37")
# Of the Prometheus operator and of the vertical pod autoscaler.
OF_OPERATORS = ("monitoring.coreos.com/v1", "autoscaling.k8s.io/v1")
SECRET_FILES = "/etc/vendor-alert-exporter/secrets/"

Values = dict[str, Any]
Manifest = dict[str, Any]


def example(name: str) -> Values:
    found: Values = yaml.safe_load(EXAMPLES[name].read_text(encoding="utf-8"))
    return found


def helm() -> Any:
    """Return Helm's own engine."""
    return module(HELM_ENGINE)


@cache
def chart(path: Path = CHART) -> Any:
    return helm().Chart.load(path)


def texts(values: Values, path: Path = CHART) -> dict[str, str]:
    rendered = chart(path).render(values, name="alerts", namespace="monitoring")
    return {name.partition("/templates/")[2]: text for name, text in rendered.items() if text.strip()}


def render(values: Values, path: Path = CHART) -> list[Manifest]:
    found = texts(values, path)
    return [
        each for name in sorted(found) if name.endswith(".yaml") for each in yaml.safe_load_all(found[name]) if each
    ]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def only(manifests: list[Manifest], *kinds: str) -> Manifest:
    (found,) = of_kind(manifests, *kinds)
    return found


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield pod_of(each)
        elif each["kind"] == "Pod":
            yield each["spec"]


def settings_text(manifests: list[Manifest]) -> str:
    """The exporter's configuration file, as the chart's own ConfigMap has it."""
    (text,) = [each["data"]["config.yaml"] for each in of_kind(manifests, "ConfigMap") if "config.yaml" in each["data"]]
    return str(text)


def exporter_container(manifests: list[Manifest]) -> Manifest:
    pod = pod_of(only(manifests, "Deployment", "StatefulSet"))
    containers: list[Manifest] = [*(pod.get("initContainers") or []), *pod["containers"]]
    (found,) = [each for each in containers if each["name"] == "vendor-alert-exporter"]
    return found


def environment(container: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def validate(manifests: list[Manifest], versions: tuple[str, ...] = VERSIONS) -> int:
    """Return how many objects were checked; monitors are checked for shape, since they have no schema here."""
    checked = 0
    for each in manifests:
        if each["apiVersion"] == "monitoring.coreos.com/v1":
            check_monitor(each)
        for version in versions if each["apiVersion"] not in OF_OPERATORS else ():
            kubernetes_validate.validate(each, version, strict=True)
            checked += 1
    return checked


def check_monitor(manifest: Manifest) -> None:
    endpoint = {"port", "path", "scheme", "honorLabels", "interval", "scrapeTimeout", "tlsConfig", "basicAuth"}
    endpoint |= {"relabelings", "metricRelabelings", "authorization"}
    spec = manifest["spec"]
    if manifest["kind"] == "PrometheusRule":
        assert set(spec) == {"groups"}
        assert all(set(group) <= {"name", "interval", "rules"} and group["rules"] for group in spec["groups"])
        return
    key = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}[manifest["kind"]]
    assert set(spec) - {"jobLabel", "targetLabels", "podTargetLabels", "sampleLimit"} == {
        key,
        "namespaceSelector",
        "selector",
    }
    assert all(set(each) <= endpoint and each["port"] == "metrics" for each in spec[key])


def assert_restricted(pod: Manifest) -> None:
    """The Pod Security Standard "restricted", rule by rule, as Kubernetes documents it."""
    shared = pod.get("securityContext", {})
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert all(set(volume) - {"name"} <= allowed | {"secret"} for volume in pod.get("volumes", []))
    for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("runAsNonRoot", shared.get("runAsNonRoot")) is True
        assert context.get("seccompProfile", shared.get("seccompProfile")) == {"type": "RuntimeDefault"}
        assert not any("hostPort" in port for port in container.get("ports", []))
