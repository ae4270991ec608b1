"""The compose file and the example scrape configuration: whatever they name exists and is valid."""

import subprocess
from pathlib import Path

import yaml

from tests.deploy.charts import DEPLOY, REPOSITORY
from tests.programs import program

COMPOSE = DEPLOY / "compose" / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def mounts() -> dict[str, Path]:
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    pairs = [volume.removesuffix(":ro").split(":") for volume in volumes]
    return {inside: (COMPOSE.parent / outside).resolve() for outside, inside in pairs}


def test_promtool_accepts_the_example_scrape_configuration_and_the_rules_it_names() -> None:
    example = DEPLOY / "prometheus" / "prometheus.yaml"

    done = subprocess.run([program("promtool"), "check", "config", example], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_every_file_that_the_compose_file_mounts_exists() -> None:
    assert all(path.exists() for path in mounts().values())
    assert (COMPOSE.parent / SERVICES["exporter"]["build"]).resolve() == REPOSITORY
    assert mounts()["/deploy/prometheus"] / "prometheus.yaml" == DEPLOY / "prometheus" / "prometheus.yaml"


def test_grafana_is_provisioned_with_this_prometheus_and_our_dashboards() -> None:
    (source,) = yaml.safe_load((DEPLOY / "compose" / "grafana" / "datasource.yaml").read_text("utf-8"))["datasources"]
    (folder,) = yaml.safe_load((DEPLOY / "compose" / "grafana" / "dashboards.yaml").read_text("utf-8"))["providers"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert source["url"].removeprefix("http://").partition(":")[0] in SERVICES
    assert (mounts()[folder["options"]["path"]] / home.name).exists()


def test_prometheus_scrapes_the_service_and_port_of_the_exporter() -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]

    targets = [target for scrape in scrapes for each in scrape["static_configs"] for target in each["targets"]]

    assert targets == ["exporter:10877"]
    assert SERVICES["exporter"]["ports"] == ["127.0.0.1:10877:10877"]
