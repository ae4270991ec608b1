"""The commands demo and simulate: the four vendors on loopback, living through a scenario."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from exporter import app, config
from exporter.errors import ConfigError
from exporter.healthfile import HealthFile
from exporter.signals import Signals
from exporter.simulation.network import Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.wire import Simulator
from exporter.simulation.world import Pace, World
from exporter.vendors import load_all

# What a person watching the demo sees change within seconds.
DEMO_INTERVAL = "5s"
DEMO_PACE = Pace(between_alerts=6.0, life=180.0, between_anomalies=30.0)
# No vendor has to be spared on loopback, and the first poll asks about an hour of history.
DEMO_RATE = 1000
HISTORY = timedelta(minutes=20)


def simulators(
    seed: int, speed: float, now: datetime, pace: Pace = DEMO_PACE, history: timedelta = HISTORY
) -> list[Simulator]:
    """Returns one simulator per vendor, each over a world of its own that has lived for a while."""
    found = []
    for place, name in enumerate(sorted(load_all())):
        module = import_module(f"exporter.vendors.{name}.simulator")
        world = World(module.TRAITS, seed=seed * 1000 + place, start=now - history, pace=pace, speed=speed)
        world.advance(now)
        found.append(module.simulator_for(world))
    return found


def settings_for(found: list[Simulator], url: str) -> dict[str, Any]:
    """Returns the configuration that polls these simulators."""
    return {
        "defaults": {"interval": DEMO_INTERVAL, "timeout": "4s", "max_requests_per_second": DEMO_RATE},
        "sources": {f"demo-{each.vendor.replace('_', '-')}": each.settings(url) for each in found},
    }


def _serve(host: str, port: int, seed: int, speed: float) -> tuple[SimulationServer, dict[str, Any]]:
    found = simulators(seed, speed, datetime.now(UTC))
    server = SimulationServer([Site(each, lambda: datetime.now(UTC)) for each in found], host=host, port=port)
    server.start()
    return server, settings_for(found, server.url)


def demo(load: Callable[[Mapping[str, Any]], config.Config], signals: Signals, health_file: HealthFile) -> int:
    """Runs the exporter on the simulated vendors until a signal.

    `load` reads the configuration over the document it is given, which names these vendors.
    """
    server, document = _serve("127.0.0.1", 0, seed=1, speed=1.0)
    if not _in_a_container():
        document["web"] = {"listen_address": "127.0.0.1:10877"}
    paths: list[str] = []

    def loaded() -> config.Config:
        read = load(document)
        paths[:] = ["/", read.web.telemetry_path]
        return read

    try:
        return app.run(loaded, signals, health_file, lambda url: _welcome(url, *paths))
    finally:
        server.stop()


def _in_a_container() -> bool:
    """Returns whether a port on loopback would be out of reach, by what container runtimes and Kubernetes leave."""
    signs = any(Path(sign).exists() for sign in ("/.dockerenv", "/run/.containerenv"))
    return signs or not os.environ.keys().isdisjoint({"container", "KUBERNETES_SERVICE_HOST"})


def _welcome(url: str, page: str, metrics: str) -> None:
    url = url.replace("[::]", "localhost").replace("0.0.0.0", "localhost")  # noqa: S104 nothing is bound here
    sys.stdout.write(
        "\nFour simulated vendors are being polled. Alerts open, are notified about and end within minutes.\n"
        f"  Status page   {url}{page}\n"
        f"  Metrics       {url}{metrics}\n"
        "Ctrl-C stops the demo.\n\n"
    )
    sys.stdout.flush()


def simulate(listen: str, seed: int, speed: float) -> int:
    """Serves the simulated vendors until a signal, and prints a configuration that polls them."""
    try:
        place = config.address_from(listen)
    except ValueError:
        place = None
    if place is None:
        raise ConfigError("--listen: must be :PORT, HOST:PORT or [IPV6]:PORT to serve the simulated vendors on")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server, document = _serve(place[0] or "0.0.0.0", place[1], seed, speed)  # noqa: S104 all interfaces if so asked
    except OSError as error:
        raise ConfigError(f"--listen: cannot listen on {listen}: {error.strerror}; choose another address") from error
    print(yaml.safe_dump(document, sort_keys=False), end="", flush=True)  # noqa: T201 the command's output
    stop.wait()
    server.stop()
    return 0
