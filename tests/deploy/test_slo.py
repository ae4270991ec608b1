"""A month of a simulated vendor before the service level rules: what they say is what the ledger says."""

import random
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from exporter.model.alert import CloseReason, Severity
from exporter.model.records import Channel, FailureReason
from exporter.simulation.world import Pace, Traits, World
from tests.deploy.queries import RULES
from tests.programs import program

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
DAYS = 30
STEPS = timedelta(days=DAYS) // STEP
WINDOW = timedelta(days=3)
INTERVAL = STEP
FRESH = 3 * INTERVAL
# Steps right after which the exporter restarts: its counters begin anew.
RESTARTS = (500, 1300, 2200)
TRAITS = Traits(
    severities=[Severity.CRITICAL, Severity.WARNING],
    endings=[CloseReason.RECOVERED, CloseReason.CLOSED],
    resolution=timedelta(seconds=1),
    channels=[Channel.EMAIL, Channel.SMS],
    failures=[(FailureReason.TIMEOUT, "timed out")],
    acknowledges=True,
)
OWNERS = {"prod": "operations", "staging": "developers", "payments": "payments"}


class Count(NamedTuple):
    """Something that was counted: when, for whom, and how much."""

    at: datetime
    owner: str
    amount: float = 1.0


@pytest.fixture(scope="module")
def world() -> World:
    """A month of a vendor, some six alerts an hour."""
    pace = Pace(between_alerts=600.0, life=5400.0, acknowledged=0.5, late=0.0, severity_changed=0.0)
    lived = World(TRAITS, seed=5, start=START, pace=pace)
    lived.advance(START + timedelta(days=DAYS))
    return lived


@pytest.fixture(scope="module")
def outages() -> list[tuple[datetime, datetime]]:
    """Times in which the vendor did not answer."""
    chosen = random.Random(5)
    begun = [START + timedelta(days=day, hours=chosen.uniform(0, 12)) for day in range(1, DAYS, 2)]
    return [(at, at + timedelta(hours=chosen.uniform(0.5, 6))) for at in begun]


def counts_of(world: World) -> dict[str, list[Count]]:
    """What the exporter counts of the ledger, by metric."""
    counts: dict[str, list[Count]] = {name: [] for name in METRICS}
    for incident in world.incidents:
        owner = OWNERS[incident.namespace]
        for tell in incident.tells:
            counts["notices_total"].append(Count(tell.settles, owner))
            if tell.failure is not None:
                counts["notice_failures_total"].append(Count(tell.settles, owner))
        for name, end in (("acknowledge_delay", incident.acknowledged), ("open_duration", incident.ended)):
            if end is not None:
                counts[f"{name}_seconds_count"].append(Count(end, owner))
                counts[f"{name}_seconds_sum"].append(Count(end, owner, (end - incident.started).total_seconds()))
    return counts


def within(counts: list[Count], until: datetime, owner: str | None) -> float:
    """The sum of what was counted in the window that ends then."""
    return sum(
        each.amount for each in counts if until - WINDOW < each.at <= until and (owner is None or each.owner == owner)
    )


def samples(counts: list[Count]) -> Iterator[float]:
    """A counter's value at each step, with its restarts."""
    steps = [0.0] * (STEPS + 1)
    for each in counts:
        place = -((START - each.at) // STEP)  # the first step that is not before it
        if place <= STEPS:
            steps[place] += each.amount
    base = 0.0
    for step, value in enumerate(accumulate(steps)):
        yield value - base
        base = value if step in RESTARTS else base


def is_out(at: datetime, outages: list[tuple[datetime, datetime]]) -> bool:
    return any(begun < at < ended for begun, ended in outages)


def is_fresh(at: datetime, outages: list[tuple[datetime, datetime]]) -> bool:
    return not any(begun + FRESH < at < ended for begun, ended in outages)


def series(world: World, outages: list[tuple[datetime, datetime]]) -> Iterator[tuple[str, str]]:
    """What Prometheus scraped in this month, in the words of promtool."""
    for name, counts in counts_of(world).items():
        for owner in sorted(set(OWNERS.values())):
            labels = f'job="exporter", instance="a", source="s", vendor="v", {METRICS[name]}, owner="{owner}"'
            values = samples([each for each in counts if each.owner == owner])
            yield f"vendor_alert_{name}{{{labels}}}", " ".join(f"{value:.0f}" for value in values)
    labels = 'job="exporter", instance="a", source="s", vendor="v"'
    moments = [START + step * STEP for step in range(STEPS + 1)]
    last: list[datetime] = []
    for at in moments:
        last.append(last[-1] if is_out(at, outages) else at)
    yield f"vendor_source_up{{{labels}}}", f"1x{STEPS}"
    yield f"vendor_source_interval_seconds{{{labels}}}", f"{INTERVAL.total_seconds():g}x{STEPS}"
    successes = " ".join(f"{(at - START).total_seconds():.0f}" for at in last)
    yield f"vendor_source_last_success_timestamp_seconds{{{labels}}}", successes


METRICS = {
    "notices_total": 'channel="email"',
    "notice_failures_total": 'channel="email", reason="timeout"',
    "acknowledge_delay_seconds_sum": 'severity="critical"',
    "acknowledge_delay_seconds_count": 'severity="critical"',
    "open_duration_seconds_sum": 'severity="critical"',
    "open_duration_seconds_count": 'severity="critical"',
}
SAMPLE = re.compile(r'{__name__="([\w:]+3d)", ([^}]*)} ([-+.\dE]+)')


def said_by_the_rules(folder: Path, given: list[tuple[str, str]]) -> dict[tuple[int, str, str], float]:
    """What the rules say of each three days: by day, series and owner. promtool prints what it did not expect."""
    ends = range(3, DAYS + 1, 3)
    asked = [{"expr": '{__name__=~"vendor.*:.+3d"}', "eval_time": f"{day}d", "exp_samples": []} for day in ends]
    minutes = f"{STEP // timedelta(minutes=1)}m"
    rules = yaml.safe_load((RULES / "slo.yaml").read_text())
    for group in rules["groups"]:  # the other windows are made from the same templates
        group["rules"] = [rule for rule in group["rules"] if re.search(r":(sum|bool)$|3d$", rule.get("record", ""))]
    (folder / "slo.yaml").write_text(yaml.safe_dump(rules))
    file = folder / "month.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES / "recording.yaml"), "slo.yaml"],
                "evaluation_interval": minutes,
                "tests": [
                    {
                        "interval": minutes,
                        "input_series": [{"series": name, "values": values} for name, values in given],
                        "promql_expr_test": asked,
                    }
                ],
            }
        )
    )
    done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True)
    found = {}
    answers = re.split(r"time: \w+,", (done.stdout + done.stderr).replace("\\", ""))[1:]
    for day, text in zip(ends, answers, strict=True):
        for name, labels, value in SAMPLE.findall(text):
            owner = re.search(r'owner="(\w*)"', labels)
            found[day, name, owner[1] if owner else ""] = float(value)
    return found


def test_the_rules_say_of_a_month_what_the_ledger_says(
    world: World, outages: list[tuple[datetime, datetime]], tmp_path: Path
) -> None:
    counts = counts_of(world)

    said = said_by_the_rules(tmp_path, list(series(world, outages)))

    worst = dict.fromkeys(INDICATORS, 0.0)
    print(f"{'days':7}{'owner':12}" + "".join(f"{title:>28}" for title in INDICATORS.values()))
    for day in range(3, DAYS + 1, 3):
        end = START + timedelta(days=day)
        for owner in ("", *sorted(set(OWNERS.values()))):
            due = expected(counts, outages, end, owner or None)
            row = ""
            for name, value in due.items():
                rule = said[day, name, owner]
                worst[name] = max(worst[name], abs(rule / value - 1))
                row += f"{rule:>14.5g} ={value:>12.5g}"
            print(f"{day - 2:>2}-{day:<4}{owner:12}{row}")
    print("largest deviation: " + ", ".join(f"{INDICATORS[name]} {off:.2%}" for name, off in worst.items()))
    assert max(worst.values()) < 0.01


INDICATORS = {
    "vendor_owner:vendor_notice_delivery:ratio3d": "delivered",
    "vendor_owner:vendor_alert_acknowledge_delay_seconds:mean3d": "s to acknowledge",
    "vendor_owner:vendor_alert_open_duration_seconds:mean3d": "s to close",
    "vendor:vendor_source_fresh:ratio3d": "fresh",
}


def expected(
    counts: dict[str, list[Count]], outages: list[tuple[datetime, datetime]], end: datetime, owner: str | None
) -> dict[str, float]:
    """What the ledger says of three days."""

    def total(name: str) -> float:
        return within(counts[name], end, owner)

    values = [
        1 - total("notice_failures_total") / total("notices_total"),
        total("acknowledge_delay_seconds_sum") / total("acknowledge_delay_seconds_count"),
        total("open_duration_seconds_sum") / total("open_duration_seconds_count"),
    ]
    if owner is None:
        moment = timedelta(minutes=1)
        fresh = [is_fresh(end - place * moment, outages) for place in range(WINDOW // moment)]
        values.append(sum(fresh) / len(fresh))
    return dict(zip(INDICATORS, values, strict=owner is None))
