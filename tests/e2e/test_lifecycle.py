"""The real process: it starts or says why not, stops in time whatever hangs, and reloads without losing a count."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from exporter.demo import settings_for, simulators
from exporter.simulation.network import Fault, FaultKind, Site
from exporter.simulation.server import SimulationServer
from tests.builders import known
from tests.e2e.test_ledger import until

pytestmark = pytest.mark.e2e

RUN = ("-m", "exporter", "run")
LAST_SUCCESS = "vendor_source_last_success_timestamp_seconds"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
# What the process promises is 2 s. Waiting longer would only be the machine's fault, which others use at the same time.
STOP_SECONDS = 2.0
# As long as it takes a resolver that does not answer to be given up.
SLOW_LOOK_UP = """
import socket, sys, time
look_up = socket.getaddrinfo
def slow(host, *args, **kwargs):
    if str(host).startswith("slow"):
        time.sleep(30)
    return look_up(host, *args, **kwargs)
socket.getaddrinfo = slow
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


# A defect in what makes the text, from the second time on.
BROKEN_RENDERER = """
import sys
from exporter.exposition.prometheus import Renderer
render = Renderer.render
def broken(self, *args):
    Renderer.render = lambda *_: 1 / 0
    return render(self, *args)
Renderer.render = broken
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


# A defect in what reads the configuration, from the second time on.
BROKEN_READER = """
import sys
from exporter import config
load = config.load
def broken(**layers):
    config.load = lambda **_: 1 / 0
    return load(**layers)
config.load = broken
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


# What is imported first takes its time.
SLOW_START = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "exporter.app":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
from exporter.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Exporter:
    """A running exporter, its configuration file and its log."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *flags: str,
        code: tuple[str, ...] = RUN,
        before: tuple[str, ...] = (),
    ) -> None:
        self.file = folder / "config.yaml"
        self.log = folder / "log"
        self.write(config)
        command = [*before, sys.executable, *code, f"--config.file={self.file}", *flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def write(self, config: Mapping[str, Any]) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(config))
        fresh.rename(self.file)

    def told(self) -> str:
        return self.log.read_text()

    @property
    def url(self) -> str:
        """Where it listens, as soon as it does."""
        until(lambda: "listening on" in self.told() or self.process.poll() is not None)
        found = re.search(r'listening on http://127\.0\.0\.1:([0-9]+)"', self.told())
        assert found, self.told()
        return f"http://127.0.0.1:{found[1]}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=10)

    def post(self, path: str) -> httpx.Response:
        return httpx.post(self.url + path, trust_env=False, timeout=10)

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=10)

    def is_ready(self) -> bool:
        return self.get("/-/ready").status_code == 200

    def polled(self) -> Mapping[str, float]:
        """How often each source was polled."""
        return self.by_source("vendor_source_polls_total")

    def by_source(self, name: str) -> Mapping[str, float]:
        """The sum of a family's series of each source."""
        found: defaultdict[str, float] = defaultdict(float)
        for source, value in re.findall(f'^{name}{{source="(.+?)",.*}} (.+)$', self.get("/metrics").text, re.MULTILINE):
            found[source] += float(value)
        return found

    def polls_on(self) -> None:
        """Waits until every source has succeeded in a poll that began from now on."""
        for _ in range(2):  # the first may be under way
            until(partial(self._succeeded_since, time.time()))

    def _succeeded_since(self, moment: float) -> bool:
        return min(self.by_source(LAST_SUCCESS).values()) > moment

    def ends(self, number: int) -> int:
        """The exit code after a signal; TimeoutExpired if it does not end as soon as it promises."""
        self.process.send_signal(number)
        return self.process.wait(timeout=STOP_SECONDS)


@contextmanager
def exporter(folder: Path, config: Mapping[str, Any], *flags: str, **options: Any) -> Iterator[Exporter]:
    running = Exporter(folder, config, *flags, "--web.listen-address=127.0.0.1:0", **options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


class Vendors:
    """The four simulated vendors on loopback."""

    def __init__(self) -> None:
        found = simulators(seed=3, speed=1.0, now=datetime.now(UTC))
        self.sites = {each.vendor: Site(each, lambda: datetime.now(UTC)) for each in found}
        self.server = SimulationServer(list(self.sites.values()))
        self.server.start()
        settings = settings_for(found, self.server.url)
        self.sources: dict[str, Any] = {each["vendor"]: each for each in settings["sources"].values()}

    def config(self, *vendors: str, **changes: Any) -> dict[str, Any]:
        """A configuration that polls these vendors often."""
        defaults = {"interval": "1s", "max_requests_per_second": 1000, **changes}
        return {"defaults": defaults, "sources": {name: self.sources[name] for name in vendors}}


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    found = Vendors()
    yield found
    found.server.stop()


@contextmanager
def deaf() -> Iterator[str]:
    """An address where a connection is never made: the queue of those to be accepted is full."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(socket.socket()))
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            one = stack.enter_context(closing(socket.socket()))
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@SIGNALS
def test_a_signal_ends_the_process_whatever_its_polls_wait_for(tmp_path: Path, vendors: Vendors, number: int) -> None:
    vendors.sites["blueking"].faults = [Fault(kind=FaultKind.HANG)]
    vendors.sites["huawei_aom"].faults = [Fault(kind=FaultKind.DRIP)]
    config = vendors.config("blueking", "huawei_aom", "key_astrom", interval="30s", timeout="20s")
    slow = vendors.sources["baidu_bls"] | {"interval": "1s"}
    config["sources"]["looks-up"] = slow | {"endpoint": "http://slow.invalid"}
    with (
        deaf() as address,
        exporter(tmp_path, config | {"sources": config["sources"]}, code=("-c", SLOW_LOOK_UP)) as running,
    ):
        running.write(config | {"sources": config["sources"] | {"connects": slow | {"endpoint": address}}})
        assert running.url
        running.process.send_signal(signal.SIGHUP)
        until(lambda: vendors.sites["blueking"].faults and running.polled().get("key_astrom", 0) > 0)
        until(lambda: "reloaded" in running.told())
        time.sleep(1.5)  # by now every source has begun its first poll, and all but one wait in it

        code = running.ends(number)

    assert code == 0
    assert "stopping" in running.told()
    assert "Traceback" not in running.told()


@SIGNALS
def test_a_signal_before_the_first_poll_ends_the_process(tmp_path: Path, vendors: Vendors, number: int) -> None:
    with exporter(tmp_path, vendors.config(*vendors.sources, interval="60s")) as running:
        assert running.url

        assert running.ends(number) == 0


def test_a_signal_before_anything_is_set_up_ends_the_process(tmp_path: Path) -> None:
    # A configuration from a pipe that says nothing holds the start up where a test can find it.
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen([sys.executable, *RUN, f"--config.file={tmp_path / 'pipe'}"], stderr=subprocess.DEVNULL)
    with (tmp_path / "pipe").open("w"):  # opens as soon as the other side reads
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=STOP_SECONDS) == 0


@SIGNALS
def test_a_signal_before_anything_is_imported_ends_the_process(tmp_path: Path, vendors: Vendors, number: int) -> None:
    with exporter(tmp_path, vendors.config("blueking"), code=("-c", SLOW_START)) as running:
        until(lambda: "importing" in running.told())

        assert running.ends(number) == 0
    assert "Traceback" not in running.told()


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, vendors: Vendors) -> None:
    with exporter(tmp_path, vendors.config("blueking")) as running, running.connected() as raw:
        # A request whose body does not come keeps the server waiting for the end of it.
        raw.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in running.told())
        running.process.send_signal(signal.SIGTERM)

        assert running.process.wait(timeout=STOP_SECONDS) == 1


def test_a_scrape_in_flight_is_finished(tmp_path: Path, vendors: Vendors) -> None:
    with exporter(tmp_path, vendors.config("blueking")) as running:
        until(running.is_ready)
        with running.connected() as raw:
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            running.process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: raw.recv(65536), b""))

        assert running.process.wait(timeout=STOP_SECONDS) == 0
    assert answer.startswith(b"HTTP/1.1 200 ")
    length = int(known(re.search(rb"content-length: ([0-9]+)", answer))[1])
    assert len(answer.partition(b"\r\n\r\n")[2]) == length


def test_a_defect_in_telling_ends_the_process_rather_than_freezing_the_metrics(
    tmp_path: Path, vendors: Vendors
) -> None:
    with exporter(tmp_path, vendors.config("blueking"), code=("-c", BROKEN_RENDERER)) as running:
        assert running.process.wait(timeout=20) == 1

    [line] = [line for line in running.told().splitlines() if "crashed" in line]
    assert line.startswith("ts=")
    assert "ZeroDivisionError" in line


def test_names_that_are_looked_up_for_ever_delay_no_other_source(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking", interval="1s")
    for place in range(12):
        config["sources"][f"slow-{place}"] = vendors.sources["key_astrom"] | {"endpoint": f"http://slow{place}.invalid"}
    with exporter(tmp_path, config, code=("-c", SLOW_LOOK_UP)) as running:
        config["sources"]["blueking"] = config["sources"]["blueking"] | {
            "endpoint": vendors.server.url.replace("127.0.0.1", "localhost")
        }
        until(lambda: running.polled().get("slow-11", 0) >= 2)
        running.write(config)

        running.process.send_signal(signal.SIGHUP)  # the name of this vendor is looked up only now

        until(lambda: 'vendor_source_up{source="blueking",vendor="blueking"} 1' in running.get("/metrics").text, 5)


def reloaded_by_post(running: Exporter) -> None:
    assert running.post("/-/reload").status_code == 200


def reloaded_by_signal(running: Exporter) -> None:
    before = running.told().count("configuration reloaded")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.told().count("configuration reloaded") > before)


@pytest.mark.parametrize("reload", [reloaded_by_post, reloaded_by_signal])
def test_a_reload_adds_removes_and_changes_sources_and_leaves_the_others_their_counts(
    tmp_path: Path, vendors: Vendors, reload: Callable[[Exporter], None]
) -> None:
    """A source that is read in another way counts on; one that reads something else begins again."""
    names = ["vendor_source_polls_total", "vendor_source_requests_total", "vendor_source_records_total"]
    config = vendors.config("blueking", "huawei_aom", "key_astrom")
    config["sources"]["another"] = vendors.sources["key_astrom"] | {"event_selector": 'eventType("A")'}
    with exporter(tmp_path, config, "--web.enable-lifecycle") as running:
        until(lambda: min(running.polled().values(), default=0) >= 3)
        before = {name: running.by_source(name) for name in names}
        config["sources"] = {
            "blueking": vendors.sources["blueking"],
            "baidu_bls": vendors.sources["baidu_bls"],
            "key_astrom": vendors.sources["key_astrom"] | {"overlap": "20m"},
            "another": vendors.sources["key_astrom"] | {"event_selector": 'eventType("B")', "interval": "1h"},
        }
        running.write(config)

        reload(running)

        until(lambda: running.polled().get("baidu_bls", 0) >= 1)
        after = {name: running.by_source(name) for name in names}
    assert after["vendor_source_polls_total"].keys() == {"another", "baidu_bls", "blueking", "key_astrom"}
    for name in names:
        assert all(after[name][source] >= before[name][source] > 0 for source in ("blueking", "key_astrom")), name
    assert after["vendor_source_polls_total"]["another"] <= 1 < before["vendor_source_polls_total"]["another"]


def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking")
    with exporter(tmp_path, config, "--web.enable-lifecycle") as running:
        until(running.is_ready)
        answers = []
        for bad in (
            "sources: [",
            "sources: {}",
            '{"sources": {"blueking": {"vendor": "acme"}}}',
            "[" * 100_000,
            "\x00",
            "sources: &a {x: *a}",
            json.dumps(config).replace("http://127.0.0.1", "https://\\u2603.example"),
        ):
            running.file.write_text(bad)
            answers.append(running.post("/-/reload"))
        running.file.unlink()
        answers.append(running.post("/-/reload"))
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.told().count("the old configuration stays") == len(answers) + 1)
        broken = running.get("/metrics").text
        running.polls_on()
        running.write(config)
        reloaded_by_post(running)
        mended = running.get("/metrics").text

    assert {answer.status_code for answer in answers} == {500}
    assert "sources.blueking.vendor: unknown vendor" in answers[2].text
    assert "Traceback" not in running.told() + "".join(answer.text for answer in answers)
    assert "vendor_exporter_config_last_reload_successful 0\n" in broken
    assert 'vendor_source_up{source="blueking",vendor="blueking"} 1' in broken
    assert "vendor_exporter_config_last_reload_successful 1\n" in mended


def test_a_defect_in_reading_the_configuration_costs_nothing_that_is_counted(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking")
    with exporter(tmp_path, config, "--web.enable-lifecycle", code=("-c", BROKEN_READER)) as running:
        until(running.is_ready)
        answer = running.post("/-/reload")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.told().count("the old configuration stays") == 2)
        running.polls_on()
        metrics_after = running.get("/metrics").text

    assert answer.status_code == 500
    assert "a defect of the exporter" in answer.text
    assert "ZeroDivisionError" in running.told()
    assert "vendor_exporter_config_last_reload_successful 0\n" in metrics_after


def test_reloads_at_once_come_one_after_the_other(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("blueking", "key_astrom")
    with exporter(tmp_path, config, "--web.enable-lifecycle") as running:
        until(running.is_ready)
        statuses: list[int] = []
        posts = [Thread(target=lambda: statuses.append(running.post("/-/reload").status_code)) for _ in range(8)]
        for place, post in enumerate(posts):
            running.write(config | {"defaults": config["defaults"] | {"overlap": f"{place + 1}m"}})
            post.start()
            running.process.send_signal(signal.SIGHUP)
        for post in posts:
            post.join()
        until(lambda: running.told().count("configuration reloaded") > len(posts))
        running.polls_on()

        assert statuses == [200] * len(posts)
        assert set(running.polled()) == {"blueking", "key_astrom"}
        assert running.ends(signal.SIGTERM) == 0
    assert "Traceback" not in running.told()


def test_a_file_is_replaced_as_kubernetes_does_and_nothing_is_left_open(tmp_path: Path, vendors: Vendors) -> None:
    def mounted(name: str, config: Mapping[str, Any], secret: str) -> None:
        """Files of a volume are links through `..data`, which is swapped for the next version as a whole."""
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(json.dumps(config))
        (tmp_path / name / "secret").write_text(secret)
        (tmp_path / "..data.new").symlink_to(name)
        (tmp_path / "..data.new").rename(tmp_path / "..data")

    def with_file(overlap: str) -> dict[str, Any]:
        config = vendors.config("key_astrom", "huawei_aom", overlap=overlap, max_concurrency=1, interval="250ms")
        config["sources"]["key_astrom"] = vendors.sources["key_astrom"] | {
            "auth": {"api_token_file": str(tmp_path / "mount" / "secret")}
        }
        return config

    token = vendors.sources["key_astrom"]["auth"]["api_token"]
    mounted("first", with_file("5m"), token)
    (tmp_path / "mount").symlink_to("..data")
    (tmp_path / "process").mkdir()
    with exporter(
        tmp_path / "process", {}, "--web.enable-lifecycle", f"--config.file={tmp_path}/mount/config.yaml"
    ) as running:
        until(running.is_ready)
        files, tasks = [], []
        for place in range(6):
            mounted(f"next-{place}", with_file(f"{place + 1}m"), token)
            reloaded_by_post(running)
            running.polls_on()
            files.append(len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())))
            tasks.append(len(list(Path(f"/proc/{running.process.pid}/task").iterdir())))
        rotated = vendors.sites["key_astrom"].simulator.rotate()["api_token"]
        mounted("rotated", with_file("12m"), rotated)
        running.polls_on()
        up = running.get("/metrics").text

    assert 'vendor_source_up{source="key_astrom",vendor="key_astrom"} 1' in up
    assert min(files[3:]) <= max(files[:3])  # one of a scrape may be closing; a leak would grow with each reload
    assert max(tasks) <= min(tasks) + 4
    assert rotated not in running.told()


def test_a_secret_file_that_is_lost_keeps_its_value_and_is_named_once(tmp_path: Path, vendors: Vendors) -> None:
    secret = tmp_path / "token"
    secret.write_text(vendors.sources["key_astrom"]["auth"]["api_token"])
    config = vendors.config("key_astrom")
    config["sources"]["key_astrom"] = vendors.sources["key_astrom"] | {"auth": {"api_token_file": str(secret)}}
    with exporter(tmp_path, config) as running:
        until(running.is_ready)
        secret.unlink()
        running.polls_on()

        assert 'vendor_source_up{source="key_astrom",vendor="key_astrom"} 1' in running.get("/metrics").text
    assert running.told().count(f"secret file {secret} cannot be read") == 1


def test_a_secret_file_that_is_missing_at_the_start_is_a_configuration_error(tmp_path: Path, vendors: Vendors) -> None:
    config = vendors.config("key_astrom")
    config["sources"]["key_astrom"] = vendors.sources["key_astrom"] | {"auth": {"api_token_file": "/nowhere/token"}}
    with exporter(tmp_path, config) as running:
        assert running.process.wait(timeout=20) == 2

    assert running.told() == (
        "sources.key_astrom.auth.api_token_file: cannot read the file named there: No such file or directory\n"
    )


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, vendors: Vendors) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = Exporter(tmp_path, vendors.config("blueking"), f"--web.listen-address={address}")

        assert running.process.wait(timeout=20) == 2
    assert running.told().splitlines() == [
        f"web.listen_address: cannot listen on {address}: Address already in use; "
        "choose another address or stop what uses this one"
    ]


def test_without_a_port_it_polls_all_the_same(tmp_path: Path, vendors: Vendors) -> None:
    running = Exporter(tmp_path, vendors.config("blueking"), "--web.listen-address=none")
    site = vendors.sites["blueking"]
    try:
        until(lambda: site.calls["search_alert", "200"] >= 4)

        assert running.ends(signal.SIGTERM) == 0
    finally:
        running.process.kill()
        running.process.wait()
    assert "listening" not in running.told()


def test_it_is_ready_after_every_first_poll_and_healthy_even_if_all_fail(tmp_path: Path, vendors: Vendors) -> None:
    vendors.sites["blueking"].faults = [Fault(kind=FaultKind.HANG)]
    vendors.sites["key_astrom"].faults = [Fault(kind=FaultKind.STATUS, status=500)]
    config = vendors.config("blueking", "key_astrom", interval="3s", timeout="3s")
    with exporter(tmp_path, config) as running:
        until(lambda: running.polled().get("key_astrom", 0) == 1)
        waiting, alive = running.get("/-/ready"), running.get("/-/healthy")
        until(running.is_ready)
        failing = running.get("/-/healthy")

    assert (waiting.status_code, waiting.text) == (503, "the first poll has not finished: blueking\n")
    assert (alive.status_code, failing.status_code) == (200, 200)


def test_more_connections_than_file_descriptors_keep_no_scraper_out_and_fill_no_log(
    tmp_path: Path, vendors: Vendors
) -> None:
    limited = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    with exporter(tmp_path, vendors.config("blueking"), before=limited) as running, ExitStack() as crowd:
        until(running.is_ready)
        for _ in range(120):
            crowd.enter_context(running.connected())

        running.polls_on()

        assert running.polled()["blueking"] > 0
    assert "at most 28 connections are served; raise the limit" in running.told()
    assert len(running.told().splitlines()) < 10


def test_the_limit_of_file_descriptors_is_raised_as_far_as_it_may(tmp_path: Path, vendors: Vendors) -> None:
    low = ("sh", "-c", 'ulimit -S -n 64; ulimit -H -n 512; exec "$@"', "sh")
    with exporter(tmp_path, vendors.config("blueking"), before=low) as running:
        until(running.is_ready)
        [limits] = re.findall("Max open files +([0-9]+)", Path(f"/proc/{running.process.pid}/limits").read_text())

    assert limits == "512"
    assert "connections are served" not in running.told()


def test_files_are_watched_and_a_change_is_read_without_being_told(tmp_path: Path, vendors: Vendors) -> None:
    def mounted(name: str, config: Mapping[str, Any]) -> None:
        """Files of a volume are links through `..data`, which is swapped for the next version as a whole."""
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(json.dumps(config))
        (tmp_path / "..data.new").symlink_to(name)
        (tmp_path / "..data.new").rename(tmp_path / "..data")

    config = vendors.config("blueking")
    mounted("first", config)
    (tmp_path / "mount").symlink_to("..data")
    (tmp_path / "process").mkdir()
    flags = ("--config.enable-auto-reload", f"--config.file={tmp_path}/mount/config.yaml")
    with exporter(tmp_path / "process", {}, *flags) as running:
        until(lambda: running.polled().get("blueking", 0) >= 3)
        mounted("same", config)
        mounted("second", vendors.config("blueking", "key_astrom"))
        until(lambda: running.polled().get("key_astrom", 0) >= 1)
        polled = running.polled()["blueking"]
        mounted("bad", {"sources": {"x": {"vendor": "acme"}}})
        until(lambda: "unknown vendor" in running.get("/").text)
        status = running.get("/status").json()
        mounted("mended", vendors.config("blueking"))
        until(lambda: "key_astrom" not in running.polled())

        assert running.polled()["blueking"] >= polled >= 3
        assert running.get("/status").json()["reload"] == {"successful": True, "problems": []}
    assert status["reload"]["successful"] is False
    assert "sources.x.vendor" in status["reload"]["problems"][0]
    assert running.told().count("configuration reloaded") == 2
    assert running.told().count("the old configuration stays") == 1


def test_files_are_not_watched_unless_asked_for(tmp_path: Path, vendors: Vendors) -> None:
    with exporter(tmp_path, vendors.config("blueking")) as running:
        until(running.is_ready)
        running.write(vendors.config("key_astrom"))
        time.sleep(5)

        assert "reloaded" not in running.told()


def test_the_start_says_where_it_listens_and_what_it_polls(tmp_path: Path, vendors: Vendors) -> None:
    with exporter(tmp_path, vendors.config("blueking", "key_astrom")) as running:
        assert running.url
        [line] = [line for line in running.told().splitlines() if "listening" in line]

    assert re.search(r'msg="listening on http://127\.0\.0\.1:[0-9]+" version=\S+ sources=2 tls=off$', line)
