import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import Reason
from exporter.exposition.landing import CSP, page
from exporter.model.alert import Severity
from exporter.model.facts import Fact
from exporter.model.snapshot import SourceState
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_snapshot, a_state


class Reader(HTMLParser):
    """The words of the page as a person reads them, and the tags that make it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)


def read(*sources: SourceState) -> Reader:
    return Reader(page(a_snapshot(*sources), NOW, MOMENT, "1.2.3", "/metrics"))


def test_a_source_that_is_up_shows_its_alerts_notices_convergences_and_times() -> None:
    state = a_polled_state(open_by_severity={Severity.WARNING: 17, Severity.CRITICAL: 2, Severity.INFO: 0})

    text = read(state).text

    assert "1 source: 1 up" in text
    assert "prod acme ● up 2 critical 17 warning 2 of 7 4 40 anomalies" in text
    assert "20 s ago 2026-03-01 11:59:40 UTC in 40 s 2026-03-01 12:00:40 UTC" in text


def test_a_failing_source_keeps_its_alerts_and_says_what_happened_and_what_to_do() -> None:
    failing = a_polled_state(up=False, last_error="answered 401", last_reason=Reason.AUTH, failures_in_a_row=2)

    text = read(failing).text

    assert "▲ failing 2 critical" in text
    assert "auth answered 401 2 failures in a row check the credentials under auth ;" in text


def test_a_stale_source_shows_no_alerts_rather_than_old_ones() -> None:
    stale = a_polled_state(
        up=False,
        last_success=NOW - timedelta(hours=5),
        succeeded=MOMENT - 18000,
        last_error="x",
        last_reason=Reason.TIMEOUT,
    )

    assert "▲ stale not known" in read(stale).text


def test_a_source_before_its_first_poll_waits_and_knows_nothing() -> None:
    text = read(a_state()).text

    assert "○ waiting not known – –" in text
    assert "none open" not in text


def test_nothing_open_is_said_only_after_a_success() -> None:
    assert "none open" in read(a_polled_state(open_by_severity={})).text


def test_what_a_source_cannot_supply_is_not_shown_as_zero() -> None:
    state = a_polled_state(facts=frozenset(Fact) - {Fact.NOTICES, Fact.CONVERGENCES})

    assert "2 critical – –" in read(state).text


@given(st.text(), st.text())
def test_no_text_from_elsewhere_becomes_markup(name: str, error: str) -> None:
    harmless = read(a_polled_state(up=False, last_error="x", last_reason=Reason.TLS))

    hostile = read(a_polled_state(name=f"<script>{name}", up=False, last_error=f"<b>{error}", last_reason=Reason.TLS))

    assert hostile.tags == harmless.tags


def test_the_page_needs_nothing_but_itself() -> None:
    html = page(a_snapshot(a_polled_state()), NOW, MOMENT, "1.2.3", "/metrics")

    assert re.findall(r'(?:href|src)="([^"]*)"', html) == ["/metrics", "/-/healthy", "/-/ready"]
    style = re.search("<style>(.*)</style>", html, re.DOTALL)
    assert style is not None
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in CSP
