"""Log records: one for each thing that happened and counts, none for the baseline, as the ledger has it."""

from collections import Counter
from datetime import UTC, datetime
from itertools import chain, pairwise

import anyio
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from exporter.exposition.otlp import LONGEST_TITLE, Encoder, Noticed
from exporter.exposition.series import LONGEST_VALUE
from exporter.model.alert import CloseReason, Severity
from exporter.model.facts import Fact
from exporter.model.occurrence import Occurrence, What
from exporter.model.reading import Happened, OpenAlerts
from exporter.model.records import FailureReason
from exporter.simulation.network import Fault, FaultKind
from exporter.simulation.truth import Since
from exporter.simulation.world import Pace
from tests.builders import START, a_book, a_notice, a_poll, an_alert, an_ended_alert, at
from tests.rig import LIVELY, VENDORS, Rig, expected


def told(rig: Rig) -> list[Occurrence]:
    assert rig.watch.book.occurrences is not None
    return rig.watch.book.occurrences


def a_listening_rig(vendor: str) -> Rig:
    pace = {name: getattr(LIVELY, name) for name in LIVELY.__struct_fields__} | {"severity_changed": 0.3}
    rig = Rig(vendor, pace=Pace(**pace))
    rig.watch.book.occurrences = []
    return rig


@pytest.mark.anyio
@pytest.mark.parametrize("vendor", VENDORS)
async def test_records_of_each_kind_equal_the_ledger(vendor: str) -> None:
    rig = a_listening_rig(vendor)
    rig.site.faults = [Fault(kind=kind, times=2, skip=17 * n) for n, kind in enumerate([*FaultKind] * 2)]

    await anyio.sleep(3)
    await rig.polls(40)
    rig.world.rest()
    rig.site.faults.clear()
    await rig.polls(12)

    truth = expected(rig)
    kinds = Counter(one.what for one in told(rig))
    closed = Counter((str(one.severity), one.reason) for one in told(rig) if one.what is What.CLOSED)
    failed = Counter((one.channel, one.reason) for one in told(rig) if one.what is What.NOTICE_FAILED)
    assert kinds[What.OPENED] == sum(truth["opened"].values()) > 30
    assert_tells_whole_stories(told(rig))
    assert closed == truth["closed"]
    assert failed == truth.get("notice_failures", {})
    if Fact.ACKNOWLEDGED in rig.watch.book.state.facts:
        since = Since(START, rig.first_success or START)
        stamps = [(one.acknowledged, one) for one in rig.world.incidents if not one.is_event and one.acknowledged]
        assert kinds[What.ACKNOWLEDGED] == sum(since.counts(stamp, one, rig.world) for stamp, one in stamps) > 0


def assert_tells_whole_stories(told: list[Occurrence]) -> None:
    """Of each alert: it opens, changes from one severity to the next, and closes with the last."""
    stories: dict[str, list[Occurrence]] = {}
    for one in told:
        if one.what in (What.OPENED, What.SEVERITY_CHANGED, What.CLOSED):
            stories.setdefault(one.key, []).append(one)
    for before, after in chain.from_iterable(map(pairwise, stories.values())):
        known = after.previous_severity if after.what is What.SEVERITY_CHANGED else str(after.severity)
        assert before.what is not What.CLOSED
        assert after.what is not What.OPENED
        assert known == before.severity


def test_the_baseline_is_not_told_and_what_happens_to_it_later_is() -> None:
    book = a_book()
    book.occurrences = []
    old = an_alert(started_at=at(-60), name="disk full")

    book.enter(a_poll(OpenAlerts([old]), first=True))
    baseline = [*book.occurrences]
    book.enter(a_poll(OpenAlerts([an_alert(started_at=at(-60), severity=Severity.WARNING)]), now=120))
    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert(started_at=at(-60), severity=Severity.INFO)]), now=180))

    assert baseline == []
    assert [(one.what, one.previous_severity, str(one.severity), one.reason) for one in book.occurrences] == [
        (What.SEVERITY_CHANGED, "critical", "warning", ""),
        (What.SEVERITY_CHANGED, "warning", "info", ""),
        (What.CLOSED, "", "info", CloseReason.RECOVERED),
    ]


def test_a_notice_that_fails_is_told_once_with_its_alert() -> None:
    book = a_book()
    book.occurrences = []
    failed = a_notice(failure=FailureReason.TIMEOUT)

    book.enter(
        a_poll(OpenAlerts([an_alert(name="disk full")]), Happened([a_notice(), a_notice("m", alert_key="gone")]))
    )
    for now in (120, 180):
        lost = a_notice("m", alert_key="gone", failure=FailureReason.REJECTED)
        book.enter(a_poll(OpenAlerts([an_alert(name="disk full")]), Happened([failed, lost]), now=now))

    told = [one for one in book.occurrences if one.what is What.NOTICE_FAILED]
    assert [(one.key, one.name, one.channel, one.reason) for one in told] == [
        ("a", "disk full", "sms", "timeout"),
        ("gone", "", "sms", "rejected"),
    ]


def test_nothing_is_kept_while_nobody_asks() -> None:
    book = a_book()

    book.enter(a_poll(OpenAlerts([an_alert()])))

    assert book.occurrences is None


def record_of(**changes: object) -> LogRecord:
    given = {"what": What.OPENED, "source": "s", "vendor": "v", "key": "k", "severity": Severity.MAJOR, "at": START}
    encoder = Encoder({"service.instance.id": "i"}, version="1", revision="r", started_at=START)
    parcel = encoder.logs([Noticed(Occurrence(**{**given, **changes}), at(5), 7)])  # type: ignore[arg-type]
    request = ExportLogsServiceRequest.FromString(parcel.body)
    return request.resource_logs[0].scope_logs[0].log_records[0]


def test_a_record_says_what_happened_to_which_alert() -> None:
    record = record_of(name="disk full", title="disk is full on db-1", started_at=START)

    assert record.event_name == "vendor.alert.opened"
    assert (record.severity_number, record.severity_text) == (17, "major")
    assert record.time_unix_nano == int(START.timestamp()) * 10**9
    assert record.observed_time_unix_nano == int(at(5).timestamp()) * 10**9
    assert record.body.string_value == "disk is full on db-1"
    assert {pair.key: pair.value.string_value for pair in record.attributes} == {
        "source": "s",
        "vendor": "v",
        "key": "k",
        "name": "disk full",
        "severity": "major",
        "started_at": "2026-01-02T03:04:05+00:00",
        "happened_at": "2026-01-02T03:04:05+00:00",
        "log.record.uid": f"i/{int(START.timestamp()) * 10**9}/7",
    }


def test_the_vendors_text_is_cut_and_cleaned() -> None:
    record = record_of(title="one\ntwo\x00\ud800" + "x" * 5000, name="n\x1b[31m" + "y" * 500)

    names = [pair.value.string_value for pair in record.attributes if pair.key == "name"]
    assert record.body.string_value.startswith("one two  x")
    assert len(record.body.string_value) == LONGEST_TITLE
    assert names == ["n\ufffd[31m" + "y" * (LONGEST_VALUE - 6)]


@pytest.mark.parametrize("at", [None, datetime(1969, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)])
def test_a_time_that_cannot_be_told_is_left_open(at: datetime | None) -> None:
    assert record_of(at=at).time_unix_nano == 0


def test_each_severity_has_its_number() -> None:
    numbers = {severity: record_of(severity=severity).severity_number for severity in Severity}

    assert list(numbers.values()) == [21, 17, 14, 13, 9, 0]


def test_of_a_closed_alert_the_severity_is_remembered() -> None:
    book = a_book()
    book.occurrences = []
    book.enter(a_poll(OpenAlerts([]), Happened([an_ended_alert(severity=Severity.MINOR)])))

    late = a_notice(failure=FailureReason.TIMEOUT, at=at(90))
    book.enter(a_poll(OpenAlerts([]), Happened([late]), now=120))

    assert [(one.what, one.severity) for one in book.occurrences][-1] == (What.NOTICE_FAILED, Severity.MINOR)
