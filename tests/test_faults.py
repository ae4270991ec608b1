"""Every vendor under every fault: the right reason, gauges kept, nobody else delayed, and in the end the ledger."""

import tracemalloc
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from exporter.errors import Reason
from exporter.exposition.prometheus import Renderer
from exporter.model.snapshot import ReloadState, Snapshot
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.wire import Request, Response
from exporter.vendorkit.http import ATTEMPTS
from tests.builders import START, known
from tests.rig import VENDORS, Rig, expected, told
from tests.test_exactly_once import pace, settle
from tests.walks import DETAILS

pytestmark = pytest.mark.anyio

# The call that tells what is open.
LIST = {
    "baidu_bls": "list_alarm_record",
    "blueking": "search_alert",
    "huawei_aom": "list_events",
    "key_astrom": "events",
}


class Case(NamedTuple):
    """A fault, the reason its poll fails for (None: it does not), and how often the list is asked in one poll."""

    fault: Fault
    reason: Reason | None
    requests: int


def _status(code: int, **headers: str) -> Fault:
    return Fault(kind=FaultKind.STATUS, status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})


CASES = {
    "refused": Case(Fault(kind=FaultKind.REFUSED), Reason.CONNECTION, ATTEMPTS),
    "dns": Case(Fault(kind=FaultKind.DNS), Reason.CONNECTION, ATTEMPTS),
    "tls unknown authority": Case(Fault(kind=FaultKind.TLS_UNKNOWN), Reason.TLS, ATTEMPTS),
    "tls expired": Case(Fault(kind=FaultKind.TLS_EXPIRED), Reason.TLS, ATTEMPTS),
    "connect hang": Case(Fault(kind=FaultKind.CONNECT_HANG), Reason.TIMEOUT, 2),
    "hang": Case(Fault(kind=FaultKind.HANG), Reason.TIMEOUT, 2),
    "drip": Case(Fault(kind=FaultKind.DRIP), Reason.TIMEOUT, 2),
    "slow headers": Case(Fault(kind=FaultKind.SLOW_HEADERS, seconds=35), Reason.TIMEOUT, 2),
    "reset": Case(Fault(kind=FaultKind.RESET), Reason.CONNECTION, ATTEMPTS),
    "400": Case(_status(400), Reason.API_ERROR, 1),
    "401": Case(_status(401), Reason.AUTH, 1),
    "403": Case(_status(403), Reason.PERMISSION, 1),
    "404": Case(_status(404), Reason.NOT_FOUND, 1),
    "429": Case(_status(429), Reason.RATE_LIMITED, ATTEMPTS),
    "429 for 5 s": Case(_status(429, Retry_After="5"), Reason.RATE_LIMITED, ATTEMPTS),
    "429 for 2 min": Case(_status(429, Retry_After="120"), Reason.RATE_LIMITED, 1),
    "429 until a date": Case(_status(429, Retry_After="Fri, 02 Jan 2099 00:00:00 GMT"), Reason.RATE_LIMITED, 1),
    "429 absurd": Case(_status(429, Retry_After="-7 bananas"), Reason.RATE_LIMITED, ATTEMPTS),
    "500": Case(_status(500), Reason.SERVER_ERROR, 1),
    "502 html": Case(Fault(kind=FaultKind.STATUS_HTML, status=502), Reason.SERVER_ERROR, ATTEMPTS),
    "503": Case(_status(503), Reason.SERVER_ERROR, ATTEMPTS),
    "504": Case(_status(504), Reason.SERVER_ERROR, ATTEMPTS),
    "200 html": Case(Fault(kind=FaultKind.HTML), Reason.BAD_RESPONSE, 1),
    "truncated json": Case(Fault(kind=FaultKind.TRUNCATED), Reason.BAD_RESPONSE, 1),
    "empty body": Case(Fault(kind=FaultKind.EMPTY), Reason.BAD_RESPONSE, 1),
    "wrong type": Case(Fault(kind=FaultKind.WRONG_TYPE), Reason.BAD_RESPONSE, 1),
    "too large": Case(Fault(kind=FaultKind.TOO_LARGE, size=1024 * 1024), Reason.TOO_LARGE, 1),
    "bomb": Case(Fault(kind=FaultKind.BOMB, size=8 * 1024 * 1024), Reason.TOO_LARGE, 1),
    "redirect": Case(Fault(kind=FaultKind.REDIRECT), Reason.BAD_RESPONSE, 1),
}

# Huawei asks a lying token again, the others have none; an error inside HTTP 200 is each vendor's own.
IN_THE_ENVELOPE = {
    "baidu_bls": {Reason.API_ERROR, Reason.SERVER_ERROR},
    "blueking": {Reason.API_ERROR, Reason.SERVER_ERROR},
    "huawei_aom": {Reason.SERVER_ERROR},
    "key_astrom": {Reason.SERVER_ERROR, Reason.BAD_RESPONSE},
}


def list_requests(rig: Rig) -> int:
    return sum(count for (endpoint, _), count in rig.requests().items() if endpoint == LIST[rig.simulator.vendor])


def scraped(*rigs: Rig) -> list[set[str]]:
    """The lines about alerts that `/metrics` shows of each source, and whether it is up."""
    reload = ReloadState(successful=True, succeeded_at=START)
    snapshot = Snapshot(
        at=rigs[0].now(), moment=anyio.current_time(), sources=[rig.watch.book.state for rig in rigs], reload=reload
    )
    lines = Renderer(version="", revision="").render(snapshot).text.body(0).decode().splitlines()
    wanted = [line for line in lines if line.startswith(("vendor_alert", "vendor_source_up"))]
    return [{line for line in wanted if f'source="{rig.simulator.vendor}"' in line} for rig in rigs]


def assert_recovered(rig: Rig, **since: Any) -> None:
    assert rig.watch.book.state.up, rig.watch.book.state.last_error
    assert told(rig) == expected(rig, **since)
    answered = Counter({key: count for key, count in rig.requests().items() if key[1] != "error"})
    assert answered == +rig.site.calls


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_fault_fails_the_poll_and_nothing_else(vendor: str, name: str) -> None:
    case = CASES[name]
    rig = Rig(vendor, pace=pace(between_alerts=90.0), max_response_bytes="512KiB")
    neighbour = Rig("key_astrom" if vendor != "key_astrom" else "huawei_aom", seed=2)
    await rig.polls(3)
    before, spent = rig.counts(), list_requests(rig)
    [shown] = scraped(rig)
    meanwhile: list[set[str]] = []

    async def scrape() -> None:
        await neighbour.watch.poller.poll()
        meanwhile.extend([*scraped(rig, neighbour), *scraped(neighbour)])

    rig.site.faults = [msgspec.structs.replace(case.fault, endpoint=LIST[vendor])]
    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(scrape)
        delay = await rig.watch.poller.poll()
        took = anyio.current_time() - began
    failed, asked = rig.watch.book.state, list_requests(rig) - spent
    [shown_after] = scraped(rig)
    await anyio.sleep(max(0.0, delay.total_seconds() - took))
    await settle(rig)

    assert (failed.up, failed.last_reason) == (False, case.reason)
    assert failed.poll_failures == {case.reason: 1}
    assert failed.alerts == before
    assert shown - shown_after == {f'vendor_source_up{{source="{vendor}",vendor="{vendor}"}} 1'}
    # Key-ASTROM's rows have no bound: it asks for smaller pages, twice, before it gives up.
    smaller_pages = 2 if vendor == "key_astrom" and case.reason is Reason.TOO_LARGE else 0
    assert 1 <= asked <= case.requests + smaller_pages
    assert took <= 60
    assert neighbour.watch.book.state.up
    assert (neighbour.watch.book.state.last_poll_seconds or 0) < 10
    assert meanwhile[0] in (shown, shown_after)
    assert meanwhile[1] == meanwhile[2]
    assert {line.rsplit(" ", 1)[1] for line in meanwhile[1] if line.startswith("vendor_alerts_open{")} - {"0"}
    assert_recovered(rig)


DETAIL_FAULTS = {
    name: CASES[name].fault for name in ("400", "401", "403", "404", "429 for 2 min", "500", "hang", "drip", "reset")
}
AN_HOUR = 3600.0
ALL_DETAILS: dict[str, dict[str, Any]] = {"baidu_bls": {"detail_interval": "1m"}, "key_astrom": {"problems": True}}


@pytest.mark.parametrize("name", DETAIL_FAULTS)
@pytest.mark.parametrize(("vendor", "endpoint"), [(vendor, each) for vendor in VENDORS for each in DETAILS[vendor][1:]])
async def test_a_fault_of_details_costs_no_open_alert_and_in_the_end_no_count(
    vendor: str, endpoint: str, name: str
) -> None:
    rig = Rig(vendor, pace=pace(between_alerts=90.0), **ALL_DETAILS.get(vendor, {}))
    await rig.polls(3)
    if endpoint == "event_types":
        await anyio.sleep(AN_HOUR)  # they are asked for so often
    spent = rig.requests()

    rig.site.faults = [msgspec.structs.replace(DETAIL_FAULTS[name], endpoint=endpoint)]
    began = anyio.current_time()
    delay = await rig.watch.poller.poll()
    hit, asked = rig.watch.book.state, rig.requests() - spent
    # An API that is not there is asked for again after an hour.
    pause = AN_HOUR if name == "404" else delay.total_seconds()
    await anyio.sleep(max(0.0, began + pause - anyio.current_time()))
    await settle(rig)

    calls = sum(count for (each, _), count in asked.items() if each == endpoint)
    assert calls
    assert hit.alerts is not None
    assert sum(known(hit.alerts.open).values())
    if name == "429 for 2 min":
        assert (hit.up, hit.last_reason, delay.total_seconds() // 1) == (False, Reason.RATE_LIMITED, 120)
        assert calls <= rig.config.max_concurrency
    assert_recovered(rig)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_attempt_that_the_interval_cuts_fails_the_poll_for_the_reason_it_was_repeated(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(between_alerts=90.0), timeout="60s")
    await rig.polls(2)

    throttled = _status(429, Retry_After="40")
    rig.site.faults = [
        msgspec.structs.replace(throttled, endpoint=LIST[vendor], times=1),
        Fault(kind=FaultKind.HANG, endpoint=LIST[vendor]),
    ]
    await rig.polls(1)

    assert rig.watch.book.state.last_reason is Reason.RATE_LIMITED
    assert rig.watch.book.state.last_poll_seconds == 60


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_error_inside_the_envelope_fails_the_poll(vendor: str) -> None:
    rig = Rig(vendor, pace=pace(between_alerts=90.0))
    await rig.polls(3)
    before = rig.counts().open

    rig.site.faults = [Fault(kind=FaultKind.ENVELOPE, endpoint=LIST[vendor])]
    await rig.polls(1)
    failed = rig.watch.book.state
    await settle(rig)

    assert failed.last_reason in IN_THE_ENVELOPE[vendor]
    assert failed.alerts is not None
    assert failed.alerts.open == before
    assert_recovered(rig)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_refused_credentials_are_not_asked_hot_and_a_rotated_secret_recovers_without_restart(
    vendor: str, tmp_path: Path
) -> None:
    rig = Rig(vendor, pace=pace(between_alerts=90.0), secrets_in=tmp_path)
    await rig.polls(3)

    rotated = rig.simulator.rotate()
    spent = sum(rig.requests().values())
    await rig.polls(1)
    refused, asked = rig.watch.book.state, sum(rig.requests().values()) - spent
    for name, value in rotated.items():
        (tmp_path / name).write_text(value + "\n")
    await settle(rig)

    assert refused.last_reason in {Reason.AUTH, Reason.PERMISSION}
    assert asked <= 2
    assert_recovered(rig)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("step", [timedelta(hours=3), timedelta(hours=-3)])
async def test_a_step_of_our_own_clock_counts_nothing_twice_and_misses_nothing(vendor: str, step: timedelta) -> None:
    rig = Rig(vendor, pace=pace(late=0.0))
    await rig.polls(10)

    rig.own_clock_off = step
    await rig.polls(10)
    await settle(rig)

    assert_recovered(rig)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_list_that_is_empty_after_a_full_one_closes_nothing_at_once(vendor: str) -> None:
    rig = Rig(vendor, quiet=True)
    await rig.polls(1)
    incidents = [rig.world.open() for _ in range(5)]
    await rig.polls(2)

    for incident in incidents:
        incident.removed = True  # the vendor forgets them, for two polls
    await rig.polls(2)
    kept = Counter(known(rig.counts().open)).total()
    for incident in incidents:
        incident.removed = False
    await rig.polls(1)

    assert kept == 5
    assert_recovered(rig)


PASSWORD = {
    "method": "password",
    "iam_endpoint": "http://127.0.0.1:1",
    "domain": "acme",
    "username": "exporter",
    "password": "simulated-password",
    "project_name": "cn-north-4",
}


async def test_a_token_that_expires_in_the_middle_of_a_walk_is_fetched_anew_once() -> None:
    rig = Rig("huawei_aom", pace=pace(between_alerts=90.0), auth=PASSWORD)
    await rig.polls(3)
    rig.site.faults = [Fault(kind=FaultKind.STATUS, status=401, endpoint="list_events", skip=1, times=1)]

    await rig.polls(1)

    assert rig.watch.book.state.up
    assert rig.requests()["create_token", "201"] == 2
    await settle(rig)
    assert_recovered(rig)


class Quota:
    """A simulator whose detail API answers so many calls a minute, and asks the others to wait."""

    def __init__(self, rig: Rig, endpoint: str, calls: int) -> None:
        self._simulator, self._endpoint, self._calls = rig.simulator, endpoint, calls
        self._asked = Counter[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulator, name)

    def answer(self, request: Request) -> Response:
        if self.endpoint_of(request) == self._endpoint:
            minute = int(anyio.current_time() // 60)
            self._asked[minute] += 1
            if self._asked[minute] > self._calls:
                return Response(status=429, body=b"{}", headers={"Retry-After": "30"})
        return self._simulator.answer(request)  # type: ignore[no-any-return]


of_details = pytest.mark.parametrize(
    ("vendor", "endpoint"),
    [
        ("baidu_bls", "describe_alarm_record"),
        ("blueking", "get_event_log"),
        ("huawei_aom", "list_notified_histories"),
    ],
)


@of_details
async def test_answers_that_are_too_large_are_not_kept_until_the_end_of_the_poll(vendor: str, endpoint: str) -> None:
    rig = Rig(vendor, quiet=True, max_requests_per_second=1000, max_response_bytes="2MiB")
    await rig.polls(1)
    for _ in range(50):
        rig.world.open()
    rig.site.faults = [Fault(kind=FaultKind.TOO_LARGE, size=4 * 1024 * 1024, endpoint=endpoint)]

    tracemalloc.start()
    await rig.polls(1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert rig.watch.book.state.partial_polls == 1
    assert sum(rig.requests().values()) > 50
    assert most < 50 * 1024 * 1024


@of_details
async def test_a_quota_of_details_keeps_no_source_down_and_all_are_read_in_the_end(vendor: str, endpoint: str) -> None:
    rig = Rig(vendor, quiet=True, max_requests_per_second=1000, max_detail_requests=1000)
    for _ in range(150):
        rig.world.open()
    rig.site.simulator = Quota(rig, endpoint, calls=40)

    shown = []
    for place in range(12):
        rig.own_clock_off = timedelta(microseconds=-place)  # clocks are read one after another
        await rig.polls(1)
        shown.append(rig.watch.book.state.alerts is not None)

    assert all(shown[1:])
    assert rig.watch.book.state.up
    assert told(rig) == expected(rig)
