"""Finds the real programs that pip cannot bring.

A test that needs one runs where it is. Where it is not, the test is skipped, and the end of the run says what would
bring the program. With REQUIRE_PROGRAMS=1 the test fails instead.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

# Where .ci/tools and .ci/backends leave what they build or unpack.
OWN = Path(sys.prefix) / "programs"
REQUIRED = os.environ.get("REQUIRE_PROGRAMS", "") not in ("", "0")
NEEDS = "needs "
# Python modules that some supported Python version or platform has no package of.
HELM_ENGINE = "helm_python"
# What only a Go toolchain can build. Nothing is required of a machine that has none.
GO = "a Go toolchain, and then .ci/tools"

BROUGHT_BY = {
    HELM_ENGINE: "Python 3.12 or later",
    "actionlint": GO,
    "helm-3": GO,
    "helm-4": GO,
    "kube-apiserver": GO,
    "kubeconform": GO,
    "kustomize": GO,
    "pint": GO,
    "prometheus-3": GO,
    "promtool-3": GO,
    "amtool": "Debian's package prometheus-alertmanager",
    "chromium": "Debian's package chromium",
    "etcd": "Debian's package etcd-server",
    "fish": "Debian's package fish",
    "prometheus": "Debian's package prometheus",
    "prometheus-alertmanager": "Debian's package prometheus-alertmanager",
    "promtool": "Debian's package prometheus",
    "victoria-metrics": ".ci/backends",
    "zsh": "Debian's package zsh",
}


def program(name: str) -> Path:
    """Return where the program is, or skip the test that asks."""
    found = shutil.which(name, path=OWN) or shutil.which(name)
    return Path(found) if found else missing(name)


def module(name: str) -> Any:
    """Return the imported Python module, or skip the whole module that asks."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        missing(name)


def missing(name: str) -> NoReturn:
    reason = f"{NEEDS}{name}: {BROUGHT_BY[name]}"
    if REQUIRED and (BROUGHT_BY[name] != GO or shutil.which("go")):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def summary(skipped: list[Any]) -> list[str]:
    """Return one line for each missing program: how many tests it kept from running, and what would bring it."""
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped]
    missed = [reason.removeprefix(NEEDS) for reason in reasons if reason.startswith(NEEDS)]
    return [f"{reason} ({missed.count(reason)} skipped)" for reason in sorted(set(missed))]
