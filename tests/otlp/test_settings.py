"""Where pushes go: the section `otlp`, and OpenTelemetry's standard variables where it says nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import config, logs
from exporter.app import push_for
from exporter.errors import ConfigError
from exporter.exposition.otel_settings import Otlp
from exporter.exposition.sender import Destination

FILES = ("ca.pem", "cert.pem", "key.pem")
SOURCES = {"a": {"vendor": "key_astrom", "endpoint": "http://127.0.0.1:1", "auth": {"api_token": "t"}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yaml"


def loaded(file: Path, otlp: dict[str, Any], **environ: str) -> Otlp:
    file.write_text(yaml.safe_dump({"sources": SOURCES, "otlp": otlp}))
    return config.load(file=file, flags={}, environ=environ).otlp


def destination(file: Path, otlp: dict[str, Any], **environ: str) -> Destination:
    [to] = loaded(file, otlp, **environ).destinations()
    return to


def test_nothing_is_pushed_where_no_receiver_is_named(file: Path) -> None:
    file.write_text(yaml.safe_dump({"sources": SOURCES}))
    settings = config.load(file=file, flags={}, environ={})

    assert settings.otlp.destinations() == []
    assert push_for(settings) is None


@pytest.mark.parametrize(
    ("otlp", "url"),
    [
        ({"endpoint": "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({"endpoint": "https://c/api/v1/otlp/"}, "https://c/api/v1/otlp/v1/metrics"),
        ({"endpoint": "http://c:4317", "protocol": "grpc"}, "http://c:4317"),
    ],
)
def test_the_signals_path_follows_on_the_endpoint(otlp: dict[str, Any], url: str, file: Path) -> None:
    assert destination(file, otlp).url == url


def test_each_signal_is_pushed_if_it_is_wanted(file: Path) -> None:
    def signals(**wanted: bool) -> list[str]:
        return [to.signal for to in loaded(file, {"endpoint": "http://c:4318", **wanted}).destinations()]

    assert signals() == ["metrics"]
    assert signals(logs=True) == ["metrics", "logs"]
    assert signals(logs=True, metrics=False) == ["logs"]


def test_standard_variables_say_what_is_not_configured(file: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).touch()

    to = destination(
        file,
        {"headers": {"x-mine": "m"}},
        OTEL_EXPORTER_OTLP_ENDPOINT="https://c:4317",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20b,x-mine=other",
        OTEL_EXPORTER_OTLP_TIMEOUT="2500",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "ca.pem"),
        OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(tmp_path / "cert.pem"),
        OTEL_EXPORTER_OTLP_CLIENT_KEY=str(tmp_path / "key.pem"),
    )

    assert (to.protocol, to.url, to.plain) == ("grpc", "https://c:4317", False)
    assert to.headers() == {"authorization": "Bearer b", "x-mine": "m"}
    assert (to.timeout_seconds, to.compressed) == (2.5, False)
    assert [Path(f"{each}").name for each in (to.ca_file, to.cert_file, to.key_file)] == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]


@pytest.mark.parametrize("number", ["", "-1", "1.5", "soon", "9" * 13, "9" * 5000])
def test_a_standard_variable_that_says_no_time_to_wait_is_ignored(file: Path, number: str) -> None:
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": number, "OTEL_METRIC_EXPORT_INTERVAL": number}

    settings = loaded(file, {}, OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318", **variables)

    assert settings.destinations()[0].timeout_seconds == 10
    assert settings.interval_seconds() == 60


def test_what_is_configured_comes_before_the_standard_variables(file: Path) -> None:
    otlp = {"endpoint": "http://mine:4318", "protocol": "http/protobuf", "interval": "5s", "resource": {"k": "mine"}}

    settings = loaded(
        file,
        otlp,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://other:4317",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://other:4317",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_METRIC_EXPORT_INTERVAL="1000",
        OTEL_RESOURCE_ATTRIBUTES="k=other,team=a%2Cb",
        OTEL_SERVICE_NAME="alerts",
    )

    [to] = settings.destinations()
    assert (to.protocol, to.url) == ("http/protobuf", "http://mine:4318/v1/metrics")
    assert settings.interval_seconds() == 5
    assert settings.resource_attributes() == {"k": "mine", "team": "a,b", "service.name": "alerts"}


def test_a_variable_for_one_signal_comes_before_that_for_all(file: Path) -> None:
    metrics, logs = loaded(
        file,
        {"logs": True},
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318/",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="http://loki:3100/otlp/v1/logs",
        OTEL_EXPORTER_OTLP_LOGS_TIMEOUT="1000",
    ).destinations()

    assert (metrics.url, metrics.timeout_seconds) == ("http://c:4318/v1/metrics", 10)
    assert (logs.url, logs.timeout_seconds) == ("http://loki:3100/otlp/v1/logs", 1)


@pytest.mark.parametrize(("value", "seconds"), [("1500", 1.5), ("soon", 60.0), ("", 60.0)])
def test_the_standard_interval_is_in_milliseconds_and_nonsense_is_ignored(
    value: str, seconds: float, file: Path
) -> None:
    assert loaded(file, {}, OTEL_METRIC_EXPORT_INTERVAL=value).interval_seconds() == seconds


def test_the_standard_way_to_turn_everything_off(file: Path) -> None:
    assert loaded(file, {"endpoint": "http://c:4318"}, OTEL_SDK_DISABLED="true").destinations() == []


def test_a_host_without_a_scheme_is_reached_by_tls_unless_told_otherwise(file: Path) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

    assert not destination(file, {}, **given).plain
    assert destination(file, {}, **given, OTEL_EXPORTER_OTLP_INSECURE="true").plain


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    ("url", "plain"), [("HTTP://c:4317", True), ("Http://c:4317", True), ("HTTPS://c:4317", False)]
)
def test_a_scheme_means_the_same_in_upper_and_in_lower_case(file: Path, url: str, plain: bool, protocol: str) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_INSECURE": str(not plain)}

    assert destination(file, {"protocol": protocol, "endpoint": url}).plain is plain
    assert destination(file, {"protocol": protocol}, **given).plain is plain


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318", "must be a URL such as https://api.example.com"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector/v1/logs", "must be a URL such as https://api.example.com"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c", "URL scheme should be 'http' or 'https'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "must be http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "must be http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "must be gzip or none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere", "there is no such file; check the path"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/", "cannot read the file named there: it is a directory"),
    ],
)
def test_a_standard_variable_is_checked_as_its_key_is_and_named(
    variable: str, value: str, problem: str, file: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(file, {"logs": True}, **{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", variable: value})

    [said] = caught.value.problems
    assert said.startswith(f"{variable}: {problem}")


def test_a_standard_variable_that_nothing_uses_is_not_checked(file: Path) -> None:
    wrong = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}

    assert loaded(file, {}, **wrong).destinations() == []
    unused = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "x"}
    assert destination(file, {"protocol": "grpc"}, **unused).protocol == "grpc"


def test_headers_from_a_file_are_read_again_and_never_shown(file: Path, tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer canary-1\nx-tenant: a:b\n")
    settings = loaded(file, {"endpoint": "http://c:4318", "headers_file": "headers"})
    [to] = settings.destinations()

    first = to.headers()
    headers.write_text("Authorization: Bearer canary-number-2\n")
    second = to.headers()
    headers.write_text("Authoriz")
    half_written = to.headers()

    assert first == {"Authorization": "Bearer canary-1", "x-tenant": "a:b"}
    assert second == half_written == {"Authorization": "Bearer canary-number-2"}
    assert "canary" not in logs.without_secrets(f"{settings} {to} sent Bearer canary-number-2")


@pytest.mark.parametrize(
    ("otlp", "problem"),
    [
        ({"endpoint": "collector"}, "otlp.endpoint: "),
        ({"endpoint": "http://user:pw@c"}, "otlp.endpoint: must not carry a user name or password"),
        ({"protocol": "thrift"}, "otlp.protocol: "),
        ({"interval": 0}, "otlp.interval: must be longer than 0 s"),
        ({"headers_file": "nowhere"}, "otlp.headers_file: cannot read the file"),
        ({"headers_file": "exporter.yaml"}, "otlp.headers_file: the file must have one `name: value` per line"),
        ({"headers": {"a": "canary"}, "headers_file": "headers"}, "otlp.headers: is given twice, inline and as a file"),
        ({"endpont": "x"}, "otlp.endpont: unknown key; did you mean `endpoint`?"),
    ],
)
def test_a_mistake_is_named(otlp: dict[str, Any], problem: str, file: Path, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("a: canary")

    with pytest.raises(ConfigError) as caught:
        loaded(file, otlp)

    assert problem in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_environment_without_a_file_will_do(file: Path) -> None:
    file.write_text(yaml.safe_dump({"sources": SOURCES}))
    environ = {
        "VENDOR_ALERT_EXPORTER_OTLP__ENDPOINT": "http://c:4318",
        "VENDOR_ALERT_EXPORTER_OTLP__HEADERS": '{"authorization": "Bearer t"}',
        "VENDOR_ALERT_EXPORTER_OTLP__RESOURCE": '{"deployment.environment": "prod"}',
        "VENDOR_ALERT_EXPORTER_OTLP__LOGS": "true",
    }

    settings = config.load(file=file, flags={}, environ=environ).otlp

    assert [to.headers() for to in settings.destinations()] == [{"authorization": "Bearer t"}] * 2
    assert settings.resource_attributes() == {"deployment.environment": "prod"}
