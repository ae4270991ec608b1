import os
from pathlib import Path

import pytest

from exporter.filewatch import Watcher


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one")
    return tmp_path / "file"


def looks(watcher: Watcher, times: int = 3) -> list[bool]:
    return [watcher.has_changed() for _ in range(times)]


def test_a_change_counts_once_and_only_when_it_is_found_twice(file: Path) -> None:
    watcher = Watcher(lambda: [file])
    assert looks(watcher) == [False] * 3

    file.write_text("tw")
    assert not watcher.has_changed()
    file.write_text("two")

    assert looks(watcher) == [False, True, False]


def test_the_content_counts_and_not_the_time(file: Path) -> None:
    watcher = Watcher(lambda: [file])

    file.unlink()
    file.write_text("one")
    os.utime(file, (0, 0))

    assert looks(watcher) == [False] * 3


def test_a_file_that_goes_and_one_that_comes_are_changes(file: Path, tmp_path: Path) -> None:
    watcher = Watcher(lambda: [file, tmp_path / "later"])

    file.unlink()
    assert looks(watcher) == [False, True, False]
    (tmp_path / "later").write_text("here")

    assert looks(watcher) == [False, True, False]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert looks(Watcher(lambda: [tmp_path / "pipe", tmp_path])) == [False] * 3


def test_files_that_are_named_anew_are_known_and_a_change_meanwhile_is_not_lost(file: Path, tmp_path: Path) -> None:
    named = [file]
    watcher = Watcher(lambda: named)
    named.append(tmp_path / "another")
    (tmp_path / "another").write_text("new")

    watcher.follow()
    assert looks(watcher) == [False] * 3

    file.write_text("two")
    watcher.follow()
    assert looks(watcher) == [False, True, False]
