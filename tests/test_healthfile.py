import os
import tempfile
from pathlib import Path

import pytest

from exporter.healthfile import LATE_SECONDS, HealthFile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_daemon_that_does_not_renew_its_file_is_not_healthy(folder: Path) -> None:
    health = HealthFile(None)
    health.renew(["a"])
    [file] = folder.iterdir()
    renewed_at = float(file.read_text().splitlines()[0])

    def aged(seconds: float) -> str:
        file.write_text(f"{renewed_at - seconds}\n")
        return health.complaint()

    assert aged(0) == ""
    assert "has not renewed" in aged(LATE_SECONDS + 1)
    assert "before this machine was started" in aged(-1000)
    file.write_text("no number")
    assert "is not the exporter's" in health.complaint()


@pytest.mark.parametrize("clock", [0, 2**32])
def test_no_clock_that_can_be_set_makes_it_unhealthy(folder: Path, clock: int) -> None:
    health = HealthFile(None)
    health.renew(["a"])
    [file] = folder.iterdir()
    os.utime(file, (clock, clock))

    assert health.complaint() == "the poll loop is stuck: a"


def test_a_name_that_the_locale_cannot_spell_is_a_name(folder: Path) -> None:
    HealthFile(folder / "a\udcff.yaml").renew([])

    assert HealthFile(folder / "a\udcff.yaml").complaint() == ""


def test_two_daemons_do_not_speak_for_each_other(folder: Path) -> None:
    one, other = HealthFile(folder / "one.yaml"), HealthFile(folder / "other.yaml")

    one.renew([])

    assert one.complaint() == ""
    assert "no running exporter" in other.complaint()


def test_without_a_folder_to_write_to_it_says_so_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tempfile.tempdir = str(folder / "gone")
    health = HealthFile(None)

    health.renew([])
    health.renew([])
    health.remove()

    assert caplog.text.count("mount a writable folder") == 1
    assert "no running exporter" in health.complaint()
