"""Alarm records as the Log Service writes them ("ListAlarmRecord", "DescribeAlarmRecord")."""

from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from exporter.vendorkit.fields import Scalar

T = TypeVar("T")

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

# Error codes that mean the time of the signature; the second is what other clouds call it.
EXPIRED = frozenset({"RequestExpired", "RequestTimeTooSkewed"})


class Policy(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    recover_without_notice: bool | None = None


class LogStore(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    project: str | None = None
    log_store_name: str | None = None


class TriggerCondition(msgspec.Struct, frozen=True, gc=False):
    level: str | None = None


class Alarm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An alarm record, in a list or in detail; whether lists carry `executions` is not documented."""

    id: str | None = None
    start_time: Scalar = None
    end_time: Scalar = None
    state: str | None = None
    close_reason: str | None = None
    policy: Policy | None = None
    object: LogStore | None = None
    trigger_condition: TriggerCondition | None = None
    executions: msgspec.Raw = msgspec.Raw(b"null")


class Template(msgspec.Struct, frozen=True, gc=False):
    """A notification template that an execution used."""

    id: str | None = None
    name: str | None = None
    methods: list[str] | None = None
    callbacks: list[str] | None = None


class Execution(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One run of the policy's statements for this alarm, and what became of its notice."""

    time: Scalar = None
    state: str | None = None
    notice_state: str | None = None
    reason: Scalar = None
    notices: list[Template] | None = None


class Records(msgspec.Struct, Generic[T], frozen=True, rename="camel"):
    """`alarms` may be null where there are none, but not absent."""

    alarms: list[T] | UnsetType | None = UNSET
    total_count: int | None = None


class RecordPage(msgspec.Struct, Generic[T], frozen=True):
    """Answer of ListAlarmRecord."""

    success: bool | None = None
    code: str | None = None
    result: Records[T] | None = None


class RecordDetail(msgspec.Struct, frozen=True):
    """Answer of DescribeAlarmRecord."""

    success: bool | None = None
    code: str | None = None
    alarm: Alarm | UnsetType | None = UNSET


class _Coded(msgspec.Struct):
    code: str | None = None


_CODED = msgspec.json.Decoder(_Coded)


def code_of(body: bytes) -> str:
    """The vendor's code in an answer's body; "" for a body without one."""
    try:
        return _CODED.decode(body).code or ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
