"""The shipped rules on a real Prometheus and Alertmanager: what fires is what is open, and is taken back when it ends.

Vendors fail, the exporter restarts and its pod is replaced meanwhile. A webhook writes down every notification.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import httpx
import pytest

from exporter.demo import simulators
from exporter.simulation.network import Fault, FaultKind, Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.world import Incident, Pace
from tests.deploy.queries import RULES
from tests.e2e.processes import Prometheus, free_port, process, until
from tests.programs import program

pytestmark = pytest.mark.e2e

# A changed severity is another alert, since routes go by it.
PACE = Pace(between_alerts=15.0, life=250.0, severity_changed=0.0)
SPEED = 10.0
INTERVAL = 2.0
# One poll, one scrape, one evaluation of the recording and one of the alert rules.
LAG = timedelta(seconds=INTERVAL + 1 + 1 + 1)

Key = tuple[str, str]


class Notification(NamedTuple):
    status: str
    at: datetime
    alert: Key


@contextmanager
def webhook() -> Iterator[tuple[int, list[Notification]]]:
    """A receiver that writes down what Alertmanager says of each alert; its port, and what it wrote."""
    written: list[Notification] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = datetime.now(UTC)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                labels = alert["labels"]
                written.append(Notification(alert["status"], at, (labels["vendor"], labels["key"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], written
        finally:
            server.shutdown()
            thread.join()


KEYS: dict[str, Callable[[Incident], str]] = {
    "baidu_bls": lambda incident: f"{incident.number:x}",
    "blueking": lambda incident: str(incident.number),
    "huawei_aom": lambda incident: str(incident.number),
    "key_astrom": lambda incident: str(round(incident.started.timestamp() * 1000)),
}
# The part of a vendor's key that the ledger knows, too.
KNOWN: dict[str, Callable[[str], str]] = {
    "baidu_bls": lambda key: f"{int(key.removeprefix('a-'), 16):x}",
    "blueking": lambda key: str(int(key[10:])),
    "huawei_aom": lambda key: str(int(key) - 1_290_000_000_000_000_000),
    "key_astrom": lambda key: key.rpartition("_")[2],
}


class Ledger:
    """What truly happened to the alerts of all vendors since a time, and when nobody could see it."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = sites
        self._blind: list[tuple[set[str], datetime, datetime]] = []
        self.since = datetime.now(UTC)

    def alerts(self) -> dict[Key, Incident]:
        now = datetime.now(UTC)
        return {
            (site.simulator.vendor, KEYS[site.simulator.vendor](incident)): incident
            for site in self._sites
            for incident in list(site.simulator.world.incidents)
            if not incident.is_event and incident.visible <= now
        }

    @contextmanager
    def blind(self, sites: Sequence[Site]) -> Iterator[None]:
        """Note that these vendors cannot be read within the block."""
        begun = datetime.now(UTC)
        yield
        self._blind.append(({site.simulator.vendor for site in sites}, begun, datetime.now(UTC)))

    def due(self, key: Key, alert: Incident) -> datetime:
        """When an alert could first be seen."""
        at = max(alert.visible, self.since)
        for vendors, begun, ended in self._blind:
            if key[0] in vendors and begun - LAG <= at < ended:
                at = ended
        return at

    def open_since(self, at: datetime) -> set[Key]:
        """The alerts that were open from then on."""
        return {key for key, alert in self.alerts().items() if alert.ending is None and alert.visible <= at}

    def open_at_or_after(self, at: datetime) -> set[Key]:
        """The alerts that were open at that time or later."""
        return {key for key, alert in self.alerts().items() if alert.ended is None or alert.ended >= at}


class Pods:
    """The exporter as a pod that can be stopped, started and replaced, and the list of targets Prometheus reads."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._config = folder / "exporter.json"
        self._config.write_text(json.dumps(settings))
        self.targets = folder / "targets.json"
        self._count = 0
        self._running = ExitStack()
        self._port = 0

    def start(self, port: int | None = None) -> None:
        self._port = port or free_port()
        command = ("run", f"--config.file={self._config}", f"--web.listen-address=127.0.0.1:{self._port}")
        self._running.enter_context(process(self._folder, "exporter", sys.executable, "-m", "exporter", *command))

    def discover(self) -> None:
        """Let Prometheus know this pod, and no other."""
        self._count += 1
        labels = {"pod": f"exporter-{self._count}", "container": "exporter", "service": "e", "endpoint": "metrics"}
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": [f"127.0.0.1:{self._port}"], "labels": labels}]))
        new.replace(self.targets)

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        time.sleep(4)
        self.start(self._port)
        self.wait()

    def replace(self) -> None:
        """Stop this pod and start another, which has another address and name."""
        self.stop()
        self.start()
        self.discover()
        self.wait()

    def wait(self) -> None:
        until(lambda: answers(f"http://127.0.0.1:{self._port}/-/ready"), "the exporter has polled")


def configure(folder: Path, targets: Path, manager: int, hook: int) -> tuple[Path, Path]:
    """Write the configurations of Prometheus, with the rules as they are shipped, and of Alertmanager."""
    prometheus, alertmanager = folder / "prometheus.yaml", folder / "alertmanager.yaml"
    scrape = {
        "job_name": "exporter",
        "honor_labels": True,
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }
    prometheus.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES / "*.yaml")],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
                "scrape_configs": [scrape],
            }
        )
    )
    each_alone = {"group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "4h"}
    alertmanager.write_text(
        json.dumps(
            {
                "route": {
                    "receiver": "nobody",
                    "routes": [{"matchers": ['alertname="VendorAlert"'], "receiver": "webhook", **each_alone}],
                },
                "receivers": [
                    {"name": "nobody"},
                    {"name": "webhook", "webhook_configs": [{"url": f"http://127.0.0.1:{hook}/", "max_alerts": 0}]},
                ],
            }
        )
    )
    return prometheus, alertmanager


def firing(manager: int) -> set[Key]:
    """The alerts of vendors that fire in Alertmanager, by the part of their keys that the ledger knows."""
    answer = httpx.get(
        f"http://127.0.0.1:{manager}/api/v2/alerts",
        params={"filter": 'alertname="VendorAlert"'},
        trust_env=False,
    )
    return {known((alert["labels"]["vendor"], alert["labels"]["key"])) for alert in answer.json()}


def known(alert: Key) -> Key:
    return alert[0], KNOWN[alert[0]](alert[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_what_fires_is_what_is_open_and_each_alert_fires_and_resolves_once(tmp_path: Path) -> None:
    prometheus_command, manager_command = program("prometheus"), program("prometheus-alertmanager")
    found = simulators(seed=11, speed=SPEED, now=datetime.now(UTC), pace=PACE, history=timedelta(minutes=1))
    sites = [Site(each, lambda: datetime.now(UTC)) for each in found]
    server = SimulationServer(sites)
    server.start()
    settings = {
        "defaults": {"interval": f"{INTERVAL:g}s", "timeout": f"{INTERVAL:g}s", "max_requests_per_second": 500},
        "metrics": {
            "alert_info": True,
            "stale_after": f"{3 * INTERVAL:g}s",
            "owners": [{"owner": "first", "match": {"source": "[bh].*"}}],
        },
        "sources": {each.vendor: each.settings(server.url) for each in found},
    }
    ledger = Ledger(sites)
    pods = Pods(tmp_path, settings)
    manager, prometheus_port = free_port(), free_port()
    begun = time.monotonic()

    def agrees() -> bool:
        """Whether what fires is what is open, but for what changed within one poll and evaluation."""
        now = datetime.now(UTC)
        shown = firing(manager)
        return ledger.open_since(now - LAG) <= shown <= ledger.open_at_or_after(now - LAG)

    def agreed(what: str) -> None:
        until(agrees, f"after {what}, Alertmanager has what is open", seconds=60)
        print(f"{time.monotonic() - begun:6.0f} s  {len(firing(manager)):4} fire as the ledger says, after {what}")

    def still_there(before: set[Key], what: str) -> None:
        kept = firing(manager)
        assert before & ledger.open_since(datetime.now(UTC)) <= kept, what

    with ExitStack() as stack:
        hook, written = stack.enter_context(webhook())
        prometheus_config, manager_config = configure(tmp_path, pods.targets, manager, hook)
        stack.callback(server.stop)
        stack.callback(pods.stop)
        pods.start()
        pods.discover()
        stack.enter_context(
            process(
                tmp_path,
                "alertmanager",
                str(manager_command),
                f"--config.file={manager_config}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{manager}",
                "--cluster.listen-address=",
            )
        )
        until(lambda: answers(f"http://127.0.0.1:{manager}/-/ready"), "Alertmanager is ready")
        stack.enter_context(
            process(
                tmp_path,
                "prometheus",
                str(prometheus_command),
                f"--config.file={prometheus_config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
            )
        )
        until(Prometheus(f"http://127.0.0.1:{prometheus_port}").is_ready, "Prometheus is ready")
        pods.wait()
        ledger.since = datetime.now(UTC)
        agreed("the start")
        with failing(ledger, sites[:2]):
            before = firing(manager)
            time.sleep(5 * INTERVAL)  # longer than stale_after: the gauges are withdrawn
            still_there(before, "an outage of two vendors")
        agreed("an outage of two vendors")
        with ledger.blind(sites):
            pods.restart()
        agreed("a restart of the exporter")
        with ledger.blind(sites):
            pods.replace()
        agreed("a replaced pod")
        with failing(ledger, sites[2:]):
            time.sleep(2 * INTERVAL)
            before = firing(manager)
            pods.replace()
            time.sleep(4 * INTERVAL)
            still_there(before, "a pod replaced during an outage")
        agreed("a pod replaced during an outage")
        with failing(ledger, sites):
            before = firing(manager)
            pods.restart()
            time.sleep(2 * INTERVAL)
            still_there(before, "a restart during an outage of all vendors")
        agreed("a restart during an outage of all vendors")
        for site in sites:
            site.simulator.world.rest()
        until(lambda: firing(manager) == ledger.open_since(datetime.now(UTC)), "exactly what is open fires", seconds=60)
        until(lambda: settled(ledger, written), "every end was told of", seconds=60)

    assert summary(ledger, written) == {"false": 0, "twice": 0, "unknown": 0, "missing": 0}


@contextmanager
def failing(ledger: Ledger, sites: Sequence[Site]) -> Iterator[None]:
    """Let the vendors answer with errors within the block."""
    with ledger.blind(sites):
        for site in sites:
            site.faults[:] = [Fault(kind=FaultKind.STATUS, status=500)]
        yield
        for site in sites:
            site.faults[:] = []
        time.sleep(4 * INTERVAL)  # a source that failed is asked again after up to three intervals


def ledger_ended(ledger: Ledger) -> set[Key]:
    return {key for key, alert in ledger.alerts().items() if alert.ending is not None}


def settled(ledger: Ledger, written: Sequence[Notification]) -> bool:
    """Whether every alert that fired and has ended was taken back."""
    told = {(each.status, known(each.alert)) for each in list(written)}
    fired = {key for status, key in told if status == "firing"}
    resolved = {key for status, key in told if status == "resolved"}
    return fired & ledger_ended(ledger) <= resolved


def summary(ledger: Ledger, written: Sequence[Notification]) -> dict[str, int]:
    """Print what became of the alerts of each vendor, and return how many went wrong in which way."""
    all_alerts = ledger.alerts()
    # What had ended when all was up may still have been seen.
    alerts = {key: alert for key, alert in all_alerts.items() if alert.ended is None or alert.ended >= ledger.since}
    told = [Notification(each.status, each.at, known(each.alert)) for each in written]
    wrong = Counter({"false": 0, "twice": 0, "unknown": len({each.alert for each in told} - all_alerts.keys())})
    columns = ("opened", "fired", "resolved", "open", "unseen", "false", "twice", "late")
    print(f"{'':12}" + "".join(f"{column:>9}" for column in columns))
    for vendor in KEYS:
        of_vendor = {key: alert for key, alert in alerts.items() if key[0] == vendor}
        fired = [each for each in told if each.status == "firing" and each.alert in of_vendor]
        resolved = [each for each in told if each.status == "resolved" and each.alert in of_vendor]
        seen, ended = {each.alert for each in fired}, {each.alert for each in resolved}
        still_open = {key for key, alert in of_vendor.items() if alert.ending is None}
        false = [each for each in resolved if (end := of_vendor[each.alert].ended) is None or each.at < end]
        late = [each for each in fired if each.at - ledger.due(each.alert, of_vendor[each.alert]) > LAG]
        twice = len(fired) - len(seen) + len(resolved) - len(ended)
        unseen = of_vendor.keys() - seen - still_open
        missing = (still_open - seen) | (seen - still_open - ended)
        wrong.update({"false": len(false), "twice": twice, "missing": len(missing)})
        counts = (of_vendor, fired, resolved, still_open, unseen, false)
        row = "".join(f"{n:>9}" for n in (*map(len, counts), twice, len(late)))
        print(f"{vendor:12}{row}")
    return dict(wrong)
