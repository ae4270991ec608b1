"""The page for a person: which sources there are, how they do, and what to do about it. Needs no script."""

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from exporter.errors import REMEDIES
from exporter.exposition.catalogue import is_stale
from exporter.model.alert import Severity
from exporter.model.facts import Fact
from exporter.model.snapshot import Snapshot, SourceState

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6575; --line: #d9dee6; --page: #f5f7fa; --card: #fff;
  --good: #12703a; --bad: #b3261e; --worn: #8a5300; --accent: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b6; --line: #2f3846; --page: #12161d;
  --card: #1a2029; --good: #57c785; --bad: #ff8a80; --worn: #f0b35a; --accent: #8ab8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem; color: var(--ink); background: var(--page);
  font: 15px/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: .5rem 2rem; }
h1 { font-size: 1.5rem; margin: 0; }
h1 small { color: var(--soft); font-size: .9rem; font-weight: 400; }
nav { display: flex; gap: 1.25rem; }
a { color: var(--accent); }
.sum { color: var(--soft); margin: .25rem 0 1.25rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .6rem .9rem; text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-size: .8rem; font-weight: 600; white-space: nowrap; }
tbody { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 9rem; }
td { font-variant-numeric: tabular-nums; }
td small, th small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; white-space: nowrap; }
.state { font-weight: 600; white-space: nowrap; }
.up { color: var(--good); } .failing, .stale { color: var(--bad); } .waiting { color: var(--worn); }
.count { white-space: nowrap; margin-right: .8rem; }
.critical b, .major b { color: var(--bad); } .minor b, .warning b { color: var(--worn); }
.none { color: var(--soft); }
.error td { padding-top: 0; overflow-wrap: anywhere; }
.error p { margin: 0; border-left: 3px solid var(--bad); padding-left: .75rem; max-width: 60rem; }
code { font: .9em ui-monospace, monospace; }
"""

CSP = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_COLUMNS = ("Source", "State", "Open alerts", "Notices failed", "Convergences", "Last success", "Next poll")
_NOTHING = '<span class="none">–</span>'
# In words and a sign as well as in colour.
_STATES = {"up": "● up", "failing": "▲ failing", "stale": "▲ stale", "waiting": "○ waiting"}


def page(snapshot: Snapshot, now: datetime, moment: float, version: str, telemetry_path: str) -> str:
    """The page as HTML, as of `now`, which is `moment` by the monotonic clock. Foreign text is escaped."""
    states = [_state(source, moment) for source in snapshot.sources]
    counted = ", ".join(f"{states.count(state)} {state}" for state in _STATES if state in states)
    rows = "".join(_rows(source, state, now) for source, state in zip(snapshot.sources, states, strict=True))
    metrics = escape(telemetry_path)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vendor-alert-exporter</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>vendor-alert-exporter <small>{escape(version)}</small></h1>
<nav><a href="{metrics}">Metrics</a> <a href="/-/healthy">Health</a> <a href="/-/ready">Readiness</a></nav>
</header>
<p class="sum">{_many(len(states), "source")}{": " if counted else ""}{counted} · {_utc(now)}</p>
<main class="scroll">
<table>
<thead><tr>{"".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)}</tr></thead>
{rows}
</table>
</main>
</body>
</html>
"""


def _state(source: SourceState, moment: float) -> str:
    if source.polls == 0:
        return "waiting"
    if is_stale(source, moment):
        return "stale"
    return "up" if source.up else "failing"


def _rows(source: SourceState, state: str, now: datetime) -> str:
    cells = (_open(source, state), _notices(source), _convergences(source), *_times(source, now))
    return f"""<tbody>
<tr><th scope="row">{escape(source.name)}<small>{escape(source.vendor)}</small></th>
<td class="state {state}">{_STATES[state]}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>
{_error(source)}</tbody>
"""


def _open(source: SourceState, state: str) -> str:
    if source.alerts is None or state == "stale":
        return '<span class="none">not known</span>'
    counts = [(severity, count) for severity in Severity if (count := source.open_by_severity.get(severity))]
    return (
        "".join(f'<span class="count {severity}"><b>{count}</b> {severity}</span> ' for severity, count in counts)
        or '<span class="none">none open</span>'
    )


def _notices(source: SourceState) -> str:
    if source.alerts is None or Fact.NOTICES not in source.facts:
        return _NOTHING
    return f"{sum(source.alerts.notice_failures.values())} of {sum(source.alerts.notices.values())}"


def _convergences(source: SourceState) -> str:
    if source.alerts is None or Fact.CONVERGENCES not in source.facts:
        return _NOTHING
    return (
        f"{sum(source.alerts.convergences.values())}"
        f"<small>{_many(sum(source.alerts.converged_anomalies.values()), 'anomaly', 'anomalies')}</small>"
    )


def _times(source: SourceState, now: datetime) -> Iterator[str]:
    for at in (source.last_success, source.next_poll):
        yield _NOTHING if at is None else f"{_relative(at, now)}<small>{_utc(at)}</small>"


def _error(source: SourceState) -> str:
    if not source.last_error or source.up:
        return ""
    remedy = ""
    if source.last_reason is not None:
        remedy = re.sub("`([^`]*)`", r"<code>\1</code>", escape(REMEDIES[source.last_reason], quote=False))
    reason = escape(source.last_reason or "")
    return f"""<tr class="error"><td colspan="{len(_COLUMNS)}"><p><b>{reason}</b> {escape(source.last_error)}
<small>{_many(source.failures_in_a_row, "failure")} in a row</small>{remedy}</p></td></tr>
"""


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _relative(at: datetime, now: datetime) -> str:
    seconds = int((at - now).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            span = f"{abs(seconds) // size} {unit}"
            return f"in {span}" if seconds > 0 else f"{span} ago"
    return "now"


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
