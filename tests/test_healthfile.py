import os
import tempfile
import time
from pathlib import Path

import pytest

from exporter.healthfile import LATE_SECONDS, HealthFile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_daemon_that_does_not_renew_its_file_is_not_healthy(folder: Path) -> None:
    health = HealthFile(None)
    health.renew([])
    [file] = folder.iterdir()

    before = health.complaint()
    long_ago = time.time() - LATE_SECONDS - 1
    os.utime(file, (long_ago, long_ago))

    assert before == ""
    assert "has not renewed" in health.complaint()


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
