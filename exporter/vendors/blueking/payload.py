"""BlueKing Monitor's JSON as it writes it: only the fields that are needed, with the types seen on the wire."""

from typing import Any, Generic, TypeVar

import msgspec

from exporter.vendorkit.fields import Scalar

T = TypeVar("T")

NULL = msgspec.Raw(b"null")


class Envelope(msgspec.Struct):
    """The envelope of every answer. `result` decides; `code` is 200, 0, a string, null or absent."""

    result: Any = None
    code: Any = None
    message: Any = None
    data: msgspec.Raw = NULL


class Listing(msgspec.Struct, kw_only=True):
    """The fields both lists share; the last two fields exist on servers of 2026-07 and later."""

    total: Scalar = None
    total_relation: Scalar = None
    is_partial: Scalar = None


class AlertListing(Listing, Generic[T], kw_only=True):
    """`data` of search_alert."""

    alerts: list[T]


class AlertPage(msgspec.Struct, Generic[T]):
    """A whole answer of search_alert."""

    data: AlertListing[T]
    result: Any = None


class Bucket(msgspec.Struct, gc=False):
    """How many alerts have one value of a field."""

    id: Scalar = None
    count: Scalar = None


class Aggregate(msgspec.Struct, gc=False):
    """Counts by the values of one field, which `id` names."""

    id: Any = None
    children: Any = None


class CountListing(Listing, kw_only=True):
    """`data` of search_alert with `show_aggs`, without rows."""

    aggs: list[Aggregate] | None = None


class ActionListing(Listing, Generic[T], kw_only=True):
    """`data` of search_action."""

    actions: list[T]


class ActionPage(msgspec.Struct, Generic[T]):
    """A whole answer of search_action."""

    data: ActionListing[T]
    result: Any = None


class AlertRow(msgspec.Struct, gc=False):
    """An alert of search_alert. Booleans are null until first set; `end_time` is null while it is open."""

    id: Scalar = None
    status: Scalar = None
    severity: Scalar = None
    alert_name: Scalar = None
    strategy_name: Scalar = None
    target_type: Scalar = None
    data_type: Scalar = None
    bk_biz_id: Scalar = None
    is_ack: Scalar = None
    ack_duration: Scalar = None
    is_shielded: Scalar = None
    begin_time: Scalar = None
    create_time: Scalar = None
    update_time: Scalar = None
    end_time: Scalar = None


class RowId(msgspec.Struct, gc=False):
    """The id of an alert or a handling record, whatever the shape of its other fields."""

    id: Any = None


class ExtendInfo(msgspec.Struct, gc=False):
    """`extend_info` of a flow row, where it is a map; which keys it has depends on `operate`."""

    anomaly_count: Scalar = None
    empty_receiver: Scalar = None


class FlowRow(msgspec.Struct):
    """A row of get_event_log. `extend_info` may be "", {}, null or a map; `create_time` has no zone."""

    operate: Scalar = None
    status: Scalar = None
    message: Any = None
    create_time: Scalar = None
    extend_info: ExtendInfo | list[Any] | Scalar = None


class FlowLog(msgspec.Struct, Generic[T]):
    """`data` of get_event_log, a bare list, given a name."""

    rows: list[T]


class ExData(msgspec.Struct, gc=False):
    """`ex_data` of an action: what went wrong, in words; group robots leave a list of texts."""

    message: Any = None


class Inputs(msgspec.Struct):
    """`inputs` of a notice: how and to whom."""

    notice_way: list[Scalar] | Scalar = None


class ActionRow(msgspec.Struct):
    """A record of search_action: a notice to one receiver, a summary of several (`signal` collect), another action, or
    the parent of notices. `status_tips` is a text or, of group robots, a list of texts.
    """

    id: Scalar = None
    raw_id: Scalar = None
    parent_action_id: Scalar = None
    status: Scalar = None
    failure_type: Scalar = None
    status_tips: Any = None
    ex_data: ExData | list[Any] | Scalar = None
    signal: Scalar = None
    action_plugin_type: Scalar = None
    is_parent_action: Scalar = None
    alert_id: list[Scalar] | Scalar = None
    inputs: Inputs | list[Any] | Scalar = None
    create_time: Scalar = None
    update_time: Scalar = None
    end_time: Scalar = None
