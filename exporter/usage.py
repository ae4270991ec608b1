"""The command line: its commands and flags with their help, and what was probably meant by a mistyped one."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from exporter.version import NAME, revision, version

MISUSED = 2

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
# Values that the parser leaves to the configuration to judge, so that a mistake is reported with all others.
VALUES = {"log.level": ("debug", "info", "warn", "error"), "log.format": ("logfmt", "json")}

_READING = ("config.file", "log.level", "log.format")
_SOURCES = {"action": "append", "default": [], "metavar": "NAME", "help": "only this source; may be repeated"}
_TABLE = {"choices": ["table", "json"], "default": "table", "help": "how to print it (default table)"}


class Command(NamedTuple):
    """Purpose of a command, the settings that concern it, its own arguments, and whether it takes other settings."""

    text: str
    shown: Sequence[str] = ()
    own: dict[str, dict[str, Any]] = {}
    configured: bool = True


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a number above 0, and at most 1000000")
    return speed


SHELLS = ("bash", "fish", "zsh")
COMMANDS = {
    "run": Command("Polls all sources and serves the metrics until a signal comes.", tuple(FLAGS)),
    "check-config": Command("Checks the configuration without asking any vendor.", tuple(FLAGS)),
    "poll": Command(
        "Polls each source once and prints what was found.", _READING, {"--source": _SOURCES, "--format": _TABLE}
    ),
    "doctor": Command(
        "Asks each source step by step what a poll needs, and says what to do.",
        _READING,
        {"--source": _SOURCES, "--format": _TABLE},
    ),
    "capture": Command(
        "Polls one source once and writes what was exchanged, cleaned, to a file.",
        _READING,
        {
            "--source": {"required": True, "metavar": "NAME", "help": "the source to poll"},
            "--out": {"required": True, "metavar": "FILE", "type": Path, "help": "the file to write"},
        },
    ),
    "replay": Command(
        "Polls from a captured file, without network.",
        (),
        {
            "file": {"metavar": "FILE", "type": Path, "help": "a file that capture wrote"},
            "--format": _TABLE | {"choices": ["table", "json", "metrics"]},
        },
        configured=False,
    ),
    "demo": Command("Runs the exporter against four simulated vendors; needs nothing else.", tuple(FLAGS)),
    "simulate": Command(
        "Runs only the simulated vendors, and prints a configuration that polls them.",
        (),
        {
            "--listen": {"required": True, "metavar": "ADDR", "help": "HOST:PORT to serve them on"},
            "--seed": {"type": int, "default": 1, "metavar": "N", "help": "which history to simulate (default 1)"},
            "--speed": {
                "type": _speed,
                "default": 1.0,
                "metavar": "X",
                "help": "simulated seconds per second (default 1)",
            },
        },
        configured=False,
    ),
    "healthcheck": Command(
        "Asks the running exporter whether it is healthy.", ("config.file", "web.listen-address", "web.config.file")
    ),
    "completion": Command(
        "Prints a script that completes commands and flags in your shell.",
        (),
        {"shell": {"metavar": "SHELL", "choices": SHELLS, "help": "bash, fish or zsh"}},
        configured=False,
    ),
    "version": Command("Prints the version.", configured=False),
    "help": Command(
        "Prints the help of a command.",
        (),
        {"of": {"metavar": "COMMAND", "nargs": "?", "help": "which command (default: all of them)"}},
        configured=False,
    ),
}

TOLD = f"{NAME}, version {version()} (revision: {revision()})"


class _Parser(argparse.ArgumentParser):
    """Ends with the usage and one line, which names what was probably meant."""

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            message += hint(found[1], [choice.strip("'") for choice in found[2].split(", ")])
        self.print_usage(sys.stderr)
        self.exit(MISUSED, f"{self.prog}: error: {message}\n")


def hint(word: str, known: Iterable[str]) -> str:
    """Returns the word that was probably meant, as the end of a sentence; empty if there is none."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of each command, and under the empty name that of the whole command line."""
    common = _Parser(add_help=False)
    common.add_argument("--version", action="version", version=TOLD, help="print the version")
    whole = _Parser(
        prog=NAME,
        usage="%(prog)s [COMMAND] [flags]",
        parents=[common, _settings(tuple(FLAGS))],
        allow_abbrev=False,
        description="Polls vendors' alert APIs and exposes what it learns as metrics.",
        epilog="Every flag has a variable: --web.listen-address is VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS.",
    )
    each = whole.add_subparsers(
        title="commands", prog=NAME, metavar="COMMAND", dest="command", description="without one: run"
    )
    made: dict[str, argparse.ArgumentParser] = {"": whole}
    for name, command in COMMANDS.items():
        parents = [common, _settings(command.shown)] if command.configured else [common]
        parser = each.add_parser(
            name, parents=parents, allow_abbrev=False, help=_begun(command.text), description=command.text
        )
        for argument, options in command.own.items():
            parser.add_argument(argument, **options)
        made[name] = parser
    return made


def _settings(shown: Sequence[str]) -> _Parser:
    """Returns the flags that are settings; those that do not concern a command are taken, and not in its help."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for name, options in FLAGS.items():
        hidden = {} if name in shown else {"help": argparse.SUPPRESS}
        parser.add_argument(f"--{name}", dest=name, **(options | hidden))
    return parser


def _begun(text: str) -> str:
    return text[0].lower() + text[1:].rstrip(".")


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the arguments; raises SystemExit, with the usage and one line on standard error, if they are wrong."""
    made = parsers()
    known = {flag for parser in made.values() for flag in parser._option_string_actions}
    for word in argv:
        flag = word.partition("=")[0]
        if flag == "--":
            break
        # Said at once: argparse would first take what follows it for a command.
        if re.match("--?[a-z]", flag) and flag not in known:
            made[""].error(f"there is no flag {flag}{hint('--' + flag.lstrip('-'), known)}")
    return made[""].parse_args(argv)
