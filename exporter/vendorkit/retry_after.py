"""Retry-After: the wait a vendor asks for (RFC 9110, section 10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_from(value: str | None, date: str | None) -> float | None:
    """Returns seconds to wait, from a number or an HTTP date taken against the answer's own Date; None for nonsense.

    A date without the answer's Date cannot be trusted across clocks and counts from our own.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        until = parsedate_to_datetime(value)
        since = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return max(0.0, (until - since).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
