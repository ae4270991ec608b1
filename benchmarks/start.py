"""How soon the program is there: `--version`, and `demo` until every simulated vendor was polled."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.figures import absolute
from benchmarks.stage import exporter

VERSIONS = 5
DEMOS = 3


def _version_seconds() -> float:
    began = perf_counter()
    command = Path(sys.executable).with_name("vendor-alert-exporter")
    subprocess.run([command, "--version"], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - began


def _ready_seconds() -> float:
    began = perf_counter()
    with exporter("demo") as running:
        running.wait_until_ready(within=30)
        return perf_counter() - began


def run() -> Iterator[str]:
    """Medians of wall time."""
    version = statistics.median(_version_seconds() for _ in range(VERSIONS))
    yield absolute("vendor-alert-exporter --version", version, "s", below=0.3)
    ready = statistics.median(_ready_seconds() for _ in range(DEMOS))
    yield absolute("process start to ready, four simulated vendors", ready, "s", below=3.0)
