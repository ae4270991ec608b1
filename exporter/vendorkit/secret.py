"""Secret: given as X or X_file, read at each use, so that rotation needs no restart."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from weakref import WeakSet

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from exporter import files
from exporter.errors import SourceRefused
from exporter.vendorkit.settings import Settings

log = logging.getLogger(__name__)

_alive: WeakSet["Secret"] = WeakSet()

# Length of a secret below which it is not hidden, in characters: it would be found in ordinary words, and so be shown.
SHORTEST_HIDDEN = 6

TWICE = "is given twice, inline and as a file: keep one of the two"


class SecretFile:
    """Marks a setting that was given as X_file; `rival` is whether X is given, too."""

    def __init__(self, path: Any, *, rival: bool) -> None:
        self.path = path
        self.rival = rival


class Secret:
    """A value that is never shown. From a file it is read again whenever the file changes.

    A file that vanishes or cannot be used later keeps its last value; one missing at the start raises ValueError.
    """

    def __init__(self, value: str = "", *, file: Path | None = None) -> None:
        self._value = value
        self.file = file
        self._seen: tuple[int, ...] | None = None
        self._past: str | None = None
        self._lost = False
        if file is not None:
            try:
                self._load(file)
            except (OSError, UnicodeDecodeError) as error:
                # Not cited: its name may be a secret, given where the name of its file belongs.
                raise ValueError(f"cannot read the file named there: {_why(error)}") from None
        if not self._value:
            raise ValueError("is empty" if file is None else "the file named there is empty")
        _alive.add(self)

    def read(self) -> str:
        """Returns the value now."""
        if self.file is not None:
            try:
                self._load(self.file)
            except (OSError, ValueError) as error:
                if not self._lost:
                    log.warning(
                        "secret file %s cannot be read (%s); its last value stays in use", self.file, _why(error)
                    )
                self._lost = True
            else:
                self._lost = False
        return self._value

    def for_header(self, name: str) -> str:
        """Returns the value now; raises SourceRefused, naming `name`, if no HTTP header can carry it.

        The HTTP library would refuse it as well, in words that hold it.
        """
        value = self.read()
        if not (value.isascii() and value.isprintable()):
            raise SourceRefused(f"{name} holds characters that no HTTP header can carry")
        return value

    def doubt(self) -> str:
        """Returns what is probably wrong with the value; empty if nothing is."""
        if len(self._value) < SHORTEST_HIDDEN:
            return f"has fewer than {SHORTEST_HIDDEN} characters: too short to be hidden where it turns up in a log"
        if self._value[0] == self._value[-1] and self._value[0] in "\"'":
            return "begins and ends with quotes, which are sent as part of it; remove them if they are not"
        return ""

    def _load(self, file: Path) -> None:
        about = files.about(file)
        seen = (about.st_mtime_ns, about.st_ino, about.st_size)
        if seen == self._seen or (self._seen is not None and not stat.S_ISREG(about.st_mode)):  # a pipe is read once
            return
        value = self._content(files.read(file).decode("utf-8-sig").strip())
        if value and value != self._value:
            self._past, self._value = self._value, value
        self._seen = seen

    def _content(self, text: str) -> str:
        """Returns the value of a file's text; raises ValueError if it holds none."""
        if len(text.splitlines()) > 1:
            raise ValueError("the file named there has several lines; leave only the secret in it")
        return text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Returns whether the configuration says the same: a file that was rotated is still the same setting."""
        return isinstance(other, Secret) and (self.file, self.file or self._value) == (
            other.file,
            other.file or other._value,
        )

    def __hash__(self) -> int:
        return hash((self.file, self.file or self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(lambda _secret: "***")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "minLength": 1, "writeOnly": True}

    @classmethod
    def _validated(cls, value: Any) -> "Secret":
        match value:
            case Secret():
                return value
            case SecretFile(rival=True):
                raise PydanticCustomError("value_error", "{error}", {"error": TWICE, "twice": True})
            case SecretFile(path=str() | os.PathLike() as path):
                return cls(file=Path(path))
            case SecretFile():
                raise ValueError("must be the path of a file")
            case str():
                return cls(value)
            case _:
                raise ValueError("must be text; put it in quotes")


def known_values() -> Iterator[str]:
    """Returns the values of all secrets in use, and those before the last rotation: a log line must not hold them."""
    for secret in list(_alive):
        for value in (secret._value, secret._past):
            if value and len(value) >= SHORTEST_HIDDEN:
                yield value


class Credentials(Settings):
    """Base of every section with secrets: each secret `X` may be given as `X_file`, and here alone that is known."""

    @classmethod
    def secret_names(cls) -> list[str]:
        """Returns the names of the secret settings."""
        return [
            name
            for name, field in cls.model_fields.items()
            if any(isinstance(kind, type) and issubclass(kind, Secret) for kind in _kinds(field.annotation))
        ]

    @classmethod
    def documented(cls) -> dict[str, str]:
        """Returns every key that an operator may write, and what it is for."""
        return super().documented() | {f"{name}_file": f"File that holds `{name}`." for name in cls.secret_names()}

    @model_validator(mode="before")
    @classmethod
    def _files(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name in cls.secret_names():
            if (file := data.pop(f"{name}_file", None)) is not None:
                data[name] = SecretFile(file, rival=data.get(name) is not None)
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler.resolve_ref_schema(handler(schema))
        for name in cls.secret_names():
            described["properties"][f"{name}_file"] = {
                "type": "string",
                "description": f"File that holds `{name}`; read again when it changes.",
            }
            described.setdefault("allOf", []).append({"not": {"required": [name, f"{name}_file"]}})
        return described


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
