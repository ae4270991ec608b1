"""Whatever values the schema accepts become objects that Kubernetes accepts."""

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.deploy.charts import (
    Values,
    chart,
    exporter_container,
    only,
    render,
    validate,
)

# Control characters are refused, since YAML cannot hold them.
printable = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
names = st.from_regex("[a-z]([a-z0-9-]{0,60}[a-z0-9])?", fullmatch=True)
scalars = st.one_of(st.booleans(), st.none(), st.integers(-(10**12), 10**12), st.floats(-1e6, 1e6))
label_maps = st.dictionaries(names.map(lambda name: f"example.com/{name[:60]}"), names, max_size=3)
monitors = st.fixed_dictionaries(
    {"enabled": st.booleans()},
    optional={
        "additionalLabels": label_maps,
        "namespace": names,
        "jobLabel": names,
        "podTargetLabels": st.lists(names, max_size=2),
        "sampleLimit": st.integers(0, 10**9),
        "authorization": st.just({"credentials": {"name": "a", "key": "b"}}),
        "interval": st.sampled_from(["15s", "1m"]),
        "honorLabels": st.booleans(),
        "tlsConfig": st.just({"insecureSkipVerify": True}),
        "relabelings": st.just([{"targetLabel": "cluster", "replacement": "a"}]),
    },
)
sources = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {"vendor": st.just("baidu_bls")},
        optional={
            "endpoint": st.just("https://bls-log.bj.baidubce.com"),
            "interval": st.sampled_from(["30s", "5m", 90]),
            "labels": st.dictionaries(st.just("team"), printable),
            "auth": st.just({"access_key_file": "/secrets/ak", "secret_key_file": "/secrets/sk"}),
        },
    ),
    max_size=3,
)
accepted = st.fixed_dictionaries(
    {},
    optional={
        "nameOverride": names,
        "fullnameOverride": names,
        "image": st.fixed_dictionaries(
            {},
            optional={
                "registry": st.just("registry.example.com:5000"),
                "tag": st.from_regex("[0-9]{1,3}([.][0-9]{1,2})?", fullmatch=True),
                "digest": st.just("sha256:" + "0" * 64),
                "pullPolicy": st.sampled_from(["Always", "IfNotPresent", "Never"]),
            },
        ),
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": names}), max_size=2),
        "config": st.fixed_dictionaries({}, optional={"sources": sources, "log": st.just({"level": "debug"})}),
        "existingSecret": names,
        "tlsSecret": names,
        "webConfig": st.sampled_from(
            [
                {},
                {"tls_server_config": {"cert_file": "c", "key_file": "k"}},
                {"basic_auth_users": {"a": "$2y$12$" + "a" * 53}},
            ]
        ),
        "demo": st.fixed_dictionaries({"enabled": st.booleans()}),
        "sharding": st.fixed_dictionaries({"replicas": st.integers(1, 100)}),
        "serviceAccount": st.fixed_dictionaries(
            {}, optional={"create": st.booleans(), "name": names, "annotations": label_maps, "automount": st.booleans()}
        ),
        "podAnnotations": label_maps,
        "podLabels": label_maps,
        "podSecurityContext": st.sampled_from([{}, {"fsGroup": 1}, None]),
        "securityContext": st.sampled_from([{}, {"runAsUser": 1}, None]),
        "containerPort": st.integers(1, 65535),
        "service": st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
                "port": st.integers(1, 65535),
                "labels": label_maps,
                "annotations": label_maps,
            },
        ),
        "resources": st.sampled_from([{}, {"limits": {"cpu": 1, "memory": "1Gi"}}, None]),
        "startupProbe": st.sampled_from([{}, {"periodSeconds": 9}, {"tcpSocket": {"port": "metrics"}}, None]),
        "nodeSelector": label_maps,
        "tolerations": st.lists(st.fixed_dictionaries({"key": names, "operator": st.just("Exists")}), max_size=2),
        "affinity": st.sampled_from([{}, {"nodeAffinity": {}}]),
        "priorityClassName": names,
        "extraEnv": st.lists(
            st.fixed_dictionaries({"name": names, "value": st.one_of(printable, scalars)}), max_size=2
        ),
        "extraEnvFrom": st.lists(
            st.fixed_dictionaries({"secretRef": st.fixed_dictionaries({"name": names})}), max_size=2
        ),
        "extraVolumes": st.lists(st.fixed_dictionaries({"name": names, "emptyDir": st.just({})}), max_size=2),
        "extraVolumeMounts": st.lists(st.fixed_dictionaries({"name": names, "mountPath": st.just("/mnt")}), max_size=2),
        "extraContainers": st.lists(st.fixed_dictionaries({"name": names, "image": names}), max_size=2),
        "extraManifests": st.lists(
            st.sampled_from(
                [
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-map"}},
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}",
                ]
            ),
            max_size=2,
        ),
        "podDisruptionBudget": st.sampled_from([{}, {"minAvailable": 0}, {"maxUnavailable": "50%"}]),
        "verticalPodAutoscaler": st.fixed_dictionaries(
            {"enabled": st.booleans()}, optional={"containerPolicy": st.just({"minAllowed": {"memory": "1Gi"}})}
        ),
        "namespaceOverride": names,
        "commonLabels": label_maps,
        "annotations": label_maps,
        "autoReload": st.booleans(),
        "revisionHistoryLimit": st.sampled_from([0, 5, None]),
        "terminationGracePeriodSeconds": st.integers(0, 10**7),
        "dnsPolicy": st.sampled_from(["", "Default", "ClusterFirst"]),
        "dnsConfig": st.sampled_from([{}, {"options": [{"name": "ndots", "value": "1"}]}]),
        "hostAliases": st.sampled_from([[], [{"ip": "10.0.0.1", "hostnames": ["a"]}]]),
        "extraArgs": st.lists(printable, max_size=2),
        "extraInitContainers": st.lists(st.fixed_dictionaries({"name": names, "image": names}), max_size=2),
        "networkPolicy": st.fixed_dictionaries(
            {"enabled": st.booleans()},
            optional={
                "from": st.just([{"podSelector": {}}]),
                "egress": st.just([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
            },
        ),
        "serviceMonitor": monitors,
        "prometheusRule": st.fixed_dictionaries(
            {"enabled": st.booleans()},
            optional={
                "additionalLabels": label_maps,
                "additionalRuleLabels": label_maps,
                "matchLabels": st.dictionaries(st.sampled_from(["job", "cluster"]), printable, max_size=2),
            },
        ),
        "dashboards": st.fixed_dictionaries({"enabled": st.booleans()}, optional={"annotations": label_maps}),
    },
)


@given(values=accepted)
@settings(max_examples=50, deadline=None, phases=set(Phase) - {Phase.explain})
def test_whatever_values_the_schema_accepts_become_objects_that_kubernetes_accepts(values: Values) -> None:
    chart().validate_schema(values)

    manifests = render(values)

    assert validate(manifests, ("1.31",))
    assert len({(each["kind"], each["metadata"]["name"]) for each in manifests if "-own" not in str(each)}) > 1
    workload = only(manifests, "Deployment", "StatefulSet")
    selected = workload["spec"]["selector"]["matchLabels"].items()
    assert selected <= workload["spec"]["template"]["metadata"]["labels"].items()
    assert only(manifests, "Service")["spec"]["selector"].items() == selected
    assert all(len(each["metadata"]["name"]) <= 63 for each in manifests if each["kind"] != "ConfigMap")
    mounted = {mount["name"] for mount in exporter_container(manifests)["volumeMounts"]}
    volumes = {volume["name"] for volume in workload["spec"]["template"]["spec"]["volumes"]}
    assert mounted - volumes <= {mount["name"] for mount in values.get("extraVolumeMounts", [])}
