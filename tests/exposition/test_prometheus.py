import gzip
from collections.abc import Iterable
from datetime import timedelta
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_from
from prometheus_client.parser import text_string_to_metric_families as text_from

from exporter.exposition.catalogue import ALL_FAMILIES
from exporter.exposition.prometheus import BLOCK, DUTY, Exposition, Renderer
from exporter.exposition.series import LONGEST_VALUE
from exporter.model.snapshot import AlertCounts, Snapshot
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_snapshot, a_state

OURS = [family.name for family in ALL_FAMILIES]


def a_renderer() -> Renderer:
    return Renderer(version="1.2.3", revision="abc")


def rendered(snapshot: Snapshot) -> Exposition:
    return a_renderer().render(snapshot)


def samples(families: Iterable[Metric]) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels; fails on a second one with the same labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in families:
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sample.labels.items())
            assert labels not in series
            series[labels] = sample.value
    return found


def ours(exposition: Exposition, now: float = 0) -> tuple[bytes, bytes]:
    return exposition.text.body(now, names=OURS), exposition.openmetrics.body(now, names=OURS)


def test_both_formats_parse_strictly_and_tell_the_same() -> None:
    exposition = rendered(a_snapshot(a_polled_state(), a_state(name="new")))

    text = samples(text_from(exposition.text.body(0).decode()))
    openmetrics = samples(openmetrics_from(exposition.openmetrics.body(0).decode()))

    assert openmetrics.pop("target_info") == {
        (("service_name", "vendor-alert-exporter"), ("service_version", "1.2.3")): 1
    }
    assert text == openmetrics
    assert {"process_cpu_seconds_total", "python_info", "python_gc_collections_total"} <= text.keys()


def test_labels_come_in_the_documented_order() -> None:
    alerts = AlertCounts(closed={("critical", "recovered", "disk full"): 3})
    state = a_state(alerts=alerts, constant_labels={"team": "db"})

    text = rendered(a_snapshot(state, group_by=("name",))).text.body(0).decode()

    assert (
        'vendor_alerts_closed_total{source="prod",vendor="acme",severity="critical",reason="recovered",team="db",'
        'name="disk full"} 3\n' in text
    )
    assert (
        'vendor_alerts_closed_total{source="prod",vendor="acme",severity="warning",reason="vanished",team="db",'
        'name=""} 0\n' in text
    )
    assert 'vendor_source_up{source="prod",vendor="acme",team="db"} 0\n' in text


def test_a_zero_row_and_a_group_without_a_name_are_one_series() -> None:
    state = a_state(alerts=AlertCounts(open={("critical", ""): 2}))

    text = samples(text_from(rendered(a_snapshot(state, group_by=("name",))).text.body(0).decode()))

    assert list(text["vendor_alerts_open"].values()) == [2, 0]


def test_every_source_has_the_label_names_of_all() -> None:
    one = a_state(name="one", constant_labels={"team": "db"})
    two = a_state(name="two", constant_labels={"region": "eu"})

    text = samples(text_from(rendered(a_snapshot(one, two)).text.body(0).decode()))

    assert [dict(labels) for labels in text["vendor_source_up"]] == [
        {"source": "one", "vendor": "acme", "region": "", "team": "db"},
        {"source": "two", "vendor": "acme", "region": "eu", "team": ""},
    ]


def test_values_that_become_equal_by_being_cut_are_united() -> None:
    long = "x" * LONGEST_VALUE
    alerts = AlertCounts(
        open={("critical", long + "1"): 2, ("critical", long + "2"): 3},
        oldest_open={("critical", long + "1"): NOW, ("critical", long + "2"): NOW - timedelta(hours=1)},
        info=[("critical", "1", long + "1", "host"), ("critical", "1", long + "2", "host")],
    )

    text = samples(text_from(rendered(a_snapshot(a_state(alerts=alerts), group_by=("name",))).text.body(0).decode()))

    assert sum(text["vendor_alerts_open"].values()) == 5
    assert [*text["vendor_alerts_oldest_open_timestamp_seconds"].values()] == [(NOW - timedelta(hours=1)).timestamp()]
    assert [*text["vendor_alert_info"].values()] == [1]


hostile = st.text(st.characters(), max_size=200) | st.text(
    st.sampled_from('"\\\n\r\0,{}= #é漢\ud800\x85'), max_size=200
)


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(hostile, max_size=6), name=hostile, team=hostile)
def test_no_label_value_can_break_the_formats(keys: list[str], name: str, team: str) -> None:
    alerts = AlertCounts(
        open={("critical", key): 1 for key in keys},
        operations={(key,): 1 for key in keys},
        info=[("critical", key, name, "") for key in keys],
    )
    state = a_state(constant_labels={"team": team}, alerts=alerts, unmapped=dict.fromkeys(keys, 1))

    exposition = rendered(a_snapshot(state, group_by=("name",)))
    text, openmetrics = (part.decode() for part in ours(exposition))

    parsed = samples(text_from(text))
    assert parsed == samples(openmetrics_from(openmetrics))
    assert sum(parsed["vendor_alerts_open"].values()) == len(set(keys))
    assert all(len(value) <= LONGEST_VALUE for series in parsed.values() for labels in series for _, value in labels)


def test_histograms_are_cumulated_up_to_infinity() -> None:
    text = samples(text_from(rendered(a_snapshot(a_polled_state())).text.body(0).decode()))

    def of(part: str) -> dict[str, float]:
        series = text[f"vendor_alert_open_duration_seconds_{part}"]
        return {dict(labels).get("le", ""): n for labels, n in series.items() if ("severity", "critical") in labels}

    assert [of("bucket")[bound] for bound in ("60.0", "300.0", "604800.0", "+Inf")] == [0, 1, 1, 2]
    assert (of("count"), of("sum")) == ({"": 2}, {"": 10_000_090})


def test_a_unit_is_told_in_openmetrics_where_the_name_ends_with_it() -> None:
    families = {family.name: family for family in openmetrics_from(rendered(a_snapshot()).openmetrics.body(0).decode())}

    assert families["vendor_exporter_config_last_reload_success_timestamp_seconds"].unit == "seconds"
    assert families["vendor_exporter_build_info"].unit == ""


def test_families_without_a_sample_are_not_mentioned() -> None:
    exposition = rendered(a_snapshot(a_state()))

    assert b"vendor_alert" not in exposition.text.body(0).replace(b"vendor-alert", b"")


def test_gzip_holds_the_same_and_no_time() -> None:
    exposition = rendered(a_snapshot(a_polled_state()))

    for text in (exposition.text, exposition.openmetrics):
        assert gzip.decompress(text.body(0, gzipped=True)) == text.body(0)
        assert text.body(0, gzipped=True)[4:8] == bytes(4)


@pytest.mark.parametrize(
    "names",
    [
        ["vendor_alerts_opened_total"],
        ["vendor_alerts_opened"],
        ["vendor_alerts_opened", "vendor_alerts_opened_total", "nothing_of_ours"],
    ],
)
def test_families_can_be_picked_by_name(names: list[str]) -> None:
    exposition = rendered(a_snapshot(a_polled_state()))

    assert samples(text_from(exposition.text.body(0, names=names).decode())).keys() == {"vendor_alerts_opened_total"}
    assert samples(openmetrics_from(exposition.openmetrics.body(0, names=names).decode())).keys() == {
        "vendor_alerts_opened_total"
    }


def test_unknown_names_pick_nothing() -> None:
    exposition = rendered(a_snapshot(a_polled_state()))

    assert exposition.text.body(0, names=["nothing_of_ours"]) == b""
    assert exposition.openmetrics.body(0, names=["nothing_of_ours"]) == b"# EOF\n"
    assert exposition.text.body(0, names=["process_cpu_seconds_total"]).count(b"# TYPE") == 1


class ReadCounter(dict[Any, Any]):
    """Requests that count how often they are read."""

    reads = 0

    def items(self) -> Any:
        self.reads += 1
        return super().items()


def test_a_source_that_did_not_change_is_not_spelled_again() -> None:
    requests = ReadCounter({("events", "200"): 1})
    quiet = a_polled_state(name="quiet", requests=requests)
    renderer = a_renderer()

    for polls in range(3):
        renderer.render(a_snapshot(quiet, a_polled_state(name="busy", polls=polls)))

    assert requests.reads == 1


STATES = [
    a_state(name="a"),
    a_polled_state(name="a"),
    a_polled_state(name="a", constant_labels={"team": "db"}, succeeded=MOMENT - 200),
    a_state(name="b"),
    a_polled_state(name="b", stale_after_seconds=100.0),
]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(STATES), max_size=2, unique_by=lambda state: state.name),
            st.sampled_from([(), ("name",)]),
            st.integers(0, 200),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_what_is_remembered_tells_the_same_as_what_is_spelled_afresh(steps: list[Any]) -> None:
    renderer = a_renderer()
    moment = MOMENT

    for states, group_by, seconds in steps:
        moment += seconds
        snapshot = a_snapshot(*states, group_by=group_by, moment=moment)

        assert ours(renderer.render(snapshot)) == ours(a_renderer().render(snapshot))


def test_gauges_about_alerts_go_when_the_source_becomes_stale_and_come_back() -> None:
    renderer = a_renderer()
    polls = [(0, 0), (0, 300), (400, 400)]

    states = [(a_polled_state(succeeded=MOMENT + succeeded), MOMENT + now) for succeeded, now in polls]
    texts = [renderer.render(a_snapshot(state, moment=now)).text.body(now) for state, now in states]

    assert [b"vendor_alerts_open{" in text for text in texts] == [True, False, True]
    assert [b"vendor_alerts_opened_total{" in text for text in texts] == [True, True, True]


def test_what_has_become_stale_is_decided_when_a_scrape_is_answered() -> None:
    """Whatever keeps the next rendering from happening."""
    states = [a_polled_state(name=str(n), succeeded=MOMENT + n) for n in range(3 * BLOCK)]
    exposition = rendered(a_snapshot(*states))
    afresh = a_renderer()

    for seconds in (0, 299, 300, 310, 320, 347, 5000):
        now = MOMENT + seconds
        body = exposition.openmetrics.body(now)

        assert gzip.decompress(exposition.openmetrics.body(now, gzipped=True)) == body
        families = samples(openmetrics_from(body.decode()))
        stale = sum(seconds >= 300 + n for n in range(len(states)))
        assert sum(families["vendor_source_up"].values()) == len(states) - stale
        assert len(families["vendor_source_up"]) == len(families["vendor_alerts_opened_total"]) // 3 == len(states)
        assert len(families.get("vendor_alert_info", ())) == len(states) - stale
        assert ours(afresh.render(a_snapshot(*states, moment=now)), now) == ours(exposition, now)


def test_only_the_parts_of_sources_that_changed_are_compressed_again() -> None:
    states = [a_polled_state(name=str(n)) for n in range(3 * BLOCK)]
    renderer = a_renderer()
    before = renderer.render(a_snapshot(*states))

    states[BLOCK] = a_polled_state(name=str(BLOCK), polls=10)
    after = renderer.render(a_snapshot(*states))

    changed = [
        (section.names[0], place)
        for section, old in zip(after.text.sections, before.text.sections, strict=True)
        for place, (part, known) in enumerate(zip(section.parts, old.parts, strict=True))
        if section.names[0].startswith("vendor_source") and part.packed is not known.packed
    ]
    assert changed == [("vendor_source_polls_total", 1)]


def test_rendering_asks_for_a_rest_that_keeps_it_to_its_share_of_the_time() -> None:
    renderer = a_renderer()
    began = thread_time()

    renderer.render(a_snapshot(*(a_polled_state(name=str(n)) for n in range(50))))

    assert 0 < renderer.rest_seconds <= (thread_time() - began) * (1 / DUTY - 1)
