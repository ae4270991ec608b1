"""Any bytes from a vendor, valid exposition out: whole polls of every vendor with answers spoilt on their way."""

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_from
from prometheus_client.parser import text_string_to_metric_families as text_from
from trio.testing import MockClock

from exporter.config import Grouping, Metrics
from exporter.errors import Reason, SourceUnreachable
from exporter.exposition import landing
from exporter.exposition.prometheus import Renderer
from exporter.exposition.series import LONGEST_VALUE
from exporter.model.alert import CloseReason
from exporter.model.reading import Poll
from exporter.model.snapshot import AlertCounts, ReloadState, Snapshot
from exporter.model.text import HIDDEN
from exporter.simulation.wire import Request, Response, Simulator
from exporter.vendorkit.fields import LONGEST_TEXT
from exporter.vendorkit.http import MOST_VALUES
from tests.builders import START, a_window, known
from tests.programs import program
from tests.rig import VENDORS, Rig
from tests.test_exactly_once import pace

PASSWORD = {
    "method": "password",
    "iam_endpoint": "http://127.0.0.1:1",
    "domain": "acme",
    "username": "exporter",
    "password": "simulated-password",
    "project_name": "cn-north-4",
}
# One poll of a handful of alerts; a walk that believed what it is told would need millions.
MOST_REQUESTS = 400

# What json.dumps would not write, or is long, stands in the text as a mark and is put in its place afterwards.
MARK = "⟪{}⟫"
RAW: Mapping[str, bytes] = {
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep map": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "too deep for Python": b"[" * 500_000,
    "infinite": b"1e999",
    "long number": b"9" * 6_000,
    "number of as many digits as Python reads": b"9" * 4_300,
    "number that no float holds": b"9" * 400,
    "no number": b"NaN",
    "minus nothing": b"-0",
    "lone surrogate": b'"\\ud83d broken"',
    "no UTF-8": b'"\xff\xfe\xc0\xaf"',
    "no UTF-8 in a code": b'{"code": "\xff", "error_code": "\xff", "message": "\xff"}',
    "overlong": b'"\xf0\x80\x80\xaf"',
    "same key twice": b'{"id": 1, "id": "2", "id": null}',
    "long text": b'"' + b"x" * 1_000_000 + b'"',
    "long Chinese text": '"{}"'.format("\u6545" * 300_000).encode(),
}
TEXTS = [
    "",
    " ",
    'quote " backslash \\ newline \n return \r tab \t end',
    "\u202eright to left\u202c \u2066isolated\u2069",
    "\x00\x01\x1b[31mred\x7f\x85\u2028\u2029\ufeff",
    "<script>alert(1)</script>{{7*7}}${jndi}",
    "1e400",
    "-1",
    "\u0661\u0662\u0663",  # digits, and not ASCII
    "\uff11\uff17\u0661\u0668" + "\u0660" * 6,
    "2\xb2\xb2",
    "99999999999999999999",
    "9" * 400,
    "9" * 4_300,
    "9" * 5_000,
    "1_000",
    "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-13-45 25:61:61",
    "} 1\n# EOF\nvendor_source_up 1",
]
NUMBERS = [0, -1, 1, 1.5, -0.0, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 1e308, 253402300799, 253402300799999]
VALUES = st.one_of(
    st.sampled_from([None, True, False, [], {}, [[]], [None], {"": None}, [{}], {"data": {"data": []}}]),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from([MARK.format(name) for name in RAW]),
    st.text(max_size=20),
    st.integers(),
    st.floats(allow_nan=False),
)


class Change(NamedTuple):
    """What is done to a place of an answer: all of a name, or counted through the whole document, round and round."""

    place: int | str
    how: str
    value: Any


HOWS = ["replace", "replace", "replace everywhere", "delete", "wrap", "repeat", "rename"]
CHANGES = st.tuples(st.integers(0, 10_000), st.sampled_from(HOWS), VALUES).map(lambda parts: Change(*parts))


class Spoilt(NamedTuple):
    """How one answer is spoilt: its document, or its bytes, and what is around them."""

    changes: list[Change] = []
    body: bytes | str | None = None
    cut: int | None = None
    status: int | None = None
    headers: tuple[str, str] | None = None


HEADERS = {
    "Date": [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "Sat, 01 Jan 0000 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 -0000",
        "Fri, 99 Foo 99999999999999999999 99:99:99 GMT",
        "Fri, 02 Jan 2026 03:04:05 +9999",
        "now",
        "",
        "\xe9",
    ],
    "Retry-After": [
        "-1",
        "9" * 40,
        "1e9",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "",
        "\xb2",
    ],
    "Content-Type": ["", "text/html; charset=utf-7", "application/json; charset=no-such", "x" * 1_000],
    "Content-Encoding": ["gzip", "deflate", "br", "gzip, gzip", "", "x" * 500],
    "X-Subject-Token": ["", "x" * 5_000, "\xe9", "a b", "a\tb"],
    "X-Bkapi-Error-Code": ["1640001", "1642900", "9" * 500, "-1", "", "\xb2"],
}
STATUSES = [200, 204, 206, 299, 300, 304, 400, 401, 403, 404, 418, 429, 500, 503, 599]
FEW = st.lists(CHANGES, max_size=2)
SPOILT = st.one_of(
    st.lists(CHANGES, min_size=1, max_size=4).map(Spoilt),
    st.tuples(FEW, st.sampled_from([(name, value) for name, values in HEADERS.items() for value in values])).map(
        lambda parts: Spoilt(parts[0], headers=parts[1])
    ),
    st.tuples(FEW, st.sampled_from(STATUSES)).map(lambda parts: Spoilt(parts[0], status=parts[1])),
    st.tuples(FEW, st.integers(0, 3_000)).map(lambda parts: Spoilt(parts[0], cut=parts[1])),
    st.one_of(st.binary(max_size=200), st.sampled_from(sorted(RAW))).map(lambda body: Spoilt(body=body)),
)


def spoil(response: Response, how: Spoilt) -> Response:
    """The answer as it arrives."""
    body = RAW[how.body] if isinstance(how.body, str) else response.body if how.body is None else how.body
    if how.changes:
        body = changed(body, how.changes)
    headers: dict[str, Any] = dict(response.headers)
    if how.headers is not None:
        name, value = how.headers
        headers[name] = value.encode("latin-1")
    return msgspec.structs.replace(
        response, status=how.status or response.status, body=body[: how.cut], headers=headers
    )


def changed(body: bytes, changes: list[Change]) -> bytes:
    """A JSON document with some of its places changed; what is none stays as it is."""
    try:
        document = {"": json.loads(body)}
    except ValueError:
        return body
    for change in changes:
        if not (places := list(_places(document))):
            break
        key: Any = change.place
        if isinstance(change.place, int):
            holder, key = places[change.place % len(places)]
            _change(holder, key, change)
        if change.how == "replace everywhere":
            for other, name in places:
                if name == key and isinstance(other, dict):
                    other[name] = deepcopy(change.value)
    written = json.dumps(document.get("")).encode()
    for name, raw in RAW.items():
        written = written.replace(json.dumps(MARK.format(name)).encode(), raw)
    return written


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _change(holder: Any, key: Any, change: Change) -> None:
    match change.how:
        case "delete":
            del holder[key]
        case "wrap":
            holder[key] = [holder[key]]
        case "repeat" if isinstance(holder[key], list):
            holder[key] *= 3
        case "rename" if isinstance(holder, dict):
            holder[str(change.value)[:100]] = holder.pop(key)
        case _:
            holder[key] = deepcopy(change.value)


class HostileSimulator:
    """A simulated vendor whose answers are spoilt in turn, as soon as it is given ways to do so."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.ways: list[Spoilt] = []
        self.asked = 0
        self.names: set[str] = set()
        """Of all fields of all answers so far."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def answer(self, request: Request) -> Response:
        response = self._simulator.answer(request)
        self.asked += 1
        self.names.update(str(key) for holder, key in _places(json.loads(response.body)) if isinstance(holder, dict))
        return spoil(response, self.ways[self.asked % len(self.ways)]) if self.ways else response


RENDERER = Renderer(version="1", revision="2")


_VALUE = re.compile(r"^[^#\n]*(?:\{.*\})? (\S+)$", re.MULTILINE)


def assert_values_are_finite(text: str) -> None:
    """Prometheus refuses the whole text for one number that no float holds; Python's parser reads it as infinity."""
    values = _VALUE.findall(text)
    assert len(values) == sum(not line.startswith("#") for line in text.splitlines())
    assert all(math.isfinite(float(value)) for value in values)


def assert_can_be_told(rig: Rig) -> None:
    """What a scraper and a person would see: the parsers of Prometheus take it in both formats."""
    snapshot = Snapshot(
        at=rig.now(),
        moment=anyio.current_time(),
        sources=[rig.watch.book.state],
        group_by=list(Grouping),
        reload=ReloadState(successful=True, succeeded_at=START),
    )
    exposition = RENDERER.render(snapshot)
    text, openmetrics = (each.body(0).decode("utf-8", "strict") for each in (exposition.text, exposition.openmetrics))
    plain = list(text_from(text))
    list(openmetrics_from(openmetrics))
    assert_values_are_finite(text)
    assert_values_are_finite(openmetrics)
    for family in plain:
        for sample in family.samples:
            for value in sample.labels.values():
                assert len(value) <= LONGEST_VALUE
                assert not HIDDEN.search(value)
    page = landing.page(snapshot, snapshot.at, 0.0, "1", "/metrics")
    assert "<script" not in page
    page.encode("utf-8", "strict")


class Sums(NamedTuple):
    """How many alerts are open, opened, closed; of these, vanished."""

    open: int
    opened: int
    closed: int
    vanished: int


def sums_of(rig: Rig) -> Sums:
    counts = rig.counts()
    vanished = sum(count for labels, count in counts.closed.items() if labels[1] == CloseReason.VANISHED)
    return Sums(sum(known(counts.open).values()), sum(counts.opened.values()), sum(counts.closed.values()), vanished)


def settled(rig: Rig) -> Sums:
    """The sums once nothing is shown as 0 any more for being new: after a poll that read nothing and so counts nothing.

    A label set that nobody could know of is 0 in the first snapshot that has it, and counts from the next one on.
    """
    now = rig.now()
    nothing = Poll(
        window=a_window(start=now, end=now),
        readings=[],
        error=SourceUnreachable("nothing was asked"),
        started_at=now,
        vendor_now=now,
        duration_seconds=0.0,
    )
    rig.watch.book.enter(nothing)
    return sums_of(rig)


def assert_only_new_label_sets_are_late(shown: AlertCounts, after: AlertCounts) -> None:
    """What one snapshot shows is what the next one does, but for label sets at 0 that it was the first to have."""
    assert shown.open == after.open
    for early, late in ((shown.opened, after.opened), (shown.closed, after.closed)):
        assert early.keys() == late.keys()
        assert all(count in (0, late[labels]) for labels, count in early.items())


async def live_through(vendor: str, ways: list[Spoilt], first: bool, settings_: Mapping[str, Any]) -> int:
    """Polls of good answers, then one of spoilt ones, then good ones again; how many answers were spoilt."""
    metrics = Metrics(group_by=list(Grouping), group_limit=20, alert_info=True, alert_info_limit=20)
    rig = Rig(
        vendor, pace=pace(between_alerts=200.0), history=timedelta(minutes=20), metrics=metrics, max_pages=5,
        max_detail_requests=20, max_requests_per_second=1000, **settings_,
    )  # fmt: skip
    vendor_api = HostileSimulator(rig.simulator)
    rig.site.simulator = vendor_api
    if not first:
        await rig.polls(2)
    before = None if first else settled(rig)
    asked = vendor_api.asked

    vendor_api.ways = ways
    began = trio.current_time()
    await rig.poll()
    state = rig.watch.book.state

    assert_can_be_told(rig)
    assert trio.current_time() - began <= rig.config.interval.total_seconds() + 1
    assert vendor_api.asked - asked <= MOST_REQUESTS, "it believed what it was told"
    assert state.last_reason is not Reason.INTERNAL, state.last_error
    for alert in rig.watch.book.open_alerts.values():
        named = (alert.title, alert.name, alert.policy, alert.resource_type, alert.provider, alert.namespace)
        assert max(map(len, named)) <= LONGEST_TEXT
    assert len(state.last_error) < 500
    if before is not None:
        shown, after = rig.counts(), settled(rig)
        assert after.open - before.open == after.opened - before.opened - after.closed + before.closed
        assert state.up or after.vanished == before.vanished
        assert_only_new_label_sets_are_late(shown, rig.counts())
    elif not state.up:
        assert state.alerts is None

    spoilt, vendor_api.ways = vendor_api.asked - asked, []
    for _ in range(3):
        await trio.sleep(600)
        await rig.poll()
    assert rig.watch.book.state.up, rig.watch.book.state.last_error
    assert_can_be_told(rig)
    return spoilt


def survive(vendor: str, settings_: Mapping[str, Any], inputs: int, *, repeatable: bool) -> str:
    """So many polls of spoilt answers, the same each time or others; their figures."""
    spoilt = 0

    @settings(
        max_examples=inputs,
        derandomize=repeatable,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ways=st.lists(SPOILT, min_size=1, max_size=4), first=st.booleans())
    @example(ways=[Spoilt(headers=("Date", "Fri, 31 Dec 9999 23:59:59 GMT"))], first=False)
    @example(ways=[Spoilt(headers=("Date", "Mon, 01 Jan 0001 00:00:00 GMT"))], first=True)
    @example(ways=[Spoilt(headers=("X-Subject-Token", "\xe9"))], first=True)
    @example(ways=[Spoilt(body="no UTF-8 in a code", status=401)], first=True)
    @example(ways=[Spoilt(body="deep list")], first=False)
    @example(ways=[Spoilt(body="deep map", status=500)], first=True)
    def check(ways: list[Spoilt], first: bool) -> None:
        nonlocal spoilt
        spoilt += trio.run(live_through, vendor, ways, first, settings_, clock=MockClock(autojump_threshold=0))

    check()
    return f"{inputs} polls, {spoilt} spoilt answers"


@pytest.mark.parametrize("item", [b"0", b"{}", b'{"a":""}'])
@pytest.mark.parametrize("vendor", VENDORS)
def test_an_answer_of_more_values_than_any_page_has_is_not_even_begun(vendor: str, item: bytes) -> None:
    async def poll() -> None:
        rig = Rig(vendor, pace=pace(between_alerts=200.0), max_requests_per_second=1000)
        await rig.polls(2)
        before = sums_of(rig)
        vendor_api = HostileSimulator(rig.simulator)
        rig.site.simulator = vendor_api
        vendor_api.ways = [Spoilt(body=b"[%s]" % b",".join([item] * (MOST_VALUES + 2)))]

        await rig.poll()

        state = rig.watch.book.state
        assert state.last_reason is Reason.TOO_LARGE
        assert not any(count for (_, outcome), count in state.records.items() if outcome == "invalid")
        assert sums_of(rig) == before

    trio.run(poll, clock=MockClock(autojump_threshold=0))


CASES: list[tuple[str, Mapping[str, Any]]] = [
    *((vendor, {}) for vendor in VENDORS),
    ("huawei_aom", {"auth": PASSWORD}),
    ("key_astrom", {"problems": True}),
]


@pytest.mark.parametrize(("vendor", "settings_"), CASES, ids=["-".join([vendor, *more]) for vendor, more in CASES])
def test_any_answer_gives_valid_exposition_and_the_next_good_one_recovers(
    vendor: str, settings_: Mapping[str, Any]
) -> None:
    figures = survive(vendor, settings_, 40, repeatable=True)

    print(f"hostile {vendor}: {figures}")


LONG_NUMBERS = [MARK.format("number that no float holds"), "9" * 4_300, "9" * 5_000]


async def hostile_exposition(vendor: str, settings_: Mapping[str, Any]) -> bytes:
    """What is told after polls in which one field after the other held such numbers wherever it stands."""
    history = timedelta(minutes=5)
    rig = Rig(vendor, pace=pace(between_alerts=60.0), history=history, max_requests_per_second=1000, **settings_)
    hostile = rig.site.simulator = HostileSimulator(rig.simulator)
    await rig.polls(3)
    for name in sorted(hostile.names):
        hostile.ways = [Spoilt([Change(name, "replace everywhere", value)]) for value in LONG_NUMBERS]
        await rig.polls(2)
        assert Reason.INTERNAL not in rig.watch.book.state.poll_failures, name
    assert_can_be_told(rig)
    reload = ReloadState(successful=True, succeeded_at=START)
    snapshot = Snapshot(
        at=rig.now(), moment=anyio.current_time(), sources=[rig.watch.book.state], group_by=[], reload=reload
    )
    return RENDERER.render(snapshot).text.body(0)


@pytest.mark.parametrize(("vendor", "settings_"), CASES[:4] + CASES[5:], ids=[*VENDORS, "key_astrom-problems"])
def test_prometheus_itself_reads_what_is_told_of_a_hostile_vendor(vendor: str, settings_: Mapping[str, Any]) -> None:
    promtool = program("promtool")

    told = trio.run(hostile_exposition, vendor, settings_, clock=MockClock(autojump_threshold=0))
    checked = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True)

    assert checked.returncode == 0, checked.stderr.decode()[:500]


def test_a_number_that_no_float_holds_is_refused_by_the_check_as_prometheus_refuses_it() -> None:
    with pytest.raises(AssertionError):
        assert_values_are_finite("# TYPE a counter\na_total " + "9" * 400 + "\n")
