"""Field types for wire models, and what they mean: epoch s or ms, times without zone, map or pairs, long ids."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from exporter.errors import ItemRejected

# What JSON may hold where a manual promises a number or a text: vendors write either, or null.
Scalar = str | int | float | bool | None

_LATEST_S = datetime(9999, 12, 30, tzinfo=UTC).timestamp()


def moment_from_ms(value: Scalar, field: str) -> datetime | None:
    """The moment an epoch in milliseconds means; None for null, "", 0 and -1; raises ItemRejected for nonsense."""
    if type(value) is int and 0 < value < 253402214400000:  # the usual case, first: up to the year 9999
        return datetime.fromtimestamp(value / 1000, UTC)
    return _moment(value, 1000, field)


def moment_from_s(value: Scalar, field: str) -> datetime | None:
    """The moment an epoch in seconds means; None for null, "", 0 and -1; raises ItemRejected for nonsense."""
    if type(value) is int and 0 < value < 253402214400:
        return datetime.fromtimestamp(value, UTC)
    return _moment(value, 1, field)


def _moment(value: Scalar, unit: int, field: str) -> datetime | None:
    if value is None or value in ("", 0, -1, "0", "-1"):
        return None
    try:
        seconds = float(value) / unit
    except (ValueError, OverflowError):
        raise ItemRejected(f"{field} is no time") from None
    if isinstance(value, bool) or not 0 < seconds <= _LATEST_S:
        raise ItemRejected(f"{field} is no time")
    return datetime.fromtimestamp(seconds, UTC)


def moment_from_text(value: Scalar, field: str, zone: tzinfo = UTC) -> datetime | None:
    """The moment an ISO 8601 text means, `zone` where it names none; None for null and ""; raises ItemRejected."""
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ItemRejected(f"{field} is no time") from None


def text(value: Any) -> str:
    """Text where text or a number is due; "" for null and for what is neither."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value)


def identity(value: Scalar, field: str) -> str:
    """An id as text, never through a float; raises ItemRejected where there is none."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ItemRejected(f"{field} is missing")


def flag(value: Any) -> bool:
    """Whether a vendor's boolean says yes; null and anything odd is no."""
    return value is True or value in ("true", "True", 1)


def mapping_from(value: Any) -> dict[str, Any]:
    """A map, whether it came as a map or as a list of {key, value} pairs; empty for anything else."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {str(pair["key"]): pair.get("value") for pair in value if isinstance(pair, Mapping) and "key" in pair}
    return {}


def list_from(value: Any) -> list[Any]:
    """A list where one is due; empty for null and anything else."""
    return value if isinstance(value, list) else []
