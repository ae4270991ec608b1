"""Resident memory of the real process, polling four vendors in another process."""

from collections.abc import Iterator

from benchmarks.figures import absolute
from benchmarks.stage import Running, polling, wait_until

OPEN = 10_000
# A machine that is busy makes nothing larger.
EXACT = 1.0


def _settled_mib(running: Running, *, open_alerts: int) -> float:
    """Resident memory once all alerts are known and every source was polled again."""
    wait_until(
        lambda: sum(running.samples("vendor_alerts_open").values()) == 4 * open_alerts, 60, "not every alert was read"
    )
    polls = running.samples("vendor_source_polls_total")
    wait_until(
        lambda: all(now >= polls[source] + 1 for source, now in running.samples("vendor_source_polls_total").items()),
        60,
        "not every source was polled again",
    )
    return running.resident_mib()


def run() -> Iterator[str]:
    """Idle first, then with open alerts."""
    with polling(open_alerts=0) as running:
        running.wait_until_ready(within=60)
        yield absolute("four empty sources", _settled_mib(running, open_alerts=0), "MiB", below=90, tolerance=EXACT)
    with polling(open_alerts=OPEN, defaults={"interval": "15s", "timeout": "15s"}) as running:
        used = _settled_mib(running, open_alerts=OPEN)
        highest = running.resident_mib("VmHWM")
    what = f"four sources with {OPEN:,} open alerts each (at most {highest:.0f} MiB on the way)"
    yield absolute(what, used, "MiB", below=200, tolerance=EXACT)
