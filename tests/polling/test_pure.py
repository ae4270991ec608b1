from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import Reason, SourceRefused, SourceThrottled, SourceUnreachable
from exporter.model.reading import Window
from exporter.polling.bucket import Bucket
from exporter.polling.cadence import delay_after, first_delay
from exporter.polling.lookback import Lookback, window_after
from tests.builders import START, at

MINUTE = timedelta(minutes=1)
DOWN = SourceUnreachable("no answer", reason=Reason.TIMEOUT)
REFUSED = SourceRefused("no")


@pytest.mark.parametrize(
    ("error", "minutes"),
    [(DOWN, [1, 1, 2, 3, 3, 3, 3]), (REFUSED, [1, 1, 2, 4, 8, 10, 10])],
)
def test_a_failing_source_is_asked_less_often_from_the_third_failure_on(error: Exception, minutes: list[int]) -> None:
    delays = [delay_after(MINUTE, failures, error) / MINUTE for failures in range(1, 8)]  # type: ignore[arg-type]

    assert delays == minutes


def test_a_success_returns_to_the_interval_at_once() -> None:
    assert delay_after(MINUTE, 0, None) == MINUTE


@pytest.mark.parametrize(("asked_for", "waits"), [(5, 60), (100, 110), (170, 180), (10**9, 190)])
def test_a_retry_after_is_honoured_up_to_three_intervals(asked_for: float, waits: float) -> None:
    delay = delay_after(MINUTE, 1, SourceThrottled("slow", retry_after=asked_for), took=timedelta(seconds=10))

    assert delay.total_seconds() == waits


@given(st.floats(0.001, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_first_poll_comes_within_the_interval_and_ten_seconds(seconds: float, chance: float) -> None:
    delay = first_delay(timedelta(seconds=seconds), chance)

    assert timedelta(0) <= delay <= min(timedelta(seconds=seconds), timedelta(seconds=10))


def test_a_window_starts_before_the_last_success_and_ends_now() -> None:
    window = window_after(
        at(100),
        elapsed=MINUTE,
        now=at(160),
        started_at=START,
        overlap=MINUTE,
        lookback=None,
        backfill=False,
        open_alerts={},
    )

    assert (window.start, window.end, window.counted_from, window.first) == (at(40), at(160), START, False)


@pytest.mark.parametrize(("lookback", "reach"), [(None, 60), (timedelta(hours=1), 3600)])
@pytest.mark.parametrize("backfill", [True, False])
def test_the_first_window_reaches_back_before_the_start(lookback: timedelta | None, reach: int, backfill: bool) -> None:
    window = window_after(
        None,
        elapsed=MINUTE,
        now=at(500),
        started_at=START,
        overlap=MINUTE,
        lookback=lookback,
        backfill=backfill,
        open_alerts={},
    )

    assert window.start == at(-reach)
    assert window.counted_from == (at(-reach) if backfill else START)
    assert window.first


@given(st.integers(0, 100_000))
def test_a_vendor_clock_that_was_set_back_takes_the_window_along_and_the_outage_stays_covered(outage: int) -> None:
    window = window_after(
        at(2000 + outage),
        elapsed=timedelta(seconds=outage),
        now=at(800 + outage),
        started_at=START,
        overlap=MINUTE,
        lookback=None,
        backfill=False,
        open_alerts={},
    )

    assert (window.start, window.end) == (at(740), at(800 + outage))


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.1, 50))
def test_no_second_sees_more_requests_than_the_rate_and_one_burst(pauses: list[float], rate: float) -> None:
    bucket = Bucket(rate, 0.0)
    now, sent = 0.0, []

    for pause in pauses:
        now += pause
        sent.append(now + bucket.take(now))

    for moment in sent:
        within = [other for other in sent if moment <= other < moment + 1]
        assert len(within) <= rate + max(1.0, rate) + 1


def asked(lookback: Lookback, *, now: float, elapsed: float = 60, started_at: float = 0) -> Window:
    return lookback.window(elapsed=timedelta(seconds=elapsed), now=at(now), started_at=at(started_at), open_alerts={})


@pytest.mark.parametrize(("learnt", "counted_from"), [(0.4, 0), (-0.4, 0), (20, 20)])
def test_until_a_poll_succeeds_counting_begins_at_one_moment_unless_the_vendors_clock_is_learnt(
    learnt: float, counted_from: float
) -> None:
    lookback = Lookback(overlap=MINUTE, lookback=None, backfill=False)
    asked(lookback, now=5)

    assert asked(lookback, now=65, started_at=learnt).counted_from == at(counted_from)


def test_once_a_poll_has_succeeded_counting_begins_where_it_began() -> None:
    lookback = Lookback(overlap=MINUTE, lookback=None, backfill=False)
    lookback.succeeded(asked(lookback, now=5), at(5))

    assert asked(lookback, now=65, started_at=30).counted_from == START


def test_a_window_that_began_too_late_is_covered_once_more() -> None:
    lookback = Lookback(overlap=MINUTE, lookback=None, backfill=False)
    lookback.succeeded(asked(lookback, now=600), at(600))

    late = asked(lookback, now=660)
    moved = lookback.succeeded(late, at(60))  # the clock turned out to be set back by ten minutes

    assert not moved
    assert lookback.as_read(asked(lookback, now=60, elapsed=600), at(60)).reached == at(-60)
