"""A canary in every secret field, driven down every error path: it is seen in no log, metric, page, error or output."""

import base64
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, quote_plus

import anyio
import bcrypt
import httpx
import pytest
import trio
import yaml
from trio.testing import MockClock

from exporter import logs
from exporter.cli import main
from exporter.demo import simulators
from exporter.exposition import landing
from exporter.exposition.prometheus import Renderer
from exporter.model.snapshot import ReloadState, Snapshot
from exporter.simulation.network import Fault, FaultKind, Site
from exporter.simulation.server import SimulationServer
from exporter.simulation.wire import Request, Response, json_response
from exporter.vendorkit.secret import Credentials
from exporter.vendors import load_all
from exporter.vendors.huawei_aom.simulator import TOKEN
from tests.builders import START
from tests.e2e.test_ledger import until
from tests.e2e.test_lifecycle import exporter
from tests.rig import VENDORS, Rig
from tests.test_exactly_once import pace

# What no part of our own texts looks like, with what every encoding changes, and nothing that a header cannot carry.
CANARY = "C4n4ry-{}&=+/% \"K1ng's\\"
PEM = "-----BEGIN PRIVATE KEY-----"


def canary(name: str) -> str:
    return CANARY.format(name)


PASSWORD = {
    "method": "password",
    "iam_endpoint": "http://127.0.0.1:1",
    "domain": "acme",
    "username": "exporter",
    "project_name": "cn-north-4",
}
# Every way of being let in, with all that goes beside the secrets.
WAYS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("baidu_bls", {}, ("access_key", "secret_key", "session_token")),
    ("blueking", {"app_code": "exporter"}, ("app_secret", "token")),
    ("blueking", {}, ("access_token",)),
    ("huawei_aom", {"access_key": "AK"}, ("secret_key", "security_token")),
    ("huawei_aom", {"method": "token"}, ("token",)),
    ("huawei_aom", PASSWORD, ("password",)),
    ("key_astrom", {}, ("api_token",)),
]


def secrets_of(kind: type[Credentials]) -> set[str]:
    return {name for part in (kind, *kind.__subclasses__()) for name in part.secret_names()}


def auth_of(way: tuple[str, dict[str, Any], tuple[str, ...]]) -> dict[str, Any]:
    vendor, beside, names = way
    return beside | {name: canary(f"{vendor}-{name}") for name in names}


def forms_of(secret: str) -> set[str]:
    """What a secret looks like where somebody wrote it down: as it is, quoted, percent-encoded, in base64."""
    found = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(json.dumps(secret))[2:-2]}
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        found |= {quoted, quoted.lower()}
    for before in (b"", b"u:", b"x:", b"abc"):  # at each of the three places a text takes in base64
        whole = base64.b64encode(before + secret.encode()).decode()
        found |= {whole[8:-4], whole[8:-4].replace("+", "-").replace("/", "_")}
    return found


class Search:
    """Looks for secrets in whatever it is shown, and keeps count."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = secrets
        self._forms = {form: secret for secret in secrets for form in forms_of(secret)}
        # Whatever the encoding, this much of a canary is never our own text.
        self._forms |= {"C4n4ry": "a canary", base64.b64encode(b"C4n4ry-").decode()[:9]: "a canary"}
        self.places = 0
        self.characters = 0

    def through(self, text: str, place: str) -> None:
        self.places += 1
        self.characters += len(text)
        for form, secret in self._forms.items():
            assert form not in text, f"{secret} is in {place}: {text[max(0, text.index(form) - 200) :][:400]}"

    def figures(self) -> str:
        return (
            f"{len(self.secrets)} secrets in {len(self._forms)} forms looked for in {self.places} places, "
            f"{self.characters} characters"
        )


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:], sys.excepthook
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    sys.excepthook = before[2]
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = True


def test_every_secret_field_of_every_vendor_has_a_canary() -> None:
    for name, vendor in load_all().items():
        annotation = vendor.config.model_fields["auth"].annotation
        kinds: tuple[Any, ...] = get_args(annotation) or (annotation,)
        fields = {field for kind in kinds for field in secrets_of(kind)}

        assert fields == {field for vendor_name, _, names in WAYS if vendor_name == name for field in names}


class Parrot:
    """A vendor that repeats in its answer all it was sent, or breaks over it."""

    def __init__(self, simulator: Any, status: int) -> None:
        self._simulator = simulator
        self._status = status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def answer(self, request: Request) -> Response:
        heard = f"{dict(request.headers)} {request.path}?{request.query} {request.body!r}"
        if self._status == 0:
            raise RuntimeError(f"cannot make sense of {heard}")
        names = ("code", "message", "error_code", "error_msg", "error", "title", "requestId", "alarms", "events")
        parroted = dict.fromkeys(names, heard)
        return json_response(parroted, status=self._status, headers={"X-Heard": quote(heard), "Date": quote(heard)})


FAULTS = [*FaultKind]
STATUSES = [400, 401, 403, 404, 407, 429, 500, 503]


@pytest.mark.parametrize("way", WAYS, ids=[f"{vendor}-{'-'.join(names)}" for vendor, _, names in WAYS])
def test_no_failed_poll_shows_a_secret(
    way: tuple[str, dict[str, Any], tuple[str, ...]], capfd: pytest.CaptureFixture[str]
) -> None:
    auth = auth_of(way)
    search = Search(*(auth[name] for name in way[2]))
    renderer = Renderer(version="1", revision="2")

    def look_at(rig: Rig, when: str) -> None:
        state = rig.watch.book.state
        snapshot = Snapshot(
            at=rig.now(),
            moment=anyio.current_time(),
            sources=[state],
            reload=ReloadState(successful=True, succeeded_at=START),
        )
        exposition = renderer.render(snapshot)
        search.through(exposition.text.body(0).decode(), f"the metrics after {when}")
        search.through(exposition.openmetrics.body(0).decode(), f"the OpenMetrics after {when}")
        search.through(landing.page(snapshot, snapshot.at, 0.0, "1", "/metrics"), f"the page after {when}")
        search.through(repr((state, rig.config, rig.watch.config)), f"the state after {when}")
        logs.writer.wait(10)
        told = capfd.readouterr().err
        assert told.startswith("ts=")
        search.through(told, f"the log after {when}")

    logs.setup("debug", "logfmt")

    async def every_failure() -> None:
        def a_rig() -> Rig:
            return Rig(way[0], auth=auth, pace=pace(between_alerts=300.0), history=timedelta(minutes=5))

        for kind in FAULTS:
            rig = a_rig()
            rig.site.faults = [Fault(kind=kind, size=1024)]
            await rig.poll()
            look_at(rig, kind)
        for status in STATUSES:
            rig = a_rig()
            rig.site.faults = [Fault(kind=FaultKind.STATUS, status=status, headers={"Retry-After": "1"})]
            await rig.poll()
            look_at(rig, str(status))
        for status in (0, 200, *STATUSES):
            rig = a_rig()
            rig.site.simulator = Parrot(rig.site.simulator, status)
            await rig.poll()
            assert not rig.watch.book.state.up
            look_at(rig, f"a parrot's {status}")

    trio.run(every_failure, clock=MockClock(autojump_threshold=0))

    print(f"{way[0]}: {search.figures()}")


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_poll_that_succeeds_shows_a_secret(vendor: str, capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")

    async def polls() -> tuple[list[str], str]:
        rig = Rig(vendor)
        await rig.polls(2)
        assert rig.watch.book.state.up
        state = rig.watch.book.state
        snapshot = Snapshot(
            at=rig.now(),
            moment=anyio.current_time(),
            sources=[state],
            reload=ReloadState(successful=True, succeeded_at=START),
        )
        text = Renderer(version="1", revision="2").render(snapshot).text.body(0).decode()
        auth = rig.config.auth  # type: ignore[attr-defined]
        return [getattr(auth, name).read() for name in auth.secret_names() if getattr(auth, name)], text

    secrets, text = trio.run(polls, clock=MockClock(autojump_threshold=0))

    assert secrets
    search = Search(*secrets)
    logs.writer.wait(10)
    search.through(text + capfd.readouterr().err, "metrics and log")


def test_no_defect_shows_a_token_that_was_fetched(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")

    async def polls() -> None:
        rig = Rig("huawei_aom", auth=PASSWORD | {"password": "simulated-password"})
        await rig.poll()
        assert rig.watch.book.state.up
        rig.site.simulator = Parrot(rig.site.simulator, 0)
        await rig.poll()

    trio.run(polls, clock=MockClock(autojump_threshold=0))

    logs.writer.wait(10)
    told = capfd.readouterr().err
    assert "***" in told
    Search(TOKEN).through(told, "the log")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way of being let in, with every mistake that an operator makes beside a secret."""
    settings = {each.vendor: each.settings("http://127.0.0.1:1") for each in simulators(1, 1.0, START)}
    for way in WAYS:
        vendor, _, names = way
        good = settings[vendor] | {"auth": auth_of(way)}

        def document(source: Mapping[str, Any], **others: Any) -> dict[str, Any]:
            return {"sources": {"prod": source}, **others}

        yield f"{vendor}: nothing wrong", document(good)
        for name in names:
            secret = good["auth"][name]
            for mistake, value in {
                "a list": [secret],
                "a map": {secret: secret},
                "a key of YAML": {secret: None},
                "bytes": secret.encode(),
            }.items():
                yield f"{vendor}.{name}: {mistake}", document(good | {"auth": good["auth"] | {name: value}})
            yield f"{vendor}.{name}: twice", document(good | {"auth": good["auth"] | {f"{name}_file": secret}})
            without = {key: value for key, value in good["auth"].items() if key != name}
            for pasted in (secret, f"{PEM}\n{secret}\n", secret * 500):
                as_file = good | {"auth": without | {f"{name}_file": pasted}}
                yield f"{vendor}.{name}: where the name of a file belongs", document(as_file)
            yield f"{vendor}.{name}: beside", document(good | {"auth": without, "interval": "5x"})
            yield f"{vendor}.{name}: misspelt", document(good | {"auth": without | {f"{name}s": secret}})
            yield f"{vendor}.{name}: the section itself", document(good | {"auth": secret})
            yield f"{vendor}.{name}: a list of sections", document(good | {"auth": [good["auth"]]})
            yield f"{vendor}.{name}: under defaults", document(good, defaults={"auth": good["auth"]})
            yield f"{vendor}.{name}: in the wrong section", document(good, web={"auth": {name: secret}})
            yield f"{vendor}.{name}: of no vendor", document({"vendor": "acme", "auth": good["auth"]})
        for key in ("ca_file", "cert_file", "key_file"):
            for pasted in (canary("tls"), f"{PEM}\n{canary('tls')}\n", f"/{canary('tls')}" * 500):
                yield f"{vendor}: {key}", document(good | {"tls": {key: pasted, "insecure_skip_verify": True}})
        login = quote(canary("proxy"), safe="")
        for proxy in (f"http://u:{login}@[", f"ftp://u:{login}@h", f"http://u:{canary('proxy')}@h:1", [login], login):
            yield f"{vendor}: a proxy that is none", document(good | {"proxy": proxy})
        for endpoint in (f"http://u:{login}@h", f"http://u:{login}@h:99999", f"http://h?key={login}"):
            yield f"{vendor}: an endpoint with a login", document(good | {"endpoint": endpoint})
    yield "web", {"sources": {}, "web": {"config_file": f"{PEM}{canary('tls')}"}}
    otlp = {"endpoint": "http://127.0.0.1:1", "headers": {"authorization": canary("otlp")}}
    for pasted in (canary("otlp"), f"authorization: {canary('otlp')}\n"):
        yield "otlp: headers_file", {"sources": {}, "otlp": {"headers_file": pasted}}
    for changes in ({"headers": [canary("otlp")]}, {"headers": {"a": [canary("otlp")]}}, {"interval": "-1"}, {}):
        yield "otlp", {"sources": {}, "otlp": otlp | changes}


def web_documents() -> Iterator[tuple[str, Any]]:
    """What an operator may get wrong in the file about our own port."""
    pasted = [canary("tls"), f"{PEM}\n{canary('tls')}\n", f"/{canary('tls')}" * 500, f"{PEM}\0{canary('tls')}"]
    files = {"cert_file": "a.pem", "key_file": "a.key", "client_ca_file": "ca.pem"}
    required = {"client_auth_type": "RequireAndVerifyClientCert"}
    for key in files:
        for name in (*pasted, [canary("tls")], {canary("tls"): 1}):
            yield key, {"tls_server_config": files | required | {key: name}}
            yield f"{key} alone", {"tls_server_config": {key: name}}
    for users in ({"ann": canary("user")}, [canary("user")], canary("user"), {"ann": [canary("user")]}):
        yield "users", {"basic_auth_users": users}


def canaries() -> list[str]:
    named = [canary(f"{vendor}-{name}") for vendor, _, names in WAYS for name in names]
    return [*named, *map(canary, ("proxy", "otlp", "user", "tls"))]


def test_no_configuration_error_shows_a_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    search = Search(*canaries())
    file = tmp_path / "config.yaml"
    refused = 0

    for what, document in documents():
        written = yaml.safe_dump(document, allow_unicode=True, width=1000)
        # Whole, and with the quotes lost around what needs them, as happens when files are edited.
        for text in (written, written.replace("'", ""), written.replace('"', "'"), written[: len(written) * 2 // 3]):
            file.write_text(text)
            refused += main(["check-config", f"--config.file={file}"]) != 0
            logs.writer.wait(10)
            told = capfd.readouterr()
            search.through(told.out + told.err, f"check-config, {what}")

    assert refused > 100
    print(f"configuration errors: {search.figures()}")


def test_no_error_about_the_web_configuration_shows_a_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    search = Search(*canaries())
    web = tmp_path / "web.yml"

    for what, document in web_documents():
        web.write_text(yaml.safe_dump(document, allow_unicode=True, width=1000))
        assert main(["check-config", f"--web.config.file={web}"]) == 1
        logs.writer.wait(10)
        told = capfd.readouterr()
        assert "web.config_file: " in told.err
        search.through(told.out + told.err, f"check-config, {what}")


def test_no_error_about_the_environment_shows_a_secret(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(*canaries())
    prefix = "VENDOR_ALERT_EXPORTER_SOURCES__PROD__"
    monkeypatch.setenv(f"{prefix}ENDPOINT", "https://127.0.0.1:1")

    for way in WAYS:
        vendor, _, names = way
        monkeypatch.setenv(f"{prefix}VENDOR", vendor)
        for name in names:
            for key in (
                f"AUTH__{name}",
                f"AUTH__{name}__MORE",
                f"AUTH__{name}S",
                f"AUTH__{name}_FILE",
                "TLS__CA_FILE",
                "AUTH",
                "AUTHS",
                "LABELS",
            ):
                variable = f"{prefix}{key}".upper()
                for value in (canary(f"{vendor}-{name}"), json.dumps({"x": [canary(f"{vendor}-{name}")]})):
                    monkeypatch.setenv(variable, value)
                    main(["check-config"])
                    logs.writer.wait(10)
                    told = capfd.readouterr()
                    search.through(told.out + told.err, f"check-config with {variable}")
                monkeypatch.delenv(variable)
    for variable in ("HTTPS_PROXY", "ALL_PROXY"):
        for proxy in (
            f"socks5://u:{quote(canary('proxy'))}@h",
            f"u:{canary('proxy')}@h:1",
            f"http://[{canary('proxy')}",
        ):
            monkeypatch.setenv(variable, proxy)
            main(["check-config"])
            logs.writer.wait(10)
            told = capfd.readouterr()
            search.through(told.out + told.err, f"check-config with {variable}")
        monkeypatch.delenv(variable)
    print(f"variables: {search.figures()}")


@pytest.mark.e2e
def test_the_running_process_shows_no_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = simulators(seed=5, speed=1.0, now=datetime.now(UTC))
    server = SimulationServer([Site(each, lambda: datetime.now(UTC)) for each in found])
    server.start()
    settings = {each.vendor: each.settings(server.url) for each in found}
    sources = {f"way-{place}": settings[way[0]] | {"auth": auth_of(way)} for place, way in enumerate(WAYS)}
    for source in sources.values():
        source["proxy"] = "none"
        if "iam_endpoint" in source["auth"]:
            source["auth"] = source["auth"] | {"iam_endpoint": server.url}
    proxied = {"proxy": f"http://u:{quote(canary('proxy'), safe='')}@127.0.0.1:1"}
    sources["proxied"] = settings["key_astrom"] | proxied
    hashed = bcrypt.hashpw(canary("user").encode(), bcrypt.gensalt(4)).decode()
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"basic_auth_users": {"ann": hashed}}))
    config = {
        "defaults": {"interval": "1s", "max_requests_per_second": 1000},
        "otlp": {"endpoint": "http://127.0.0.1:1", "interval": "1s", "headers": {"authorization": canary("otlp")}},
        "sources": sources,
    }
    search = Search(*canaries(), hashed)
    flags = [f"--web.config.file={web}", "--web.enable-lifecycle", "--log.level=debug"]

    with exporter(tmp_path, config, *flags) as running, httpx.Client(trust_env=False, timeout=10) as http:
        ann = ("ann", canary("user"))
        until(lambda: http.get(f"{running.url}/-/ready", auth=ann).status_code == 200)
        running.file.write_text(running.file.read_text().replace('"auth"', '"auht"'))
        answers = [http.post(f"{running.url}/-/reload", auth=ann), http.get(running.url, auth=("ann", "wrong"))]
        running.file.write_text(running.file.read_text()[:-200])
        running.process.send_signal(signal.SIGHUP)
        web.write_text(web.read_text().replace("$2b", "$9b"))
        for path in ("/", "/metrics", "/-/healthy", f"/{quote(canary('user'))}"):
            answers += [http.get(running.url + path, auth=auth) for auth in (ann, ("ann", canary("proxy")))]
        until(lambda: running.told().count("the old configuration stays") == 2)
        until(lambda: "is invalid, the last" in running.told())
        process = Path(f"/proc/{running.process.pid}")
        # Its environment and its memory hold secrets, and are for the same user only.
        titles = [process.joinpath(name).read_text() for name in ("cmdline", "comm", "status")]
        assert running.ends(signal.SIGTERM) == 0
        told = running.told()
    (tmp_path / "poll").write_text(json.dumps(config))
    polled = subprocess.run(
        [
            sys.executable,
            "-m",
            "exporter",
            "poll",
            "--format=json",
            "--log.level=debug",
            f"--config.file={tmp_path}/poll",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        input="",
    )
    helped = subprocess.run([sys.executable, "-m", "exporter", "--help"], capture_output=True, text=True, check=True)
    server.stop()

    search.through(told, "the log")
    for answer in answers:
        search.through(f"{answer.headers} {answer.text}", f"{answer.request.method} {answer.request.url.path}")
    for place, text in {
        "the titles": "".join(titles),
        "poll": polled.stdout + polled.stderr,
        "--help": helped.stdout,
    }.items():
        search.through(text, place)
    assert {answer.status_code for answer in answers} >= {200, 401, 500}
    assert len(re.findall(r"poll failed \(auth\)", told)) >= 5
    assert polled.returncode == 1
    print(f"the process: {search.figures()}")
