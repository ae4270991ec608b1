"""The landing page: failures and remedies, open alerts, the status of every source. No script."""

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from exporter.errors import Reason
from exporter.exposition.status import AlertStatus, ReloadStatus, SourceStatus, State, Status, status_of
from exporter.model.alert import Severity
from exporter.model.snapshot import Snapshot, SourceState
from exporter.model.text import HIDDEN

# Seconds between refreshes by the browser.
REFRESH_SECONDS = 30

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #566070; --line: #d9dee6; --page: #f5f7fa; --card: #fff;
  --good: #12703a; --bad: #b3261e; --worn: #8a5300; --accent: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b6; --line: #2f3846; --page: #12161d;
  --card: #1a2029; --good: #57c785; --bad: #ff8a80; --worn: #f0b35a; --accent: #8ab8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem; color: var(--ink); background: var(--page);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: .5rem 2rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.75rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
h1 small, h3 small { color: var(--soft); font-size: .85rem; font-weight: 400; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
a { color: var(--accent); }
p { margin: .25rem 0; }
.soft { color: var(--soft); }
ul { list-style: none; margin: 0; padding: 0; }
.card, .alerts li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem;
  margin-bottom: .6rem; }
.card.failing, .card.stale, .reload { border-left: 4px solid var(--bad); }
.top { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; }
.state { font-weight: 600; margin: 0; }
.up .state { color: var(--good); } .failing .state, .stale .state { color: var(--bad); }
.waiting .state { color: var(--worn); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .5rem 1rem; margin: .6rem 0 0; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.alerts li { display: grid; grid-template-columns: 6rem 1fr auto; gap: .1rem 1rem; margin-bottom: .3rem;
  padding: .4rem 1rem; }
.alerts .about { color: var(--soft); grid-column: 2; font-size: .85rem; }
.alerts .age { grid-row: 1; grid-column: 3; color: var(--soft); font-size: .85rem; text-align: right; }
@media (max-width: 32rem) { .alerts li { grid-template-columns: 1fr auto; } .alerts .name { grid-column: 1 / -1; }
  .alerts .age { grid-column: 2; } .alerts .about { grid-column: 1 / -1; } }
.severity { font-weight: 600; }
.critical, .major { color: var(--bad); } .minor, .warning { color: var(--worn); }
.count { white-space: nowrap; margin-right: .6rem; }
code { font: .9em ui-monospace, monospace; }
"""

CSP = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Signs beside the words, so that colour is not needed.
_SIGNS = {State.UP: "●", State.FAILING: "▲", State.STALE: "▲", State.WAITING: "○"}


def page(
    snapshot: Snapshot, now: datetime, moment: float, version: str, telemetry_path: str, *, refreshes: bool = True
) -> str:
    """Returns the page as HTML as of `now`, which is `moment` by the event loop's clock. Foreign text is escaped."""
    status = status_of(snapshot, moment, version)
    sources = {source.name: source for source in snapshot.sources}
    cards = "".join(
        _card(one, sources[one.source], snapshot.notices_failed.get(one.source), now) for one in status.sources
    )
    toggle = '<a href="?refresh=off">Stop refreshing</a>' if refreshes else '<a href="?">Refresh</a>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_title(status)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>vendor-alert-exporter <small>{escape(version)}</small></h1>
<nav><a href="{escape(telemetry_path.lstrip("/"))}">Metrics</a> <a href="status">Status as JSON</a>
<a href="-/healthy">Health</a> <a href="-/ready">Readiness</a> {toggle}</nav>
</header>
<main>
<p class="soft">{_summary(status)} · {_utc(now)}</p>
{_reload(status.reload, snapshot.reload.succeeded_at, now)}
<h2>Sources</h2>
{cards or '<p class="soft">No sources are configured here.</p>'}
<h2>Open alerts</h2>
{_alerts(status, now)}
</main>
</body>
</html>
"""


def _count(status: Status, *states: State) -> int:
    return sum(source.state in states for source in status.sources)


def _title(status: Status) -> str:
    failing = _count(status, State.FAILING, State.STALE)
    open_ = sum(sum(source.open.values()) for source in status.sources if source.open is not None)
    said = [f"{failing} failing"] if failing else []
    said += ["reload failed"] if not status.reload.successful else []
    said += [f"{open_} open"]
    return f"{', '.join(said)} – vendor-alert-exporter"


def _summary(status: Status) -> str:
    counted = ", ".join(f"{count} {state}" for state in State if (count := _count(status, state)))
    return f"{_many(len(status.sources), 'source')}{': ' if counted else ''}{counted}"


def _reload(reload: ReloadStatus, succeeded_at: datetime, now: datetime) -> str:
    if reload.successful:
        return ""
    problems = "".join(f"<li>{_foreign(problem)}</li>" for problem in reload.problems)
    return f"""<section class="card reload" aria-labelledby="reload"><h2 id="reload">The last reload failed</h2>
<p>The configuration read {_ago(succeeded_at, now)} stays in use. Correct the file, then reload again.</p>
<ul>{problems}</ul></section>"""


def _card(one: SourceStatus, source: SourceState, notices_failed: int | None, now: datetime) -> str:
    facts = [
        ("Open alerts at the last success" if one.state is State.FAILING else "Open alerts", _open(one)),
        ("Notices failed in the last hour", "not known" if notices_failed is None else str(notices_failed)),
        ("Last success", _moment(one.last_success, now)),
        ("Next poll", _moment(one.next_poll, now)),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f"""<article class="card {one.state}">
<div class="top"><h3>{_foreign(one.source)} <small>{escape(one.vendor)}</small></h3>
<p class="state">{_SIGNS[one.state]} {one.state}</p></div>
{_error(one, source)}{_truncated(source)}{_details(one, source)}<dl>{listed}</dl>
</article>
"""


def _open(one: SourceStatus) -> str:
    if one.open is None:
        return '<span class="soft">not known</span>'
    counts = [(severity, count) for severity in Severity if (count := one.open.get(severity))]
    spans = (f'<span class="count"><b class="{severity}">{count}</b> {severity}</span> ' for severity, count in counts)
    return "".join(spans) or '<span class="soft">none open</span>'


def _error(one: SourceStatus, source: SourceState) -> str:
    if source.up or one.reason is None:
        return ""
    times = f" ({_many(source.failures_in_a_row, 'failure')} in a row)"
    return f"<p><b>{escape(one.reason)}</b>: {_foreign(source.last_error)}{times}</p>\n{_remedy(one.what_to_do)}"


def _remedy(what_to_do: str | None) -> str:
    if not what_to_do:
        return ""
    text = re.sub("`([^`]*)`", r"<code>\1</code>", escape(what_to_do, quote=False))
    return f"<p>What to do: {text}.</p>\n"


def _truncated(source: SourceState) -> str:
    if not source.list_truncated:
        return ""
    lists = ", ".join(f"<code>{escape(endpoint)}</code>" for endpoint in sorted(source.list_truncated))
    said = f"<p>The list of {lists} is too long to be read: how many alerts are open is the vendor's own count</p>\n"
    return said + _remedy(source.remedies[Reason.TRUNCATED])


def _details(one: SourceStatus, source: SourceState) -> str:
    said = []
    for endpoint, detail in one.details.items():
        if detail.failed:
            why = f", {escape(detail.reason)}" if detail.reason else ""
            said.append(
                f"<p>{_many(detail.failed, 'detail call')} of <code>{escape(endpoint)}</code> failed{why}</p>\n"
            )
            if detail.reason is not None and not detail.answered:
                said.append(_remedy(source.remedies[detail.reason]))
        if detail.waiting:
            waits = "waits" if detail.waiting == 1 else "wait"
            said.append(f"<p>{_many(detail.waiting, 'alert')} {waits} for <code>{escape(endpoint)}</code></p>\n")
    return "".join(said)


def _alerts(status: Status, now: datetime) -> str:
    stale = _count(status, State.STALE)
    left_out = f'<p class="soft">Without those of {_many(stale, "stale source")}.</p>\n' if stale else ""
    rows = "".join(_alert(alert, now) for alert in status.alerts)
    omitted = status.alerts_omitted
    if omitted:
        more = f"{_many(omitted, 'more alert' if rows else 'alert')} {'is' if omitted == 1 else 'are'} open."
    elif rows:
        more = ""
    else:
        is_known = any(source.open is not None for source in status.sources)
        more = "None is open." if is_known else "Nothing is known yet."
    listed = f'<ul class="alerts">{rows}</ul>\n' if rows else ""
    return f'{left_out}{listed}<p class="soft">{more}</p>' if more else f"{left_out}{listed}"


def _alert(alert: AlertStatus, now: datetime) -> str:
    name = escape(alert.name)
    if alert.link is not None:
        name = f'<a href="{escape(alert.link)}" rel="noreferrer">{name}</a>'
    age = "start not known" if alert.started_at is None else f"{_span(now, alert.started_at)} old"
    owner = f" · {escape(alert.owner)}" if alert.owner else ""
    return f"""<li><span class="severity {alert.severity}">{alert.severity}</span><span class="name">{name}</span>
<span class="age">{age}</span><span class="about">{_foreign(alert.source)}{owner}</span></li>
"""


def _foreign(text: str) -> str:
    return escape(HIDDEN.sub("\ufffd", text))


def _many(count: int, one: str) -> str:
    return f"{count:,} {one if count == 1 else one + 's'}"


def _moment(at: datetime | None, now: datetime) -> str:
    if at is None:
        return '<span class="soft">none yet</span>'
    return f'{_ago(at, now)}<br><small class="soft">{_utc(at)}</small>'


def _ago(at: datetime, now: datetime) -> str:
    if abs((at - now).total_seconds()) < 1:
        return "now"
    return f"in {_span(at, now)}" if at > now else f"{_span(now, at)} ago"


def _span(later: datetime, earlier: datetime) -> str:
    seconds = max(0, int((later - earlier).total_seconds()))
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "0 s"


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def headers(*, refreshes: bool) -> Iterator[tuple[str, str]]:
    """Yields the headers of the page. It is refreshed by a header, which a reader can refuse, and not by an element."""
    yield "content-security-policy", CSP
    yield "x-content-type-options", "nosniff"
    yield "referrer-policy", "no-referrer"
    yield "cache-control", "no-store"
    if refreshes:
        yield "refresh", str(REFRESH_SECONDS)
