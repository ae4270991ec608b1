"""The chart in the hands of Helm 3 and 4, and before a Kubernetes API server that enforces the level "restricted"."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.charts import CHART, EXAMPLES, VERSIONS, Manifest, of_kind, pods
from tests.programs import program
from tests.real.cluster import Cluster, cluster

HELMS = ("helm-3", "helm-4")

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubernetes")) as started:
        yield started


def run(helm: str, *arguments: str | Path, kubeconfig: Path = Path("/dev/null")) -> subprocess.CompletedProcess[str]:
    command = [str(each) for each in (program(helm), *arguments)]
    environment = {"KUBECONFIG": str(kubeconfig), "HELM_CACHE_HOME": "/nonexistent", "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("helm", HELMS)
def test_helm_lints_and_renders_every_example(helm: str) -> None:
    for values in EXAMPLES.values():
        linted = run(helm, "lint", "--strict", CHART, "--values", values)
        assert "1 chart(s) linted, 0 chart(s) failed" in linted.stdout
        for version in VERSIONS:
            rendered = run(helm, "template", "alerts", CHART, "--values", values, "--kube-version", version)
            assert any(yaml.safe_load_all(rendered.stdout))
    version = run(helm, "version", "--short").stdout.strip()
    print(f"{version}: {len(EXAMPLES)} examples linted, and rendered for {len(VERSIONS)} versions of Kubernetes")


@pytest.mark.parametrize("helm", HELMS)
def test_every_example_is_installed_and_upgraded_into_a_cluster_that_enforces_restricted(
    helm: str, kubernetes: Cluster
) -> None:
    reached = kubernetes.http.get("/version").json()["gitVersion"]
    tried = 0
    for name, values in EXAMPLES.items():
        namespace = f"{helm}-{name}"
        kubernetes.make_namespace(namespace)
        release = ("alerts", CHART, "--namespace", namespace, "--values", values)

        installed = run(helm, "install", *release, kubeconfig=kubernetes.kubeconfig)
        upgraded = run(helm, "upgrade", *release, "--set", "podLabels.again=yes", kubeconfig=kubernetes.kubeconfig)

        assert "STATUS: deployed" in installed.stdout
        assert "REVISION: 2" in upgraded.stdout
        assert "arning" not in installed.stderr + upgraded.stderr
        got = run(helm, "get", "manifest", "alerts", "--namespace", namespace, kubeconfig=kubernetes.kubeconfig)
        hooks = run(helm, "get", "hooks", "alerts", "--namespace", namespace, kubeconfig=kubernetes.kubeconfig)
        manifests: list[Manifest] = [each for each in yaml.safe_load_all(got.stdout + hooks.stdout) if each]
        for pod in pods(manifests):
            answer = kubernetes.try_pod(namespace, {}, pod)
            assert answer.status_code == 201, answer.text
            tried += 1
        assert of_kind(manifests, "ConfigMap")
    print(f"{helm}: {len(EXAMPLES)} examples installed and upgraded on Kubernetes {reached}, {tried} pods admitted")


def test_the_cluster_does_refuse_a_pod_that_asks_for_more(kubernetes: Cluster) -> None:
    kubernetes.make_namespace("refused")

    answer = kubernetes.try_pod("refused", {}, {"containers": [{"name": "a", "image": "a"}]})

    assert answer.status_code == 403
    assert 'violates PodSecurity "restricted:latest"' in answer.json()["message"]
