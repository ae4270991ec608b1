"""The metrics over OTLP are those of `/metrics`: the same names, labels and values, of the same snapshot."""

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as text_from

from exporter.exposition.catalogue import ALL_FAMILIES, FAMILIES, Family, otel_name
from exporter.exposition.otlp import MOST_POINTS, Encoder
from exporter.exposition.prometheus import Renderer
from exporter.model.snapshot import AlertCounts, Snapshot
from tests.exposition.snapshots import SNAPSHOTS
from tests.exposition.states import NOW, a_polled_state, a_snapshot
from tests.otlp.translation import Series, metrics_of, series_of

RESOURCE = {"service.name": "vendor-alert-exporter", "service.instance.id": "host:10877"}
STARTED = NOW - timedelta(hours=1)


def parcels(snapshot: Snapshot) -> list[bytes]:
    encoder = Encoder(RESOURCE, version="1.2.3", revision="abc", started_at=STARTED)
    return [parcel.body for parcel in encoder.metrics(snapshot, 123)]


def scraped(snapshot: Snapshot) -> Series:
    text = Renderer(version="1.2.3", revision="abc").render(snapshot).text.body(0).decode()
    samples = (sample for family in text_from(text) for sample in family.samples if family.name.startswith("vendor_"))
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if value)): sample.value
        for sample in samples
    }


@pytest.mark.parametrize("snapshot", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_what_is_pushed_equals_what_is_scraped(snapshot: Snapshot) -> None:
    assert series_of(*parcels(snapshot)) == scraped(snapshot)


def test_every_family_is_compared() -> None:
    told = {name for snapshot in SNAPSHOTS.values() for name, _ in scraped(snapshot)}

    for family in ALL_FAMILIES:
        assert family.name in told or f"{family.name}_bucket" in told


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_a_name_is_dotted_and_leaves_unit_and_type_to_the_receiver(family: Family[Any]) -> None:
    name = otel_name(family)

    assert name.startswith("vendor.")
    assert not name.endswith(("total", "seconds"))
    assert name.replace(".", "_") == family.name.removesuffix("_total").removesuffix("_seconds")


def test_the_documented_names() -> None:
    names = {family.name: (otel_name(family), family.unit) for family in FAMILIES}

    assert names["vendor_alerts_open"] == ("vendor.alerts.open", "{alert}")
    assert names["vendor_alert_notice_failures_total"][0] == "vendor.alert.notice.failures"
    assert names["vendor_source_request_duration_seconds"] == ("vendor.source.request.duration", "s")


def test_what_grows_and_what_can_be_added_up_are_sums_since_the_start_and_the_rest_are_gauges() -> None:
    found = {metric.name: metric for metric in metrics_of(parcels(a_snapshot(a_polled_state()))[0])}

    opened, open_, oldest = (found[f"vendor.alerts.{name}"] for name in ("opened", "open", "oldest_open.timestamp"))
    since = int(STARTED.timestamp()) * 10**9
    assert opened.sum.is_monotonic
    assert (
        opened.sum.aggregation_temporality == found["vendor.alert.open.duration"].histogram.aggregation_temporality == 2
    )
    assert {point.start_time_unix_nano for point in opened.sum.data_points} == {since}
    assert {point.start_time_unix_nano for point in found["vendor.alert.open.duration"].histogram.data_points} == {
        since
    }
    assert not open_.sum.is_monotonic
    assert oldest.WhichOneof("data") == "gauge"
    assert {point.time_unix_nano for point in (*opened.sum.data_points, *oldest.gauge.data_points)} == {123}


def test_the_series_of_a_source_whose_counters_begin_again_have_a_new_start() -> None:
    began = NOW - timedelta(minutes=5)
    snapshot = a_snapshot(a_polled_state(name="old"), a_polled_state(name="new", counts_from=began))

    found = {metric.name: metric for metric in metrics_of(parcels(snapshot)[0])}

    for points in (
        found["vendor.alerts.opened"].sum.data_points,
        found["vendor.alert.open.duration"].histogram.data_points,
    ):
        since = {point.attributes[0].value.string_value: point.start_time_unix_nano for point in points}
        assert since == {"old": int(STARTED.timestamp()) * 10**9, "new": int(began.timestamp()) * 10**9}


def test_a_large_snapshot_comes_in_requests_that_receivers_take() -> None:
    info = [("critical", str(number), "disk full", "disks", "host", "2") for number in range(2 * MOST_POINTS)]
    snapshot = a_snapshot(a_polled_state(alerts=AlertCounts(info=info)))

    bodies = parcels(snapshot)

    assert len(bodies) == 3
    assert max(map(len, bodies)) < 4 * 1024 * 1024
    assert series_of(*bodies) == scraped(snapshot)
