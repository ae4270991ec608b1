"""The chart's objects before kubeconform, with Kubernetes' own schemas."""

import json
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.charts import EXAMPLES, OF_OPERATORS, VERSIONS, example, render
from tests.programs import program

SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@pytest.mark.parametrize("version", VERSIONS)
def test_kubeconform_finds_nothing_wrong_with_the_charts_objects(version: str) -> None:
    manifests = [each for name in EXAMPLES for each in render(example(name)) if each["apiVersion"] not in OF_OPERATORS]
    location = f"{SCHEMAS}/v{version}.0-local-strict/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [program("kubeconform"), "-strict", "-summary", "-output=json", f"-schema-location={location}", "-"]

    done = subprocess.run(command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)["summary"]
    print(f"kubeconform, Kubernetes {version}: {summary}")
    assert summary == {"valid": len(manifests), "invalid": 0, "errors": 0, "skipped": 0}
