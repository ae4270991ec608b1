"""Alert and what describes one: in canonical words common to all vendors."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """Canonical severities, most severe first."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"
    INFO = "info"
    UNKNOWN = "unknown"


class CloseReason(StrEnum):
    """Why an alert is no longer open; `vanished` is never stated by a vendor, only concluded here."""

    RECOVERED = "recovered"
    CLOSED = "closed"
    EXPIRED = "expired"
    VANISHED = "vanished"


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something wrong, open until it ends. Times have a zone; None means the vendor did not say.

    `close_reason` is None while the alert is open, whatever `ended_at` says. `appeared_at` is when the alert
    was created at the vendor if that differs from `started_at`, the time of the data that raised it.
    `unmapped` names the fields whose value is in no table of ours.
    """

    key: str
    severity: Severity
    started_at: datetime | None
    appeared_at: datetime | None = None
    ended_at: datetime | None = None
    close_reason: CloseReason | None = None
    acknowledged: bool = False
    acknowledged_at: datetime | None = None
    suppressed: bool = False
    title: str = ""
    name: str = ""
    policy: str = ""
    resource_type: str = ""
    provider: str = ""
    namespace: str = ""
    unmapped: tuple[str, ...] = ()
