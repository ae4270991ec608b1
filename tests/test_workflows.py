"""The workflows before actionlint, and what they call."""

import re
import subprocess

import yaml

from tests.deploy.charts import REPOSITORY
from tests.programs import program

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml"))


def test_actionlint_finds_nothing_wrong_with_the_workflows() -> None:
    done = subprocess.run([program("actionlint"), "-verbose", *WORKFLOWS], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    print(f"actionlint: no error in {len(WORKFLOWS)} workflows")


def test_the_workflows_call_only_targets_that_the_makefile_has() -> None:
    called = {
        target
        for file in WORKFLOWS
        for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
        for step in job.get("steps", ())
        for line in re.findall(r"\bmake ([^|&\n]+)", step.get("run", ""))
        for target in line.split()
        if re.fullmatch(r"[a-z]+", target)
    }
    phony = re.search(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert phony
    assert {"check", "test", "reproducible", "requirements"} <= called <= set(phony[1].split())
