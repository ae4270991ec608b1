"""The real process pushes to real stores, which scrape it at the same time: both ways tell the same."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import isclose
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.otlp.receivers import Reply, http_receiver, wait_until
from tests.programs import program

pytestmark = pytest.mark.e2e

# Moved by the push itself, which therefore is one further on than what the scrape shows.
MOVING = "vendor_otlp_"
# By the first Prometheus knows a job, by the second VictoriaMetrics.
NAMED = {"service.name": "pushed", "job": "pushed"}

Series = dict[tuple[tuple[str, str], ...], float]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended when it is not needed any more."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def scrape_config(folder: Path, exporter: int, settings: Mapping[str, Any] | None = None) -> Path:
    """Write what the store is to scrape, with further settings of the store, and return the file."""
    job = {"job_name": "scraped", "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]}
    content = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]} | dict(settings or {})
    file = folder / f"scrape-{len(list(folder.glob('scrape-*')))}.yml"
    file.write_text(yaml.safe_dump(content))
    return file


@contextmanager
def victoria_metrics(folder: Path, exporter: int) -> Iterator[tuple[str, str]]:
    """A VictoriaMetrics that scrapes; its URL, and where it takes pushes."""
    url = f"127.0.0.1:{free_port()}"
    options = ["-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s", f"-storageDataPath={folder / 'vm'}"]
    scrape = f"-promscrape.config={scrape_config(folder, exporter)}"
    with running(program("victoria-metrics"), f"-httpListenAddr={url}", scrape, *options):
        wait_until(lambda: answers(f"http://{url}/health"), 30, every=0.1)
        yield f"http://{url}", f"http://{url}/opentelemetry"


@contextmanager
def prometheus(
    folder: Path, exporter: int, name: str = "prometheus", *options: str, settings: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str]]:
    """A Prometheus that scrapes; its URL, and where it takes pushes if its options say so."""
    url = f"127.0.0.1:{free_port()}"
    config = f"--config.file={scrape_config(folder, exporter, settings)}"
    storage = f"--storage.tsdb.path={folder / name}"
    with running(program(name), config, storage, f"--web.listen-address={url}", *options):
        wait_until(lambda: answers(f"http://{url}/-/ready"), 30, every=0.1)
        yield f"http://{url}", f"http://{url}/api/v1/otlp"


def prometheus_with_receiver(folder: Path, exporter: int) -> AbstractContextManager[tuple[str, str]]:
    """A Prometheus that takes pushes, which Debian's cannot."""
    return prometheus(folder, exporter, "prometheus-3", "--web.enable-otlp-receiver")


def prometheus_with_utf8(folder: Path, exporter: int) -> AbstractContextManager[tuple[str, str]]:
    """The same, but it keeps the dots of pushed names, and asks for names in UTF-8 when it scrapes."""
    settings = {
        "global": {"scrape_interval": "1s", "metric_name_escaping_scheme": "allow-utf-8"},
        "otlp": {"translation_strategy": "NoUTF8EscapingWithSuffixes"},
    }
    return prometheus(folder, exporter, "prometheus-3", "--web.enable-otlp-receiver", settings=settings)


def prometheus_with_escaping(folder: Path, exporter: int) -> AbstractContextManager[tuple[str, str]]:
    """The same, but it asks for escaped names when it scrapes."""
    settings = {
        "global": {"scrape_interval": "1s", "metric_name_escaping_scheme": "underscores"},
        "otlp": {"translation_strategy": "UnderscoreEscapingWithSuffixes"},
    }
    return prometheus(folder, exporter, "prometheus-3", "--web.enable-otlp-receiver", settings=settings)


def series(url: str, job: str) -> Series:
    """What the store knows of this job, by the labels that are ours; dots, which UTF-8 allows, are underscores here."""
    query = urlencode({"query": f'{{__name__=~"vendor[._].*",job="{job}"}}'})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as response:
        found: list[dict[str, Any]] = json.load(response)["data"]["result"]
    told: Series = {}
    for one in found:
        labels = {name: text for name, text in one["metric"].items() if name not in ("job", "instance")}
        labels = {name: text for name, text in labels.items() if not name.startswith(("service", "scope_"))}
        labels["__name__"] = labels["__name__"].replace(".", "_")
        if "le" in labels:
            labels["le"] = str(float(labels["le"]))  # stores spell it 60 or 60.0
        told[tuple(sorted(labels.items()))] = float(one["value"][1])
    return told


def are_same(one: Series, other: Series) -> bool:
    """Whether two ways tell the same series, and of those that are at rest the same values."""
    if one.keys() != other.keys():
        return False
    resting = (labels for labels in one if not dict(labels)["__name__"].startswith(MOVING))
    # VictoriaMetrics keeps some 12 digits.
    return all(isclose(one[labels], other[labels], rel_tol=1e-9) for labels in resting)


@pytest.mark.parametrize(
    "receiver",
    [victoria_metrics, prometheus_with_receiver, prometheus_with_utf8, prometheus_with_escaping],
    ids=["VictoriaMetrics", "Prometheus", "Prometheus-UTF8", "Prometheus-escaping"],
)
def test_every_series_pushed_equals_the_one_scraped(receiver: Any, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "exporter.yaml"
    with ExitStack() as stack:
        store, endpoint = stack.enter_context(receiver(tmp_path, port))
        witness, _ = stack.enter_context(prometheus(tmp_path, port))
        settings = {
            # One poll each, after which all is quiet.
            "defaults": {
                "interval": "1h",
                "labels": {"team": "db"},
                "first_poll": "backfill",
                "overlap": "1h",
                "max_requests_per_second": 1000,
            },
            "metrics": {"alert_info": True, "group_by": ["name", "namespace"]},
            "otlp": {"endpoint": endpoint, "interval": "1s", "resource": NAMED},
        }
        config.write_text(yaml.safe_dump(settings))
        listen = f"--web.listen-address=127.0.0.1:{port}"
        stack.enter_context(running(sys.executable, "-m", "exporter", "demo", f"--config.file={config}", listen))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), 60, every=0.1)

        def told_alike() -> bool:
            pushed, scraped = series(store, "pushed"), series(store, "scraped")
            polled = sum(dict(labels)["__name__"] == "vendor_source_last_poll_duration_seconds" for labels in pushed)
            return polled == 4 and are_same(pushed, scraped) and are_same(scraped, series(witness, "scraped"))

        wait_until(told_alike, 60, every=0.5)
        compared = series(store, "pushed")

    families = {dict(labels)["__name__"] for labels in compared}
    print(f"{receiver.__name__}: {len(compared)} series of {len(families)} names are the same pushed and scraped")
    assert len(compared) > 500


def test_without_a_port_it_pushes_says_that_it_is_healthy_and_ends_in_time_whatever_the_receiver_does(
    tmp_path: Path,
) -> None:
    file = tmp_path / "exporter.yaml"
    with http_receiver() as received:
        otlp = {"endpoint": received.url, "interval": "1s", "logs": True}
        file.write_text(yaml.safe_dump({"web": {"listen_address": "none"}, "otlp": otlp, "sources": a_source()}))
        command = [sys.executable, "-m", "exporter"]
        with running(*command, f"--config.file={file}") as process:
            wait_until(lambda: received.requests, 30, every=0.1)
            healthy = subprocess.run([*command, "healthcheck", f"--config.file={file}"], check=False).returncode
            received.reply = Reply(seconds=60)
            waiting = len(received.headers)
            wait_until(lambda: len(received.headers) > waiting, 30, every=0.1)

            process.send_signal(signal.SIGTERM)

            assert process.wait(10) == 0
        gone = subprocess.run([*command, "healthcheck", f"--config.file={file}"], check=False, capture_output=True)
    assert healthy == 0
    assert gone.returncode == 1


def a_source() -> dict[str, Any]:
    """One that cannot be reached."""
    return {
        "a": {"vendor": "key_astrom", "endpoint": f"http://127.0.0.1:{free_port()}", "auth": {"api_token": "t"}},
    }


@pytest.mark.parametrize("missing", ["opentelemetry", "grpc"])
def test_without_the_extra_it_says_what_to_install(missing: str, tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    otlp = {"endpoint": "http://127.0.0.1:1", "protocol": "grpc"}
    file.write_text(yaml.safe_dump({"otlp": otlp, "sources": a_source()}))
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from exporter.cli import main; "
        f"sys.exit(main(['check-config', '--config.file={file}']))"
    )

    checked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert checked.returncode == 1
    assert "pip install vendor-alert-exporter[otlp]" in checked.stderr
