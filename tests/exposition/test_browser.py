"""The status page in a real Chromium: for everybody, on every screen, and whatever a vendor writes."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from exporter.errors import Reason
from exporter.exposition.prometheus import Renderer
from exporter.exposition.web import Shown
from exporter.model.alert import Severity
from exporter.model.snapshot import Detailed, OpenAlert, ReloadState, Snapshot, SourceState
from tests.builders import an_alert
from tests.exposition.conftest import Serve
from tests.exposition.states import MOMENT, NOW, a_polled_state, a_state
from tests.programs import program

HOSTILE = '</span><img src=x onerror="document.title=1"><script>document.title=2</script>&lt;b&gt;'
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def alerts(names: list[str]) -> dict[str, Any]:
    severities = [*Severity]
    top = [
        OpenAlert(
            an_alert(
                str(place), name=name, severity=severities[place % 6], started_at=NOW - timedelta(minutes=7**place)
            ),
            "storage" * (place % 2),
        )
        for place, name in enumerate(names)
    ]
    return {"top_open": top, "open_by_severity": {Severity.CRITICAL: len(top) + 3}}


def a_bad_night() -> Snapshot:
    """Every state, long words without a space, and a vendor that writes markup."""
    sources: list[SourceState] = [
        a_state(name="new"),
        a_polled_state(name="good", **alerts([HOSTILE, "x" * 500, "disk full", "latency", "", "磁盘使用率过高"])),
        a_polled_state(
            name="w" * 100,
            up=False,
            last_error="no route to aom.cn-north-4.myhuaweicloud.com:443" + "y" * 200,
            last_reason=Reason.CONNECTION,
            failures_in_a_row=3,
            details={"list_notified_histories": Detailed(failed=2, waiting=1, reason=Reason.PERMISSION)},
        ),
        a_polled_state(name="old", succeeded=MOMENT - 1e6, up=False, last_error="x", last_reason=Reason.AUTH),
    ]
    reload = ReloadState(False, NOW - timedelta(hours=2), [f"sources.x: {HOSTILE}", "z" * 300])
    return Snapshot(at=NOW, moment=MOMENT, sources=sources, reload=reload, notices_failed={"good": 1})


def a_good_day() -> Snapshot:
    reload = ReloadState(True, NOW)
    return Snapshot(at=NOW, moment=MOMENT, sources=[a_polled_state(open_by_severity={})], reload=reload)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def url(serve: Serve, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The page of a snapshot, at the moment of that snapshot."""
    monkeypatch.setattr("exporter.exposition.web.monotonic", lambda: MOMENT)
    snapshot = request.param()
    server = serve(shown=Shown(snapshot, Renderer(version="1", revision="2").render(snapshot)))
    return f"http://127.0.0.1:{server.address[1]}/"


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(**request.param)
    yield context.new_page()
    context.close()


SNAPSHOTS = pytest.mark.parametrize("url", [a_bad_night, a_good_day], indirect=True, ids=lambda made: made.__name__)


@SNAPSHOTS
@pytest.mark.parametrize(
    "page",
    [{"viewport": size, "color_scheme": scheme} for size in (PHONE, DESKTOP) for scheme in ("light", "dark")],
    indirect=True,
    ids=lambda options: f"{options['viewport']['width']}-{options['color_scheme']}",
)
def test_axe_finds_nothing_and_nobody_scrolls_sideways(page: Page, url: str) -> None:
    page.goto(url)

    found = Axe().run(page)

    assert found.response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")


@pytest.mark.parametrize("url", [a_bad_night], indirect=True)
@pytest.mark.parametrize("page", [{"viewport": DESKTOP}], indirect=True)
def test_what_a_vendor_writes_is_shown_as_text_and_nothing_is_refused_by_the_browser(page: Page, url: str) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))

    page.goto(url)

    # A label value is cut to 128 characters; the text is complete up to there.
    assert page.locator(".alerts .name").all_inner_texts().count(HOSTILE[:128]) == 1
    assert page.get_by_text(f"sources.x: {HOSTILE}").count() == 1
    assert page.locator("img, script, b:not(.critical, .major, .minor, .warning, .info, .unknown, p b)").count() == 0
    assert page.title().startswith("2 failing, reload failed")
    assert [one.removeprefix(url) for one in requested] in ([""], ["", "favicon.ico"])
    assert [each for each in complaints if "favicon" not in each and "404" not in each] == []


@SNAPSHOTS
@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_no_script_is_needed(page: Page, url: str) -> None:
    page.goto(url)

    assert page.get_by_role("heading", name="Open alerts").is_visible()
    page.get_by_role("link", name="Stop refreshing").click()
    assert page.get_by_role("link", name="Refresh", exact=True).is_visible()
