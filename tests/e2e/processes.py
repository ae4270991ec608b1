"""What the end-to-end tests with a real Prometheus share: processes that end with the block, ports, questions."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.queries import RULE_FILES, RULES

# A minute of the rules is a second here.
SPEED = 60
SECONDS = {"m": 60, "h": 3600, "d": 86400}

Pair = tuple[str, str]


def sped_up(text: str) -> str:
    """Rules with every duration divided."""
    return re.sub(
        r"(?<=[\[ ])(\d+)([mhd])(?=[\]\s)])",
        lambda found: f"{int(found[1]) * SECONDS[found[2]] // SPEED}s",
        text,
    )


def write_rules(folder: Path) -> list[str]:
    """Write the rules, sped up, and return the names of their files."""
    for name in RULE_FILES:
        (folder / name).write_text(sped_up((RULES / name).read_text()))
    return list(RULE_FILES)


def until(done: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """What `done` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"did not happen within {seconds:g} s: {what}"
        time.sleep(0.25)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def process(folder: Path, name: str, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block; its log is part of any failure."""
    log = folder / f"{name}.log"
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as running:
        try:
            yield running
            assert running.poll() is None
        except Exception as error:
            error.add_note(f"{name} said last: {log.read_text()[-3000:]}")
            raise
        finally:
            running.terminate()
            try:
                running.wait(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()


class Prometheus:
    """Asks a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _get(self, path: str, **parameters: str) -> httpx.Response:
        return httpx.get(self._url + path, params=parameters, trust_env=False, timeout=10)

    def is_ready(self) -> bool:
        try:
            return self._get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        answer = self._get("/api/v1/query", query=expr).json()
        assert answer["status"] == "success", (expr, answer)
        return list(answer["data"]["result"])

    def firing(self) -> dict[Pair, set[str]]:
        """The scrape jobs for which each pair of alert and source fires."""
        jobs: dict[Pair, set[str]] = {}
        for alert in self._get("/api/v1/alerts").json()["data"]["alerts"]:
            if alert["state"] == "firing":
                labels = alert["labels"]
                jobs.setdefault((labels["alertname"], labels.get("source", "")), set()).add(labels.get("job", ""))
        return jobs
