"""The chart's objects before kubeconform, with Kubernetes' own schemas."""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.charts import EXAMPLES, OF_OPERATORS, VERSIONS, Manifest, example, render
from tests.programs import program

SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def copy_schemas(version: str, kinds: set[str], folder: Path) -> None:
    """Write the schemas of these kinds, which share a file of definitions, as files that stand alone."""

    def read(name: str) -> dict[str, Any]:
        text = (SCHEMAS / f"v{version}.0-local-strict" / name).read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text.replace("/api/_definitions.json#", "#"))
        return found

    shared = read("_definitions.json")
    for kind in kinds:
        (folder / kind).write_text(json.dumps(read(kind) | shared), encoding="utf-8")


def schema_of(manifest: Manifest) -> str:
    group, _, version = f"/{manifest['apiVersion']}".rpartition("/")
    parts = [manifest["kind"].lower(), *(part.partition(".")[0] for part in group.split("/") if part), version]
    return f"{'-'.join(parts)}.json"


@pytest.mark.parametrize("version", VERSIONS)
def test_kubeconform_finds_nothing_wrong_with_the_charts_objects(version: str, tmp_path: Path) -> None:
    kubeconform = program("kubeconform")
    manifests = [each for name in EXAMPLES for each in render(example(name)) if each["apiVersion"] not in OF_OPERATORS]
    copy_schemas(version, {schema_of(each) for each in manifests}, tmp_path)
    location = f"{tmp_path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [str(kubeconform), "-strict", "-summary", "-output=json", f"-schema-location={location}", "-"]

    done = subprocess.run(command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)["summary"]
    print(f"kubeconform, Kubernetes {version}: {summary}")
    assert summary == {"valid": len(manifests), "invalid": 0, "errors": 0, "skipped": 0}
