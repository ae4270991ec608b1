"""Captures: nothing personal in them, and the same counts from them as from the vendor."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import capture
from exporter.config import Metrics
from exporter.errors import ConfigError
from exporter.model.snapshot import SourceState
from exporter.simulation.network import Fault, FaultKind, SimulatedNetwork, Site
from exporter.simulation.world import World
from exporter.vendorkit.cleaning import Cleaner, Number, Pairs, parse, spell
from exporter.vendors import load_all
from tests.builders import START
from tests.rig import HISTORY, LIVELY, VENDORS

CASES = sorted((Path(__file__).parent / "vendors").glob("*/cases/*.jsonl.gz"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=30), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("vendor", VENDORS)
@given(answer=JSON)
def test_no_text_of_any_json_survives_but_documented_words_and_field_names(vendor: str, answer: Any) -> None:
    cleaner = Cleaner(load_all()[vendor].vocabulary)

    cleaned = cleaner.body(json.dumps(answer).encode())

    assert cleaned is not None
    before, after = parse(json.dumps(answer)), parse(cleaned)
    kept = set(texts_in(after))
    for text in texts_in(before):
        if any(character.isalnum() for character in text) and not cleaner.is_documented(text):
            assert text not in kept or is_only_keywords(cleaner, text)


@pytest.mark.parametrize("vendor", VENDORS)
@given(answer=JSON)
def test_the_structure_of_any_json_survives_and_equal_texts_stay_equal(vendor: str, answer: Any) -> None:
    cleaner = Cleaner(load_all()[vendor].vocabulary)
    before = parse(json.dumps([answer, answer]))

    after = parse(cleaner.body(spell(before).encode()) or "")

    assert shape_of(after) == shape_of(before)
    assert after[0] == after[1]


@given(st.lists(st.from_regex(r"[0-9]{8,20}", fullmatch=True), unique=True, max_size=50))
def test_different_identities_stay_different_and_keep_their_length(ids: list[str]) -> None:
    cleaner = Cleaner(load_all()["blueking"].vocabulary)

    cleaned = [cleaner.identity(one) for one in ids]

    assert len(set(cleaned)) == len(ids)
    assert [len(one) for one in cleaned] == [len(one) for one in ids]


def test_an_identity_is_the_same_as_number_text_and_key() -> None:
    cleaner = Cleaner(load_all()["blueking"].vocabulary)

    cleaned = json.loads(
        cleaner.body(b'{"id":"17180001024410021","event_id":17180001024410021,"data":{"17180001024410021":[]}}') or ""
    )

    assert cleaned["id"] == str(cleaned["event_id"]) == next(iter(cleaned["data"]))
    assert cleaned["id"] != "17180001024410021"


def test_times_move_by_one_span_in_every_form() -> None:
    cleaner = Cleaner(load_all()["baidu_bls"].vocabulary)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    answer = {
        "a": int(at.timestamp()),
        "b": int(at.timestamp() * 1000),
        "c": "2026-01-02T03:04:05Z",
        "d": "2026-01-02 03:04:05",
        "e": str(int(at.timestamp())),
        "f": "2026-01-02T03:04:05.250+08:00",
    }

    cleaned = json.loads(cleaner.body(json.dumps(answer).encode()) or "")

    moved = datetime.fromtimestamp(cleaned["a"], UTC)
    assert moved < at
    assert cleaned["b"] == cleaned["a"] * 1000
    assert cleaned["c"] == f"{moved:%Y-%m-%dT%H:%M:%SZ}"
    assert cleaned["d"] == f"{moved:%Y-%m-%d %H:%M:%S}"
    assert cleaned["e"] == str(cleaned["a"])
    assert cleaned["f"] == f"{moved:%Y-%m-%dT%H:%M:%S}.250+08:00"
    assert cleaner.moment(at) == moved


def test_words_by_which_reasons_are_told_stay_in_a_text() -> None:
    cleaner = Cleaner(load_all()["blueking"].vocabulary)

    cleaned = cleaner.text("send to wrk1 failed: invalid chatid, 接收人 张三 503", "message")

    assert "invalid" in cleaned
    assert "接收人" in cleaned
    assert "503" in cleaned
    assert "wrk1" not in cleaned
    assert "张三" not in cleaned


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_capture_replays_to_the_same_counts(vendor: str, seed: int, tmp_path: Path) -> None:
    captured, state, _ = captured_from(vendor, seed)
    capture.write(captured, tmp_path / "one.jsonl.gz")

    again = capture.replay(capture.read(tmp_path / "one.jsonl.gz"))

    assert state.up
    assert counted(again) == counted(state)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_capture_holds_no_text_host_or_secret_of_the_vendor(vendor: str, tmp_path: Path) -> None:
    captured, _, secret_texts = captured_from(vendor, 3)
    capture.write(captured, tmp_path / "one.jsonl.gz")

    written = gzip.decompress((tmp_path / "one.jsonl.gz").read_bytes()).decode().replace(capture.FORMAT, "")

    assert len(secret_texts) > 20
    assert [text for text in sorted(secret_texts) if text in written] == []


@pytest.mark.parametrize("kind", [FaultKind.REFUSED, FaultKind.HANG, FaultKind.STATUS, FaultKind.HTML, FaultKind.EMPTY])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_source_that_fails_is_captured_with_its_reason(vendor: str, kind: FaultKind, tmp_path: Path) -> None:
    captured, state, _ = captured_from(vendor, 1, Fault(kind=kind))
    capture.write(captured, tmp_path / "one.jsonl.gz")

    again = capture.replay(capture.read(tmp_path / "one.jsonl.gz"))

    assert not state.up
    assert (again.up, again.last_reason) == (False, state.last_reason)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda whole: b"not gzip at all", "cannot be unpacked as gzip"),
        (lambda whole: whole[: len(whole) // 2], "cannot be unpacked as gzip"),
        (lambda whole: gzip.compress(b""), "line 1 cannot be read"),
        (lambda whole: gzip.compress(b'{"any": "json"}\n'), "line 1 cannot be read"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:-40]), "cannot be read"),
        (lambda whole: gzip.compress(b"\xff\xfe\x00"), "line 1 cannot be read"),
        (
            lambda whole: gzip.compress(gzip.decompress(whole).replace(b'"version":1', b'"version":99', 1)),
            "not a capture of a version that this program reads",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(
    spoil: Callable[[bytes], bytes], says: str, tmp_path: Path
) -> None:
    captured, _, _ = captured_from("key_astrom", 1)
    file = tmp_path / "one.jsonl.gz"
    capture.write(captured, file)
    file.write_bytes(spoil(file.read_bytes()))

    with pytest.raises(ConfigError) as refused:
        capture.read(file)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_of_a_capture_that_this_version_does_not_know_are_refused(tmp_path: Path) -> None:
    captured, _, _ = captured_from("key_astrom", 1)
    file = tmp_path / "one.jsonl.gz"
    capture.write(captured, file)
    text = gzip.decompress(file.read_bytes()).replace(b'"lookback":', b'"look_ahead":', 1)
    file.write_bytes(gzip.compress(text))

    with pytest.raises(ConfigError, match="settings are not of this version: look_ahead"):
        capture.replay(capture.read(file))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name)
def test_recorded_captures_give_the_counts_noted_beside_them(file: Path) -> None:
    expected = json.loads(file.with_name(file.name.replace(".jsonl.gz", ".expected")).read_text(encoding="utf-8"))

    state = capture.replay(capture.read(file))

    assert counted(state) == expected


def captured_from(vendor: str, seed: int, fault: Fault | None = None) -> tuple[capture.Capture, SourceState, set[str]]:
    """A capture of a simulated vendor, the state it was made from, and every text the vendor sent or was sent."""
    sent: set[str] = set()
    module = import_module(f"exporter.vendors.{vendor}.simulator")

    async def main() -> tuple[capture.Capture, SourceState]:
        began = anyio.current_time()
        world = World(module.TRAITS, seed=seed, start=START - HISTORY, pace=LIVELY, quiet=False)
        world.advance(START)
        simulator = module.simulator_for(world)

        def now() -> datetime:
            return START + timedelta(seconds=anyio.current_time() - began)

        site = Site(simulator, now)
        if fault is not None:
            site.faults.append(fault)
        given = simulator.settings("http://vendor.example:8443") | {"interval": "60s"}
        config = load_all()[vendor].config.model_validate(given)
        sent.update(secrets_in(given), {"vendor.example"})
        return await capture.record(config, Metrics(), network=_Listening(SimulatedNetwork(site), sent), now=now)

    captured, state = anyio.run(main, backend_options={"loop_factory": capture.VirtualTime})
    cleaner = Cleaner(load_all()[vendor].vocabulary)
    return captured, state, {text for text in sent if is_telling(cleaner, text)}


class _Listening(httpx.AsyncBaseTransport):
    """Notes every text in what a network answers."""

    def __init__(self, wrapped: httpx.AsyncBaseTransport, heard: set[str]) -> None:
        self._wrapped = wrapped
        self._heard = heard

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._heard.update(value for name, value in request.headers.items() if name.lower() == "authorization")
        response = await self._wrapped.handle_async_request(request)
        body = b"".join([chunk async for chunk in response.aiter_bytes()])
        try:
            self._heard.update(texts_in(parse(body.decode())))
        except ValueError:
            self._heard.add(body.decode(errors="replace"))
        headers = [(k, v) for k, v in response.headers.raw if k.lower() not in (b"content-encoding", b"content-length")]
        return httpx.Response(response.status_code, headers=headers, content=body)


def counted(state: SourceState) -> dict[str, Any]:
    """Everything a state counts, as plain JSON."""
    alerts = state.alerts
    names = (
        "open acknowledged suppressed opened closed operations operation_failures convergences converged_anomalies "
        "notices notice_failures notices_suppressed events"
    ).split()
    found = {name: plain(getattr(alerts, name)) for name in names} if alerts is not None else {}
    return found | {"up": state.up, "reason": state.last_reason, "records": plain(state.records)}


def plain(counts: Any) -> Any:
    if not hasattr(counts, "items"):
        return counts
    return {"/".join(map(str, key if isinstance(key, tuple) else (key,))): n for key, n in sorted(counts.items()) if n}


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, Pairs):
        for _, item in value:
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, str) and not isinstance(value, Number):
        yield value


def secrets_in(settings: Any) -> set[str]:
    if isinstance(settings, dict):
        return {text for item in settings.values() for text in secrets_in(item)}
    return {settings} if isinstance(settings, str) else set()


def shape_of(value: Any) -> Any:
    if isinstance(value, Pairs):
        return [shape_of(item) for _, item in value]
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    return "number" if isinstance(value, Number) else "text" if isinstance(value, str) else value


def is_only_keywords(cleaner: Cleaner, text: str) -> bool:
    """Whether a text has nothing to hide: what readers look for, and marks between."""
    rest = text
    for pattern in cleaner._keywords:
        rest = pattern.sub(" ", rest)
    return not any(character.isalnum() for character in rest)


def is_telling(cleaner: Cleaner, text: str) -> bool:
    """Whether a text says something about its owner: long enough to be no coincidence, and no documented word."""
    return len(text) > 5 and not cleaner.is_documented(text) and text not in load_all()
