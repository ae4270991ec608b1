"""The compose file and the example scrape configuration: whatever they name exists and is valid."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter import config
from tests.deploy.charts import DEPLOY, REPOSITORY
from tests.deploy.queries import RULE_FILES, alerts
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
    assert f"{len(RULE_FILES)} rule files found" in done.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=VendorAlert severity=critical owner=network", "network"),
        ("alertname=VendorAlert severity=critical owner=payments", "payments-on-call"),
        ("alertname=VendorAlert severity=warning owner=payments", "payments"),
        ("alertname=VendorAlert severity=info owner=payments", "nobody"),
        ("alertname=VendorAlert severity=critical owner=unowned", "operations"),
        ("alertname=VendorAlert severity=critical", "operations"),
        ("alertname=VendorAlertsUnacknowledged severity=warning owner=network", "network"),
        ("alertname=VendorSourceDown severity=warning source=s1", "operations"),
    ],
)
def test_the_example_alertmanager_routes_by_owner(labels: str, receiver: str) -> None:
    example = DEPLOY / "alertmanager" / "alertmanager.yaml"
    command = [str(program("amtool")), "config", "routes", "test", f"--config.file={example}", *labels.split()]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.stdout.split() == [receiver], done.stderr


def test_inhibition_names_alerts_that_exist_and_never_silences_an_alert_of_a_vendor() -> None:
    example = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yaml").read_text("utf-8"))
    names = {name: rule["labels"]["severity"] for name, rule in alerts().items()}

    for rule in example["inhibit_rules"]:
        for matchers in (rule["source_matchers"], rule["target_matchers"]):
            pattern = matchers[0].partition('"')[2].rstrip('"')
            assert matchers[0].startswith("alertname")
            matched = [name for name in names if re.fullmatch(pattern, name)]
            assert matched
            assert "VendorAlert" not in matched
    assert len(example["inhibit_rules"]) > 3


def test_prometheus_sends_to_the_alertmanager_of_the_compose_file() -> None:
    example = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))

    (manager,) = example["alerting"]["alertmanagers"]

    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert SERVICES["alertmanager"]["ports"] == ["127.0.0.1:9093:9093"]


def test_the_demo_starts_with_the_mounted_settings_and_its_owners_have_a_route() -> None:
    settings = yaml.safe_load((COMPOSE.parent / "exporter.yaml").read_text("utf-8"))
    example = (DEPLOY / "alertmanager" / "alertmanager.yaml").read_text("utf-8")

    metrics = config.Metrics.model_validate(settings["metrics"])

    assert metrics.alert_info
    assert [rule.owner for rule in metrics.owners if f'owner="{rule.owner}"' not in example] == []


def test_every_service_starts_again_after_a_failure() -> None:
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}


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
