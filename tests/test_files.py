"""Files that an operator names, whatever stands under the name."""

import json
import os
import threading
from pathlib import Path

import pytest

from exporter import capture, files, yaml_file
from exporter.errors import ConfigError
from exporter.exposition import webconfig
from exporter.healthfile import HealthFile
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.settings import ExistingFile, Settings


class Named(Settings):
    file: ExistingFile


def _kinds(folder: Path) -> dict[str, Path]:
    """Names of everything that is no file to be read to its end."""
    os.mkfifo(folder / "fifo")
    (folder / "huge").touch()
    os.truncate(folder / "huge", 10 * files.LARGEST)
    (folder / "looped").symlink_to(folder / "looped")
    return {
        "a folder": folder,
        "a pipe that nobody writes to": folder / "fifo",
        "a device without end": Path("/dev/zero"),
        "a file far too large": folder / "huge",
        "a link to itself": folder / "looped",
        "a name with a NUL": folder / "a\0b",
        "a name far too long": folder / ("x" * 5000),
        "nothing": folder / "nothing",
    }


def _web_file(folder: Path, certificate: Path) -> Path:
    names = {"cert_file": str(certificate), "key_file": str(certificate)}
    (folder / "web.yml").write_text(json.dumps({"tls_server_config": names}))
    return folder / "web.yml"


KINDS = (
    "a folder",
    "a pipe that nobody writes to",
    "a device without end",
    "a file far too large",
    "a link to itself",
    "a name with a NUL",
    "a name far too long",
    "nothing",
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_wherever_it_is_named(kind: str, tmp_path: Path) -> None:
    path = _kinds(tmp_path)[kind]

    with pytest.raises(ValueError, match=r"cannot read the file named there: |the file named there is empty"):
        Secret(file=path)
    with pytest.raises(ValueError, match=r"cannot read the file named there: |there is no such file"):
        Named.model_validate({"file": path})
    with pytest.raises(ConfigError, match=r"tls_server_config\.cert_file: (there is no such file|cannot be read)"):
        webconfig.check(_web_file(tmp_path, path))
    with pytest.raises(ConfigError, match=r"cannot be read: |not a capture"):
        capture.read(path)
    if kind != "a pipe that nobody writes to":  # which reads as empty: there is nothing in it
        with pytest.raises(ConfigError, match="cannot be read: "):
            yaml_file.load(path)


def test_a_pipe_is_read_as_a_file_is_even_when_it_is_slow(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        for part in (b"a: 1\n", b"b: 2\n"):
            os.write(writing, part)
        os.close(writing)

    writer = threading.Timer(0.05, write)
    writer.start()

    assert yaml_file.load(Path(f"/dev/fd/{reading}")) == {"a": 1, "b": 2}

    writer.join()
    os.close(reading)


def test_a_pipe_that_is_held_open_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    held = os.open(tmp_path / "fifo", os.O_RDWR)

    with pytest.raises(TimeoutError, match="nobody writes to this pipe"):
        files.read(tmp_path / "fifo", patience=0.01)

    os.close(held)


def test_the_null_device_is_an_empty_file() -> None:
    assert files.read(Path("/dev/null")) == b""


def test_a_daemon_whose_file_the_locale_cannot_spell_says_that_it_is_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    health = HealthFile(Path("/etc/\udcd0\udca1.yml"))

    health.renew([])

    assert health.complaint() == ""
