"""Settings: base of every configuration model; Duration, Items, ExistingFile: values as an operator writes them."""

import re
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Self, TypeVar, get_args

import durationpy
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

from exporter import files

T = TypeVar("T")

# The kinds of errors that pydantic's core knows; others are made by validators.
_OWN = frozenset(get_args(core_schema.ErrorType))


class Settings(BaseModel):
    """Frozen, closed to unknown keys, and silent about its input in errors; a field's docstring documents it.

    An empty text means none where a key may be none. Errors about unknown and missing keys carry the model (`ctx`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    @classmethod
    def documented(cls) -> dict[str, str]:
        """Returns every key that an operator may write, and what it is for."""
        return {name: field.description or "" for name, field in cls.model_fields.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, dict):
            data = {key: None if value == "" and cls._may_be_none(key) else value for key, value in data.items()}
        try:
            return read(data)
        except ValidationError as error:
            problems = [cls._explained(each, data) for each in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True) from None

    @classmethod
    def _explained(cls, problem: ErrorDetails, data: Any) -> InitErrorDetails:
        """Returns the problem with its path as an operator writes it, and with the model if it is about a key of it."""
        kind, loc, context = problem["type"], problem["loc"], problem.get("ctx", {})
        field = cls.model_fields.get(str(loc[0])) if loc else None
        if len(loc) == 1:
            context = context | {"model": cls}
        if field is not None and _is_a_choice(field):  # the name of the one that was taken comes next
            chosen_by = field.discriminator if kind == "union_tag_invalid" else None
            loc = (*loc[:1], *loc[2:], *([chosen_by] if isinstance(chosen_by, str) else []))
        if field is not None and isinstance(data, dict) and loc[0] not in data and f"{loc[0]}_file" in data:
            loc = (f"{loc[0]}_file",)
        if kind not in _OWN or isinstance(context.get("error"), str):
            error = PydanticCustomError(kind, "{message}", context | {"message": problem["msg"]})
            return InitErrorDetails(type=error, loc=loc, input=problem["input"])
        return InitErrorDetails(type=kind, loc=loc, input=problem["input"], ctx=context)

    @classmethod
    def _may_be_none(cls, key: Any) -> bool:
        return key in cls.model_fields and NoneType in get_args(cls.model_fields[key].annotation)


def _is_a_choice(field: FieldInfo) -> bool:
    return field.discriminator is not None or any(isinstance(each, Discriminator) for each in field.metadata)


_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w|y))+$"
_HOW = "write 30s, 5m, 2h or 15d, or a number of seconds"
# With more, the sum of a few durations and a moment of today is beyond what Python has dates for.
_LONGEST = timedelta(days=36_500)


def duration_from(value: Any) -> timedelta:
    """Returns the span a setting means: `30s`, `5m`, `15d` or a number of seconds; raises ValueError for any other."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"this is not a duration: {_HOW}")  # noqa: TRY004 pydantic reports ValueErrors
    try:
        seconds = float(value)
    except ValueError:
        if not re.fullmatch(_PATTERN, str(value).strip()):
            raise ValueError(f"{str(value)[:40]!r} is not a duration: {_HOW}") from None
        seconds = durationpy.from_str(str(value).strip()).total_seconds()
    except OverflowError:
        raise ValueError(f"this duration is too long: {_HOW}") from None
    try:
        span = timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"this duration is too long: {_HOW}") from None
    if span < timedelta(0):
        raise ValueError("a duration is not negative")
    if span > _LONGEST:
        raise ValueError("must be at most 36500d")
    return span


def text_from(span: timedelta) -> str:
    """Returns the span as it is written in a configuration file: `90s`, `5m`, `2h`, `15d`."""
    seconds = span.total_seconds()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds) if seconds == int(seconds) else seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(duration_from),
    PlainSerializer(text_from),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _PATTERN}, {"type": "number", "minimum": 0}]}),
]


def _items(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):  # it would have been read where the variable was, had it been JSON
        raise ValueError("must be a list in JSON, or plain values separated by commas")
    return [part.strip() for part in value.split(",")] if value.strip() else []


# A list; as text, its plain values are separated by commas.
Items = Annotated[list[T], BeforeValidator(_items)]


def _existing(path: Path) -> Path:
    try:
        files.check(path)
    except FileNotFoundError:
        # Not cited: it may be a secret, given where the name of its file belongs.
        raise ValueError("there is no such file; check the path") from None
    except OSError as error:
        raise ValueError(f"cannot read the file named there: {error.strerror}; check the path") from None
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing), WithJsonSchema({"type": "string", "format": "file-path"})]
