"""Recorded answers in, expected readings out: every case is a file with the vendor's own JSON or a variation of it."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.model.alert import Alert
from exporter.model.reading import OpenAlerts, Truncated
from exporter.model.records import Convergence, Event, Notice, Operation
from tests.rig import VENDORS
from tests.vendors.reading import facts_in, of_type, records_in, rejected_in, unfinished_in
from tests.vendors.recorded import NETWORKS

FOLDER = Path(__file__).parent
CASES = [
    pytest.param(vendor, json.loads(path.read_text(encoding="utf-8")), id=f"{vendor}-{path.stem}")
    for vendor in VENDORS
    for path in sorted((FOLDER / vendor / "cases").glob("*.json"))
]
RECORDS: dict[str, type[Any]] = {
    "ended": Alert,
    "events": Event,
    "notices": Notice,
    "operations": Operation,
    "convergences": Convergence,
}


@pytest.mark.anyio
@pytest.mark.parametrize(("vendor", "case"), CASES)
async def test_recorded_answers_give_the_expected_readings(vendor: str, case: Any) -> None:
    expected = case["expected"]
    network = NETWORKS[vendor](case)
    module = import_module(f"tests.vendors.{vendor}.reading")
    reader = module.Reader(network, **case.get("settings", {}))

    readings, error = await reader.read(module.a_window(*case.get("open_alerts", ())))

    assert ([type(error).__name__, str(error.reason)] if error else None) == expected.get("error")
    opened = of_type(readings, OpenAlerts)
    assert [alert for each in opened for alert in each.alerts] == msgspec.convert(expected.get("open", []), list[Alert])
    assert sorted(key for each in opened for key in each.unsure) == sorted(expected.get("unsure", []))
    cut = {each.endpoint: each.open_by_severity for each in of_type(readings, Truncated)}
    assert cut == expected.get("truncated", {})
    for name, kind in RECORDS.items():
        wanted = [{"key": "", **each} if kind is Operation else each for each in expected.get(name, [])]
        assert without_digests(records_in(readings, kind)) == [msgspec.convert(each, kind) for each in wanted], name
    rejected = expected.get("rejected", 0)
    assert (len(rejected_in(readings)) if isinstance(rejected, int) else rejected_in(readings)) == rejected
    assert [list(found) for found in unfinished_in(readings)] == (
        [expected["unfinished"]] if "unfinished" in expected else []
    )
    assert not facts_in(readings) & set(expected.get("without", ()))
    if "requests" in expected:
        assert network.asked == expected["requests"]
    if error is not None and "open" not in expected:
        assert readings == []


def without_digests(records: list[Any]) -> list[Any]:
    """Rows of BlueKing's flow logs have no id of their own: their key is a digest, which other tests look at."""
    assert len({record.key for record in records}) == len(records)
    digests = ("row:", "notice:")
    return [msgspec.structs.replace(record, key="") if record.key.startswith(digests) else record for record in records]


@pytest.mark.parametrize("vendor", VENDORS)
def test_there_are_cases(vendor: str) -> None:
    assert sum(case.values[0] == vendor for case in CASES) >= 25
