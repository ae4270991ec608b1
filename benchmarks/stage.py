"""The real program as a process, polling simulated vendors in another; and `python -m benchmarks.stage`, the latter."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from exporter.demo import settings_for
from exporter.simulation.network import Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.world import World
from exporter.vendors import load_all

COMMAND = [sys.executable, "-m", "exporter"]


class Running(NamedTuple):
    """A process that listens on loopback."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> str:
        """The body of an answer, whatever its status; "" where there is none yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def wait_until_ready(self, within: float) -> None:
        """Returns once every source was polled."""
        wait_until(
            lambda: self.get("/-/ready") == "ready\n" or self.process.poll() is not None,
            within,
            "the exporter is not ready",
        )
        assert self.process.poll() is None, "the exporter ended"

    def samples(self, name: str) -> dict[str, float]:
        """The samples of one metric, by their labels as they are written."""
        found = (line.rpartition(" ") for line in self.get("/metrics").splitlines() if line.startswith(f"{name}{{"))
        return {labels.removeprefix(name): float(value) for labels, _, value in found}

    def resident_mib(self, field: str = "VmRSS") -> float:
        """Resident memory now, or with `VmHWM` at its highest."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field))) / 1024


def wait_until(is_so: Any, within: float, otherwise: str) -> None:
    """Returns once something is so; raises TimeoutError after so many seconds."""
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {within:g} s")
        time.sleep(0.05)


@contextmanager
def _process(command: list[str], **how: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **how)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def exporter(*arguments: str) -> Iterator[Running]:
    """The program with these arguments, on a free port."""
    port = free_port()
    with _process([*COMMAND, *arguments, "--web.listen-address", f"127.0.0.1:{port}", "--log.level", "error"]) as it:
        yield Running(it, port)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])


@contextmanager
def polling(*, open_alerts: int, names: int = 10, **document: Any) -> Iterator[Running]:
    """The program, polling four vendors of so many open alerts each, whose names are of so many kinds."""
    vendors = [sys.executable, "-m", "benchmarks.stage", str(open_alerts), str(names)]
    with _process(vendors, stdout=subprocess.PIPE) as served, tempfile.TemporaryDirectory() as folder:
        assert served.stdout is not None
        settings = json.loads(served.stdout.readline())
        settings |= document | {"defaults": {**settings["defaults"], **document.get("defaults", {})}}
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        with exporter("run", "--config.file", str(file)) as running:
            yield running


def _serve(open_alerts: int, names: int) -> None:
    """Serves quiet vendors, whose alerts opened within the hour before last, until it is terminated."""
    simulators = []
    start = datetime.now(UTC) - timedelta(hours=2)
    for place, name in enumerate(sorted(load_all())):
        module = import_module(f"exporter.vendors.{name}.simulator")
        world = World(module.TRAITS, seed=place, start=start, quiet=True)
        for number in range(open_alerts):
            world.advance(start + timedelta(hours=1) * number / open_alerts)
            incident = world.open()
            incident.rule, incident.policy = f"rule {number % names}", f"policy {number % names}"
        simulators.append(module.simulator_for(world))
    server = SimulationServer([Site(simulator, lambda: datetime.now(UTC)) for simulator in simulators])
    server.start()
    print(json.dumps(settings_for(simulators, server.url)), flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
