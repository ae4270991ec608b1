"""Writes docs/images/status-page.png: `python -m tests.screenshots`, where Chromium is."""

from datetime import timedelta
from pathlib import Path

from playwright.sync_api import sync_playwright

from exporter.errors import Reason
from exporter.exposition.landing import page
from exporter.model.alert import Severity
from exporter.model.snapshot import OpenAlert, ReloadState, Snapshot, SourceState
from tests.builders import an_alert
from tests.exposition.states import MOMENT, NOW, a_polled_state
from tests.programs import program

IMAGES = Path(__file__).parents[1] / "docs" / "images"

OPEN = {
    "aom-prod": [
        (Severity.CRITICAL, "Pod restarts of payments-api", "payments", 190),
        (Severity.MAJOR, "RDS connections above 90 %", "databases", 62),
        (Severity.MINOR, "ELB latency above 500 ms", "network", 25),
    ],
    "bk-idc": [
        (Severity.CRITICAL, "Disk usage of 10.4.2.9 above 95 %", "storage", 845),
        (Severity.WARNING, "CPU usage of 10.4.2.17", "storage", 12),
    ],
}


def sources() -> list[SourceState]:
    """A failing source beside two that are well."""
    found = [
        a_polled_state(
            name=name,
            vendor={"aom-prod": "huawei_aom", "bk-idc": "blueking"}[name],
            details={},
            open_by_severity={severity: [one[0] for one in alerts].count(severity) for severity, *_ in alerts},
            top_open=[
                OpenAlert(
                    an_alert(str(age), name=title, severity=severity, started_at=NOW - timedelta(minutes=age)), owner
                )
                for severity, title, owner, age in alerts
            ],
        )
        for name, alerts in OPEN.items()
    ]
    failing = a_polled_state(
        name="bls-shanghai",
        vendor="baidu_bls",
        details={},
        up=False,
        last_error="bls-log.bj.baidubce.com:443 refused the credentials (403 AccessDenied)",
        last_reason=Reason.AUTH,
        failures_in_a_row=3,
        succeeded=MOMENT - 200,
        last_success=NOW - timedelta(seconds=200),
        open_by_severity={},
    )
    return [*found, failing]


def main() -> None:
    """Takes the picture, in light colours."""
    reload = ReloadState(successful=True, succeeded_at=NOW)
    failed = {"aom-prod": 2, "bk-idc": 0, "bls-shanghai": 0}
    snapshot = Snapshot(at=NOW, moment=MOMENT, sources=sources(), reload=reload, notices_failed=failed)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
        shown.set_content(page(snapshot, NOW, MOMENT, "0.1.0", "/metrics"))
        shown.screenshot(path=IMAGES / "status-page.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
