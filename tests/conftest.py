"""Virtual time for every async test, and the end of a run: figures of tests, and programs that were missing."""

from typing import Any

import pytest
from hypothesis import settings
from trio.testing import MockClock

from tests import programs

# How long one example takes says how busy the machine is, not whether the product is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what passing tests have printed, whichever process they ran in, and which programs were missing."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.capstdout.strip()]
    if passed:
        terminalreporter.section("figures")
    for report in passed:
        terminalreporter.write_line(report.capstdout.strip())
    if missing := programs.summary(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("programs that are not on this machine, and what brings them")
        for line in missing:
            terminalreporter.write_line(line)
