"""The exporter in somebody else's pod: a parent chart, a plain manifest, a Kustomize component."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import config
from tests.deploy.charts import (
    CHART,
    DEPLOY,
    REPOSITORY,
    SECRET_FILES,
    VERSIONS,
    VERSIONS_WITH_SIDECARS,
    Manifest,
    assert_restricted,
    chart,
    environment,
    exporter_container,
    helm,
    of_kind,
    only,
    pod_of,
    pods,
    settings_text,
    validate,
)
from tests.programs import program


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart that depends on ours, with its dependency fetched from where Chart.yaml says it is."""
    root = tmp_path_factory.mktemp("parent")
    shutil.copytree(CHART, root / CHART.relative_to(REPOSITORY))
    copy = root / "tests" / "deploy" / "parent-chart"
    shutil.copytree(REPOSITORY / "tests" / "deploy" / "parent-chart", copy)
    helm().dependency_update(copy)
    return copy


def render_parent(parent: Path, **sidecar: Any) -> list[Manifest]:
    rendered = chart(parent).render(
        {"vendor-alert-exporter": {"sidecar": sidecar}}, name="alerts", namespace="monitoring"
    )
    return [
        each for name, text in rendered.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each
    ]


def test_a_parent_chart_gets_a_native_sidecar(parent: Path) -> None:
    manifests = render_parent(parent)

    (pod,) = pods(manifests)
    (sidecar,) = pod["initContainers"]
    assert validate(manifests, VERSIONS_WITH_SIDECARS)
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" in sidecar
    assert "readinessProbe" not in sidecar
    assert [container["name"] for container in pod["containers"]] == ["parent"]
    assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} == {
        only(manifests, "ConfigMap")["metadata"]["name"]
    }
    assert_restricted(pod)


def test_a_parent_chart_gets_an_ordinary_container_where_native_sidecars_are_unknown(parent: Path) -> None:
    manifests = render_parent(parent, mode="container")

    (pod,) = pods(manifests)
    assert validate(manifests)
    assert not pod["initContainers"]
    assert [container["name"] for container in pod["containers"]] == ["parent", "vendor-alert-exporter"]
    assert_restricted(pod)


def test_a_sidecar_can_be_for_its_own_pod_alone(parent: Path) -> None:
    container = exporter_container(render_parent(parent, loopbackOnly=True))

    assert environment(container)["VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS"] == "127.0.0.1:10877"
    assert container["startupProbe"]["exec"] == {"command": ["vendor-alert-exporter", "healthcheck"]}


def test_the_plain_manifest_is_valid_and_restricted_and_the_exporter_loads_it(tmp_path: Path) -> None:
    text = (DEPLOY / "sidecar" / "manifest.yaml").read_text(encoding="utf-8")
    manifests = list(yaml.safe_load_all(text))
    file = tmp_path / "config.yaml"
    (tmp_path / "secret-key").write_text("s", encoding="utf-8")
    file.write_text(settings_text(manifests).replace(SECRET_FILES, f"{tmp_path}/"), encoding="utf-8")

    assert list(config.load(file=file, flags={}, environ={}).sources) == ["aom"]
    assert validate(manifests) == len(VERSIONS) * len(manifests)
    for pod in pods(manifests):
        assert_restricted(pod)


def test_the_kustomize_component_adds_the_same_container_as_the_plain_manifest() -> None:
    plain = list(yaml.safe_load_all((DEPLOY / "sidecar" / "manifest.yaml").read_text(encoding="utf-8")))
    component = DEPLOY / "sidecar" / "component"
    patch = yaml.safe_load((component / "patch.yaml").read_text(encoding="utf-8"))

    native = exporter_container([{**patch, "spec": {"template": {"spec": {"containers": []} | pod_of(patch)}}}])

    assert native.pop("restartPolicy") == "Always"
    assert native == exporter_container(plain)
    assert pod_of(patch)["volumes"] == pod_of(only(plain, "Deployment"))["volumes"]
    assert yaml.safe_load(settings_text(plain)) == yaml.safe_load((component / "config.yaml").read_text("utf-8"))


def test_kustomize_adds_the_sidecar_to_labelled_deployments_only(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "sidecar" / "component", tmp_path / "component")
    plain = list(yaml.safe_load_all((DEPLOY / "sidecar" / "manifest.yaml").read_text(encoding="utf-8")))
    served = only(plain, "Deployment")
    pod_of(served)["containers"].pop()
    del pod_of(served)["volumes"]
    other = json.loads(json.dumps(served)) | {"metadata": {"name": "other"}}
    served["metadata"]["labels"] = {"vendor-alert-exporter": "sidecar"}
    (tmp_path / "programs.yaml").write_text(yaml.safe_dump_all([served, other]), encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [programs.yaml]\ncomponents: [component]\n", encoding="utf-8"
    )

    built = subprocess.run([program("kustomize"), "build", tmp_path], capture_output=True, text=True, check=True)

    manifests = list(yaml.safe_load_all(built.stdout))
    added = {each["metadata"]["name"]: "initContainers" in pod_of(each) for each in of_kind(manifests, "Deployment")}
    assert added == {"program": True, "other": False}
    assert validate(manifests, VERSIONS_WITH_SIDECARS) == len(VERSIONS_WITH_SIDECARS) * len(manifests)
    for pod in pods(manifests):
        assert_restricted(pod)
