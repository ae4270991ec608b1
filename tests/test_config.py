"""What an operator can write, what it means, and how mistakes are told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Discriminator, Field, Tag

from exporter import config
from exporter.config import Config, Level
from exporter.errors import ConfigError
from exporter.model.facts import LabelSets
from exporter.model.owners import Owners
from exporter.vendorkit.cleaning import Vocabulary
from exporter.vendorkit.contract import SourceConfig, Vendor
from exporter.vendorkit.secret import Credentials, Secret
from exporter.vendorkit.settings import Duration, Items
from exporter.vendors import load_all
from tools import reference

CANARY = "c4n4ry&=s3cret"


class AcmeAuth(Credentials):
    user: str
    """Who asks."""
    password: Secret
    extra: Secret | None = None


class AcmeConfig(SourceConfig):
    auth: AcmeAuth
    ids: Items[int] = Field(default=[1], min_length=1)
    window: Duration = timedelta(days=1)


class TokenAuth(Credentials):
    method: Literal["token"]
    token: Secret


class KeyAuth(Credentials):
    method: Literal["key"] = "key"
    key: Secret


def _method(auth: Any) -> Any:
    return auth.get("method", "key") if isinstance(auth, dict) else "key"


class ForgeConfig(SourceConfig):
    auth: Annotated[Annotated[TokenAuth, Tag("token")] | Annotated[KeyAuth, Tag("key")], Discriminator(_method)]


def _vendor(name: str, kind: type[SourceConfig]) -> Vendor:
    def unused(*_arguments: Any) -> Any:
        raise AssertionError("reading the configuration asks no vendor")

    return Vendor(
        name=name,
        config=kind,
        auth=unused,
        source=unused,
        labels=LabelSets(severities=(), close_reasons=()),
        endpoints=(),
        resolution=timedelta(seconds=1),
        requests_per_day=unused,
        vocabulary=Vocabulary(values=frozenset(), ids=frozenset()),
    )


VENDORS = {"acme": _vendor("acme", AcmeConfig), "forge": _vendor("forge", ForgeConfig)}
ACME = {"vendor": "acme", "endpoint": "https://acme.example", "auth": {"user": "u", "password": "p"}}


def _load(
    document: Any, tmp_path: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    file = tmp_path / "config.yml"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    variables = {f"VENDOR_ALERT_EXPORTER_{name}": value for name, value in (environ or {}).items()}
    return config.load(file=file, flags=flags or {}, environ=variables, vendors=VENDORS)


def _acme(**changes: Any) -> dict[str, Any]:
    return {"sources": {"a": ACME | changes}}


def _sound(document: Any) -> Any:
    """The document with a password that is long enough wherever it has the short one of ACME."""
    text = json.dumps(document).replace('"password": "p"', json.dumps({"password": CANARY})[1:-1])
    return json.loads(text)


def _problems(
    document: Any, tmp_path: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        _load(document, tmp_path, environ, flags)
    return caught.value.problems


def _only_source(loaded: Config) -> Any:
    (source,) = loaded.sources.values()
    return source


def test_what_is_not_said_has_the_documented_default(tmp_path: Path) -> None:
    loaded = _load(_acme(), tmp_path)

    assert loaded.web.model_dump() == {
        "listen_address": ":10877",
        "telemetry_path": "/metrics",
        "config_file": None,
        "enable_lifecycle": False,
    }
    assert loaded.log.model_dump() == {"level": "info", "format": "logfmt"}
    assert loaded.metrics.model_dump(mode="json") == {
        "group_by": [],
        "group_limit": 100,
        "owners": [],
        "alert_info": False,
        "alert_info_limit": 500,
        "stale_after": "5m",
    }
    assert loaded.sources["a"].interval == timedelta(seconds=60)


def test_sections_may_be_empty(tmp_path: Path) -> None:
    loaded = _load(f"web:\nlog:\ndefaults:\nsources: {json.dumps({'a': ACME})}", tmp_path)

    assert loaded.web.listen_address == ":10877"


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    document = _acme() | {"web": {"listen_address": ":1", "telemetry_path": "/file"}, "log": {"level": "debug"}}

    loaded = _load(
        document, tmp_path, {"WEB__LISTEN_ADDRESS": ":2", "LOG__LEVEL": "error"}, {"web.listen-address": ":3"}
    )

    assert loaded.web.listen_address == ":3"
    assert loaded.web.telemetry_path == "/file"
    assert loaded.log.level is Level.ERROR
    assert loaded.log.format == "logfmt"


LEVELS = st.sampled_from(list(Level))


@given(said=st.fixed_dictionaries({}, optional={"file": LEVELS, "environment": LEVELS, "flag": LEVELS}))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_uppermost_layer_that_says_something_wins(said: dict[str, Level], tmp_path: Path) -> None:
    document = _acme() | ({"log": {"level": said["file"]}} if "file" in said else {})
    environ = {"LOG__LEVEL": str(said["environment"])} if "environment" in said else {}
    flags = {"log.level": said["flag"]} if "flag" in said else {}

    loaded = _load(document, tmp_path, environ, flags)

    told = [said[layer] for layer in ("flag", "environment", "file") if layer in said]
    assert loaded.log.level == (told[0] if told else Level.INFO)


PAGES = st.integers(1, 500)


@given(said=st.fixed_dictionaries({}, optional={"defaults": PAGES, "source": PAGES, "environment": PAGES}))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_source_overrides_the_defaults_and_the_environment_both(said: dict[str, int], tmp_path: Path) -> None:
    document = _acme(**({"max_pages": said["source"]} if "source" in said else {}))
    document |= {"defaults": {"max_pages": said["defaults"]}} if "defaults" in said else {}
    environ = {"SOURCES__A__MAX_PAGES": str(said["environment"])} if "environment" in said else {}

    source = _only_source(_load(document, tmp_path, environ))

    told = [said[layer] for layer in ("environment", "source", "defaults") if layer in said]
    assert source.max_pages == (told[0] if told else 100)


def test_maps_merge_key_by_key(tmp_path: Path) -> None:
    document = _acme(labels={"team": "web", "site": "1"}) | {
        "defaults": {"labels": {"team": "ops", "region": "eu"}, "severity_map": {"P1": "critical"}}
    }

    source = _only_source(_load(document, tmp_path, {"SOURCES__A__LABELS": '{"site": "2"}'}))

    assert source.labels == {"team": "web", "region": "eu", "site": "2"}
    assert source.severity_map == {"P1": "critical"}


def test_the_timeout_is_never_more_than_the_interval(tmp_path: Path) -> None:
    source = _only_source(_load(_acme(interval="10s", timeout="1m"), tmp_path))

    assert source.timeout == timedelta(seconds=10)


@pytest.mark.parametrize("name", ["AOM_PROD", "aom_prod", "Aom_Prod"])
def test_a_variable_names_a_source_of_the_file_whatever_its_case_and_dashes(name: str, tmp_path: Path) -> None:
    loaded = _load({"sources": {"Aom-Prod": ACME}}, tmp_path, {f"SOURCES__{name}__IDS": "2, 3"})

    assert list(loaded.sources) == ["Aom-Prod"]
    assert _only_source(loaded).ids == [2, 3]


def test_a_source_of_the_file_may_have_two_underscores_in_its_name(tmp_path: Path) -> None:
    loaded = _load({"sources": {"a": ACME, "a--b_": ACME}}, tmp_path, {"SOURCES__A__B___MAX_PAGES": "7"})

    assert (loaded.sources["a"].max_pages, loaded.sources["a--b_"].max_pages) == (100, 7)


def test_sources_may_come_from_the_environment_alone_under_their_names_in_lower_case() -> None:
    environ = {
        "VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__VENDOR": "acme",
        "VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__ENDPOINT": "http://127.0.0.1:1/base/",
        "VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__AUTH__USER": "u",
        "VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__AUTH__PASSWORD": "p",
        "VENDOR_ALERT_EXPORTER_SOURCES__AOM_PROD__TLS__INSECURE_SKIP_VERIFY": "true",
        "VENDOR_ALERT_EXPORTER_SOURCES__OTHER": json.dumps(ACME),
    }

    loaded = config.load(file=None, flags={}, environ=environ, vendors=VENDORS)

    assert list(loaded.sources) == ["other", "aom_prod"]
    assert loaded.sources["aom_prod"].endpoint == "http://127.0.0.1:1/base"
    assert loaded.sources["aom_prod"].tls.insecure_skip_verify is True


@pytest.mark.parametrize(
    ("variable", "value", "key", "meant"),
    [
        ("INTERVAL", "90", "interval", timedelta(seconds=90)),
        ("INTERVAL", "2h", "interval", timedelta(hours=2)),
        ("MAX_REQUESTS_PER_SECOND", "0.5", "max_requests_per_second", 0.5),
        ("MAX_RESPONSE_BYTES", "1MiB", "max_response_bytes", 1048576),
        ("IDS", "[4, 5]", "ids", [4, 5]),
        ("IDS", "4", "ids", [4]),
        ("LABELS__TEAM", "ops", "labels", {"team": "ops"}),
        ("PROXY", "", "proxy", None),
        ("PROXY", "none", "proxy", "none"),
    ],
)
def test_a_variable_is_read_as_its_setting_is_typed(
    variable: str, value: str, key: str, meant: Any, tmp_path: Path
) -> None:
    source = _only_source(_load(_acme(), tmp_path, {f"SOURCES__A__{variable}": value}))

    assert getattr(source, key) == meant


def test_lists_and_switches_of_the_sections_come_from_variables_too(tmp_path: Path) -> None:
    environ = {"METRICS__GROUP_BY": "name, policy", "METRICS__ALERT_INFO": "true", "LOG__LEVEL": "warning"}

    loaded = _load(_acme(), tmp_path, environ)

    assert loaded.metrics.group_by == ["name", "policy"]
    assert loaded.metrics.alert_info is True
    assert loaded.log.level is Level.WARN


def test_owners_are_rules_whose_patterns_match_whole_values(tmp_path: Path) -> None:
    owners = [{"owner": "web", "match": {"name": "http.*", "source": "a"}}, {"owner": "all", "match": {}}]

    rules = _load(_acme() | {"metrics": {"owners": owners}}, tmp_path).metrics.owner_rules()

    owners_here = Owners(rules, "a")
    assert owners_here.fields == ["name"]
    assert owners_here.owner_of(["http 500"]) == "web"
    assert owners_here.owner_of(["no http"]) == "all"
    assert rules == _load(_acme(), tmp_path, {"METRICS__OWNERS": json.dumps(owners)}).metrics.owner_rules()


def test_the_file_itself_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(json.dumps(_acme()))

    loaded = config.load(
        file=None, flags={}, environ={"VENDOR_ALERT_EXPORTER_CONFIG__FILE": str(file)}, vendors=VENDORS
    )

    assert list(loaded.sources) == ["a"]


@pytest.mark.parametrize("variable", ["WEB__CONFIG__FILE", "WEB__CONFIG_FILE"])
def test_a_flag_and_its_key_name_the_same_variable(variable: str, tmp_path: Path) -> None:
    security = tmp_path / "web.yml"
    security.write_text("")

    assert _load(_acme(), tmp_path, {variable: str(security)}).web.config_file == security


def test_a_variable_with_two_underscores_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    problems = _problems(_acme(), tmp_path, {"SOURCES__A__INTERVALL": "1m", "OTHER__THING": "x", "WEB__TLS__X": "y"})

    assert [problem.partition(":")[0] for problem in problems] == [
        "VENDOR_ALERT_EXPORTER_OTHER__THING",
        "VENDOR_ALERT_EXPORTER_SOURCES__A__INTERVALL",
        "VENDOR_ALERT_EXPORTER_WEB__TLS__X",
    ]


def test_variables_that_kubernetes_sets_for_a_service_are_ignored(tmp_path: Path) -> None:
    environ = {
        "WEB_SERVICE_HOST": "10.0.0.1",
        "SERVICE_HOST": "10.0.0.1",
        "PORT_10877_TCP": "tcp://10.0.0.1:10877",
        "SOURCES": "x",
    }

    assert list(_load(_acme(), tmp_path, environ).sources) == ["a"]


def test_a_secret_given_in_one_layer_inline_and_in_another_as_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(CANARY)
    as_a_file = _acme(auth={"user": "u", "password_file": "s"})

    (inline_above,) = _problems(as_a_file, tmp_path, {"SOURCES__A__AUTH__PASSWORD": CANARY})
    (file_above,) = _problems(_acme(), tmp_path, {"SOURCES__A__AUTH__PASSWORD_FILE": str(tmp_path / "s")})

    twice = "sources.a.auth.password: is given twice, inline and as a file: keep one of the two"
    assert inline_above == f"{twice} (set by the variable VENDOR_ALERT_EXPORTER_SOURCES__A__AUTH__PASSWORD)"
    assert file_above == f"{twice} (set by the variable VENDOR_ALERT_EXPORTER_SOURCES__A__AUTH__PASSWORD_FILE)"


def test_a_secret_of_the_environment_takes_the_place_of_one_that_is_given_alike(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("of the environment")

    inline = _only_source(_load(_acme(), tmp_path, {"SOURCES__A__AUTH__PASSWORD": "of the environment"}))
    as_a_file = _acme(auth={"user": "u", "password_file": "gone"})
    file = _only_source(_load(as_a_file, tmp_path, {"SOURCES__A__AUTH__PASSWORD_FILE": str(tmp_path / "s")}))

    assert inline.auth.password.read() == file.auth.password.read() == "of the environment"


def test_files_are_found_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")

    source = _only_source(_load(_acme(auth={"user": "u", "password_file": "password"}), tmp_path))

    assert source.auth.password.read() == "from a file"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("", "sources: no source is configured; name at least one to poll"),
        ({"sources": [1]}, "sources: must be a map: a name, and below it the source"),
        ({"sources": {"a": None}}, "sources.a: must be a map with at least `vendor` and `endpoint`"),
        ({"sources": {"a": {"endpoint": "http://x"}}}, "sources.a.vendor: missing; must be acme, forge"),
        (_acme(vendor="acmee"), "sources.a.vendor: unknown vendor; must be acme, forge"),
        ({"webb": {}} | _acme(), "webb: unknown key; did you mean `web`?"),
        ({"web": {"listen_adress": ":1"}} | _acme(), "web.listen_adress: unknown key; did you mean `listen_address`?"),
        ({"web": {"xyz": 1}} | _acme(), "web.xyz: unknown key; known here: "),
        (_acme(intervall=5), "sources.a.intervall: unknown key; did you mean `interval`?"),
        (
            _acme(auth={"user": "u", "passwort": CANARY}),
            "sources.a.auth.passwort: unknown key; did you mean `password`?",
        ),
        (_acme(auth={"password": CANARY}), "sources.a.auth.user: missing; set it: Who asks"),
        (
            _acme(auth={"user": "u"}),
            "sources.a.auth.password: missing; give it here or as the name of a file in `password_file`",
        ),
        (
            _acme(auth={"user": "u", "password": CANARY, "password_file": "/x"}),
            "sources.a.auth.password: is given twice, inline and as a file: keep one of the two",
        ),
        (
            _acme(auth={"user": "u", "password_file": "/nonexistent/file"}),
            "sources.a.auth.password_file: cannot read the file named there: No such file or directory",
        ),
        (_acme(auth={"user": "u", "password": 123456}), "sources.a.auth.password: must be text; put it in quotes"),
        (_acme(auth=CANARY), "sources.a.auth: must be a map of keys and values"),
        (_acme(interval="soon"), "sources.a.interval: 'soon' is not a duration: write 30s, 5m, 2h or 15d, or a number"),
        (_acme(interval=0), "sources.a.interval: must be longer than 0 s"),
        (_acme(overlap="36501d"), "sources.a.overlap: must be at most 36500d"),
        ({"web": {"listen_address": 10877}} | _acme(), "web.listen_address: must be :PORT, HOST:PORT, "),
        ({"web": {"listen_address": "10877"}} | _acme(), "web.listen_address: must be :PORT, HOST:PORT, "),
        (_acme(auth={"user": ["u"], "password": CANARY}), "sources.a.auth.user: must be text, and no list or map"),
        ({"interval": "5s"} | _acme(), "interval: unknown key; it belongs below `defaults`, or below a source"),
        ({"metrics": {"group_by": ["nmae"]}} | _acme(), "metrics.group_by[0]: must be 'name', 'policy', "),
        ({"web": {"listen_address": "a..b:1"}} | _acme(), "web.listen_address: must be :PORT, HOST:PORT, "),
        ({"web": {"listen_address": "a\0b:1"}} | _acme(), "web.listen_address: must be :PORT, HOST:PORT, "),
        (_acme(ids=[1, "x"]), "sources.a.ids[1]: must be a valid integer"),
        (_acme(max_response_bytes="many"), "sources.a.max_response_bytes: must be a size such as 32MiB"),
        (_acme(severity_map={"P1": "bad"}), "sources.a.severity_map.P1: must be 'critical', 'major', 'minor', "),
        (_acme(labels={"team": 5}), "sources.a.labels.team: must be text; put it in quotes"),
        (_acme(labels={"severity": "x"}), "sources.a.labels.severity: is a label the exporter sets itself"),
        (_acme(endpoint="ftp://x"), "sources.a.endpoint: URL scheme should be 'http' or 'https'"),
        (_acme(endpoint=f"http://u:{CANARY}@x"), "sources.a.endpoint: "),
        (
            _acme(tls={"ca_file": "/nonexistent/file"}),
            "sources.a.tls.ca_file: there is no such file; check the path",
        ),
        (_acme(tls={"ca_file": False}), "sources.a.tls.ca_file: must be the path of a file"),
        (
            {"web": {"config_file": "/nonexistent/file"}} | _acme(),
            "web.config_file: there is no such file; check the path",
        ),
        ({"defaults": {"interval": -1}} | _acme(), "defaults.interval: a duration is not negative"),
        ({"defaults": {"endpoint": "http://x"}} | _acme(), "defaults.endpoint: unknown key; "),
        ({"metrics": {"group_by": ["name", "host"]}} | _acme(), "metrics.group_by[1]: must be 'name', 'policy', "),
        ({"metrics": {"group_by": ["name", "name"]}} | _acme(), "metrics.group_by: names a label twice"),
        (
            {"metrics": {"owners": [{"owner": "a", "match": {"name": "("}}]}} | _acme(),
            "metrics.owners[0].match.name: is not a regular expression: ",
        ),
        (
            {"metrics": {"owners": [{"owner": "a", "match": {"host": "x"}}]}} | _acme(),
            "metrics.owners[0].match.host: must be 'name', 'policy', ",
        ),
        (
            {"metrics": {"owners": [{"match": {}}]}} | _acme(),
            "metrics.owners[0].owner: missing; set it: Value of the label `owner`",
        ),
        ({"sources": {"-a": ACME}}, "sources.-a: a source's name is text of letters, digits, - and _"),
        ({"sources": {"a.b": ACME}}, "sources.a.b: a source's name is text of letters, digits, - and _"),
        ("sources: {1: {}}", "sources[1]: a source's name is text of letters"),
        (
            {"sources": {"a": {"vendor": "forge", "endpoint": "http://x", "auth": {"method": "token"}}}},
            "sources.a.auth.token: missing; give it here or as the name of a file in `token_file`",
        ),
        (
            {
                "sources": {
                    "a": {"vendor": "forge", "endpoint": "http://x", "auth": {"method": "key", "key": "", "a": 1}}
                }
            },
            "sources.a.auth.key: is empty",
        ),
        (
            {"sources": {"a": {"vendor": "forge", "endpoint": "http://x", "auth": {"method": "magic"}}}},
            "sources.a.auth: must be one of 'token', 'key'",
        ),
    ],
)
def test_a_mistake_is_told_by_its_path_in_the_file(document: Any, problem: str, tmp_path: Path) -> None:
    problems = _problems(document, tmp_path)

    assert [told for told in problems if told.startswith(problem)]
    assert CANARY not in str(problems)


@pytest.mark.parametrize(
    ("document", "end"),
    [
        ({"web": {"listen_address": 10877}}, "none for no listening port; did you mean `:10877`?"),
        ({"metrics": {"group_by": ["nmae"]}}, "; did you mean `name`?"),
        ({"sources": {"a": ACME | {"vendor": "acmee"}}}, "; did you mean `acme`?"),
        ({"log": {"level": "wran"}}, "; did you mean `warn`?"),
    ],
)
def test_a_value_that_was_probably_meant_is_suggested(document: Any, end: str, tmp_path: Path) -> None:
    (problem,) = _problems(_acme() | document, tmp_path)

    assert problem.endswith(end)


def test_a_key_below_one_of_several_kinds_is_told_by_its_path(tmp_path: Path) -> None:
    auth = {"method": "token", "token": CANARY, "foo": 1}

    (problem,) = _problems({"sources": {"a": {"vendor": "forge", "endpoint": "http://x", "auth": auth}}}, tmp_path)

    assert problem == "sources.a.auth.foo: unknown key; known here: method, token, token_file"


def test_all_mistakes_are_told_at_once_and_those_of_the_defaults_once(tmp_path: Path) -> None:
    document = {
        "web": {"telemetry_path": "x"},
        "defaults": {"interval": "x"},
        "sources": {"a": {}, "b": ACME | {"q": 1}},
    }

    problems = _problems(document, tmp_path, {"FOO__BAR": "1"})

    assert [problem.partition(": ")[0] for problem in problems] == [
        "VENDOR_ALERT_EXPORTER_FOO__BAR",
        "web.telemetry_path",
        "defaults.interval",
        "sources.a.vendor",
        "sources.b.q",
    ]


@pytest.mark.parametrize("section", ["sources.a", "defaults"])
def test_every_bad_label_is_told_by_its_path(section: str, tmp_path: Path) -> None:
    labels = {"source": "x", "team": "y", "1a": "y", "le": "z", "__a": "b", "b": 1}
    document = _acme() | {"defaults": {"labels": labels}} if section == "defaults" else _acme(labels=labels)

    problems = _problems(document, tmp_path)

    assert [problem.partition(": ")[0] for problem in problems] == [
        f"{section}.labels.{label}" for label in ("source", "1a", "le", "__a", "b")
    ]


@pytest.mark.parametrize(
    ("inline", "value", "file", "named"),
    [
        ("SOURCES__A__AUTH__PASSWORD", CANARY, "SOURCES__A__AUTH__PASSWORD_FILE", "SOURCES__A__AUTH__PASSWORD_FILE"),
        ("OTLP__HEADERS", json.dumps({"a": CANARY}), "OTLP__HEADERS_FILE", "OTLP__HEADERS_FILE"),
        ("OTLP__HEADERS__A", CANARY, "OTLP__HEADERS_FILE", "OTLP__HEADERS__A"),
    ],
)
def test_a_secret_that_the_environment_gives_twice_is_an_error_that_names_the_variable(
    inline: str, value: str, file: str, named: str, tmp_path: Path
) -> None:
    (tmp_path / "s").write_text(f"authorization: {CANARY}")

    (problem,) = _problems(_acme(), tmp_path, {inline: value, file: str(tmp_path / "s")})

    assert problem == f"VENDOR_ALERT_EXPORTER_{named}: is given twice, inline and as a file: keep one of the two"


def test_a_file_lies_over_the_document_beneath_and_its_empty_sections_hide_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("sources:\nlog: {level: warn}\ndefaults: {timeout: 3s}")
    beneath = {"defaults": {"interval": "5s"}, **_acme()}

    loaded = config.load(file=file, flags={}, environ={}, beneath=beneath, vendors=VENDORS)

    assert loaded.log.level == "warn"
    assert (_only_source(loaded).interval, _only_source(loaded).timeout) == (timedelta(seconds=5), timedelta(seconds=3))


def test_a_flag_without_a_value_takes_back_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("")
    document = _acme() | {"web": {"config_file": "web.yml"}}

    assert _load(document, tmp_path, flags={"web.config.file": ""}).web.config_file is None
    assert _load(document, tmp_path, {"WEB__CONFIG__FILE": ""}).web.config_file is None


@pytest.mark.parametrize("endpoint", ["HTTPS://A.b", "Https://A.b/"])
def test_a_scheme_is_a_scheme_in_any_case(endpoint: str, tmp_path: Path) -> None:
    assert _only_source(_load(_acme(endpoint=endpoint), tmp_path)).endpoint == "https://A.b"


def test_a_problem_is_one_line_whatever_is_in_a_key(tmp_path: Path) -> None:
    (problem,) = _problems({"a\n\x1b[31mb": 1} | _acme(), tmp_path)

    assert problem.startswith("a??[31mb: unknown key")


def test_names_that_a_variable_could_not_tell_apart_are_an_error(tmp_path: Path) -> None:
    (problem,) = _problems({"sources": {"a-b": ACME, "A_B": ACME}}, tmp_path)

    assert problem.startswith("sources.A_B: is the same name as a-b but for case")


def test_a_key_given_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    (problem,) = _problems("web: {}\nlog: {}\nweb: {}\n", tmp_path)

    assert "line 3" in problem


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(file=Path("/nonexistent.yml"), flags={}, environ={}, vendors=VENDORS)


def test_a_wrong_value_names_the_variable_or_flag_that_set_it(tmp_path: Path) -> None:
    problems = _problems(_acme(), tmp_path, {"SOURCES__A__IDS": "1,x"}, {"log.level": "loud"})

    assert problems[0] == "log.level: must be 'debug', 'info', 'warn' or 'error' (set by the flag --log.level)"
    assert problems[1].endswith("must be a valid integer (set by the variable VENDOR_ALERT_EXPORTER_SOURCES__A__IDS)")


@pytest.mark.parametrize("value", ["x", "[1", '{"a": ', f'["{CANARY}"]'])
def test_a_variable_that_should_hold_a_map_is_refused_without_citing_it(value: str, tmp_path: Path) -> None:
    (problem,) = _problems(_acme(), tmp_path, {"SOURCES__A__AUTH": value})

    assert problem == "VENDOR_ALERT_EXPORTER_SOURCES__A__AUTH: must be a map in JSON"


@pytest.mark.parametrize("path", ["", "/", "metrics", "/-/metrics", "/-", "/a b", "/a?b", "/{a}", "/a/"])
def test_the_metrics_cannot_have_a_path_that_is_taken_or_none(path: str, tmp_path: Path) -> None:
    (problem,) = _problems({"web": {"telemetry_path": path}} | _acme(), tmp_path)

    assert problem.startswith("web.telemetry_path: must be a path like /metrics")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10877", ("", 10877)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:1", ("localhost", 1)),
        ("[::]:10877", ("::", 10877)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("none", None),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int] | None) -> None:
    assert config.address_from(text) == address


@pytest.mark.parametrize("text", ["", "10877", ":", ":65536", "::1:80", "http://x:1", "a b:1", ":1x", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be :PORT"):
        config.address_from(text)


def test_only_the_section_web_is_read_to_ask_a_running_daemon(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("web: {listen_address: ':5'}\nsources: {a: {vendor: gone}}")

    web = config.load_web(file=file, flags={"web.telemetry-path": "/m"}, environ={})

    assert (web.listen_address, web.telemetry_path) == (":5", "/m")


def test_a_mistake_in_the_web_configuration_is_told_with_the_others(tmp_path: Path) -> None:
    security = tmp_path / "web.yml"
    security.write_text("tls_server_konfig: {}")

    problems = _problems({"log": {"x": 1}, "web": {"config_file": "web.yml", "y": 1}} | _acme(foo=1), tmp_path)

    assert [problem.partition(": ")[0] for problem in problems] == [
        "web.config_file",
        "web.y",
        "log.x",
        "sources.a.foo",
    ]
    assert "tls_server_konfig" in problems[0]


@given(
    environ=st.dictionaries(
        st.sampled_from(["SOURCES__A", "SOURCES__A__AUTH", "SOURCES__A__LABELS__X", "WEB", "SOURCES__B__IDS", "A__B"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    ),
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["sources", "a", "vendor", "acme", "auth", "password", "web", "labels", "defaults"]),
                inner,
            )
        ),
    ),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_a_configuration_or_a_list_of_problems(
    environ: dict[str, str], document: Any, tmp_path: Path
) -> None:
    try:
        _load(json.dumps(document), tmp_path, environ)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ("none: fine",)

    assert problems
    assert all(": " in problem for problem in problems)


def _members(annotation: Any) -> list[type[Credentials]]:
    return list(get_args(annotation)) or [annotation]


def test_what_a_vendor_finds_missing_is_told_as_if_it_were_required(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    auth = {"app_code": "a", "username": "u"}
    source = {"vendor": "blueking", "endpoint": "https://bk.example", "bk_biz_ids": [2], "auth": auth}
    file.write_text(json.dumps({"sources": {"bk": source}}))

    with pytest.raises(ConfigError) as caught:
        config.load(file=file, flags={}, environ={})

    assert caught.value.problems == (
        "sources.bk.auth.app_secret: missing; give it here or as the name of a file in `app_secret_file`",
    )


SECRETS = [
    (name, secret)
    for name, vendor in load_all().items()
    for kind in _members(vendor.config.model_fields["auth"].annotation)
    for secret in kind.secret_names()
]


@pytest.mark.parametrize(("vendor", "secret"), SECRETS)
def test_no_secret_of_any_vendor_is_ever_shown_in_an_error(vendor: str, secret: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    told = []
    for value in (CANARY, [CANARY], {"a": CANARY}, {CANARY: 1}):
        for extra in (
            {},
            {f"{secret}_file": "/nonexistent/file"},
            {"method": "password"},
            {"method": "token"},
            {"x": 1},
        ):
            source = {"vendor": vendor, "endpoint": "x", "auth": {secret: value, **extra}}
            file.write_text(json.dumps({"sources": {"a": source}}))
            with pytest.raises(ConfigError) as caught:
                config.load(file=file, flags={}, environ={})
            told.append(str(caught.value))

    # A key is not a secret: what is told by its name is where it stands.
    assert CANARY not in "\n".join(told).replace(f".{CANARY}: unknown key", "")


def test_the_schema_knows_every_key_of_every_vendor() -> None:
    schema = config.schema(VENDORS)

    source = schema["properties"]["sources"]["additionalProperties"]
    assert source["properties"]["vendor"]["enum"] == ["acme", "forge"]
    acme = schema["$defs"]["AcmeConfig"]
    assert set(acme["properties"]) == set(AcmeConfig.model_fields)
    assert acme["properties"]["vendor"] == {"const": "acme"}
    assert acme["properties"]["interval"]["default"] == "1m"
    assert acme["additionalProperties"] is False
    assert set(schema["$defs"]["AcmeAuth"]["properties"]) == {
        "user",
        "password",
        "password_file",
        "extra",
        "extra_file",
    }
    assert {"not": {"required": ["password", "password_file"]}} in schema["$defs"]["AcmeAuth"]["allOf"]


def test_the_schema_refers_only_to_what_it_defines_and_requires_nothing() -> None:
    text = json.dumps(config.schema())

    references = set(re.findall(r'"#/\$defs/([^"]+)"', text))
    assert references <= set(json.loads(text)["$defs"])
    assert all(names == '["vendor"]' or "_file" in names for names in re.findall(r'"required": (\[.*?\])', text))


@pytest.mark.parametrize("vendor", load_all())
def test_the_example_of_each_vendor_is_valid_and_says_what_it_needs(vendor: str, tmp_path: Path) -> None:
    document = yaml.safe_load(reference.example_of(vendor))
    ((name, source),) = document["sources"].items()
    secrets = {key.removesuffix("_file"): value for key, value in source["auth"].items()}
    file = tmp_path / "config.yml"
    file.write_text(json.dumps({"sources": {name: source | {"auth": secrets}}}))

    loaded = config.load(file=file, flags={}, environ={})

    assert loaded.sources[name].vendor == vendor


def test_the_page_about_the_configuration_is_what_the_code_says() -> None:
    page = (reference.DOCS / "configuration.md").read_text(encoding="utf-8")

    assert page == reference.page("configuration.md")


def test_the_page_about_the_configuration_names_every_key_of_every_vendor() -> None:
    page = reference.page("configuration.md")

    for vendor in load_all().values():
        for key in vendor.config.documented():
            assert f"`{key}`" in page
        for kind in _members(vendor.config.model_fields["auth"].annotation):
            for secret in kind.secret_names():
                assert f"`{secret}` or `{secret}_file`" in page


# What is legal and probably wrong.


@pytest.mark.parametrize(
    ("document", "environ", "warning"),
    [
        (_acme(timeout="2m"), {}, "sources.a.timeout: is longer than the interval"),
        (_acme() | {"defaults": {"timeout": "2m"}}, {}, "sources.a.timeout: is longer than the interval"),
        (
            _acme(max_records=999),
            {},
            "sources.a.max_records: is so small that records reported late are not counted; leave",
        ),
        (_acme() | {"defaults": {"max_records": 1}}, {}, "sources.a.max_records: is so small"),
        (
            _acme(max_records=1_400_001),
            {},
            "sources: they may remember 1,400,001 records in one process, too many for 512",
        ),
        (_acme(endpoint="http://acme.example"), {}, "sources.a.endpoint: http:// to another host"),
        (_acme(endpoint="https://acme.REGION.example"), {}, "sources.a.endpoint: REGION stands for a value"),
        (_acme(auth={"user": "u", "password": "short"}), {}, "sources.a.auth.password: has fewer than 6 characters"),
        (_acme(auth={"user": "u", "password": "'quoted'"}), {}, "sources.a.auth.password: begins and ends with quotes"),
        (_acme(), {"WEB_LISTEN_ADDRESS": ":1"}, "VENDOR_ALERT_EXPORTER_WEB_LISTEN_ADDRESS: is ignored"),
        (_acme(), {"SOURCES_A_AUTH_PASSWORD": "x"}, "VENDOR_ALERT_EXPORTER_SOURCES_A_AUTH_PASSWORD: is ignored"),
    ],
)
def test_what_is_probably_wrong_is_a_warning(
    document: Any, environ: dict[str, str], warning: str, tmp_path: Path
) -> None:
    [said] = _load(_sound(document), tmp_path, environ).warnings

    assert said.startswith(warning)
    assert CANARY not in said


def _many(*limits: int | None, **sections: Any) -> dict[str, Any]:
    """Sources with this `max_records`, or without."""
    sources = {f"s{n}": ACME | ({} if limit is None else {"max_records": limit}) for n, limit in enumerate(limits)}
    document: dict[str, Any] = _sound({"sources": sources, **sections})
    return document


@pytest.mark.parametrize(
    ("document", "limits"),
    [
        (_many(None), [1_000_000]),
        (_many(None, None, None), [333_333] * 3),
        (_many(None, 5_000, None), [500_000, 5_000, 500_000]),
        (_many(*[None] * 200), [10_000] * 200),
        (_many(None, 1_000_000), [1_000_000] * 2),
        (_many(None, 7, defaults={"max_records": 20_000}), [20_000, 7]),
    ],
)
def test_sources_that_do_not_say_how_much_they_remember_share_it(
    document: Any, limits: list[int], tmp_path: Path
) -> None:
    assert [*config.record_limits(_load(document, tmp_path).sources).values()] == limits


@pytest.mark.parametrize(
    ("document", "warns"),
    [
        (_many(*[None] * 140), False),
        (_many(*[None] * 141), True),
        (_many(400_000, None, None), False),
        (_many(400_001, None, None), True),
        (_many(*[None] * 8, defaults={"max_records": 200_000}), True),
        (_many(*[None] * 8, defaults={"max_records": 200_000}, shard={"total": 4, "index": 0}), False),
    ],
)
def test_sources_that_may_remember_more_than_the_memory_holds_are_a_warning(
    document: Any, warns: bool, tmp_path: Path
) -> None:
    warnings = _load(document, tmp_path).warnings

    assert [warning.partition(":")[0] for warning in warnings] == ["sources"] * warns


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_an_exception_from_the_proxy_that_is_not_understood_is_a_warning(variable: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(json.dumps(_sound(_acme())))

    loaded = config.load(file=file, flags={}, environ={variable: "10.0.0.0/8,::1,10.0.0.0/99"}, vendors=VENDORS)

    assert loaded.warnings == (
        f"{variable}: 10.0.0.0/99 is neither a host, an address, a range nor `*`, and excepts nothing",
    )


def test_what_is_right_is_no_warning(tmp_path: Path) -> None:
    environ = {
        "WEB_SERVICE_HOST": "10.0.0.1",
        "SERVICE_HOST": "10.0.0.1",
        "PORT_10877_TCP": "tcp://10.0.0.1:10877",
        "REVISION": "abc",
    }
    local = {
        "vendor": "acme",
        "endpoint": "http://127.0.0.1:1",
        "interval": "5s",
        "auth": {"user": "u", "password": CANARY},
    }

    assert _load({"sources": {"a": local}}, tmp_path, environ).warnings == ()


def test_the_files_that_are_named_are_known(tmp_path: Path) -> None:
    for name in ("web.yml", "ca.pem", "password"):
        (tmp_path / name).write_text("")
    (tmp_path / "password").write_text(CANARY)
    document = {"web": {"config_file": "web.yml"}} | _acme(
        tls={"ca_file": "ca.pem"}, auth={"user": "u", "password_file": "password"}
    )

    named = _load(document, tmp_path).files()

    assert named == tuple(tmp_path / name for name in ("config.yml", "web.yml", "ca.pem", "password"))


def test_a_file_whose_name_the_locale_cannot_spell_is_found(tmp_path: Path) -> None:
    (tmp_path / "секрет").write_text(CANARY)
    (tmp_path / "c.yml").write_text(
        f"sources: {{a: {json.dumps(ACME | {'auth': {'user': 'u', 'password_file': 'секрет'}}, ensure_ascii=False)}}}"
    )
    program = (
        "import sys; from pathlib import Path; from tests.test_config import VENDORS; from exporter import config;"
        "loaded = config.load(file=Path(sys.argv[1]), flags={}, environ={}, vendors=VENDORS);"
        "print(loaded.sources['a'].auth.password.read())"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "c.yml"], env=plain, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == (f"{CANARY}\n", "")
