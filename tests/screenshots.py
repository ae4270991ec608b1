"""Writes the pictures in docs/images: `python -m tests.screenshots`, where Chromium is."""

import os
import pty
import socket
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from exporter.errors import Reason
from exporter.exposition.landing import page
from exporter.model.alert import Severity
from exporter.model.snapshot import OpenAlert, ReloadState, Snapshot, SourceState
from tests.builders import an_alert
from tests.exposition.states import MOMENT, NOW, a_polled_state
from tests.programs import program

IMAGES = Path(__file__).parents[1] / "docs" / "images"

OPEN = {
    "aom-prod": [
        (Severity.CRITICAL, "Pod restarts of payments-api", "payments", 190),
        (Severity.MAJOR, "RDS connections above 90 %", "databases", 62),
        (Severity.MINOR, "ELB latency above 500 ms", "network", 25),
    ],
    "bk-idc": [
        (Severity.CRITICAL, "Disk usage of 10.4.2.9 above 95 %", "storage", 845),
        (Severity.WARNING, "CPU usage of 10.4.2.17", "storage", 12),
    ],
}


def sources() -> list[SourceState]:
    """A failing source beside two that are well."""
    found = [
        a_polled_state(
            name=name,
            vendor={"aom-prod": "huawei_aom", "bk-idc": "blueking"}[name],
            details={},
            open_by_severity={severity: [one[0] for one in alerts].count(severity) for severity, *_ in alerts},
            top_open=[
                OpenAlert(
                    an_alert(str(age), name=title, severity=severity, started_at=NOW - timedelta(minutes=age)), owner
                )
                for severity, title, owner, age in alerts
            ],
        )
        for name, alerts in OPEN.items()
    ]
    failing = a_polled_state(
        name="bls-shanghai",
        vendor="baidu_bls",
        details={},
        up=False,
        last_error="bls-log.bj.baidubce.com:443 refused the credentials (403 AccessDenied)",
        last_reason=Reason.AUTH,
        failures_in_a_row=3,
        succeeded=MOMENT - 200,
        last_success=NOW - timedelta(seconds=200),
        open_by_severity={},
    )
    return [*found, failing]


def terminal(*commands: list[str]) -> str:
    """Returns a page that shows what commands print on a terminal of 80 columns, against simulated vendors."""
    console = Console(record=True, width=80, file=StringIO(), force_terminal=True, highlight=False)
    port = unused_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        simulator = [sys.executable, "-m", "exporter", "simulate", f"--listen=127.0.0.1:{port}", "--seed=3"]
        with file.open("wb") as written, subprocess.Popen(simulator, stdout=written) as simulated:
            try:
                answers(f"http://127.0.0.1:{port}/-/simulation/")
                for command in commands:
                    console.print(
                        f"$ vendor-alert-exporter {' '.join(command)} --config.file=config.yaml", markup=False
                    )
                    whole = [sys.executable, "-m", "exporter", *command, f"--config.file={file}"]
                    console.print(Text.from_ansi(on_a_terminal(whole)))
            finally:
                simulated.terminate()
    return console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format=_SCREEN)


_SCREEN = """<body style="margin:0;background:#292929;color:#c5c8c6;display:inline-block;padding:16px 20px">
<pre style="margin:0;font:14px/1.35 monospace">{code}</pre></body>"""


def on_a_terminal(command: list[str]) -> str:
    """Returns what a command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 80))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, close_fds=True) as running:
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while more := os.read(ours, 65536):
                printed += more
        running.wait()
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def unused_port() -> int:
    """Returns a port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(url: str) -> None:
    """Waits until something answers at a URL, half a minute at most."""
    for _ in range(60):
        with suppress(httpx.TransportError):
            httpx.get(url, trust_env=False)
            return
        time.sleep(0.5)
    raise SystemExit(f"{url} does not answer")


def main() -> None:
    """Takes the pictures: the status page in light colours, and commands on a terminal."""
    reload = ReloadState(successful=True, succeeded_at=NOW)
    failed = {"aom-prod": 2, "bk-idc": 0, "bls-shanghai": 0}
    snapshot = Snapshot(at=NOW, moment=MOMENT, sources=sources(), reload=reload, notices_failed=failed)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
        shown.set_content(page(snapshot, NOW, MOMENT, "0.1.0", "/metrics"))
        shown.screenshot(path=IMAGES / "status-page.png", full_page=True)
        for command in ("poll", "doctor"):
            shown.set_content(terminal([command, "--source=demo-blueking", "--source=demo-huawei-aom"]))
            shown.locator("body").screenshot(path=IMAGES / f"{command}.png")
        browser.close()


if __name__ == "__main__":
    main()
