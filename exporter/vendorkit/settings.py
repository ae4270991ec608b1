"""Settings: what every configuration model is made of; Duration, ExistingFile: values as an operator writes them."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema


class Settings(BaseModel):
    """Frozen, closed to unknown keys, and silent about its input in errors; a field's docstring documents it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w|y))+$"
_HOW = "write 30s, 5m, 2h or 15d, or a number of seconds"
# With more, the sum of a few durations and a moment of today is beyond what Python has dates for.
_LONGEST = timedelta(days=36_500)


def duration_from(value: Any) -> timedelta:
    """The span a setting means: `30s`, `5m`, `15d` or a number of seconds; raises ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"this is no duration: {_HOW}")  # noqa: TRY004 pydantic reports ValueErrors
    try:
        seconds = float(value)
    except ValueError:
        if not re.fullmatch(_PATTERN, str(value).strip()):
            raise ValueError(f"{str(value)[:40]!r} is no duration: {_HOW}") from None
        seconds = durationpy.from_str(str(value).strip()).total_seconds()
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
    """The span as it is written in a configuration file: `90s`, `5m`, `2h`, `15d`."""
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


def _existing(path: Path) -> Path:
    if not os.path.isfile(path):  # noqa: PTH113 Path.is_file raises where the name is too long
        # Not cited: it may be a secret, given where the name of its file belongs.
        raise ValueError("there is no such file; check the path")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing), WithJsonSchema({"type": "string", "format": "file-path"})]
