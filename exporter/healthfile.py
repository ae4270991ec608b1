"""HealthFile: shows that a daemon without a port is healthy, by a file that it renews."""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from exporter import files

log = logging.getLogger(__name__)

# The daemon renews it every 10 s; a busy machine may be late.
LATE_SECONDS = 45.0


class HealthFile:
    """The file of the daemon that runs with this configuration file, in the folder for temporary files."""

    def __init__(self, config_file: Path | None) -> None:
        key = hashlib.blake2b(os.fsencode(config_file.absolute()) if config_file else b"", digest_size=8).hexdigest()
        self._name = f"vendor-alert-exporter-{os.geteuid()}-{key}"
        self._told = False

    def _path(self) -> Path:
        return Path(tempfile.gettempdir()) / self._name  # raises FileNotFoundError if no folder can be written to

    def renew(self, stuck: Sequence[str]) -> None:
        """Records that the daemon is alive, and which of its sources are stuck."""
        try:
            path = self._path()
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=self._name, delete=False) as file:
                file.write("\n".join((repr(_now()), *stuck)))
            Path(file.name).replace(path)
        except OSError as error:
            if not self._told:
                log.warning(
                    "the command healthcheck will fail: there is no port, and no file can be written either (%s); "
                    "mount a writable folder at /tmp",
                    error.strerror or error,
                )
            self._told = True

    def remove(self) -> None:
        """Removes the file, since the daemon has ended."""
        try:
            self._path().unlink(missing_ok=True)
        except OSError:
            log.debug("the health file cannot be removed; it will be too old soon")

    def complaint(self) -> str:
        """Returns what is wrong with the daemon; empty if it is healthy."""
        try:
            path = self._path()
            about, text = path.stat(), files.read(path).decode("utf-8")
        except OSError as error:
            return f"no running exporter has left its health file ({error.strerror or error})"
        if about.st_uid != os.geteuid():
            return f"{path} belongs to somebody else"
        renewed_at, _, stuck = text.partition("\n")
        try:
            age = _now() - float(renewed_at)
        except ValueError:
            return f"{path} is not the exporter's"
        if age < 0:
            return "the health file was left before this machine was started"
        if age > LATE_SECONDS:
            return f"the exporter has not renewed its health file for {age:.0f} s"
        return f"the poll loop is stuck: {', '.join(stuck.splitlines())}" if stuck else ""


def _now() -> float:
    """Returns seconds since the machine was started: the same for all its processes, and set by nobody."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
