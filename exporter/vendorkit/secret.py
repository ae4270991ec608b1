"""Secret: given as X or X_file, read at each use, so that rotation needs no restart."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from weakref import WeakSet

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from exporter.errors import SourceRefused
from exporter.vendorkit.settings import Settings

log = logging.getLogger(__name__)

_alive: WeakSet["Secret"] = WeakSet()


class SecretFile(str):
    """Marks a setting that was given as X_file."""


class Secret:
    """A value that is never shown. From a file it is read again whenever the file changes.

    A file that vanishes or cannot be read later keeps its last value; one missing at the start raises ValueError.
    """

    def __init__(self, value: str = "", *, file: Path | None = None) -> None:
        self._value = value
        self._file = file
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
        """The value now."""
        if self._file is not None:
            try:
                self._load(self._file)
            except (OSError, UnicodeDecodeError) as error:
                if not self._lost:
                    log.warning(
                        "secret file %s cannot be read (%s); its last value stays in use", self._file, _why(error)
                    )
                self._lost = True
            else:
                self._lost = False
        return self._value

    def for_header(self, name: str) -> str:
        """The value now; raises SourceRefused if no HTTP header can carry it, which says so of this `name`.

        The HTTP library would refuse it as well, in words that hold it.
        """
        value = self.read()
        if not (value.isascii() and value.isprintable()):
            raise SourceRefused(f"{name} holds characters that no HTTP header can carry")
        return value

    def _load(self, file: Path) -> None:
        stat = file.stat()  # follows links: Kubernetes swaps a symlink to change all keys of a Secret at once
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen != self._seen:
            value = file.read_text(encoding="utf-8").strip()
            if value and value != self._value:
                self._past, self._value = self._value, value
            self._seen = seen

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Whether the configuration says the same: a file that was rotated is still the same setting."""
        return isinstance(other, Secret) and (self._file, self._file or self._value) == (
            other._file,
            other._file or other._value,
        )

    def __hash__(self) -> int:
        return hash((self._file, self._file or self._value))

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
            case SecretFile():
                return cls(file=Path(value))
            case str():
                return cls(value)
            case (_, _):
                raise ValueError("is given twice, inline and as a file: keep one of the two")
            case _:
                raise ValueError("must be text; put it in quotes")


def known_values() -> Iterator[str]:
    """The values of all secrets in use, and the one before the last rotation: what a log line must not hold."""
    for secret in list(_alive):
        yield secret._value
        if secret._past:
            yield secret._past


class Credentials(Settings):
    """Base of every `auth` section: each secret `X` may be given as `X_file`."""

    @classmethod
    def secret_names(cls) -> list[str]:
        """The names of the secret settings."""
        return [
            name
            for name, field in cls.model_fields.items()
            if field.annotation is Secret or Secret in get_args(field.annotation)
        ]

    @model_validator(mode="before")
    @classmethod
    def _files(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name in cls.secret_names():
            file = data.pop(f"{name}_file", None)
            if file is not None:
                data[name] = (data[name], file) if data.get(name) is not None else SecretFile(str(file))
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler.resolve_ref_schema(handler(schema))
        required = described.get("required", [])
        for name in cls.secret_names():
            described["properties"][f"{name}_file"] = {
                "type": "string",
                "description": f"File that holds `{name}`; read again when it changes.",
            }
            if name in required:
                required.remove(name)
                described.setdefault("allOf", []).append(
                    {"oneOf": [{"required": [name]}, {"required": [f"{name}_file"]}]}
                )
        return described


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8 text"
