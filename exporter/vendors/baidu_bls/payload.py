"""Alarm records as the Log Service writes them ("ListAlarmRecord", "DescribeAlarmRecord").

Fields that do not identify a record may be of any type: an odd one costs only itself.
"""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from exporter.vendorkit.fields import Scalar, text

T = TypeVar("T")

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

# The executions of a record that has no such field.
NONE_LISTED = msgspec.Raw(b"null")

# Error codes that mean the time of the signature; the second is what other clouds call it.
EXPIRED = frozenset({"RequestExpired", "RequestTimeTooSkewed"})


class Policy(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: Any = None
    recover_without_notice: Any = None


class LogStore(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    project: Any = None
    log_store_name: Any = None


class TriggerCondition(msgspec.Struct, frozen=True, gc=False):
    level: Any = None


class Alarm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An alarm record, in a list or in detail; whether lists carry `executions` is not documented."""

    id: str | None = None
    start_time: Any = None
    end_time: Any = None
    state: Any = None
    close_reason: Any = None
    policy: Policy | list[Any] | Scalar = None
    object: LogStore | list[Any] | Scalar = None
    trigger_condition: TriggerCondition | list[Any] | Scalar = None
    executions: msgspec.Raw = NONE_LISTED


class AlarmId(msgspec.Struct, frozen=True, gc=False):
    """The id of an alarm record, whatever the shape of its other fields."""

    id: Any = None


class Template(msgspec.Struct, frozen=True, gc=False):
    """A notification template that an execution used; `methods` and `callbacks` are lists."""

    id: Any = None
    name: Any = None
    methods: Any = None
    callbacks: Any = None


class Execution(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One run of the policy's statements for this alarm, and what became of its notice."""

    time: Any = None
    state: Any = None
    notice_state: Any = None
    reason: Any = None
    notices: list[Template] | None = None


class Records(msgspec.Struct, Generic[T], frozen=True, rename="camel"):
    """`alarms` may be null where there are none, but not absent."""

    alarms: list[T] | UnsetType | None = UNSET
    total_count: Any = None


class RecordPage(msgspec.Struct, Generic[T], frozen=True):
    """Answer of ListAlarmRecord."""

    success: Any = None
    code: Any = None
    result: Records[T] | None = None


class RecordDetail(msgspec.Struct, frozen=True):
    """Answer of DescribeAlarmRecord."""

    success: Any = None
    code: Any = None
    alarm: Alarm | UnsetType | None = UNSET


class _Coded(msgspec.Struct):
    code: Any = None


_CODED = msgspec.json.Decoder(_Coded)


def code_of(body: bytes) -> str:
    """Returns the vendor's code in an answer's body; "" for a body without one."""
    try:
        return text(_CODED.decode(body).code)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
