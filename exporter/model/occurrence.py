"""Occurrence: one counted event in an alert's life, pushed once as a log record."""

from datetime import datetime
from enum import StrEnum

import msgspec

from exporter.model.alert import Severity


class What(StrEnum):
    """Kinds of occurrences; each has a counter of its own but for severities, which move from gauge to gauge."""

    OPENED = "opened"
    CLOSED = "closed"
    SEVERITY_CHANGED = "severity_changed"
    ACKNOWLEDGED = "acknowledged"
    NOTICE_FAILED = "notice_failed"


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened. `at` is a time of the vendor's clock; None if the vendor did not say when.

    `name` and `title` are "" where the alert was closed in an earlier poll, of which only numbers are remembered.
    `reason` is that of closing or of the notice's failure.
    """

    what: What
    source: str
    vendor: str
    key: str
    severity: Severity
    at: datetime | None
    name: str = ""
    title: str = ""
    started_at: datetime | None = None
    reason: str = ""
    channel: str = ""
    previous_severity: str = ""
