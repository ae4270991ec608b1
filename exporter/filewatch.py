"""Detects changed files by their content, also behind symlinks that Kubernetes swaps for a whole folder."""

import hashlib
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from exporter import files

Contents = Mapping[Path, bytes | None]


def contents_of(paths: Iterable[Path]) -> Contents:
    """Returns a digest of each file; None for what cannot be read. A pipe, which can be read once, is left alone."""
    return {path: _digest(path) for path in paths}


def _digest(path: Path) -> bytes | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        return hashlib.blake2b(files.read(path), digest_size=16).digest()
    except (OSError, ValueError):
        return None


class Watcher:
    """Compares the files that `named` names at each look.

    A change counts at the second look that finds the same, so that a file which is being written is not read half.
    """

    def __init__(self, named: Callable[[], Iterable[Path]]) -> None:
        self._named = named
        self._known = self._seen = contents_of(named())

    def has_changed(self) -> bool:
        """Returns whether there is a change that the last look found as well; it is known from now on."""
        before, self._seen = self._seen, contents_of(self._named())
        if self._seen == self._known or self._seen != before:
            return False
        self._known = self._seen
        return True

    def follow(self) -> None:
        """Takes up the names as they are now; the content of those that are new counts as known."""
        now = contents_of(self._named())
        self._known = self._seen = {path: self._known.get(path, content) for path, content in now.items()}
