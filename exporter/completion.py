"""Scripts that complete commands, flags and values in bash, fish and zsh, made from the parsers."""

import argparse
from collections.abc import Iterator, Mapping

from exporter.usage import COMMANDS, VALUES
from exporter.version import NAME

_FUNCTION = f"_{NAME.replace('-', '_')}"


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Returns the script for this shell."""
    return {"bash": _bash, "fish": _fish, "zsh": _zsh}[shell](parsers)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments that the help shows."""
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction):
            yield action


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in _actions(parser) for flag in action.option_strings if flag.startswith("--")]


def _choices(action: argparse.Action) -> list[str]:
    return [*(action.choices or VALUES.get(action.dest, ()))]


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """Returns the values of the arguments that have no flag."""
    return [word for action in _actions(parser) if not action.option_strings for word in _choices(action)]


def _text(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%").replace("'", "")


def _bash(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    values: dict[str, str] = {}
    for name, parser in parsers.items():
        for action in _actions(parser):
            for flag in action.option_strings if action.nargs != 0 else ():
                words = f'-W "{" ".join(_choices(action))}"' if _choices(action) else ""
                values[f'"{name} {flag}"'] = "-f" if action.metavar == "FILE" else words
    cases = [f'    {flag}) COMPREPLY=($(compgen {how} -- "$word")); return ;;' for flag, how in values.items() if how]
    silent = "|".join(flag for flag, how in values.items() if not how)
    commands = [
        f'    {name}) words="{" ".join([*_words(parser), *_flags(parser)])}" ;;'
        for name, parser in parsers.items()
        if name
    ]
    return "\n".join(
        [
            f"# {NAME} completion for bash: source <({NAME} completion bash)",
            f"{_FUNCTION}() {{",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" words="" each',
            '  if [ "$word" = "=" ]; then word=""',
            '  elif [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi',
            '  for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            f'    case "$each" in {"|".join(COMMANDS)}) command="$each"; break ;; esac',
            "  done",
            '  case "$command $before" in',
            *cases,
            f"    {silent}) return ;;",
            "  esac",
            '  case "$command" in',
            f'    "") words="{" ".join([*COMMANDS, *_flags(parsers[""])])}" ;;',
            *commands,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            f"complete -o default -F {_FUNCTION} {NAME}",
        ]
    )


def _zsh(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    def spec(action: argparse.Action) -> Iterator[str]:
        text = _text(action).replace("[", "(").replace("]", ")").replace(":", r"\:")
        value = ":" + (action.metavar if isinstance(action.metavar, str) else "value").lower() + ":"
        value += "_files" if action.metavar == "FILE" else f"({' '.join(_choices(action))})"
        if not action.option_strings:
            yield f"'*{value}'"
        for flag in action.option_strings:
            yield f"'{flag}[{text}]'" if action.nargs == 0 else f"'{flag}=[{text}]{value}'"

    def arguments(parser: argparse.ArgumentParser) -> str:
        return " ".join(each for action in _actions(parser) for each in spec(action))

    commands = " ".join(f"'{name}:{command.text}'" for name, command in COMMANDS.items())
    cases = (
        f"    {name}) _arguments '1:command:({name})' {arguments(parser)} ;;"
        for name, parser in parsers.items()
        if name
    )
    return "\n".join(
        [
            f"#compdef {NAME}",
            f"{_FUNCTION}() {{",
            f"  local -a commands=({commands})",
            f'  local command="${{words[(r)({"|".join(COMMANDS)})]}}"',
            '  case "$command" in',
            *cases,
            f"    *) _arguments {arguments(parsers[''])} '*: :{{_describe command commands}}' ;;",
            "  esac",
            "}",
            f'if [ "$funcstack[1]" = "{_FUNCTION}" ]; then {_FUNCTION}; else compdef {_FUNCTION} {NAME}; fi',
        ]
    )


def _fish(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    lines = [f"complete -c {NAME} -f"]
    lines += [
        f"complete -c {NAME} -n __fish_use_subcommand -a {name} -d '{command.text}'"
        for name, command in COMMANDS.items()
    ]
    for name, parser in parsers.items():
        when = f"'__fish_seen_subcommand_from {name}'" if name else "__fish_use_subcommand"
        for action in _actions(parser):
            values = f" -a '{' '.join(_choices(action))}'" if _choices(action) else ""
            how = " -rF" if action.metavar == "FILE" else f" -x{values}" if action.nargs != 0 else ""
            if not action.option_strings:
                lines.append(f"complete -c {NAME} -n {when}{values or ' -F'} -d '{_text(action)}'")
            lines += [
                f"complete -c {NAME} -n {when} -l {flag[2:]}{how} -d '{_text(action)}'"
                for flag in action.option_strings
                if flag.startswith("--")
            ]
    return "\n".join(lines)
