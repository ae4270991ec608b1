"""What a person types, and what they are told."""

import json
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from exporter import completion, config, tables, usage
from exporter.cli import main
from exporter.healthfile import HealthFile
from exporter.report import PollReport
from exporter.version import revision, version
from tests.programs import program

CANARY = "c4n4ry-s3cret"
SOURCE = {"vendor": "key_astrom", "endpoint": "https://astrom.example/e/1", "auth": {"api_token": CANARY}}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in usage.FLAGS:
        monkeypatch.delenv(config.variable_for(flag), raising=False)
    monkeypatch.setattr("exporter.cli.Signals", lambda: None)  # they are the process's, and would outlive the test


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "config.yml"
    file.write_text(json.dumps({"sources": {"a": SOURCE, "b": SOURCE}}))
    return file


@pytest.mark.parametrize("command", [[], ["run"], ["check-config"], ["demo"], ["simulate"]])
def test_the_version_is_told_as_exporters_do(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*command, "--version"])

    assert code == 0
    assert capsys.readouterr().out == f"vendor-alert-exporter, version {version()} (revision: {revision()})\n"


def test_the_revision_is_what_the_image_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_ALERT_EXPORTER_REVISION", "abc123")

    assert revision() == "abc123"


def test_help_names_every_flag_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--help"])

    told = capsys.readouterr().out
    assert code == 0
    for word in (*usage.FLAGS, *usage.COMMANDS):
        assert word in told


def test_every_setting_that_is_a_flag_is_offered() -> None:
    assert set(usage.FLAGS) == {"config.file", *config.FLAGS}


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["--web.listen"],
        ["-web.listen-address=:1"],
        ["check-config", "--nonsense"],
        ["poll", "--format=xml"],
        ["simulate"],
        ["simulate", "--listen=:1", "--speed=0"],
    ],
)
def test_wrong_usage_exits_2_with_the_usage_and_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)

    told = capsys.readouterr().err
    assert code == 2
    assert told.startswith("usage: ")
    assert "error: " in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["chek-config"], "check-config"),
        (["pol"], "poll"),
        (["--config-file=x", "poll"], "--config.file"),
        (["--config-file", "x"], "--config.file"),
        (["-web.listen-address=:1"], "--web.listen-address"),
        (["poll", "--sorce=a"], "--source"),
        (["poll", "--format=tabel"], "table"),
        (["completion", "bahs"], "bash"),
        (["help", "chek-config"], "check-config"),
    ],
)
def test_what_was_probably_meant_is_suggested(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2

    assert capsys.readouterr().err.splitlines()[-1].endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"vendor": "key-astrom"}, "`key_astrom`"),
        ({"first_pol": "baseline"}, "`first_poll`"),
        ({"first_poll": "basline"}, "`baseline`"),
        ({"auth": {"api_tokn": CANARY}}, "`api_token`"),
    ],
)
def test_what_was_probably_meant_in_the_file_is_suggested(
    change: dict[str, Any], meant: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(json.dumps({"sources": {"a": SOURCE | change}}))

    assert main(["check-config", f"--config.file={file}"]) == 1

    assert f"; did you mean {meant}?\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SOURCES__A__INTERVALL", "SOURCES__A__INTERVAL"),
        ("SOURCES__A__AUTH__API_TOKN_FILE", "SOURCES__A__AUTH__API_TOKEN_FILE"),
        ("LOGS__LEVEL", "LOG__LEVEL"),
        ("WEB__LISTEN_ADRESS", "WEB__LISTEN_ADDRESS"),
    ],
)
def test_the_variable_that_was_probably_meant_is_suggested(
    variable: str, meant: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"VENDOR_ALERT_EXPORTER_{variable}", "x")

    assert main(["check-config", f"--config.file={file}"]) == 1

    assert f"; did you mean VENDOR_ALERT_EXPORTER_{meant}?\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", usage.COMMANDS)
def test_the_help_of_a_command_describes_each_of_its_flags_and_no_others(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    by_flag = capsys.readouterr().out
    assert main(["help", command]) == 0
    by_command = capsys.readouterr().out

    listed = by_flag.partition("options:")[2]
    shown = set(re.findall(r"^  --([a-z.-]+)", listed.replace("-h, ", ""), re.MULTILINE)) - {"help", "version"}
    own = {name.removeprefix("--") for name in usage.COMMANDS[command].own if name.startswith("--")}
    assert by_flag == by_command
    assert shown == own | set(usage.COMMANDS[command].shown)
    assert all(re.search(rf"--{flag}\b.*\s+\S+ \S+", listed) for flag in shown)


def test_settings_that_do_not_concern_a_command_are_taken_all_the_same(file: Path) -> None:
    assert main(["check-config", f"--config.file={file}", "--web.listen-address=:1", "--shard.total=2"]) == 0


def test_warnings_of_a_configuration_are_told_and_do_not_make_it_wrong(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(json.dumps({"sources": {"a": SOURCE | {"timeout": "2m"}}}))

    code = main(["check-config", f"--config.file={file}"])

    told = capsys.readouterr()
    assert code == 0
    assert told.err.startswith("warning: sources.a.timeout: is longer than the interval")
    assert told.out == "the configuration is valid; sources: a\n"


def _completed(line: str) -> set[str]:
    """What bash offers once this much is typed."""
    words = [*re.split(r"([ =])", line)]
    words = [word for word in words if word not in (" ", "")] + ([""] if line.endswith(" ") else [])
    program = (
        f"source <({sys.executable} -m exporter completion bash)\n"
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}\n"
        '_vendor_alert_exporter; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("vendor-alert-exporter ", {"run", "poll", "doctor", "--config.file"}, {"--format", "--seed"}),
        ("vendor-alert-exporter po", {"poll"}, {"run"}),
        ("vendor-alert-exporter poll --", {"--source", "--format", "--config.file"}, {"--seed", "--shard.total"}),
        ("vendor-alert-exporter --log.level=", {"debug", "info", "warn", "error"}, {"poll"}),
        ("vendor-alert-exporter poll --format ", {"table", "json"}, {"metrics", "--source"}),
        ("vendor-alert-exporter completion ", {"bash", "fish", "zsh"}, {"poll"}),
    ],
)
def test_bash_completes_commands_flags_and_values(line: str, offered: set[str], not_offered: set[str]) -> None:
    completed = _completed(line)

    assert offered <= completed
    assert not not_offered & completed


def _fish(line: str, script: Path, wanted: str) -> str:
    return f"source {script}; complete -C {shlex.quote(line)} | string match -- {shlex.quote(wanted + '*')}"


def _zsh(line: str, script: Path, wanted: str) -> str:
    """Presses the tabulator key, and reads until the line is what is wanted."""
    return f"""
        zmodload zsh/zpty
        zpty shell zsh -f
        zpty -w shell 'PS1=; autoload -U compinit; compinit -u -d {script}.dump; source {script}; print -r rea""dy'
        zpty -r -m shell out '*ready*'
        zpty -w -n shell {shlex.quote(line)}$'\\t'
        zpty -r -m shell out {shlex.quote(f"*{wanted}*")} && print -r -- "$out"
        """


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("vendor-alert-exporter po", "poll"),
        ("vendor-alert-exporter poll --form", "--format"),
        ("vendor-alert-exporter --log.level=de", "--log.level=debug"),
        ("vendor-alert-exporter completion zs", "zsh"),
    ],
)
@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_other_shells_complete_commands_flags_and_values(shell: str, line: str, wanted: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion.script(shell, usage.parsers()))
    asked = {"fish": _fish, "zsh": _zsh}[shell](line, script, wanted)

    done = subprocess.run(
        [program(shell), "--no-config" if shell == "fish" else "-f", "-c", asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert wanted in done.stdout


@pytest.mark.parametrize("order", [["check-config", "--config.file"], ["check-config", "--config.file="], None])
def test_a_valid_configuration_is_said_to_be_so(
    order: list[str] | None, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match order:
        case None:
            arguments = [f"--config.file={file}", "check-config"]
        case [*words, last] if last.endswith("="):
            arguments = [*words, f"{last}{file}"]
        case _:
            arguments = [*order, str(file)]

    code = main(arguments)

    assert code == 0
    assert capsys.readouterr().out == "the configuration is valid; sources: a, b\n"


def test_every_problem_of_a_configuration_is_told_and_no_secret(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"vendor": "key_astrom", "endpoint": 5, "auth": {"api_token": CANARY, "api_tokenn": CANARY}}
    file.write_text(json.dumps({"sources": {"a": wrong}, "loog": {}}))

    code = main(["check-config", f"--config.file={file}", "--log.level=loud"])

    told = capsys.readouterr()
    assert code == 1
    assert {line.partition(":")[0] for line in told.err.splitlines()} == {
        "log.level",
        "loog",
        "sources.a.endpoint",
        "sources.a.auth.api_tokenn",
    }
    assert CANARY not in told.err + told.out


@pytest.mark.parametrize("command", [[], ["run"], ["poll"]])
def test_a_wrong_configuration_exits_2_with_a_line_per_problem(
    command: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("sources: {a: {vendor: nobody}}\nweb: {x: 1}")

    code = main([*command, f"--config.file={file}"])

    told = capsys.readouterr().err.splitlines()
    assert code == 2
    assert [line.partition(":")[0] for line in told] == ["web.x", "sources.a.vendor"]


@pytest.mark.parametrize("listen", ["nonsense", "none", "127.0.0.1:99999", "a..b:1", "192.0.2.1:1"])
def test_vendors_are_not_simulated_where_nobody_can_listen(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["simulate", f"--listen={listen}"])

    (told,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert told.startswith("--listen: ")


@pytest.mark.parametrize("own", ["- 1", "sources: [1]", "sources: {a: 2020-01-01}"])
def test_the_demo_refuses_a_file_that_is_no_configuration(
    own: str, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(own)

    code = main(["demo", f"--config.file={file}"])

    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("layer", ["flag", "environment"])
def test_the_demo_reads_a_file_as_run_does(
    layer: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(CANARY)
    file.write_text(json.dumps({"sources": {"a": SOURCE | {"auth": {"api_token_file": "token"}}, "wrong": 1}}))
    if layer == "environment":
        monkeypatch.setenv("VENDOR_ALERT_EXPORTER_CONFIG__FILE", str(file))

    code = main(["demo", *([f"--config.file={file}"] if layer == "flag" else [])])

    (told,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert told.startswith("sources.wrong: ")


@pytest.mark.parametrize(("command", "code"), [("check-config", 1), ("poll", 2), ("run", 2)])
def test_what_no_connection_can_be_made_with_is_told_of_every_source_before_any_is_asked(
    command: str,
    code: int,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    tls = SOURCE | {"proxy": "none", "tls": {"ca_file": "x.pem"}}
    file.write_text(json.dumps({"sources": {"a": tls, "b": tls, "c": SOURCE}}))
    monkeypatch.setenv("HTTPS_PROXY", "socks5://x:1")
    monkeypatch.setattr("exporter.logs.setup", lambda *_: None)

    assert main([command, f"--config.file={file}"]) == code

    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "sources.a.tls.ca_file",
        "sources.b.tls.ca_file",
        "sources.c.proxy",
    ]


ENDPOINTS = [
    "https://a.example/x\ny",
    "https://a.exa\nmple",
    "https://a.example\n",
    "https://a.example\r\n",
    "https://a.example\t",
    "https://a.exa\tmple",
    "https://\u2603.example",
    " http://a",
    "http:\\a",
    "http:/a",
]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("layer", ["file", "environment"])
def test_an_endpoint_that_no_request_can_be_sent_to_is_one_line(
    endpoint: str, layer: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(json.dumps({"sources": {"a": SOURCE | {"endpoint": endpoint}}}))
    if layer == "environment":
        file.write_text(json.dumps({"sources": {"a": SOURCE}}))
        monkeypatch.setenv("VENDOR_ALERT_EXPORTER_SOURCES__A__ENDPOINT", endpoint)

    code = main(["check-config", f"--config.file={file}"])

    (told,) = capsys.readouterr().err.splitlines()
    assert code == 1
    assert told.startswith("sources.a.endpoint: ")


def test_an_alias_inside_what_it_stands_for_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("sources: &a {x: *a}")

    code = main(["check-config", f"--config.file={file}"])

    (told,) = capsys.readouterr().err.splitlines()
    assert code == 1
    assert "an anchor holds an alias of itself" in told


def test_to_poll_a_source_that_is_not_there_is_wrong_usage(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["poll", f"--config.file={file}", "--source=a", "--source=c"])

    assert code == 2
    assert "no source is called c; there are a, b" in capsys.readouterr().err


def test_the_table_in_a_pipe_is_plain_whole_and_shows_no_number_that_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "a-rather-long-name-of-a-source-" * 4
    learned: dict[str, Any] = {
        "requests": 3,
        "duration_seconds": 1.25,
        "notices": 7,
        "notice_failures": 2,
        "convergences": None,
    }
    up = PollReport(
        source=name, vendor="acme", up=True, reason=None, open={"critical": 2, "info": 0, "minor": 1}, **learned
    )
    down = PollReport(source="b", vendor="acme", up=False, reason="auth", open={}, **learned)

    tables.print_reports([up, down])

    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == "source vendor state open notices convergences requests seconds".split()
    assert first.split() == [name, "acme", "up", "critical", "2,", "minor", "1", "7", "(2", "failed)", "?", "3", "1.2"]
    assert second.split() == ["b", "acme", "failed:", "auth", "?", "?", "?", "3", "1.2"]


def _report(name: str, **changes: Any) -> PollReport:
    found: dict[str, Any] = {
        "vendor": "huawei_aom",
        "up": True,
        "reason": None,
        "open": {"critical": 12, "major": 3, "minor": 7, "warning": 20, "info": 4},
        "requests": 130,
        "duration_seconds": 12.5,
        "notices": 22,
        "notice_failures": 4,
        "convergences": 17,
    }
    return PollReport(source=name, **(found | changes))


WORDS = {"huawei_aom", "critical", "12,", "warning", "20,", "(4", "failed)", "130", "12.5", "a-name-of-a-source"}


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
def test_no_table_breaks_a_word_or_is_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")

    tables.print_reports([_report("a-name-of-a-source"), _report("b", up=False, reason="rate_limited")])

    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, printed.splitlines())) <= width
    assert set(printed.split()) >= WORDS | {"rate_limited"}
    assert ("convergences  17" in printed) == (width < 120)


class _Daemon(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/-/healthy" else 500)
        self.end_headers()
        self.wfile.write(b"a has not turned for 5 minutes\n")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def daemon() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Daemon)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 0), (503, 1), (404, 1)])
@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])
def test_the_health_of_the_daemon_is_the_exit_code(
    status: int,
    code: int,
    host: str,
    daemon: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Daemon, "status", status)
    monkeypatch.setenv("VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS", f"{host}:{daemon.server_port}")

    assert main(["healthcheck"]) == code

    told = capsys.readouterr().err
    assert told == (
        ""
        if code == 0
        else f"unhealthy: 127.0.0.1:{daemon.server_port}: status {status}: a has not turned for 5 minutes\n"
    )


def test_a_daemon_that_is_not_there_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]

        assert main(["healthcheck", f"--web.listen-address=127.0.0.1:{port}"]) == 1

    assert capsys.readouterr().err == f"unhealthy: 127.0.0.1:{port}: Connection refused\n"


def test_a_mistake_made_in_the_sources_since_the_start_does_not_make_the_daemon_sick(
    daemon: HTTPServer, file: Path
) -> None:
    file.write_text(f"web: {{listen_address: ':{daemon.server_port}'}}\nsources: {{a: {{vendor: nobody}}}}")

    assert main(["healthcheck", f"--config.file={file}"]) == 0


def test_without_a_port_the_daemon_tells_by_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("web: {listen_address: none}")
    health = HealthFile(file)

    absent = main(["healthcheck", f"--config.file={file}"])
    health.renew([])
    well = main(["healthcheck", f"--config.file={file}"])
    health.renew(["aom-prod"])
    stuck = main(["healthcheck", f"--config.file={file}"])
    health.remove()
    ended = main(["healthcheck", f"--config.file={file}"])

    assert (absent, well, stuck, ended) == (1, 0, 1, 1)
    assert "the poll loop is stuck: aom-prod" in capsys.readouterr().err


def test_it_runs_as_a_module_and_shows_no_traceback(file: Path) -> None:
    file.write_text("sources: [")

    done = subprocess.run(
        [sys.executable, "-m", "exporter", f"--config.file={file}"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "line 1" in done.stderr


def test_the_version_is_told_without_loading_what_it_does_not_need() -> None:
    program = "import sys; from exporter.cli import main; main(['--version']); print(*sys.modules, sep='\\n')"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert not {"pydantic", "structlog", "httpx", "rich", "anyio"} & set(done.stdout.splitlines())
