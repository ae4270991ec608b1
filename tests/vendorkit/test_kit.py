import gc
import os
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.errors import (
    FetchError,
    ItemRejected,
    Reason,
    SourceBroken,
    SourceRefused,
    SourceThrottled,
    SourceUnintelligible,
)
from exporter.model.reading import Details
from exporter.model.records import Kind
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import Tuning
from exporter.vendorkit.details import DetailQueue, Follow, fetch_details
from exporter.vendorkit.fields import (
    flag,
    identity,
    moment_from_ms,
    moment_from_s,
    moment_from_text,
    short,
)
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import LONGEST_LIST, PageDecoder, decode_mended
from exporter.vendorkit.paging import ListTooLong, follow_cursors, follow_numbers
from exporter.vendorkit.secret import Credentials, Secret, known_values
from exporter.vendorkit.settings import duration_from, text_from
from tests.builders import START, a_window, at

T = TypeVar("T")


class Row(msgspec.Struct):
    id: str
    n: int = 0


class Page(msgspec.Struct, Generic[T]):
    rows: list[T] | None = None


ROWS: PageDecoder[Any, Row] = PageDecoder(Page, Row, items_of=lambda page: page.rows, kind=Kind.ALERT)


def test_one_row_of_the_wrong_shape_costs_only_itself() -> None:
    decoded = ROWS.decode(b'{"rows": [{"id": "a"}, {"id": 7}, null, {"id": "b", "n": "x"}, {"id": "c", "more": []}]}')

    assert [row.id for row in decoded.items] == ["a", "c"]
    assert decoded.rejected.counts == {Kind.ALERT: 3}


def test_what_cannot_be_read_is_a_count_and_one_reason_however_much_it_is() -> None:
    decoded = ROWS.decode(b'{"rows": [%s]}' % b",".join([b"0"] * LONGEST_LIST))

    assert decoded.items == []
    assert decoded.rejected.counts == {Kind.ALERT: LONGEST_LIST}
    assert list(decoded.rejected.why) == [Kind.ALERT]


@pytest.mark.parametrize("row", [b"0", b"{}", b'{"id":"a"}'])
def test_a_list_far_longer_than_any_page_is_not_walked(row: bytes) -> None:
    with pytest.raises(SourceUnintelligible) as caught:
        ROWS.decode(b'{"rows": [%s]}' % b",".join([row] * (LONGEST_LIST + 1)))

    assert caught.value.reason is Reason.TOO_LARGE


def test_a_name_is_kept_up_to_a_length_that_fits_many_times_into_memory() -> None:
    assert [short("x" * 1024), short("x" * 1_000_000), short(7), short(None), short(["x"])] == (
        ["x" * 1024, "x" * 1024, "7", "", ""]
    )


@pytest.mark.parametrize("body", [b'{"rows": null}', b"{}", b'{"rows": []}'])
def test_no_rows_are_no_rows(body: bytes) -> None:
    assert ROWS.decode(body).items == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"rows": 7}', b'{"rows": [', b"<html>", b'{"rows": [{"id": "a"},]}'])
def test_an_envelope_that_cannot_be_read_is_an_error_and_not_an_empty_list(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        ROWS.decode(body)


@pytest.mark.parametrize("body", [b'{"rows": [{"id": "a\\ud800"}]}', b'{"rows": [{"id": "a\xff"}]}'])
def test_what_is_no_unicode_is_replaced(body: bytes) -> None:
    assert [row.id for row in ROWS.decode(body).items] == ["a\ufffd"]


def test_mending_leaves_good_escapes_alone() -> None:
    decoder = msgspec.json.Decoder(str)

    assert decode_mended(decoder, rb'"\ud83d\ude00 \\ud800 \ud800"') == "\U0001f600 \\ud800 \ufffd"


MILLISECONDS = 1767322800412


@pytest.mark.parametrize("value", [MILLISECONDS, str(MILLISECONDS), float(MILLISECONDS)])
def test_a_time_in_milliseconds_is_read_as_number_or_text(value: Any) -> None:
    assert moment_from_ms(value, "t") == datetime(2026, 1, 2, 3, 0, 0, 412000, UTC)


@pytest.mark.parametrize("value", [None, "", 0, -1, "0", "-1", -1.0])
def test_a_time_that_is_not_there_is_no_time(value: Any) -> None:
    assert moment_from_ms(value, "t") is None
    assert moment_from_s(value, "t") is None


@pytest.mark.parametrize("value", ["soon", -5, True, 10**30, "1e400", float("nan"), float("inf")])
def test_nonsense_instead_of_a_time_is_rejected(value: Any) -> None:
    with pytest.raises(ItemRejected, match="t is not a time"):
        moment_from_s(value, "t")


@pytest.mark.parametrize(
    "text",
    ["2025-11-01T12:00:00Z", "2025-11-01T12:00:00.000+00:00", "2025-11-01 20:00:00+0800", "2025-11-01 20:00:00"],
)
def test_a_written_time_is_read_with_and_without_its_zone(text: str) -> None:
    assert moment_from_text(text, "t", ZoneInfo("Asia/Shanghai")) == datetime(2025, 11, 1, 12, tzinfo=UTC)


def test_long_ids_stay_exact_and_missing_ones_are_rejected() -> None:
    assert identity(17180001024410021999, "id") == "17180001024410021999"
    for missing in (None, "", 1.5, True):
        with pytest.raises(ItemRejected):
            identity(missing, "id")


def test_only_yes_is_yes() -> None:
    values: tuple[object, ...] = (True, "true", 1, None, False, "false", 0, [])

    assert [flag(value) for value in values] == [True] * 3 + [False] * 5


# Paging.


class Cursor(msgspec.Struct):
    next_cursor: str | None


async def _walk(cursors: list[str | None], max_pages: int = 100) -> int:
    pages: list[Cursor] = []

    async def fetch(_cursor: str | None) -> Cursor:
        return Cursor(cursors[min(len(pages), len(cursors) - 1)])

    walk: AsyncIterator[Cursor] = follow_cursors(fetch, max_pages=max_pages)
    async for page in walk:
        pages.append(page)  # noqa: PERF401 fetch() counts the pages as they come
    return len(pages)


@pytest.mark.anyio
async def test_a_walk_ends_with_the_page_that_names_no_next() -> None:
    assert [await _walk(["a", "b", end]) for end in (None, "")] == [3, 3]


@pytest.mark.anyio
@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
async def test_a_repeated_cursor_makes_the_list_truncated(cursors: list[str | None]) -> None:
    with pytest.raises(FetchError) as caught:
        await _walk(cursors)

    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.anyio
async def test_a_list_of_which_there_is_no_time_for_another_page_is_cut_after_its_first() -> None:
    pages: list[int] = []

    async def fetch(page: int) -> int:
        return page

    walk = follow_numbers(fetch, max_pages=9, is_last=lambda *_: False, has_time=lambda: False)
    pages.append(await anext(walk))
    with pytest.raises(ListTooLong):
        await anext(walk)

    assert pages == [1]


@pytest.mark.anyio
async def test_an_answer_leaves_memory_as_soon_as_it_was_read() -> None:
    answers: list[weakref.ref[httpx.Response]] = []

    def answer(_request: httpx.Request) -> httpx.Response:
        response = httpx.Response(200, content=b"{}")
        answers.append(weakref.ref(response))
        return response

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        gc.disable()
        try:
            await Http(client, "http://vendor.test").ask("list", "GET", "/", read=bytes)
            left = [each() for each in answers]
        finally:
            gc.enable()

    assert left == [None]


@pytest.mark.anyio
async def test_a_list_longer_than_the_cap_is_truncated_and_one_that_just_fits_is_not() -> None:
    async def fetch(number: int) -> int:
        return number

    async def walk(last: int) -> list[int]:
        return [page async for page in follow_numbers(fetch, max_pages=3, is_last=lambda page, _: page == last)]

    assert await walk(3) == [1, 2, 3]
    with pytest.raises(FetchError) as caught:
        await walk(4)
    assert caught.value.reason is Reason.TRUNCATED


# Details.


def begun(queue: DetailQueue, seconds: float = 0, **window: Any) -> DetailQueue:
    """The queue after the start of a poll, so many seconds after the start."""
    queue.begin(a_window(end=at(seconds), **window))
    return queue


def test_a_version_is_read_once_and_a_new_version_again() -> None:
    queue = DetailQueue()
    seen = []

    for version in (1, 1, 2, 2):
        begun(queue).offer("a", version)
        seen.append(queue.due())
        for key in queue.due():
            queue.done(key)

    assert seen == [["a"], [], ["a"], []]


def test_those_that_wait_longest_come_first_and_a_failed_one_goes_to_the_end() -> None:
    queue = DetailQueue()
    for seconds, key in enumerate("abc"):
        begun(queue, seconds).offer(key, 1)
    begun(queue, 9).tried("a")

    assert queue.due() == ["b", "c", "a"]
    assert queue.backlog() == 3


@pytest.mark.parametrize(("learnt", "due"), [(0, []), (1, []), (-1, ["a"]), (60, ["a"])])
def test_a_first_poll_goes_on_where_the_last_attempt_ended_unless_the_vendors_clock_was_learnt(
    learnt: float, due: list[str]
) -> None:
    queue = begun(DetailQueue(), first=True, counted_from=START)
    queue.offer("a", 1)
    queue.done("a")

    begun(queue, first=True, counted_from=at(learnt)).offer("a", 1)

    assert queue.due() == due


def test_what_is_not_listed_any_more_is_forgotten_unless_a_call_is_due() -> None:
    queue = begun(DetailQueue())
    for key in ("done", "due"):
        queue.offer(key, 1)
    queue.done("done")

    for _ in range(3):
        begun(queue)
    queue.prune()

    assert ("done" in queue, "due" in queue) == (False, True)


def test_a_clock_that_is_set_back_puts_nothing_off() -> None:
    queue = begun(DetailQueue(), 10_000)
    queue.offer("a", 1)
    queue.done("a")
    queue.again("a", at(10_300))

    assert [begun(queue, seconds).due() for seconds in (10_060, 60, 240, 360)] == [[], [], [], ["a"]]


class Endpoint:
    """A detail endpoint of which some keys, or all, are broken; notes when each was asked for, in minutes."""

    def __init__(self, *broken: str, error: FetchError | None = None) -> None:
        self.broken = set(broken)
        self.asked: dict[str, list[int]] = {}
        self.error = error or SourceBroken("refused", reason=Reason.API_ERROR)
        self.minute = 0
        config = Tuning(max_concurrency=1)
        http = Http(httpx.AsyncClient(), "")
        self.follow = Follow("logs", self.call, http=http, config=config)

    async def call(self, key: str) -> str:
        self.asked.setdefault(key, []).append(self.minute)
        if key in self.broken:
            raise self.error
        return key

    async def poll(self, *keys: str, minutes: int = 1) -> Details:
        self.minute += minutes
        self.follow.begin(a_window(end=at(60 * self.minute)))
        for key in keys:
            self.follow.queue.offer(key, 1)
        await self.follow.read()
        return self.follow.reading()


@pytest.mark.anyio
async def test_a_call_that_fails_for_good_is_made_ever_more_rarely_and_at_least_once_an_hour() -> None:
    endpoint = Endpoint("a")

    for _ in range(300):
        await endpoint.poll("a", "b")

    assert endpoint.asked == {"a": [1, 2, 4, 8, 16, 32, 64, 124, 184, 244], "b": [1]}


@pytest.mark.anyio
async def test_a_call_that_fails_for_now_is_made_again_at_every_poll() -> None:
    endpoint = Endpoint("a", error=SourceBroken("HTTP 500"))

    readings = [await endpoint.poll("a", "b") for _ in range(3)]

    assert endpoint.asked["a"] == [1, 2, 3]
    assert readings == [
        Details("logs", answered=1, failed={Reason.SERVER_ERROR: 1}, waiting=1),
        *[Details("logs", failed={Reason.SERVER_ERROR: 1}, waiting=1)] * 2,
    ]


@pytest.mark.anyio
async def test_calls_that_all_failed_are_made_again_as_soon_as_one_is_answered() -> None:
    endpoint = Endpoint("a", "b")
    for _ in range(20):
        await endpoint.poll("a", "b")

    endpoint.broken = set()
    await endpoint.poll("a", "b", "c")
    await endpoint.poll("a", "b", "c")

    assert {key: asked[-1] for key, asked in endpoint.asked.items()} == {"a": 22, "b": 22, "c": 21}


@pytest.mark.anyio
async def test_a_call_that_failed_while_others_were_answered_is_no_sooner_made_again_for_an_outage() -> None:
    endpoint = Endpoint("a")
    for _ in range(9):
        await endpoint.poll("a", "b")
    endpoint.broken = {"a", "c"}
    await endpoint.poll("a", "b", "c")

    endpoint.broken = {"a"}
    for _ in range(3):
        await endpoint.poll("a", "b", "c")

    assert endpoint.asked["a"] == [1, 2, 4, 8]


@pytest.mark.anyio
async def test_a_failing_call_costs_only_its_alert_and_the_rest_waits_at_the_limit() -> None:
    async def call(key: str) -> str:
        if key == "b":
            raise SourceBroken("500")
        return key.upper()

    fetched = await fetch_details(list("abcdef"), call, limit=4, concurrency=2)

    assert fetched.details == {"a": "A", "c": "C", "d": "D"}
    assert list(fetched.failed) == ["b"]
    assert fetched.waiting == 2


@pytest.mark.anyio
async def test_throttling_leaves_the_rest_for_later() -> None:
    async def call(_key: str) -> str:
        raise SourceThrottled("slow down")

    fetched = await fetch_details(list("abcdef"), call, limit=6, concurrency=1)

    assert (len(fetched.failed), fetched.waiting) == (1, 5)


@pytest.mark.anyio
async def test_the_longest_wait_that_was_asked_for_ends_the_poll_once_all_is_told() -> None:
    waits = {"a": None, "b": 100.0, "c": 300.0, "d": 200.0}

    async def call(key: str) -> str:
        raise SourceBroken("503", reason=Reason.RATE_LIMITED, retry_after=waits[key])

    fetched = await fetch_details(list("abcdef"), call, limit=6, concurrency=4)

    assert fetched.waiting == 2
    with pytest.raises(SourceBroken) as caught:
        fetched.raise_if_asked_to_wait()
    assert caught.value.retry_after == 300.0


@pytest.mark.anyio
async def test_failures_that_ask_for_no_wait_do_not_end_the_poll() -> None:
    async def call(_key: str) -> str:
        raise SourceThrottled("slow down")

    fetched = await fetch_details(["a"], call, limit=1, concurrency=1)

    fetched.raise_if_asked_to_wait()


@pytest.mark.anyio
async def test_a_refusal_concerns_every_call_and_ends_the_poll() -> None:
    async def call(_key: str) -> str:
        raise SourceRefused("no permission", reason=Reason.PERMISSION)

    with pytest.raises(SourceRefused):
        await fetch_details(list("abc"), call, limit=3, concurrency=2)


# Secrets.


class Login(Credentials):
    user: str
    password: Secret
    token: Secret | None = None


def test_a_secret_is_never_shown() -> None:
    login = Login(user="u", password="canary-1")  # type: ignore[arg-type]

    assert login.password.read() == "canary-1"
    assert "canary-1" not in f"{login} {login!r} {login.model_dump_json()} {login.password}"
    assert "canary-1" in known_values()


def test_a_secret_file_is_read_again_when_it_changes_and_keeps_its_value_when_it_vanishes(tmp_path: Path) -> None:
    real = [tmp_path / "one", tmp_path / "two"]
    for number, file in enumerate(real):
        file.write_text(f"value-{number}\n")
    link = tmp_path / "secret"
    link.symlink_to(real[0])
    login = Login(user="u", password_file=str(link))  # type: ignore[call-arg]
    seen = [login.password.read()]

    swap = tmp_path / "swap"
    swap.symlink_to(real[1])
    swap.rename(link)
    seen.append(login.password.read())
    link.unlink()
    seen.append(login.password.read())

    assert seen == ["value-0", "value-1", "value-1"]


def test_a_rotated_file_is_still_the_same_setting(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    before = Login(user="u", password_file=str(file))  # type: ignore[call-arg]
    file.write_text("another")
    os.utime(file, (1, 1))

    assert Login(user="u", password_file=str(file)) == before  # type: ignore[call-arg]
    assert Login(user="u", password="one") != before  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "required"),
        ({"password": "canary-2", "password_file": "x"}, "given twice"),
        ({"password_file": "/nowhere/canary"}, "cannot read the file named there: No such file"),
        ({"password": ""}, "is empty"),
        ({"password": 12345678}, "must be text"),
    ],
)
def test_a_wrong_secret_says_what_is_wrong_and_not_what_it_is(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Login(user="u", **given)

    assert says in str(caught.value)
    assert "canary-2" not in str(caught.value)
    assert "12345678" not in str(caught.value)


# Durations and clocks.


@pytest.mark.parametrize(
    ("value", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("15d", 1296000), ("1h30m", 5400), (7, 7), ("7", 7)]
)
def test_a_duration_is_written_as_in_prometheus_or_in_seconds(value: Any, seconds: float) -> None:
    assert duration_from(value).total_seconds() == seconds


@pytest.mark.parametrize("value", ["5 minutes", "-3s", "", "m", True, None, [], "9" * 40, "1e999"])
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|not negative"):
        duration_from(value)


@given(st.integers(0, 10**8))
def test_a_duration_reads_as_it_is_written(seconds: int) -> None:
    assert duration_from(text_from(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.anyio
async def test_the_vendors_clock_follows_its_date_and_no_step_of_ours() -> None:
    own = START

    def now() -> datetime:
        return own + timedelta(seconds=anyio.current_time() - began)

    began = anyio.current_time()
    clock = VendorClock(now, anyio.current_time)
    clock.hear((START + timedelta(minutes=20)).astimezone(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT"))  # noqa: UP017
    await anyio.sleep(60)
    own = START - timedelta(hours=5)  # somebody steps our clock

    assert clock.now() == START + timedelta(minutes=21)
    assert clock.at(began) == START + timedelta(minutes=20)
    assert clock.offset == timedelta(minutes=20)


@pytest.mark.anyio
@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 32 Jan 2026 03:04:05 GMT"])
async def test_a_date_that_says_nothing_teaches_nothing(date: str | None) -> None:
    clock = VendorClock(lambda: START, anyio.current_time)

    clock.hear(date)

    assert clock.now() == START
    assert clock.offset is None
