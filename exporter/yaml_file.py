"""Reads a YAML file strictly: a key given twice is an error, and no error shows what the file holds."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from exporter import files
from exporter.errors import ConfigError

# Values of a file with all its aliases followed, at most: a few lines can stand for billions.
MOST_VALUES = 200_000
# Keys of one map, at most, for the same reason: a merge copies those of other maps.
MOST_KEYS = 10_000


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain types only; refuses a mapping that names a key twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        named: set[tuple[str, str]] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in named:
                raise yaml.constructor.ConstructorError(None, None, f'"{key.value}" is given twice', key.start_mark)
            named.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MOST_KEYS} keys here", node.start_mark)


def load(path: Path) -> Any:
    """Returns the content of the file, None if it is empty; raises ConfigError with the line that cannot be read."""
    text = ""
    try:
        text = files.read(path).decode("utf-8-sig")
        content = yaml.load(text, _StrictLoader)  # noqa: S506 it extends the safe one
        _Walk(path).over(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check the path and its permissions") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}: {_place(error)}: {_what(error, text)}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path}: this is not YAML: it holds bytes that are not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: a number or date is impossible, or it is nested too deep; use quotes") from None
    return content


class _Walk:
    """Goes over all values, aliases followed; raises ConfigError where that would never end, or take too long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._above: set[int] = set()

    def over(self, value: Any) -> None:
        self._count += 1
        if self._count > MOST_VALUES:
            raise ConfigError(f"{self._path}: holds more than {MOST_VALUES} values; are aliases nested in it?")
        if isinstance(value, dict | list):
            if id(value) in self._above:
                raise ConfigError(f"{self._path}: an anchor holds an alias of itself")
            self._above.add(id(value))
            for each in value.values() if isinstance(value, dict) else value:
                self.over(each)
            self._above.remove(id(value))


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"


def _what(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    line = text.splitlines()[mark.line : mark.line + 1] if mark else []
    if line and re.match(r"\s*\t", line[0]):
        return "a tab stands where the line is indented; indent with spaces"
    # PyYAML cites tokens of the file in single quotes, and an unquoted password may begin with * or !.
    problem = re.sub(r"'.*'", "...", error.problem or "this is not YAML", flags=re.DOTALL)
    if "twice" in problem or "keys here" in problem:
        return problem
    return f"{problem}; put text with special characters in quotes"
