"""The demo, a real Prometheus that scrapes it in both formats, and our rules: data everywhere, alerts fire and clear.

A minute of the rules is a second here: the sources are polled every second instead of every minute, and each duration
in the rules is divided by sixty.
"""

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.queries import RULE_FILES, RULES, panel_queries, rules
from tests.e2e.processes import Pair, Prometheus, free_port, process, sped_up, until, write_rules
from tests.programs import program

pytestmark = pytest.mark.e2e

OWN = {
    "defaults": {"interval": "1s", "timeout": "1s", "max_requests_per_second": 1000},
    "metrics": {
        "alert_info": True,
        "stale_after": "5s",
        "owners": [{"owner": "someone", "match": {"source": "demo-[bh].*"}}],
    },
}
Faults = Mapping[str, tuple[Mapping[str, Any], Sequence[str]]]
# What each simulated vendor does wrong, and which alerts that must make fire and clear. The first takes its time and is
# under way beside the others.
PARTIAL: Faults = {
    "blueking": (
        {"faults": [{"kind": "status", "status": 500, "endpoint": "get_event_log"}]},
        ["VendorSourceDetailsFailing"],
    ),
}
FAULTS: Sequence[Faults] = [
    {
        "huawei_aom": (
            {"faults": [{"kind": "status", "status": 401}]},
            ["VendorSourceAuthFailing"],
        ),
        "key_astrom": (
            {"faults": [{"kind": "status", "status": 429}]},
            ["VendorSourceRateLimited", "VendorSourceDown", "VendorSourceStale"],
        ),
        "baidu_bls": (
            {"faults": [{"kind": "status", "status": 403}]},
            ["VendorSourcePermissionMissing"],
        ),
    },
    {
        "huawei_aom": ({"faults": [{"kind": "slow_headers", "seconds": 0.85}]}, ["VendorSourcePollSlow"]),
        "key_astrom": ({"skew_seconds": 300}, ["VendorSourceClockSkew"]),
    },
]
REFUSED = {"VendorSourceAuthFailing", "VendorSourcePermissionMissing"}
# What needs a first acknowledgement, which may take minutes.
ACKNOWLEDGED = "vendor_owner:vendor_alert_acknowledge_delay_seconds:mean"
# Dashboard queries that are rightly empty while all is well, by panel and legend, and why.
ONLY_UNDER_FAULTS = {
    ("Failed polls by reason", "{{source}} {{reason}}"): "no poll fails",
    ("Detail calls without an answer", "{{source}} {{endpoint}} {{reason}}"): "every detail call is answered",
    ("Requests not answered with 2xx", "{{source}} {{code}}"): "every request is answered",
}
NEVER = {
    ("source:vendor_source_backfilled:recent", ""): "the demo remembers what was before it and counts none of it",
    ("source_reason:vendor_source_refusals:recent", ""): "no vendor refuses us",
    ("Requests to the receiver", "{{instance}} {{signal}}"): "the demo pushes nothing by OTLP",
    ("Requests to the receiver", "{{instance}} {{signal}} failed"): "the demo pushes nothing by OTLP",
    ("Dropped", "{{instance}} {{signal}}"): "the demo pushes nothing by OTLP",
    ("Unknown values by field", "{{source}} {{field}}"): "the simulated vendors send nothing their manuals do not name",
    ("Records remembered", "{{source}} {{kind}} forgotten"): "it takes more than a million records",
}


def listening(process_id: int) -> set[int]:
    """The IPv4 ports at which a process listens."""
    sockets = set()
    for file in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed by now
            sockets.add(str(file.readlink()))
    rows = (line.split() for line in Path(f"/proc/{process_id}/net/tcp").read_text().splitlines())
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


@contextmanager
def text_only(exporter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Forwards to the exporter asking for the plain text format, which Prometheus 2.42 never does by itself.

    Its port, and the headers as Prometheus sent them and as the exporter answered.
    """
    seen: dict[str, str] = {}

    class Forwarder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen["asked"] = self.headers["Accept"]
            try:
                answer = httpx.get(exporter + self.path, headers={"Accept": "text/plain"}, trust_env=False)
            except httpx.TransportError:
                self.send_error(502)
                return
            seen["answered"] = answer.headers["Content-Type"]
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forwarder) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


class Rules(Prometheus):
    """Asks a Prometheus whether alerts fire for both scrape jobs."""

    def fired(self, *alerts: Pair) -> None:
        self._happened("fired", alerts, lambda jobs: jobs in ({"openmetrics", "text"}, {""}))

    def cleared(self, *alerts: Pair) -> None:
        self._happened("cleared", alerts, lambda jobs: not jobs)

    def _happened(self, what: str, alerts: Sequence[Pair], has: Callable[[set[str]], bool]) -> None:
        begun = time.monotonic()
        waiting = list(alerts)

        def done() -> bool:
            firing = self.firing()
            for alert in [alert for alert in waiting if has(firing.get(alert, set()))]:
                print(f"  {what:8}{time.monotonic() - begun:5.1f} s  {' '.join(alert)}")
                waiting.remove(alert)
            return not waiting

        until(done, f"{what}: {waiting}", seconds=75)


def write_config(folder: Path, jobs: dict[str, int]) -> Path:
    file = folder / "prometheus.yaml"
    file.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": write_rules(folder),
                "scrape_configs": [
                    {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                    for name, port in jobs.items()
                ],
            }
        )
    )
    return file


def test_rules_are_sped_up_in_every_place() -> None:
    text = sped_up("".join((RULES / name).read_text() for name in RULE_FILES))

    assert re.findall(r"\[\d+s\]|offset \d+s|for: \d+s|interval: \d+s", text)
    assert not re.findall(r"\[\d+[mhd]\]|offset \d+[mhd]|for: \d+[mhd]|interval: \d+[mhd]", text)


@pytest.mark.parametrize("version", ["prometheus", "prometheus-3"])
def test_alerts_fire_and_clear_and_every_query_has_data(version: str, tmp_path: Path) -> None:
    prometheus_command = program(version)
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(OWN))
    port, prometheus_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    demo = (sys.executable, "-m", "exporter", "demo", f"--web.listen-address=127.0.0.1:{port}", f"--config.file={own}")
    with ExitStack() as stack:
        first_run = stack.enter_context(ExitStack())
        exporter = first_run.enter_context(process(tmp_path, "demo", *demo))
        text_port, seen = stack.enter_context(text_only(url))
        config = write_config(tmp_path, {"openmetrics": port, "text": text_port})
        stack.enter_context(
            process(
                tmp_path,
                "prometheus",
                prometheus_command,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
            )
        )
        prometheus = Rules(f"http://127.0.0.1:{prometheus_port}")
        until(prometheus.is_ready, "Prometheus is ready")
        until(lambda: len(prometheus.query("vendor_source_up == 1")) == 8, "four sources are up in two formats")
        [simulation] = listening(exporter.pid) - {port}

        assert_both_formats_tell_the_same(prometheus, url, seen)
        assert_all_have_data(prometheus, skip={*ONLY_UNDER_FAULTS, *NEVER})
        switch(simulation, PARTIAL, on=True)
        assert_fire(prometheus, simulation, FAULTS[0])
        assert_all_have_data(prometheus, skip=NEVER, only=ONLY_UNDER_FAULTS)
        assert_clear(prometheus, simulation, FAULTS[0])
        prometheus.fired(*alerts_of(PARTIAL))
        switch(simulation, PARTIAL, on=False)
        assert_fire(prometheus, simulation, FAULTS[1])
        own.write_text("sources: 7")
        exporter.send_signal(signal.SIGHUP)
        prometheus.fired(("VendorExporterConfigReloadFailed", ""))
        own.write_text(yaml.safe_dump(OWN))
        exporter.send_signal(signal.SIGHUP)
        prometheus.cleared(("VendorExporterConfigReloadFailed", ""))
        assert_clear(prometheus, simulation, FAULTS[1])
        prometheus.cleared(*alerts_of(PARTIAL))
        until(lambda: prometheus.query(f"{ACKNOWLEDGED}3d"), "an acknowledgement is measured", seconds=90)
        first_run.close()
        prometheus.fired(("VendorExporterDown", ""))
        assert ("VendorExporterAbsent", "") not in prometheus.firing()
        stack.enter_context(process(tmp_path, "demo", *demo))
        prometheus.cleared(("VendorExporterDown", ""))


def assert_both_formats_tell_the_same(prometheus: Rules, url: str, seen: dict[str, str]) -> None:
    """Prometheus asks for OpenMetrics, the forwarder for text; the same series come of both."""
    asked = httpx.get(f"{url}/metrics", headers={"Accept": seen["asked"]}, trust_env=False)
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text")
    assert seen["answered"].startswith("text/plain")

    def series() -> list[set[frozenset[tuple[str, str]]]]:
        return [
            {
                frozenset((name, value) for name, value in each["metric"].items() if name not in {"job", "instance"})
                for each in prometheus.query(f'{{__name__=~"vendor_[^:]+", job="{job}"}}')
            }
            for job in ("openmetrics", "text")
        ]

    def same() -> int:
        openmetrics, text = series()
        return len(text) if openmetrics == text else 0

    print(f"{until(same, 'both formats tell the same series')} series in either format")


def assert_all_have_data(prometheus: Rules, *, skip: Any, only: Any = None) -> None:
    """Every recording rule and dashboard query returns samples."""
    queries = {(rule["record"], ""): rule["record"] for rule in rules() if "record" in rule and only is None}
    queries |= {(query.panel, query.legend): query.expr for query in panel_queries()}
    for (panel, legend), expr in queries.items():
        if (panel, legend) in skip or ACKNOWLEDGED in expr or (only is not None and (panel, legend) not in only):
            continue
        found = until(partial(prometheus.query, expr), f"{panel} {legend}: {expr}", seconds=45)
        print(f"{len(found):5} samples  {panel} {legend}")


def switch(simulation: int, faults: Faults, *, on: bool) -> None:
    """Tells the simulation of the demo what goes wrong at each vendor from now on."""
    for vendor, (body, _) in faults.items():
        control = f"http://127.0.0.1:{simulation}/-/simulation/{vendor}"
        assert httpx.put(control, json=body if on else {}, trust_env=False).status_code == 200


def alerts_of(faults: Faults) -> list[Pair]:
    return [(alert, f"demo-{vendor.replace('_', '-')}") for vendor, (_, alerts) in faults.items() for alert in alerts]


def assert_fire(prometheus: Rules, simulation: int, faults: Faults) -> None:
    critical = {alert for alert in prometheus.firing() if alert[0] == "VendorAlertsCriticalOpen"}
    assert not set(alerts_of(faults)) & prometheus.firing().keys()

    switch(simulation, faults, on=True)

    prometheus.fired(*alerts_of(faults))
    refused = {source for alert, source in prometheus.firing() if alert in REFUSED}
    blamed = {source for alert, source in prometheus.firing() if alert in {"VendorSourceDown", "VendorSourceStale"}}
    assert not refused & blamed
    # A source that has stopped answering has no all-clear to give.
    stale = {source for alert, source in prometheus.firing() if alert == "VendorSourceStale"}
    held = {alert for alert in critical if alert[1] in stale}
    assert held <= prometheus.firing().keys()
    print(f"  {len(held)} of {len(stale)} stale sources keep their critical alerts firing")


def assert_clear(prometheus: Rules, simulation: int, faults: Faults) -> None:
    switch(simulation, faults, on=False)

    prometheus.cleared(*alerts_of(faults))
