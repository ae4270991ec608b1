import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import anyio
import httpx
import pytest

from exporter.errors import REMEDIES, Reason, SourceRefused, SourceThrottled, SourceUnreachable
from exporter.model.alert import CloseReason, Severity
from exporter.model.facts import LabelSets
from exporter.model.reading import Details, Happened, OpenAlerts, Reading, Rejections, Window
from exporter.model.records import Kind
from exporter.polling.poller import Poller
from exporter.state.book import SourceBook
from exporter.vendorkit.cleaning import Vocabulary
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import SourceConfig, Vendor
from exporter.vendorkit.http import Http
from tests.builders import START, a_book, an_alert, at, known

pytestmark = pytest.mark.anyio

Step = Callable[[Window], AsyncIterator[Reading]]


class AcmeConfig(SourceConfig):
    vendor: Literal["acme"] = "acme"


class ScriptedSource:
    """Plays one step per poll, the last one for ever; notes when it was asked and for which window."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.asked_at: list[float] = []
        self.windows: list[Window] = []

    async def read(self, window: Window) -> AsyncIterator[Reading]:
        step = self.steps[min(len(self.asked_at), len(self.steps) - 1)]
        self.asked_at.append(anyio.current_time())
        self.windows.append(window)
        async for reading in step(window):
            yield reading


def says(*readings: Reading) -> Step:
    async def step(_window: Window) -> AsyncIterator[Reading]:
        for reading in readings:
            yield reading

    return step


def fails(error: Exception, *before: Reading) -> Step:
    async def step(_window: Window) -> AsyncIterator[Reading]:
        for reading in before:
            yield reading
        raise error

    return step


async def hangs(_window: Window) -> AsyncIterator[Reading]:
    yield OpenAlerts([an_alert()])
    await anyio.sleep_forever()


def poller_for(source: ScriptedSource, *, book: SourceBook | None = None, **config: Any) -> Poller:
    started = anyio.current_time()

    def now() -> datetime:
        return START + timedelta(seconds=anyio.current_time() - started)

    vendor = Vendor(
        name="acme",
        config=AcmeConfig,
        auth=lambda _config, _now: httpx.Auth(),
        source=lambda _config, _http: source,
        labels=LabelSets(severities=list(Severity), close_reasons=list(CloseReason)),
        endpoints=("alerts",),
        resolution=timedelta(seconds=1),
        vocabulary=Vocabulary(values=frozenset(), ids=frozenset()),
        requests_per_day=lambda _config, _load: {},
    )
    clock = VendorClock(now, anyio.current_time)
    return Poller(
        "s",
        vendor,
        AcmeConfig(endpoint="http://127.0.0.1:1", **config),
        http=Http(httpx.AsyncClient(), ""),
        clock=clock,
        book=book or a_book(),
        now=now,
        published=lambda: None,
        counts_from=anyio.current_time(),
    )


async def timetable(source: ScriptedSource, seconds: float, **config: Any) -> list[int]:
    poller = poller_for(source, **config)
    with anyio.move_on_after(seconds):
        await poller.run()
    return [round(moment - source.asked_at[0]) for moment in source.asked_at]


async def test_a_healthy_source_is_asked_once_an_interval() -> None:
    assert await timetable(ScriptedSource(says(OpenAlerts([]))), 310) == [0, 60, 120, 180, 240, 300]


async def test_a_failing_source_backs_off_from_the_third_failure() -> None:
    down = SourceUnreachable("no answer")

    assert await timetable(ScriptedSource(fails(down)), 700) == [0, 60, 120, 240, 420, 600]


async def test_after_a_success_the_interval_is_back_at_once() -> None:
    down = SourceRefused("no")
    source = ScriptedSource(*[fails(down)] * 4, says(OpenAlerts([])))

    assert await timetable(source, 600) == [0, 60, 120, 240, 480, 540]


async def test_a_retry_after_that_does_not_fit_delays_the_next_poll() -> None:
    source = ScriptedSource(fails(SourceThrottled("slow", retry_after=150)), says(OpenAlerts([])))

    assert await timetable(source, 250) == [0, 150, 210]


async def test_what_was_read_before_an_error_stays() -> None:
    source = ScriptedSource(says(OpenAlerts([])), fails(SourceUnreachable("x"), OpenAlerts([an_alert()])))
    poller = poller_for(source)

    await poller.poll()
    await poller.poll()

    assert poller.book.state.alerts is not None
    assert poller.book.state.alerts.open == {("critical",): 1}
    assert not poller.book.state.up


async def test_a_source_that_hangs_costs_its_interval_and_counts_as_timeout() -> None:
    poller = poller_for(ScriptedSource(hangs))
    began = anyio.current_time()

    await poller.poll()

    assert anyio.current_time() - began == 60
    assert poller.book.state.last_reason is Reason.TIMEOUT


async def test_a_defect_in_a_vendors_folder_is_internal_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    source = ScriptedSource(fails(ZeroDivisionError("oops")), says(OpenAlerts([])))
    poller = poller_for(source)

    await poller.poll()
    first = poller.book.state
    await poller.poll()

    assert first.last_reason is Reason.INTERNAL
    assert "ZeroDivisionError" in caplog.text
    assert poller.book.state.up


async def test_the_window_follows_the_last_success_and_covers_every_outage() -> None:
    down = fails(SourceUnreachable("x"))
    fine = says(OpenAlerts([]))
    source = ScriptedSource(fine, down, down, fine, fine)

    await timetable(source, 400)

    starts = [(window.start - source.windows[0].end).total_seconds() for window in source.windows]
    assert [round(start) for start in starts[1:5]] == [-600, -600, -600, 180 - 600]
    assert [window.first for window in source.windows[:3]] == [True, False, False]


async def test_a_source_going_down_and_coming_back_is_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    source = ScriptedSource(*[fails(SourceUnreachable("no answer"))] * 4, says(OpenAlerts([])))

    await timetable(source, 700)

    assert caplog.text.count("poll failed") == 1
    assert caplog.text.count("recovered after 4 failed polls") == 1


async def test_an_outage_is_logged_again_every_hour_with_its_count_and_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = ScriptedSource(fails(SourceUnreachable("no answer")))

    await timetable(source, 3.5 * 3600)

    first, *again = [record.getMessage() for record in caplog.records]
    assert first.startswith("source")
    assert "poll failed (connection): no answer; check " in first
    assert len(again) == 3
    counts = [int(known(re.search("still failing, ([0-9]+) polls in a row", line))[1]) for line in again]
    assert counts == sorted(counts)
    assert counts[0] > 10
    assert all(line.endswith(first.partition("no answer")[2]) for line in again)


async def test_a_source_that_is_changed_while_it_is_down_goes_on_and_is_logged_once_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = ScriptedSource(fails(SourceUnreachable("no answer")))
    before = poller_for(source)
    await before.poll()
    await before.poll()

    after = poller_for(source, book=before.book, interval=30)
    after.follow(before)
    await after.poll()
    await after.poll()

    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "source s: poll failed",
        "source s: still failing, 3 polls in a row",
    ]
    assert after.book.state.failures_in_a_row == 4


async def test_what_to_do_is_said_in_the_vendors_words_and_is_no_part_of_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = {**REMEDIES, Reason.PERMISSION: "tick the box in the console"}
    refused = SourceRefused("no", reason=Reason.PERMISSION)
    poller = poller_for(ScriptedSource(fails(refused)), book=a_book(remedies=own))

    await poller.poll()

    assert [record.getMessage() for record in caplog.records] == [
        "source s: poll failed (permission): no; tick the box in the console"
    ]
    assert poller.book.state.last_error == "no"


async def test_an_endpoint_of_which_every_detail_call_fails_is_one_line_a_poll_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fine: list[Reading] = [OpenAlerts([]), Details("idle"), Details("partly", answered=1, failed={Reason.TIMEOUT: 9})]
    blind = Details("logs", failed={Reason.TIMEOUT: 1, Reason.PERMISSION: 40}, waiting=3)
    other = Details("actions", failed={Reason.NOT_FOUND: 1})
    answers = Details("logs", answered=1)
    poller = poller_for(
        ScriptedSource(says(*fine, blind), fails(SourceUnreachable("x"), blind, other), says(*fine, answers))
    )

    for _ in range(3):
        await poller.poll()

    lines = [record.getMessage() for record in caplog.records if "detail call" in record.getMessage()]
    failed = "source s: every detail call of {} failed ({} in this poll), what it feeds stands still; {}"
    assert lines == [
        failed.format("logs", "permission, 41", REMEDIES[Reason.PERMISSION]),
        failed.format("logs", "permission, 41", REMEDIES[Reason.PERMISSION]),
        failed.format("actions", "not_found, 1", REMEDIES[Reason.NOT_FOUND]),
    ]


async def test_a_loop_in_back_off_still_turns_and_one_that_is_stuck_does_not() -> None:
    poller = poller_for(ScriptedSource(fails(SourceRefused("no"))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        turning = []
        for _ in range(40):
            await anyio.sleep(60)
            turning.append(poller.is_turning(anyio.current_time()))
        tasks.cancel_scope.cancel()

    assert all(turning)
    assert not poller.is_turning(anyio.current_time() + 211)


async def test_the_first_window_is_asked_again_once_the_vendors_clock_is_known() -> None:
    source = ScriptedSource()
    poller = poller_for(source)
    clock = poller._clock
    stamp = at(20 * 60).strftime("%a, %d %b %Y %H:%M:%S GMT")

    async def hears(_window: Window) -> AsyncIterator[Reading]:
        clock.hear(stamp)
        yield OpenAlerts([])

    source.steps = (hears,)
    await poller.poll()

    assert [round((window.end - START).total_seconds()) for window in source.windows] == [0, 1200]
    assert [round((window.counted_from - START).total_seconds()) for window in source.windows] == [0, 1200]


async def test_records_that_cannot_be_read_are_one_line_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    alerts, notices = Rejections(), Rejections()
    for number in range(1000):
        alerts.add(Kind.ALERT, f"id {number} is missing")
    notices.add(Kind.NOTICE, "x" * 1000)
    poller = poller_for(ScriptedSource(says(OpenAlerts([], alerts), Happened([], alerts + notices))))

    await poller.poll()

    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "source s: unreadable records: 2000 of alert; id 0 is missing",
        f"source s: unreadable records: 1 of notice; {'x' * 200}",
    ]
