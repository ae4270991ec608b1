"""Flags, environment twins, commands, exit codes: parse, then call one function."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter import streams, usage
from exporter.errors import ConfigError
from exporter.signals import Signals
from exporter.usage import FLAGS, MISUSED

if TYPE_CHECKING:
    # each command imports what it needs, so that `--version` and usage errors come at once
    from exporter.config import Config
    from exporter.healthfile import HealthFile
    from exporter.report import PollReport

OK, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 done, 1 failed, 2 wrong usage or configuration."""
    streams.fill()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot spell is no reason to fail
    try:
        code = _command(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        return streams.give_up(FAILED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _refuse("cannot write the output: no space is left", FAILED)
        return streams.give_up(FAILED)
    return code


def _command(argv: Sequence[str] | None) -> int:
    try:
        args = usage.parsed(sys.argv[1:] if argv is None else argv)
        return _CALLS[args.command or "run"](args)
    except ConfigError as error:
        return _refuse(str(error), MISUSED)
    except SystemExit as leaving:  # how argparse says that it has said all
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        return FAILED


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _refuse(why: str, code: int) -> int:
    """Says why on standard error, if that can be written; returns the code."""
    try:
        sys.stderr.write(f"{why}\n")
        sys.stderr.flush()
    except OSError:
        return streams.give_up(code)
    return code


def _layers(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `config.load`: the layers of the configuration."""
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
    _check_sources(args.source, config)
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


def _check_sources(names: Sequence[str], config: "Config") -> None:
    """Raises ConfigError for a name that no source has."""
    if unknown := [name for name in names if name not in config.sources]:
        meant = usage.hint(unknown[0], config.sources)
        there_are = f"there are {', '.join(config.sources)}"
        raise ConfigError(f"--source: no source is called {', '.join(unknown)}; {there_are}{meant}")


def _print_reports(reports: Sequence["PollReport"], form: str) -> int:
    import msgspec

    from exporter import tables

    if form == "json":
        _say(msgspec.json.format(msgspec.json.encode({"sources": reports}), indent=2).decode())
    else:
        tables.print_reports(reports)
    return OK if all(each.is_complete for each in reports) else FAILED


def _doctor(args: argparse.Namespace) -> int:
    import msgspec

    from exporter import doctor, logs, tables

    config = _load(args)
    _check_sources(args.source, config)
    logs.setup("error", config.log.format)  # what a poll would log is in the table
    found = doctor.doctor(config, list(dict.fromkeys(args.source)))
    if args.format == "json":
        _say(msgspec.json.format(msgspec.json.encode({"sources": found}), indent=2).decode())
    else:
        for each in found:
            tables.print_diagnosis(each)
    return OK if all(each.is_well for each in found) else FAILED


def _capture(args: argparse.Namespace) -> int:
    """Writes a capture, also of a poll that fails: that is when one is needed."""
    from exporter import capture, logs, report

    config = _load(args)
    _check_sources([args.source], config)
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
    place = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
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
        # A server that turns us down for want of a client certificate is there; it says no more to a stranger.
        if error.reason and "CERTIFICATE_REQUIRED" in error.reason:
            return OK
        return _refuse(f"unhealthy: {place}: TLS: {error.reason}", FAILED)
    except (OSError, http.client.HTTPException) as error:
        return _refuse(f"unhealthy: {place}: {getattr(error, 'strerror', None) or type(error).__name__}", FAILED)
    finally:
        connection.close()
    if answer.status in (200, 401):
        return OK
    return _refuse(f"unhealthy: {place}: status {answer.status}: {body}", FAILED)


def _completion(args: argparse.Namespace) -> int:
    from exporter import completion

    _say(completion.script(args.shell, usage.parsers()))
    return OK


def _version(_args: argparse.Namespace) -> int:
    _say(usage.TOLD)
    return OK


def _help(args: argparse.Namespace) -> int:
    made = usage.parsers()
    of = args.of or ""
    if of not in made:
        made["help"].error(f"there is no command {of}{usage.hint(of, usage.COMMANDS)}")
    made[of].print_help()
    return OK


_CALLS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "check-config": _check_config,
    "poll": _poll,
    "doctor": _doctor,
    "capture": _capture,
    "replay": _replay,
    "demo": _demo,
    "simulate": _simulate,
    "healthcheck": _healthcheck,
    "completion": _completion,
    "version": _version,
    "help": _help,
}
