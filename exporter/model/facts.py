"""Fact: what a source can supply at all; LabelSets: the values a vendor's labels can take."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason, Suppression


class Fact(StrEnum):
    """Groups of metric families that a source may or may not be able to supply. Absent is never a false 0."""

    ACKNOWLEDGED = "acknowledged"
    SUPPRESSED = "suppressed"
    OPERATIONS = "operations"
    CONVERGENCES = "convergences"
    NOTICES = "notices"
    SUPPRESSED_NOTICES = "suppressed_notices"
    EVENTS = "events"


class LabelSets(msgspec.Struct, frozen=True, kw_only=True):
    """The closed label sets of a vendor: every value it can produce, by its documented table; exported with 0."""

    severities: Sequence[Severity]
    close_reasons: Sequence[CloseReason]
    operations: Sequence[str] = ()
    channels: Sequence[Channel] = ()
    failure_reasons: Sequence[FailureReason] = ()
    suppressions: Sequence[Suppression] = ()
    event_types: Sequence[str] = ()
    unmapped: Sequence[str] = ()
    """Names of the fields whose values may be in no table of ours."""
    lists: Sequence[str] = ()
    """Endpoints of lists that may be longer than can be walked."""
