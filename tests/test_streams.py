"""Every command with standard output or error closed, full, or read by nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
sources:
  a: {vendor: key_astrom, endpoint: "http://127.0.0.1:9", proxy: none, auth: {api_token: canary-token}}
"""
COMMANDS = {
    "--version": 0,
    "no-such-command": 2,
    "check-config --config.file=good.yaml": 0,
    "check-config --config.file=bad.yaml": 1,
    "poll --config.file=good.yaml": 1,
    "healthcheck --config.file=good.yaml --web.listen-address=127.0.0.1:9": 1,
    "run --config.file=bad.yaml": 2,
}


def ended(folder: Path, command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    (folder / "good.yaml").write_text(CONFIG)
    (folder / "bad.yaml").write_text("sources: 1")
    line = f'"{sys.executable}" -m exporter {command} {redirection}'
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&- <&-"])
def test_a_closed_stream_changes_no_exit_code_and_prints_no_traceback(
    tmp_path: Path, command: str, redirection: str
) -> None:
    done = ended(tmp_path, command, redirection)

    assert done.returncode == COMMANDS[command]
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full"])
def test_a_full_stream_is_a_failure_without_a_traceback(tmp_path: Path, command: str, redirection: str) -> None:
    done = ended(tmp_path, command, redirection)

    assert done.returncode in {COMMANDS[command], 1}
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


def test_output_that_finds_no_space_is_said_and_fails(tmp_path: Path) -> None:
    done = ended(tmp_path, "check-config --config.file=good.yaml", ">/dev/full")

    assert (done.returncode, done.stderr) == (1, "cannot write the output: no space is left\n")


def test_a_reader_that_has_seen_enough_is_no_defect(tmp_path: Path) -> None:
    done = ended(tmp_path, "--help", "| true")

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
