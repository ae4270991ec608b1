"""The rules before Prometheus 3's own promtool, and before pint."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.queries import RULES, alerts
from tests.programs import program


def run(name: str, *arguments: str | Path, cwd: Path = RULES) -> str:
    command = [str(each) for each in (program(name), *arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_3_finds_nothing_wrong_with_the_rules() -> None:
    said = run("promtool-3", "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yaml")))

    assert said.count("SUCCESS") == len(list(RULES.glob("*.yaml")))


def without_annotations(node: Any) -> Any:
    """Return rules or cases without texts, whose figures differ a little: ranges of Prometheus 3 are left-open."""
    if isinstance(node, list):
        return [without_annotations(each) for each in node]
    if isinstance(node, dict):
        return {key: without_annotations(value) for key, value in node.items() if not key.endswith("annotations")}
    return node


def test_every_alert_fires_and_is_silent_on_prometheus_3_as_on_2(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for file in [*RULES.glob("*.yaml"), *RULES.glob("tests/*.yaml")]:
        content = without_annotations(yaml.safe_load(file.read_text(encoding="utf-8")))
        (tmp_path / file.relative_to(RULES)).write_text(yaml.safe_dump(content), encoding="utf-8")

    said = run("promtool-3", "test", "rules", *sorted(tmp_path.glob("tests/*.yaml")), cwd=tmp_path)

    print(f"promtool-3: {said.count('SUCCESS')} alerts proven")
    assert said.count("SUCCESS") == len(alerts())


def test_pint_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    for file in RULES.glob("*.yaml"):
        shutil.copy(file, tmp_path)

    # Groups read what others have recorded: at worst it is one evaluation old.
    options = ("--offline", "--no-color", "--disabled=rule/dependency")
    said = run("pint", *options, "lint", "--min-severity=info", "--fail-on=info", ".", cwd=tmp_path)

    print(f"pint: {said.strip().splitlines()[-2]}")
