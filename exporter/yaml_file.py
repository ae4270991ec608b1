"""Reads a YAML file strictly: a key given twice is an error, and no error shows what the file holds."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from exporter.errors import ConfigError


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


def load(path: Path) -> Any:
    """What the file says, None if it is empty; raises ConfigError with the line where it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)  # noqa: S506 it extends the safe one
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check the path and its permissions") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}: {_place(error)}: {_what(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path}: this is no YAML: it holds bytes that are no UTF-8 text") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: a number or date is impossible, or it is nested too deep; use quotes") from None


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"


def _what(error: yaml.MarkedYAMLError) -> str:
    # PyYAML cites tokens of the file in single quotes, and an unquoted password may begin with * or !.
    problem = re.sub(r"'.*'", "...", error.problem or "this is no YAML", flags=re.DOTALL)
    return problem if "twice" in problem else f"{problem}; text with special characters belongs into quotes"
