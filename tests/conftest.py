"""Virtual time for every async test, and the figures that tests tell at the end of a run."""

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Shows what passing tests have printed, whichever process they ran in: their figures."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.capstdout.strip()]
    if passed:
        terminalreporter.section("figures")
    for report in passed:
        terminalreporter.write_line(report.capstdout.strip())
