"""Output of the commands for a person: a table where it fits the terminal, else one value below the other."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from exporter.doctor import Diagnosis
    from exporter.report import PollReport

_HEADINGS = ("source", "vendor", "state", "open", "notices", "convergences", "requests", "seconds")
_NUMBERS = ("convergences", "requests", "seconds")


def _console(width: int) -> Console:
    """Returns a console; in a pipe nothing is cut to the width of a terminal that is not there."""
    terminal = sys.stdout.isatty()
    return Console(force_terminal=terminal, width=None if terminal else width, highlight=False)


def print_reports(reports: Sequence["PollReport"]) -> None:
    """Prints one row per source. What a failed poll did not learn is left open: it is not 0."""
    console = _console(10_000)
    rows = [_row(report) for report in reports]
    table = Table(box=None, pad_edge=False)
    for heading, cells in zip(_HEADINGS, zip(*rows, strict=True), strict=True):
        words = [
            heading,
            *(part for cell in cells for part in (cell.plain.split() if heading == "open" else [cell.plain])),
        ]
        justify: Literal["left", "right"] = "right" if heading in _NUMBERS else "left"
        table.add_column(heading, justify=justify, no_wrap=heading != "open", min_width=max(map(len, words)))
    for row in rows:
        table.add_row(*row)
    if Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= console.width:
        console.print(table)
        return
    for row in rows:
        console.print(row[0], style="bold", soft_wrap=True)
        for heading, value in zip(_HEADINGS[1:], row[1:], strict=True):
            line = Table.grid(padding=(0, 2))
            line.add_column(width=14, no_wrap=True)
            line.add_column()
            line.add_row(f"  {heading}", value)
            console.print(line)


def _row(report: "PollReport") -> tuple[Text, ...]:
    counts = [f"{severity} {count}" for severity, count in report.open.items() if count]
    notices = None if report.notices is None else f"{report.notices} ({report.notice_failures} failed)"
    learned = (", ".join(counts) or "0", notices, report.convergences)
    return (
        Text(report.source),
        Text(report.vendor),
        _state_of(report),
        *(Text("?" if not report.up or value is None else str(value)) for value in learned),
        Text(str(report.requests)),
        Text(f"{report.duration_seconds:.1f}"),
    )


def _state_of(report: "PollReport") -> Text:
    if not report.up:
        return Text(f"failed: {report.reason}", "bold red")
    if report.blind_in is not None:
        endpoint, reason = report.blind_in
        return Text(f"partial: {endpoint} {reason}", "bold yellow")
    if report.list_truncated:
        return Text(f"partial: {', '.join(report.list_truncated)} truncated", "bold yellow")
    return Text("up", "green")


def print_diagnosis(found: "Diagnosis") -> None:
    """Prints one line a step, which fits 80 columns but for what to do; that follows below its step."""
    console = _console(100)
    console.print(Text(f"{found.source} ({found.vendor})", "bold"))
    styles = {"ok": "green", "failed": "bold red", "skipped": "dim"}
    for step in found.steps:
        reason = f" {step.reason}" if step.reason else ""
        seconds = f"{step.seconds:.2f} s" if step.seconds else ""
        line = Text.assemble(f"  {step.step:<24}", (f"{step.result + reason:<24}", styles[step.result]), seconds)
        console.print(line)
        if step.what_to_do:
            console.print(Padding(Text(step.what_to_do), (0, 0, 0, 6)))
    if found.forecast is not None:
        console.print(
            f"  {found.forecast.requests_per_day:,.0f} requests a day at today's alerts, "
            f"{found.forecast.share_of_limit:.1%} of max_requests_per_second"
        )
