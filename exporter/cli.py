"""Flags, environment twins, commands, exit codes: parse, then call one function."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ConfigError
from exporter.signals import Signals
from exporter.version import NAME, revision, version

if TYPE_CHECKING:
    from rich.text import Text

    # each command imports what it needs, so that `--version` and usage errors come at once
    from exporter.config import Config
    from exporter.doctor import Diagnosis
    from exporter.healthfile import HealthFile
    from exporter.report import PollReport

OK, FAILED, MISUSED = 0, 1, 2

FLAGS: dict[str, dict[str, Any]] = {
    "config.file": {"metavar": "FILE", "help": "configuration file; without it sources come from the environment"},
    "config.enable-auto-reload": {
        "action": argparse.BooleanOptionalAction,
        "help": "reload when the configuration file, or a file it names, changes (default off)",
    },
    "web.listen-address": {"metavar": "ADDR", "help": "address to listen on, or none (default :10877)"},
    "web.telemetry-path": {"metavar": "PATH", "help": "path of the metrics (default /metrics)"},
    "web.config.file": {"metavar": "FILE", "help": "TLS and basic authentication, as for any Prometheus exporter"},
    "web.enable-lifecycle": {"action": argparse.BooleanOptionalAction, "help": "allow POST /-/reload (default off)"},
    "log.level": {"metavar": "LEVEL", "help": "debug, info, warn or error (default info)"},
    "log.format": {"metavar": "FORMAT", "help": "logfmt or json (default logfmt)"},
    "shard.index": {"metavar": "N", "help": "this shard, from 0 (default: the number at the end of the host name)"},
    "shard.total": {"metavar": "N", "help": "how many shards share the sources (default 1)"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 done, 1 failed, 2 wrong usage or configuration."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot spell is no reason to fail
    try:
        args = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = args.call
        return command(args)
    except ConfigError as error:
        return _refuse(str(error), MISUSED)
    except SystemExit as leaving:  # how argparse says that it has said all
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        return FAILED


def _parser() -> argparse.ArgumentParser:
    told = f"{NAME}, version {version()} (revision: {revision()})"
    telling = argparse.ArgumentParser(add_help=False)
    telling.add_argument("--version", action="version", version=told)
    flags = argparse.ArgumentParser(parents=[telling], add_help=False, argument_default=argparse.SUPPRESS)
    for name, options in FLAGS.items():
        flags.add_argument(f"--{name}", dest=name, **options)
    parser = argparse.ArgumentParser(
        prog=NAME,
        usage="%(prog)s [COMMAND] [flags]",
        parents=[flags],
        allow_abbrev=False,
        description="Polls vendors' alert APIs and exposes what it learns as metrics.",
        epilog="Every flag has a variable: --web.listen-address is VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS.",
    )
    parser.set_defaults(call=_run)
    commands = parser.add_subparsers(title="commands", prog=NAME, metavar="COMMAND", description="without one: run")

    def command(
        name: str, call: Callable[[argparse.Namespace], int], text: str, *, settings: bool = True
    ) -> argparse.ArgumentParser:
        parent = flags if settings else telling
        made = commands.add_parser(name, parents=[parent], allow_abbrev=False, help=text, description=text)
        made.set_defaults(call=call)
        return made

    command("run", _run, "Polls all sources and serves the metrics until a signal comes.")
    command("check-config", _check_config, "Checks the configuration without asking any vendor.")
    poll = command("poll", _poll, "Polls each source once and prints what was found.")
    poll.add_argument("--source", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    poll.add_argument("--format", choices=["table", "json"], default="table")
    doctor = command("doctor", _doctor, "Asks each source step by step what a poll needs, and says what to do.")
    doctor.add_argument("--source", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    doctor.add_argument("--format", choices=["table", "json"], default="table", help="default table")
    capture = command("capture", _capture, "Polls one source once and writes what was exchanged, cleaned, to a file.")
    capture.add_argument("--source", required=True, metavar="NAME", help="the source to poll")
    capture.add_argument("--out", required=True, metavar="FILE", type=Path, help="the file to write")
    replay = command("replay", _replay, "Polls from a captured file, without network.", settings=False)
    replay.add_argument("file", metavar="FILE", type=Path, help="a file that capture wrote")
    replay.add_argument("--format", choices=["table", "json", "metrics"], default="table", help="default table")
    command("demo", _demo, "Runs the exporter against four simulated vendors; needs nothing else.")
    simulate = command("simulate", _simulate, "Runs only the simulated vendors.", settings=False)
    simulate.add_argument("--listen", required=True, metavar="ADDR", help="HOST:PORT to serve them on")
    simulate.add_argument("--seed", type=int, default=1, help="which history they live through (default 1)")
    simulate.add_argument("--speed", type=_speed, default=1.0, help="simulated seconds per second (default 1)")
    command("healthcheck", _healthcheck, "Asks the running exporter whether it is healthy.")
    return parser


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed <= 1_000_000:
        raise ValueError
    return speed


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _refuse(why: str, code: int) -> int:
    sys.stderr.write(f"{why}\n")
    return code


def _layers(args: argparse.Namespace) -> dict[str, Any]:
    """Where settings come from, as `exporter.config` wants to be told."""
    flags = {name: value for name, value in vars(args).items() if name in FLAGS}
    file = flags.pop("config.file", None)
    return {"file": Path(file) if file else None, "flags": flags, "environ": os.environ}


def _load(args: argparse.Namespace, beneath: Mapping[str, Any] | None = None) -> "Config":
    from exporter import config

    return config.load(**_layers(args), beneath=beneath)


def _health_file(args: argparse.Namespace) -> "HealthFile":
    from exporter import config, healthfile

    layers = _layers(args)
    return healthfile.HealthFile(config.file_from(layers["file"], layers["environ"]))


def _run(args: argparse.Namespace) -> int:
    signals = Signals()
    from exporter import app

    return app.run(lambda: _load(args), signals, _health_file(args))


def _check_config(args: argparse.Namespace) -> int:
    from exporter import app

    try:
        config = _load(args)
        app.check(config)
    except ConfigError as error:
        return _refuse(str(error), FAILED)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    _say(f"the configuration is valid; sources: {', '.join(config.sources)}")
    return OK


def _poll(args: argparse.Namespace) -> int:
    from rich.console import Console

    config = _load(args)
    if unknown := [name for name in args.source if name not in config.sources]:
        _parser().error(f"--source: no source is called {', '.join(unknown)}; there are {', '.join(config.sources)}")
    from exporter import logs, report

    logs.setup(config.log.level, config.log.format)
    names = list(dict.fromkeys(args.source)) or list(config.sources)
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    if console.is_terminal:
        with console.status("polling ...") as status:
            reports = report.poll(config, names, lambda name: status.update(f"polling ... {name} is done"))
    else:
        reports = report.poll(config, names, None)
    return _print_reports(reports, args.format)


def _print_reports(reports: Sequence["PollReport"], form: str) -> int:
    import msgspec

    if form == "json":
        _say(msgspec.json.format(msgspec.json.encode({"sources": reports}), indent=2).decode())
    else:
        _print_table(reports)
    return OK if all(each.is_complete for each in reports) else FAILED


def _doctor(args: argparse.Namespace) -> int:
    import msgspec

    from exporter import doctor, logs

    config = _load(args)
    if unknown := [name for name in args.source if name not in config.sources]:
        _parser().error(f"--source: no source is called {', '.join(unknown)}; there are {', '.join(config.sources)}")
    logs.setup("error", config.log.format)  # what a poll would log is in the table
    found = doctor.doctor(config, list(dict.fromkeys(args.source)))
    if args.format == "json":
        _say(msgspec.json.format(msgspec.json.encode({"sources": found}), indent=2).decode())
    else:
        for each in found:
            _print_diagnosis(each)
    return OK if all(each.is_well for each in found) else FAILED


def _print_diagnosis(found: "Diagnosis") -> None:
    """One line a step, which fits 80 columns but for what to do; that follows below its step."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else 100, highlight=False)
    console.print(Text(f"{found.source} ({found.vendor})", "bold"))
    styles = {"ok": "green", "failed": "bold red", "skipped": "dim"}
    for step in found.steps:
        reason = f" {step.reason}" if step.reason else ""
        seconds = f"{step.seconds:.2f} s" if step.seconds else ""
        line = Text.assemble(f"  {step.step:<24}", (f"{step.result + reason:<24}", styles[step.result]), seconds)
        console.print(line)
        if step.what_to_do:
            console.print(Padding(Text(step.what_to_do), (0, 0, 0, 6)))
    if found.forecast is not None:
        console.print(
            f"  {found.forecast.requests_per_day:,.0f} requests a day at today's alerts, "
            f"{found.forecast.share_of_limit:.1%} of max_requests_per_second"
        )


def _capture(args: argparse.Namespace) -> int:
    """Writes a capture, also of a poll that fails: that is when one is needed."""
    from exporter import capture, logs, report

    config = _load(args)
    if args.source not in config.sources:
        _parser().error(f"--source: no source is called {args.source}; there are {', '.join(config.sources)}")
    logs.setup(config.log.level, config.log.format)
    captured, state = capture.capture(config.sources[args.source], config.metrics)
    try:
        size = capture.write(captured, args.out)
    except OSError as error:
        return _refuse(f"--out: cannot write {args.out}: {error.strerror}", FAILED)
    _print_reports([report.report_from(state)], "table")
    _say(f"{args.out}: {len(captured.exchanges)} HTTP exchanges, {size} bytes; docs/capture.md says what is in it")
    return OK


def _replay(args: argparse.Namespace) -> int:
    from exporter import capture, logs, report

    logs.setup("info", "logfmt")
    captured = capture.read(args.file)
    state = capture.replay(captured)
    if args.format == "metrics":
        _say(capture.exposition_of(state, captured.header.at).rstrip("\n"))
        return OK if state.up else FAILED
    return _print_reports([report.report_from(state)], args.format)


def _print_table(reports: Sequence["PollReport"]) -> None:
    """One row per source. What a failed poll did not learn is left open: it is not 0."""
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    # In a pipe nothing is cut to the width of a terminal that is not there.
    console = Console(force_terminal=terminal, width=None if terminal else 10_000, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "vendor", "state", "open", "notices"):
        table.add_column(heading, no_wrap=not terminal, overflow="fold")
    for heading in ("convergences", "requests", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in reports:
        counts = [f"{severity} {count}" for severity, count in report.open.items() if count]
        notices = None if report.notices is None else f"{report.notices} ({report.notice_failures} failed)"
        learned = (", ".join(counts) or "0", notices, report.convergences)
        table.add_row(
            report.source,
            report.vendor,
            _state_of(report),
            *("?" if not report.up or value is None else str(value) for value in learned),
            str(report.requests),
            f"{report.duration_seconds:.1f}",
        )
    console.print(table)


def _state_of(report: "PollReport") -> "Text":
    from rich.text import Text

    if not report.up:
        return Text(f"failed: {report.reason}", "bold red")
    if report.blind_in is not None:
        endpoint, reason = report.blind_in
        return Text(f"partial: {endpoint} {reason}", "bold yellow")
    return Text("up", "green")


def _demo(args: argparse.Namespace) -> int:
    signals = Signals()
    from exporter import demo

    return demo.demo(lambda beneath: _load(args, beneath), signals, _health_file(args))


def _simulate(args: argparse.Namespace) -> int:
    from exporter import demo

    return demo.simulate(args.listen, args.seed, args.speed)


def _healthcheck(args: argparse.Namespace) -> int:
    """Asks `/-/healthy`. Nothing is sent that a stranger must not read, so a certificate for another name will do."""
    import http.client
    import ssl

    from exporter import config, yaml_file

    try:
        web = config.load_web(**_layers(args))
        security = yaml_file.load(web.config_file) if web.config_file else None
    except ConfigError as error:
        return _refuse(str(error), FAILED)
    address = config.address_from(web.listen_address)
    if address is None:
        complaint = _health_file(args).complaint()
        return _refuse(f"unhealthy: {complaint}", FAILED) if complaint else OK
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 not to bind
    connection = http.client.HTTPConnection(host, address[1], timeout=2)
    if isinstance(security, dict) and security.get("tls_server_config"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # see above
        connection = http.client.HTTPSConnection(host, address[1], timeout=2, context=context)
    try:
        connection.request("GET", "/-/healthy")
        answer = connection.getresponse()
        body = answer.read(10_000).decode(errors="replace").strip()
    except ssl.SSLError as error:
        # A server that turns us down for want of a client certificate is there; more it does not tell a stranger.
        if error.reason and "CERTIFICATE_REQUIRED" in error.reason:
            return OK
        return _refuse(f"unhealthy: TLS: {error.reason}", FAILED)
    except (OSError, http.client.HTTPException) as error:
        return _refuse(f"unhealthy: {getattr(error, 'strerror', None) or type(error).__name__}", FAILED)
    finally:
        connection.close()
    if answer.status in (200, 401):
        return OK
    return _refuse(f"unhealthy: status {answer.status}: {body}", FAILED)
