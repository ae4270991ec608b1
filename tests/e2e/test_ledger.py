"""The real process against the simulated vendors over real sockets: every counter equals the ledger."""

import json
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo import simulators
from exporter.simulation.network import Fault, FaultKind, Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.truth import Since
from exporter.simulation.wire import Quirk
from exporter.simulation.world import Pace

pytestmark = pytest.mark.e2e

# Things happen every second or so, yet rarely twice in the second that is the finest time of two vendors.
PACE = Pace(between_alerts=6.0, life=100.0, between_anomalies=60.0, late_by=60.0, severity_changed=0.0)
SPEED = 10.0
# What was late when the exporter starts would appear, and a job end, at a moment that no test can know.
PUNCTUAL = msgspec.structs.replace(PACE, late=0.0, jobs=0.0)


@contextmanager
def running(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """The exporter as a process; its URL. It has to end by itself with 0 when told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "exporter",
        "run",
        f"--config.file={file}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0, (folder / "log").read_text()


def until(done: Any, seconds: float = 30.0) -> None:
    """Waits for something that the other process does."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


Metrics = dict[str, defaultdict[tuple[str, ...], float]]


def metrics(url: str) -> Metrics:
    """Every sample by metric name; its labels but for the source, in their order."""
    found: Metrics = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text):
        for sample in family.samples:
            labels = tuple(value for name, value in sample.labels.items() if name != "source")
            found.setdefault(sample.name, defaultdict(float))[labels] += sample.value
    return found


TOLD = {
    "opened": "vendor_alerts_opened_total",
    "open": "vendor_alerts_open",
    "acknowledged": "vendor_alerts_acknowledged",
    "suppressed": "vendor_alerts_suppressed",
    "closed": "vendor_alerts_closed_total",
    "operations": "vendor_alert_operations_total",
    "operation_failures": "vendor_alert_operation_failures_total",
    "convergences": "vendor_alert_convergences_total",
    "converged_anomalies": "vendor_alert_converged_anomalies_total",
    "notices": "vendor_alert_notices_total",
    "notice_failures": "vendor_alert_notice_failures_total",
    "notices_suppressed": "vendor_alert_notices_suppressed_total",
    "events": "vendor_events_total",
}


def test_every_counter_equals_the_ledger_after_duplicates_late_rows_and_page_shifts(
    tmp_path: Path,
) -> None:
    found = simulators(seed=7, speed=SPEED, now=datetime.now(UTC), pace=PUNCTUAL, history=timedelta(minutes=2))
    sites = [Site(each, lambda: datetime.now(UTC)) for each in found]
    for each in found:
        each.world.rest()
    server = SimulationServer(sites)
    server.start()
    sources = {each.vendor: each.settings(server.url) for each in found}
    for settings in sources.values():
        settings |= {"interval": "4s", "max_requests_per_second": 500, "max_detail_requests": 2000}
    sources["baidu_bls"]["detail_interval"] = "4s"
    # What is done about an alert takes three minutes, at this speed 18 s.
    sources["blueking"]["detail_interval"] = sources["huawei_aom"]["notice_recheck"] = "20s"
    time.sleep(1.1)  # so that nothing of the history lies in the second in which counting begins
    started = datetime.now(UTC)

    with running({"sources": sources}, tmp_path) as url:
        until(lambda: is_ready(url))
        since = Since(counted_from=started, first_success=datetime.now(UTC))
        time.sleep(4.5)
        for each in found:
            each.page_size_limit = 100
            each.world.begin(PACE)
        for quirk in (Quirk.DUPLICATE_ROWS, Quirk.SHIFT_ROWS, None, None):
            for site in sites:
                site.simulator.quirks = {quirk} if quirk else set()
                site.faults = (
                    [] if quirk else [Fault(kind=FaultKind.STATUS, times=3), Fault(kind=FaultKind.RESET, times=2)]
                )
            time.sleep(7)
        for site in sites:
            site.simulator.world.rest()
            site.faults = []
        # Late rows, results that settle and details that wait for their turn need some polls more; and that a notice
        # has no receiver is believed after a minute.
        end = time.monotonic() + 90
        while differences(sites, since, exposed := metrics(url)) and time.monotonic() < end:
            time.sleep(1)
    server.stop()

    compared = sum(len(exposed.get(metric, ())) for metric in TOLD.values())
    opened = sum(exposed["vendor_alerts_opened_total"].values())
    assert differences(sites, since, exposed) == []
    assert opened > 40
    print(f"{compared} series of a running exporter equal the ledger after {opened:.0f} alerts opened")


def differences(sites: list[Site], since: Since, exposed: Metrics) -> list[str]:
    """Where the exporter tells something else than the ledger; what a vendor cannot tell is not there at all."""
    found = []
    for site in sites:
        vendor = site.simulator.vendor
        truth = msgspec.structs.asdict(site.simulator.truth(since))
        if not exposed["vendor_source_up"][vendor,]:
            found.append(f"{vendor}: down")
        for name, metric in TOLD.items():
            rows = {labels[1:]: n for labels, n in exposed.get(metric, {}).items() if labels[0] == vendor}
            told = {labels: n for labels, n in rows.items() if n}
            due = truth[name] if isinstance(truth[name], dict) else {(): truth[name]}
            expected = {tuple(map(str, k)) if isinstance(k, tuple) else (str(k),): n for k, n in due.items() if n}
            if rows and told != expected:
                found.append(f"{vendor}: {metric} is {told}, the ledger says {expected}")
    return found
