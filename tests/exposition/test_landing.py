import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import REMEDIES, Reason
from exporter.exposition.landing import CSP, headers, page
from exporter.model.alert import Severity
from exporter.model.facts import Fact
from exporter.model.snapshot import Detailed, OpenAlert, ReloadState, Snapshot, SourceState
from tests.builders import an_alert
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_snapshot, a_state


class Reader(HTMLParser):
    """The words of the page as a person reads them, and the tags that make it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.title = ""
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["title"] and not self.title:
            self.title = data
        elif self.tags[-1:] != ["style"]:
            self.words.append(data)


def shown(snapshot: Snapshot) -> Reader:
    return Reader(page(snapshot, NOW, MOMENT, "1.2.3", "/metrics"))


def read(*sources: SourceState, **more: Any) -> Reader:
    return shown(a_snapshot(*sources, **more))


def failing(name: str = "prod", **changes: Any) -> SourceState:
    given = {"up": False, "last_error": "answered 401", "last_reason": Reason.AUTH, "failures_in_a_row": 2}
    return a_polled_state(name=name, **given | changes)


def test_a_source_that_is_up_shows_its_alerts_its_failed_notices_and_its_times() -> None:
    counts = {Severity.WARNING: 17, Severity.CRITICAL: 2, Severity.INFO: 0}
    state = a_polled_state(open_by_severity=counts, details={})

    text = read(state, notices_failed={"prod": 3}).text

    assert "1 source: 1 up" in text
    assert "prod acme ● up Open alerts 2 critical 17 warning Notices failed in the last hour 3" in text
    assert "20 s ago 2026-03-01 11:59:40 UTC Next poll in 40 s 2026-03-01 12:00:40 UTC" in text


def test_a_failing_source_keeps_its_alerts_and_says_what_happened_and_what_to_do_once() -> None:
    text = read(failing()).text

    assert "▲ failing auth : answered 401 (2 failures in a row) What to do: check the credentials under auth ;" in text
    assert text.count("check the credentials") == 1
    assert "Open alerts at the last success 2 critical" in text


def test_what_to_do_is_said_in_the_vendors_words_of_polls_and_of_details_none_of_which_was_answered() -> None:
    own = {**REMEDIES, Reason.PERMISSION: "tick `read` in the console"}
    details = {
        "logs": Detailed(failed=2, reason=Reason.PERMISSION),
        "actions": Detailed(answered=1, failed=1, reason=Reason.TIMEOUT),
    }

    refused = read(failing(last_reason=Reason.PERMISSION, remedies=own, details={})).text
    blind = read(a_polled_state(remedies=own, details=details)).text

    assert "permission : answered 401 (2 failures in a row) What to do: tick read in the console." in refused
    assert "2 detail calls of logs failed, permission What to do: tick read in the console. 1 detail call of" in blind
    assert blind.count("What to do") == 1


def test_one_failure_is_singular() -> None:
    assert "(1 failure in a row)" in read(failing(failures_in_a_row=1)).text


def test_what_fails_comes_first_and_stands_in_the_title() -> None:
    stale = failing("a-stale", succeeded=MOMENT - 18_000)

    found = read(a_polled_state(name="a-good"), a_state(name="b-new"), failing("c-bad"), stale)

    assert "4 sources: 1 stale, 1 failing, 1 waiting, 1 up" in found.text
    assert sorted(["a-good", "b-new", "c-bad", "a-stale"], key=found.text.index) == [
        "a-stale",
        "c-bad",
        "b-new",
        "a-good",
    ]
    assert found.title == "2 failing, 4 open – vendor-alert-exporter"


def test_a_stale_source_shows_no_alerts_rather_than_old_ones_and_says_so() -> None:
    stale = failing(succeeded=MOMENT - 18_000, top_open=[OpenAlert(an_alert(name="disk full"))])

    found = read(stale)

    assert "▲ stale" in found.text
    assert "Open alerts not known" in found.text
    assert "Without those of 1 stale source." in found.text
    assert "disk full" not in found.text


def test_a_source_before_its_first_poll_waits_and_knows_nothing() -> None:
    text = read(a_state()).text

    assert "○ waiting Open alerts not known Notices failed in the last hour not known" in text
    assert "Nothing is known yet." in text
    assert "None is open" not in text


def test_nothing_open_is_said_only_after_a_success() -> None:
    text = read(a_polled_state(open_by_severity={})).text

    assert "none open" in text
    assert "None is open." in text


def test_what_a_source_cannot_supply_is_not_shown_as_zero() -> None:
    state = a_polled_state(facts=frozenset(Fact) - {Fact.NOTICES, Fact.CONVERGENCES})

    assert "Notices failed in the last hour not known" in read(state).text


def test_open_alerts_are_listed_with_their_name_owner_source_and_age() -> None:
    alert = an_alert(name="disk full", started_at=NOW - timedelta(hours=3, minutes=20))
    state = a_polled_state(top_open=[OpenAlert(alert, "storage")], open_by_severity={Severity.CRITICAL: 2})

    text = read(state).text

    assert "critical disk full 3 h old prod · storage" in text
    assert "1 more alert is open." in text


def test_a_list_that_is_too_long_is_said_with_what_to_do() -> None:
    text = read(a_polled_state(list_truncated=frozenset({"events"}), details={})).text

    assert "The list of events is too long to be read: how many alerts are open is the vendor's own count" in text
    assert "raise max_pages" in text


def test_details_that_fail_or_wait_are_said() -> None:
    details = {"events": Detailed(failed=1, reason=Reason.PERMISSION), "logs": Detailed(answered=2, waiting=1)}

    text = read(a_polled_state(details=details)).text

    assert "1 detail call of events failed, permission" in text
    assert "1 alert waits for logs" in text


def test_a_failed_reload_stands_above_all_with_its_problems() -> None:
    reload = ReloadState(False, NOW - timedelta(hours=2), ["sources.<b>: unknown vendor"])

    found = shown(Snapshot(at=NOW, moment=MOMENT, sources=[a_polled_state()], reload=reload))

    assert "The last reload failed The configuration read 2 h ago stays in use." in found.text
    assert "sources.<b>: unknown vendor" in found.text
    assert found.text.index("reload failed") < found.text.index("Sources")
    assert "reload failed" in found.title


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_from_elsewhere_becomes_markup(name: str, error: str, title: str, owner: str) -> None:
    def state(**texts: str) -> SourceState:
        alert = OpenAlert(an_alert(name=f"a{texts['title']}"), f"a{texts['owner']}")
        return failing(texts["name"], last_error=texts["error"], top_open=[alert])

    harmless = read(state(name="x", error="x", title="x", owner="x"))

    hostile = read(state(name=f"<script>{name}", error=f"<b>{error}", title=f"<i>{title}", owner=f'"><a {owner}'))

    assert hostile.tags == harmless.tags


def test_no_text_from_elsewhere_turns_around_what_is_read() -> None:
    state = failing(last_error="a\u202eb", top_open=[OpenAlert(an_alert(name="c\u2066d"))])

    text = read(state).text

    assert "a\ufffdb" in text
    assert "c\ufffdd" in text


def test_the_page_needs_nothing_but_itself_and_works_below_any_path() -> None:
    html = page(a_snapshot(a_polled_state()), NOW, MOMENT, "1.2.3", "/metrics")

    links = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert links == ["metrics", "status", "-/healthy", "-/ready", "?refresh=off"]
    style = re.search("<style>(.*)</style>", html, re.DOTALL)
    assert style is not None
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in CSP


def test_the_page_asks_again_by_itself_until_it_is_told_not_to() -> None:
    assert dict(headers(refreshes=True))["refresh"] == "30"
    assert "refresh" not in dict(headers(refreshes=False))
    assert 'href="?"' in page(a_snapshot(), NOW, MOMENT, "1", "/metrics", refreshes=False)
