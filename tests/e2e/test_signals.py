"""Stops and reloads of the real process, whatever it is stuck in: the start, its log, its event loop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.simulation.network import Fault, FaultKind
from tests.e2e.test_ledger import until
from tests.e2e.test_lifecycle import RUN, SIGNALS, STOP_SECONDS, Vendors, exporter, vendors

__all__ = ["vendors"]
pytestmark = pytest.mark.e2e

# A signal that arrives in a callback, where an exception would be printed and forgotten.
IN_A_CALLBACK = """
import os, signal, time, weakref
from exporter.signals import Signals
class Thing: ...
signals = Signals()
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing
time.sleep(60)
"""

# The event loop stops turning at the fourth poll.
STUCK_LOOP = """
import itertools, sys, time
from exporter.polling.poller import Poller
poll, polls = Poller.poll, itertools.count()
async def stuck(self):
    if next(polls) == 3:
        time.sleep(60)
    return await poll(self)
Poller.poll = stuck
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def unread(folder: Path, config: dict[str, Any], *, full: bool) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    """A process whose log nobody reads, from a pipe that is full or will soon be; its URL, and the end to read from."""
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    reading, writing = os.pipe()
    with suppress(OSError):
        import fcntl

        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    if full:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 512)
        os.set_blocking(writing, True)
    port = free_port()
    command = [sys.executable, *RUN, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen([*command, "--log.level=debug"], stderr=writing, stdout=subprocess.DEVNULL)
    os.close(writing)
    try:
        yield process, f"http://127.0.0.1:{port}", reading
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def answered(url: str, path: str) -> httpx.Response | None:
    with suppress(httpx.TransportError):
        return httpx.get(url + path, trust_env=False, timeout=10)
    return None


def value(url: str, start: str) -> float:
    answer = answered(url, "/metrics")
    lines = answer.text.splitlines() if answer is not None else []
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(start)), -1.0)


@pytest.mark.parametrize("full", [False, True])
def test_a_log_that_nobody_reads_stops_neither_polls_nor_signals(tmp_path: Path, vendors: Vendors, full: bool) -> None:
    site = vendors.sites["blueking"]
    with unread(tmp_path, vendors.config("blueking", interval="500ms"), full=full) as (process, url, _):
        until(lambda: (answer := answered(url, "/-/ready")) is not None and answer.status_code == 200)
        for _ in range(40):  # each is a line or two, of which the pipe takes about 20
            process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        until(lambda: not full or value(url, "vendor_exporter_log_lines_dropped_total") >= 0)
        polls = value(url, "vendor_source_polls_total")
        calls = sum(site.calls.values())

        until(lambda: value(url, "vendor_source_polls_total") > polls + 2)

        assert sum(site.calls.values()) > calls
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=STOP_SECONDS) == 0


@SIGNALS
def test_a_stop_works_while_the_event_loop_is_stuck(tmp_path: Path, vendors: Vendors, number: int) -> None:
    config = vendors.config("blueking", interval="1s", timeout="1s")
    with exporter(tmp_path, config, code=("-c", STUCK_LOOP)) as running:
        until(lambda: running.get("/-/healthy").status_code == 503)

        assert running.ends(number) == 0


def test_a_second_stop_works_while_the_event_loop_is_stuck(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking", interval="1s", timeout="1s")
    with exporter(tmp_path, config, code=("-c", STUCK_LOOP)) as running:
        until(lambda: running.get("/-/healthy").status_code == 503)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two signals that wait together are one

        assert running.ends(signal.SIGTERM) == 1


def test_gauges_are_withdrawn_while_the_event_loop_is_stuck(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking", interval="1s", timeout="1s") | {"metrics": {"stale_after": "1s"}}
    with exporter(tmp_path, config, code=("-c", STUCK_LOOP)) as running:
        until(lambda: "vendor_alerts_open{" in running.get("/metrics").text)

        until(lambda: "vendor_alerts_open{" not in running.get("/metrics").text)

        assert "vendor_alerts_opened_total{" in running.get("/metrics").text


def test_a_reload_asked_for_while_it_stops_changes_nothing(tmp_path: Path, vendors: Vendors) -> None:
    vendors.sites["blueking"].faults = [Fault(kind=FaultKind.HANG)]
    config = vendors.config("blueking", interval="30s", timeout="20s")
    with exporter(tmp_path, config) as running, running.connected() as raw:
        # A request whose body does not come keeps the server waiting for the end of it.
        raw.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in running.told())
        with suppress(ProcessLookupError):
            while running.process.poll() is None:
                running.process.send_signal(signal.SIGHUP)
                time.sleep(0.01)

    assert running.process.returncode == 0


def test_a_reload_asked_for_during_the_start_is_made_up_for(tmp_path: Path, vendors: Vendors) -> None:
    with exporter(tmp_path, vendors.config("blueking")) as running:
        until(lambda: hears(running.process.pid))
        running.process.send_signal(signal.SIGHUP)

        until(lambda: "configuration reloaded" in running.told())


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9])
def test_a_stop_at_any_moment_of_the_start_ends_the_process(tmp_path: Path, vendors: Vendors, moment: float) -> None:
    otlp = {"endpoint": "http://127.0.0.1:9", "logs": True}
    with exporter(tmp_path, vendors.config("blueking") | {"otlp": otlp}) as running:
        until(lambda: hears(running.process.pid))
        time.sleep(moment)

        assert running.ends(signal.SIGTERM) == 0
    assert "Traceback" not in running.told()
    assert "Exception ignored" not in running.told()


def hears(pid: int) -> bool:
    """Whether the process handles SIGTERM by now; before, it is the interpreter itself that starts."""
    caught = next(
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_stop_that_arrives_in_a_callback_is_not_lost() -> None:
    process = subprocess.Popen([sys.executable, "-c", IN_A_CALLBACK])
    try:
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
