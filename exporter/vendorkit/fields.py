"""Field types for wire models, and what they mean: counts, epoch s or ms, times without zone, maps or pairs, ids."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from exporter.errors import ItemRejected

# What JSON may hold where a manual promises a number or a text: vendors write either, or null.
Scalar = str | int | float | bool | None

LONGEST_TEXT = 1024

# A time further ahead of the vendor's clock than this is a mistake.
AHEAD = timedelta(days=1)

_LATEST_S = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
# Digits of a plausible number: a float holds them exactly, and int() may be slow with more or refuse them.
_MOST_DIGITS = 15


def is_digits(value: str) -> bool:
    """Returns whether a text is a whole number of at most 15 ASCII digits; int() accepts other scripts too."""
    return len(value) <= _MOST_DIGITS and value.isascii() and value.isdecimal()


def whole_number(value: Scalar, field: str, *, most: int = 10**_MOST_DIGITS - 1) -> int | None:
    """Returns a count of at most `most`, also from text; None for null and ""; raises ItemRejected for the rest."""
    number = value
    if isinstance(value, str):
        digits = value.strip()
        number = int(digits) if is_digits(digits) else digits or None
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is None:
        return None
    if type(number) is not int or not 0 <= number <= most:
        raise ItemRejected(f"{field} is not a whole number from 0 to {most}")
    return number


def moment_from_ms(value: Scalar, field: str) -> datetime | None:
    """Returns the time of an epoch in milliseconds; None for null, "", 0 and -1; raises ItemRejected if invalid."""
    if type(value) is int and 0 < value < 253402214400000:  # the usual case, first: up to the year 9999
        return datetime.fromtimestamp(value / 1000, UTC)
    return _moment(value, 1000, field)


def moment_from_s(value: Scalar, field: str) -> datetime | None:
    """Returns the time of an epoch in seconds; None for null, "", 0 and -1; raises ItemRejected if invalid."""
    if type(value) is int and 0 < value < 253402214400:
        return datetime.fromtimestamp(value, UTC)
    return _moment(value, 1, field)


def _moment(value: Scalar, unit: int, field: str) -> datetime | None:
    if value is None or value in ("", 0, -1, "0", "-1"):
        return None
    try:
        seconds = float(value) / unit
    except (ValueError, OverflowError):
        raise ItemRejected(f"{field} is not a time") from None
    if isinstance(value, bool) or not str(value).isascii() or not 0 < seconds <= _LATEST_S:
        raise ItemRejected(f"{field} is not a time")
    return datetime.fromtimestamp(seconds, UTC)


def moment_from_text(value: Scalar, field: str, zone: tzinfo = UTC) -> datetime | None:
    """Returns the time of an ISO 8601 text, by default in `zone`; None for null and ""; raises ItemRejected."""
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ItemRejected(f"{field} is not a time") from None


def text(value: Any) -> str:
    """Returns text where text or a number is due; "" for null and for what is neither."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) in (int, float) else ""


def words(value: Any) -> str:
    """Returns free text, also where it comes as a list of texts; "" for anything else."""
    return ", ".join(filter(None, map(text, value))) if isinstance(value, list) else text(value)


def short(value: Any) -> str:
    """Returns a name or a title as text of at most 1,024 characters: what is kept as long as an alert is open."""
    if type(value) is str and len(value) <= LONGEST_TEXT:  # the usual case, first
        return value
    return text(value)[:LONGEST_TEXT]


def identity(value: Scalar, field: str) -> str:
    """Returns an id as text, never through a float; raises ItemRejected where there is none."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ItemRejected(f"{field} is missing")


def flag(value: Any) -> bool:
    """Returns whether a vendor's boolean says yes; null and anything odd is no."""
    return value is True or value in ("true", "True", 1)


def list_from(value: Any) -> list[Any]:
    """Returns a list where one is due; empty for null and anything else."""
    return value if isinstance(value, list) else []
