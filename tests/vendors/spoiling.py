"""Spoiled: a simulated vendor that writes some of its rows in another way than it should."""

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args

import msgspec

from exporter.simulation.wire import Request, Response, Simulator
from exporter.vendors.baidu_bls.payload import Alarm
from exporter.vendors.blueking.payload import AlertRow
from exporter.vendors.huawei_aom.payload import EventRecord
from exporter.vendors.key_astrom.payload import Event

Path = tuple[str | int, ...]
Changes = Mapping[Path, Any]

ROWS: Mapping[str, type[msgspec.Struct]] = {
    "baidu_bls": Alarm,
    "blueking": AlertRow,
    "huawei_aom": EventRecord,
    "key_astrom": Event,
}
IDS = {"baidu_bls": "id", "blueking": "id", "huawei_aom": "event_sn", "key_astrom": "eventId"}


# What makes a row of each vendor unreadable, without its id or with it.
UNREADABLE: Mapping[str, list[Changes]] = {
    "baidu_bls": [{("id",): []}, {("id",): None}],
    "blueking": [
        {("create_time",): "yesterday"},
        {("strategy_name",): {"id": 1}},
        {("alert_name",): ["x"]},
        {("id",): None},
    ],
    "huawei_aom": [
        {("starts_at",): "yesterday"},
        {("metadata",): []},
        {("ends_at",): "tomorrow"},
        {("event_sn",): [], ("id",): []},
    ],
    "key_astrom": [
        {("startTime",): "yesterday"},
        {("entityId",): "HOST-1"},
        {("managementZones",): "x"},
        {("eventId",): None},
    ],
}


def paths_of(kind: Any) -> Iterator[Path]:
    """Every field that the reader reads of a struct, those of structs inside it included."""
    for field in msgspec.structs.fields(kind):
        yield (field.encode_name,)
        for inner, step in _structs_in(field.type):
            yield from ((field.encode_name, *step, *path) for path in paths_of(inner))


def _structs_in(kind: Any, step: Path = ()) -> Iterator[tuple[Any, Path]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, step
    is_list = getattr(kind, "__origin__", None) is list
    for part in get_args(kind):
        yield from _structs_in(part, (*step, 0) if is_list else step)


def fields_of(vendor: str) -> list[Path]:
    """The fields of an alert's row but those that name it."""
    named = {"huawei_aom": {("event_sn",), ("id",)}}.get(vendor, {(IDS[vendor],)})
    return [path for path in paths_of(ROWS[vendor]) if path not in named]


class Spoiled:
    """The simulator, with the rows of alerts as `change` leaves them: it gets the place of the alert and its row."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._places: dict[str, int] = {}
        self.change: Callable[[int, dict[str, Any]], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def answer(self, request: Request) -> Response:
        response = self._simulator.answer(request)
        if self.change is None:
            return response
        document = json.loads(response.body)
        for row in _rows_in(document):
            self.change(self._places.setdefault(str(row[IDS[self.vendor]]), len(self._places)), row)
        return msgspec.structs.replace(response, body=json.dumps(document).encode())


def _rows_in(document: Any) -> Iterator[dict[str, Any]]:
    """The rows of the lists of alerts, and the alert of a detail."""
    if isinstance(document, dict):
        for holder in (document, document.get("data"), document.get("result")):
            if isinstance(holder, dict):
                for name in ("events", "alerts", "alarms"):
                    yield from holder.get(name) or ()
        if isinstance(document.get("alarm"), dict):
            yield document["alarm"]


def changed(row: dict[str, Any], changes: Changes) -> None:
    """Writes other values into a row, where it has these fields."""
    for path, value in changes.items():
        holder: Any = row
        for step in path[:-1]:
            holder = holder[step] if _has(holder, step) else None
        if _has(holder, path[-1]) or isinstance(holder, dict):
            holder[path[-1]] = deepcopy(value)


def _has(holder: Any, step: str | int) -> bool:
    if isinstance(holder, list):
        return isinstance(step, int) and step < len(holder)
    return isinstance(holder, dict) and step in holder


def says_more(vendor: str, row: dict[str, Any]) -> bool:
    """Whether a row says by the manual's own words that its alert is over, or that it is none."""
    match vendor:
        case "baidu_bls":
            return str(row.get("state")).upper() in {"OK", "CLOSED"}
        case "blueking":
            return str(row.get("status")).strip().upper() in {"RECOVERED", "CLOSED"}
        case "huawei_aom":
            metadata = row.get("metadata")
            kind = metadata.get("event_type") if isinstance(metadata, dict) else None
            return _is_time(row.get("ends_at")) or str(kind).lower() == "event"
        case _:
            status = str(row.get("status")).upper()
            return status == "CLOSED" or (status != "OPEN" and _is_time(row.get("endTime")))


def _is_time(value: Any) -> bool:
    """Whether a value may be read as a time of these days."""
    try:
        return 1.7e12 < float(value) < 1.8e12
    except (TypeError, ValueError, OverflowError):
        return False
