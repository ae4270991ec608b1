"""The Helm chart: what it renders, and what it refuses."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import config, yaml_file
from helm import generate
from tests.deploy.charts import (
    CHART,
    DEPLOY,
    EXAMPLES,
    SECRET_FILES,
    Manifest,
    Values,
    assert_restricted,
    chart,
    environment,
    example,
    exporter_container,
    helm,
    of_kind,
    only,
    pods,
    render,
    settings_text,
    texts,
    validate,
)
from tests.deploy.queries import alerts

CANARY = "canary-5d41402abc4b2a76"


def test_what_the_chart_repeats_from_elsewhere_is_current() -> None:
    stale = [
        path.name for path, text in generate.outputs().items() if not path.exists() or path.read_text("utf-8") != text
    ]

    assert not stale, "run python deploy/helm/generate.py"
    copies = {path.relative_to(CHART / "files") for path in CHART.glob("files/*/*")}
    assert copies == {
        path.relative_to(CHART / "files") for path in generate.outputs() if path.parent.parent.name == "files"
    }


def test_the_schema_is_one_that_old_helm_versions_understand() -> None:
    jsonschema.Draft7Validator.check_schema(chart().schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_finds_nothing_to_remark_on_an_example(name: str) -> None:
    report = helm().lint(CHART, example(name), strict=True)

    assert (report["errors"], report["messages"]) == ([], [])


def test_every_object_of_the_examples_is_valid_in_three_kubernetes_versions() -> None:
    rendered = {name: render(example(name)) for name in EXAMPLES}

    checked = sum(validate(manifests) for manifests in rendered.values())

    objects = sum(map(len, rendered.values()))
    print(f"chart: {len(rendered)} values files, {objects} objects, {checked} schema validations")
    assert checked > 2 * objects


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_meets_the_pod_security_level_restricted(name: str) -> None:
    found = list(pods(render(example(name))))

    assert found or example(name)["sidecar"]["enabled"]
    for pod in found:
        assert_restricted(pod)
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
        assert pod["automountServiceAccountToken"] is False


def test_a_packaged_chart_renders_the_same(tmp_path: Path) -> None:
    archive = Path(helm().package(CHART, destination=tmp_path))

    assert texts(example("vendors"), archive) == texts(example("vendors"))


# What the pod is told, the exporter understands.


def loaded(values: Values, folder: Path, environ: Mapping[str, str] | None = None) -> config.Config:
    """The configuration as the exporter in the pod would load it, but with its secret files in this folder."""
    manifests = render(values)
    text = settings_text(manifests).replace(SECRET_FILES, f"{folder}/")
    for name in re.findall(r"_file: .*/(.+)", text):
        (folder / name).write_text(CANARY, encoding="utf-8")
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    told = {} if values.get("sidecar") else environment(exporter_container(manifests))
    told |= {"VENDOR_ALERT_EXPORTER_CONFIG__FILE": str(file), **(environ or {})}
    return config.load(file=None, flags={}, environ=told)


def test_the_exporter_loads_the_example_with_all_four_vendors(tmp_path: Path) -> None:
    found = loaded(example("vendors"), tmp_path)

    vendors = {source.vendor for source in found.sources.values()}
    assert vendors == {"blueking", "huawei_aom", "key_astrom", "baidu_bls"}
    assert found.sources["blueking-prod"].model_dump()["bk_biz_ids"] == [2, 1000017]


def test_the_exporter_loads_the_example_of_a_shard_with_secrets_from_the_environment(tmp_path: Path) -> None:
    secrets = {f"VENDOR_ALERT_EXPORTER_SOURCES__AOM_{zone}__AUTH__SECRET_KEY": CANARY for zone in ("NORTH", "SOUTH")}

    found = loaded(example("sharded"), tmp_path, secrets)

    assert set(found.sources) <= {"aom-north", "aom-south"}


def test_the_exporter_loads_the_example_of_a_sidecar(tmp_path: Path) -> None:
    assert list(loaded(example("sidecar"), tmp_path).sources) == ["astrom"]


printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)


@given(
    labels=st.dictionaries(st.from_regex("[a-z]{3,8}", fullmatch=True), printable, max_size=4),
    bytes_=st.integers(1, 2**53),
    rate=st.floats(0.01, 1000),
    selector=st.from_regex("[0-9]{1,4}[e_:]?[0-9]{0,5}", fullmatch=True),
)
@settings(max_examples=50, deadline=None)
def test_a_configuration_reads_in_the_pod_as_it_was_written_in_the_values(
    labels: dict[str, str], bytes_: int, rate: float, selector: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = {
        "defaults": {"labels": labels, "max_response_bytes": bytes_, "max_requests_per_second": rate},
        "sources": {"a": {"vendor": "key_astrom", "event_selector": selector}},
    }

    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_text(settings_text(render({"config": written})), encoding="utf-8")

    assert yaml_file.load(file) == written


# Secrets.


def inline_secrets() -> list[tuple[str, str]]:
    known = json.loads((CHART / "files" / "secrets.json").read_text(encoding="utf-8"))
    return [(vendor, key) for vendor, keys in known.items() for key in keys]


def source_with(vendor: str, key: str, **others: Any) -> Values:
    method = {"password": "password", "token": "token"}.get(key) if vendor == "huawei_aom" else None
    auth = {key: CANARY} | ({"method": method} if method else {})
    return {"config": {"sources": {"prod": {"vendor": vendor, "auth": auth, **others}}}}


@pytest.mark.parametrize(("vendor", "key"), inline_secrets())
def test_a_credential_in_the_values_is_refused_with_a_word_about_existing_secret(vendor: str, key: str) -> None:
    with pytest.raises(helm().HelmError) as refusal:
        render(source_with(vendor, key))

    assert f"/config/sources/prod/auth/{key}" in str(refusal.value)
    assert f"put it into existingSecret and name its file in {key}_file" in str(refusal.value)
    assert CANARY not in str(refusal.value)


@pytest.fixture(scope="module")
def without_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it is under `--skip-schema-validation`."""
    copy = tmp_path_factory.mktemp("chart") / CHART.name
    shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("values.schema.json"))
    return copy


@pytest.mark.parametrize(("vendor", "key"), inline_secrets())
def test_a_credential_is_refused_even_if_helm_skips_the_schema(vendor: str, key: str, without_schema: Path) -> None:
    with pytest.raises(helm().HelmError) as refusal:
        render(source_with(vendor, key), without_schema)

    assert f"config.sources.prod.auth.{key}: a credential has no place in a ConfigMap" in str(refusal.value)
    assert "existingSecret" in str(refusal.value)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize("skip", [False, True])
def test_headers_of_an_opentelemetry_collector_are_refused_but_not_their_file(skip: bool, without_schema: Path) -> None:
    path = without_schema if skip else CHART

    with pytest.raises(helm().HelmError, match="headers_file") as refusal:
        render({"config": {"otlp": {"headers": {"authorization": CANARY}}}}, path)

    assert "existingSecret" in str(refusal.value)
    assert CANARY not in str(refusal.value)
    assert render({"config": {"otlp": {"headers_file": f"{SECRET_FILES}headers"}}}, path)


@pytest.mark.parametrize("skip", [False, True])
def test_a_proxy_with_a_password_is_refused(skip: bool, without_schema: Path) -> None:
    values = {"config": {"sources": {"prod": {"vendor": "key_astrom", "proxy": f"http://user:{CANARY}@proxy:3128"}}}}

    with pytest.raises(helm().HelmError, match="extraEnvFrom") as refusal:
        render(values, without_schema if skip else CHART)

    assert CANARY not in str(refusal.value)


def test_passwords_of_the_endpoint_are_hashes_and_stay_in_a_secret() -> None:
    values = example("tls")
    user, hashed = next(iter(values["webConfig"]["basic_auth_users"].items()))

    manifests = render(values)

    assert yaml.safe_load(only(manifests, "Secret")["stringData"]["web.yaml"]) == values["webConfig"]
    assert hashed not in yaml.safe_dump([each for each in manifests if each["kind"] != "Secret"])
    with pytest.raises(helm().HelmError, match="bcrypt") as refusal:
        render({"webConfig": {"basic_auth_users": {user: CANARY}}})
    assert CANARY not in str(refusal.value)


# What an operator relies on.


def checksum(manifests: list[Manifest]) -> str:
    annotations = only(manifests, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    return str(annotations["checksum/vendor-alert-exporter-config"])


def pod_template(values: Values) -> Manifest:
    template: Manifest = only(render(values), "Deployment")["spec"]["template"]
    return template


def test_a_changed_configuration_is_reloaded_by_the_pod_and_does_not_replace_it() -> None:
    values = example("vendors")
    changed = values | {"config": values["config"] | {"log": {"level": "debug"}}}

    assert settings_text(render(values)) != settings_text(render(changed))
    assert pod_template(values) == pod_template(changed)
    assert environment(exporter_container(render(values)))["VENDOR_ALERT_EXPORTER_CONFIG__ENABLE_AUTO_RELOAD"] == "true"


def test_without_reloading_a_changed_configuration_replaces_the_pod_and_nothing_else_does() -> None:
    values = example("vendors") | {"autoReload": False}
    changed = values | {"config": values["config"] | {"log": {"level": "debug"}}}

    before, after, same = (checksum(render(each)) for each in (values, changed, values | {"podLabels": {"a": "b"}}))

    assert before != after
    assert before == same


def test_one_pod_polls_and_the_old_one_leaves_before_the_new_one_comes() -> None:
    spec = only(render({}), "Deployment")["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@given(total=st.integers(2, 64))
@settings(max_examples=10, deadline=None)
def test_shards_are_pods_of_a_stateful_set_behind_a_headless_service(total: int) -> None:
    manifests = render({"sharding": {"replicas": total}})

    spec = only(manifests, "StatefulSet")["spec"]
    service = only(manifests, "Service")
    assert not of_kind(manifests, "Deployment")
    assert spec["replicas"] == total
    assert environment(exporter_container(manifests))["VENDOR_ALERT_EXPORTER_SHARD__TOTAL"] == str(total)
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == spec["serviceName"] != only(render({}), "Service")["metadata"]["name"]


@pytest.mark.parametrize(
    ("web", "handler"),
    [
        ({}, {"httpGet": {"path": "/-/healthy", "port": "metrics", "scheme": "HTTP"}}),
        (
            {"tls_server_config": {"cert_file": "c", "key_file": "k"}},
            {"httpGet": {"path": "/-/healthy", "port": "metrics", "scheme": "HTTPS"}},
        ),
        (
            {"tls_server_config": {"cert_file": "c", "key_file": "k", "client_auth_type": "RequireAnyClientCert"}},
            {"exec": {"command": ["vendor-alert-exporter", "healthcheck"]}},
        ),
        (
            {"basic_auth_users": {"prometheus": "$2b$10$" + "a" * 53}},
            {"exec": {"command": ["vendor-alert-exporter", "healthcheck"]}},
        ),
    ],
)
def test_probes_reach_the_exporter_however_its_endpoint_is_closed(web: Values, handler: Values) -> None:
    probe = exporter_container(render({"webConfig": web}))["livenessProbe"]

    assert {key: value for key, value in probe.items() if key in ("httpGet", "exec")} == handler


def test_a_probe_can_be_replaced_or_left_out() -> None:
    own = {"tcpSocket": {"port": "metrics"}}

    container = exporter_container(render({"livenessProbe": own, "readinessProbe": None}))

    assert "httpGet" not in container["livenessProbe"]
    assert container["livenessProbe"]["tcpSocket"] == own["tcpSocket"]
    assert "readinessProbe" not in container


def test_monitors_keep_the_labels_that_the_dashboards_need() -> None:
    manifests = render({"serviceMonitor": {"enabled": True}})

    (service,) = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    (pod,) = only(render({"podMonitor": {"enabled": True}}), "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert service == pod == {"port": "metrics", "path": "/metrics", "scheme": "http", "honorLabels": True}
    assert only(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= (
        only(manifests, "Service")["metadata"]["labels"].items()
    )


def test_the_rules_and_dashboards_arrive_unchanged() -> None:
    manifests = render({"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}})

    groups = [
        group
        for path in sorted(DEPLOY.glob("rules/*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    shown = [each for each in of_kind(manifests, "ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]
    assert only(manifests, "PrometheusRule")["spec"]["groups"] == groups
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in shown} == {"1"}
    assert [json.loads(text) for each in shown for text in each["data"].values()] == [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(CHART.glob("files/dashboards/*.json"))
    ]


def rendered_rules(**values: Any) -> list[Manifest]:
    groups = only(render({"prometheusRule": {"enabled": True, **values}}), "PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rendered_alerts(**values: Any) -> dict[str, Manifest]:
    return {rule["alert"]: rule for rule in rendered_rules(**values) if "alert" in rule}


def test_every_alert_can_be_changed_and_left_out() -> None:
    section = chart().schema["properties"]["prometheusRule"]["properties"]["alerts"]["properties"]
    changes = {name: {"severity": "page", "for": "7m", "labels": {"a": "b"}} for name in alerts()}

    usual = rendered_alerts()
    changed = rendered_alerts(alerts=changes, additionalRuleLabels={"team": "operations"})
    every_other = {name: {"enabled": False} for name in sorted(usual)[::2]}

    assert section.keys() == changed.keys() == alerts().keys()
    for name, rule in changed.items():
        assert rule["for"] == "7m"
        assert rule["labels"] == usual[name]["labels"] | {"severity": "page", "a": "b", "team": "operations"}
    assert rendered_alerts(alerts=every_other).keys() == usual.keys() - every_other.keys()


def test_every_parameter_of_the_rules_can_be_set() -> None:
    section = chart().schema["properties"]["prometheusRule"]["properties"]["parameters"]["properties"]
    given = {
        name: f"own{'abcdef'[place % 6]}" if about["type"] == "string" else 271828 + place
        for place, (name, about) in enumerate(section.items())
    }

    rules = rendered_rules(parameters=given)
    text = json.dumps(rules)

    assert [name for name, value in given.items() if str(value) not in text] == []
    assert "<<" not in text


def test_rules_of_two_releases_read_each_their_own_series() -> None:
    nodes: list[Any] = []
    for rule in rendered_rules(matchLabels={"job": "own", "cluster": 'a"b'}):
        promql_parser.walk(promql_parser.parse(rule["expr"]), nodes.append)

    selectors = [getattr(node, "vector_selector", node) for node in nodes]
    found = [
        {(matcher.name, matcher.value) for matcher in selector.matchers.matchers}
        for selector in selectors
        if isinstance(selector, promql_parser.VectorSelector)
    ]

    assert len(found) > len(rendered_rules())
    assert all({("job", "own"), ("cluster", 'a"b')} <= matchers for matchers in found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicaCount": 2}, "at '/replicaCount': value must be 'left out here: use sharding.replicas"),
        (
            {"serviceMonitor": {"labels": {}}},
            "at '/serviceMonitor/labels': value must be 'left out here: use additional",
        ),
        ({"prometheusRule": {"alerts": {"VendorAlertsStorm": {}}}}, "'VendorAlertsStorm' not allowed"),
        ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "every sample would be scraped twice"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "write {maxUnavailable: 1}"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "write {maxUnavailable: 1}"),
        ({"podDisruptionBudget": {"minAvailable": "100%"}, "sharding": {"replicas": 3}}, "write {maxUnavailable: 1}"),
        ({"config": {"web": {"listen_address": ":1"}}}, "'listen_address' not allowed"),
        ({"config": {"shard": {"total": 2}}}, "'shard' not allowed"),
        ({"config": {"sources": {"a": {"vendor": "acme"}}}}, "value must be one of 'baidu_bls'"),
        ({"config": {"sources": {"a": {"vendor": "key_astrom", "interva": "1m"}}}}, "'interva' not allowed"),
        ({"config": {"log": {"level": "info"}}, "existingConfigMap": "own"}, "exclude each other"),
        ({"config": {"defaults": {"labels": {"a": "\x7f"}}}}, "holds a control character"),
        ({"sidecar": {"enabled": True}, "sharding": {"replicas": 2}}, "sharding.replicas: a sidecar"),
        ({"sidecar": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "a sidecar has no Service"),
        ({"sidecar": {"enabled": True}, "podMonitor": {"enabled": True}}, "labels of the parent's pods"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(values: Values, said: str) -> None:
    with pytest.raises(helm().HelmError) as refusal:
        render(values)

    assert said in str(refusal.value)


@given(value=st.one_of(st.booleans(), st.none(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), st.text("ab:1 ")))
@settings(max_examples=50, deadline=None)
def test_a_variable_of_any_type_becomes_the_text_that_was_written(value: Any) -> None:
    container = exporter_container(render({"extraEnv": [{"name": "A", "value": value}]}))

    text = environment(container)["A"]

    assert isinstance(text, str)
    assert text == value if isinstance(value, str) else json.loads(text or "null") == value


def test_variables_from_elsewhere_stay_as_they_are() -> None:
    secret = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}

    assert secret in exporter_container(render({"extraEnv": [secret]}))["env"]


def test_every_object_carries_the_common_labels_and_stands_in_the_namespace_wanted() -> None:
    for name in EXAMPLES:
        values = example(name) | {"commonLabels": {"team": "db"}, "namespaceOverride": "elsewhere"}

        for manifest in render(values):
            assert manifest["metadata"]["labels"]["team"] == "db"
            assert manifest["metadata"]["namespace"] == "elsewhere"


def test_a_global_registry_is_where_every_image_comes_from() -> None:
    values = {"global": {"imageRegistry": "registry.example.com"}, "image": {"registry": "other.example.com"}}

    images = [each["image"] for pod in pods(render(values)) for each in pod["containers"]]

    assert len(images) == 2
    assert all(image.startswith("registry.example.com/") for image in images)


def test_on_openshift_no_user_or_group_is_asked_for() -> None:
    for pod in pods(render(example("openshift"))):
        asked = [pod["securityContext"], *(each["securityContext"] for each in pod["containers"])]
        assert not any({"runAsUser", "runAsGroup", "fsGroup"} & set(each) for each in asked)


def test_where_what_the_exporter_may_reach_is_restricted_it_can_still_resolve_names() -> None:
    rules = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]

    def egress(**values: Any) -> list[Any]:
        policy = only(render({"networkPolicy": {"enabled": True, "egress": rules, **values}}), "NetworkPolicy")
        return list(policy["spec"]["egress"])

    assert {port["port"] for port in egress()[0]["ports"]} == {53}
    assert egress()[1:] == egress(egressToDNS=False) == rules


def test_the_notes_say_how_to_look_and_warn_when_nothing_is_configured() -> None:
    notes = {name: texts(example(name))["NOTES.txt"] for name in EXAMPLES}

    assert "WARNING: no source is configured" in texts({})["NOTES.txt"]
    assert not any("WARNING" in text for text in notes.values())
    assert "curl --insecure https://127.0.0.1:10877/metrics" in notes["tls"]
    assert "3 shards divide the sources" in notes["sharded"]
    assert "exec deployment/alerts-vendor-alert-exporter -- vendor-alert-exporter poll" in notes["vendors"]
