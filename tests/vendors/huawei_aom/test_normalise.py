from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ItemRejected
from exporter.model.alert import Alert, CloseReason, Severity
from exporter.model.records import Notice
from exporter.vendors.huawei_aom import VENDOR, payload
from exporter.vendors.huawei_aom.normalise import SEVERITIES, alert_reader, event_from, notices_from

NOW = datetime(2026, 1, 2, 3, 10, tzinfo=UTC)
NOW_MS = 1767323400000
UPPER = {level.upper(): severity for level, severity in SEVERITIES.items()}

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
metadata = st.fixed_dictionaries({}, optional=dict.fromkeys(payload.Metadata.__struct_fields__, scalars))
times = st.integers(NOW_MS - 10**10, NOW_MS)


def record_of(**fields: Any) -> payload.EventRecord:
    described = payload.Metadata(**fields.pop("metadata", {}))
    return payload.EventRecord(**{"event_sn": "1", "starts_at": NOW_MS, "metadata": described, **fields})


def alert_of(**fields: Any) -> Alert:
    alert = alert_reader(UPPER, NOW)(record_of(**fields))
    assert alert is not None
    return alert


@given(
    st.fixed_dictionaries(
        {"metadata": metadata}, optional=dict.fromkeys(payload.EventRecord.__struct_fields__[:-1], scalars)
    )
)
def test_whatever_a_record_holds_it_becomes_an_alarm_or_an_event_or_is_rejected(fields: dict[str, Any]) -> None:
    record = record_of(**fields)
    try:
        read = [alert_reader(UPPER, NOW)(record), event_from(record)]
    except ItemRejected:
        return

    assert read.count(None) == 1
    msgspec.json.encode(read)


@given(
    st.builds(payload.SmnChannel, sent_time=times, smn_response_code=scalars, smn_response_body=scalars),
    st.lists(st.builds(payload.Endpoint, smn_subscription_type=scalars, smn_subscription_status=scalars), max_size=3),
)
def test_a_publication_is_one_notice_per_endpoint_and_never_silently_ok(
    smn: payload.SmnChannel, endpoints: list[payload.Endpoint]
) -> None:
    smn.smn_notified_history = endpoints

    notices = notices_from("1", payload.Notification(smn_channel=smn))

    was_published = str(smn.smn_response_code) in {str(code) for code in range(200, 300)}
    assert len(notices) == (len(endpoints) or (0 if was_published else 1))
    assert len({notice.key for notice in notices}) == len(notices)
    assert was_published or all(notice.failure for notice in notices)


@given(times, st.integers(0, 10**10), st.integers(1, 10**10))
def test_an_alarm_expired_only_if_it_lived_as_long_as_its_timeout(start: int, life: int, timeout: int) -> None:
    alert = alert_of(starts_at=start, ends_at=start + life, timeout=timeout)

    assert alert.close_reason is (CloseReason.EXPIRED if life >= timeout else CloseReason.RECOVERED)
    assert alert.ended_at is not None
    assert alert.started_at is not None
    assert alert.ended_at - alert.started_at == timedelta(milliseconds=life)


@pytest.mark.parametrize("ends_at", [0, None, "0", "", -1])
def test_an_alarm_without_an_end_is_open(ends_at: Any) -> None:
    assert alert_of(ends_at=ends_at).close_reason is None


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("Critical", Severity.CRITICAL),
        ("MAJOR", Severity.MAJOR),
        ("minor", Severity.MINOR),
        ("Info", Severity.INFO),
        ("Warning", Severity.UNKNOWN),
        (None, Severity.UNKNOWN),
        (3, Severity.UNKNOWN),
    ],
)
def test_severities_are_those_of_the_manual_in_any_case(level: Any, severity: Severity) -> None:
    alert = alert_of(metadata={"event_severity": level})

    assert alert.severity is severity
    assert alert.unmapped == (("severity",) if severity is Severity.UNKNOWN else ())


@pytest.mark.parametrize(
    ("arrives_at", "seconds"),
    [
        (NOW_MS, None),
        (NOW_MS + 999, None),
        (NOW_MS - 5000, None),
        (NOW_MS + 1000, 1),
        (str(NOW_MS + 2000), 2),
        (0, None),
    ],
)
def test_an_alarm_appeared_when_it_arrived_if_it_arrived_late(arrives_at: Any, seconds: int | None) -> None:
    appeared_at = alert_of(arrives_at=arrives_at).appeared_at

    assert appeared_at == (None if seconds is None else NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("field", ["starts_at", "arrives_at", "ends_at"])
def test_a_time_in_an_absurd_future_is_a_value_nobody_knows(field: str) -> None:
    def unmapped(at: int | str) -> tuple[str, ...]:
        return alert_of(**{field: at}, metadata={"event_severity": "Minor"}).unmapped

    day = 86_400_000

    assert unmapped(NOW_MS + day) == ()
    assert unmapped(NOW_MS + day + 1) == ("time",)
    assert unmapped("16377362908000") == ("time",)


def test_the_key_is_the_serial_number_else_id_and_start() -> None:
    assert alert_of(event_sn="12", id="7").key == "12"
    assert alert_of(event_sn=12, id="7").key == "12"
    assert alert_of(event_sn=None, id="7").key == f"7/{NOW_MS}"
    assert alert_of(event_sn="", id=7, starts_at=str(NOW_MS)).key == f"7/{NOW_MS}"
    with pytest.raises(ItemRejected, match="id is missing"):
        alert_of(event_sn=None)


def test_the_label_sets_hold_everything_a_notice_can_say() -> None:
    smn = payload.SmnChannel(
        smn_response_code="200", smn_notified_history=[payload.Endpoint(smn_subscription_type="functionstage")]
    )

    (notice,) = notices_from("1", payload.Notification(action_rule="r", smn_channel=smn))

    assert isinstance(notice, Notice)
    assert notice.channel in VENDOR.labels.channels
    assert notice.failure in VENDOR.labels.failure_reasons
