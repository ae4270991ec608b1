"""A secret, as it is given and as it is rotated."""

import logging
import os
from pathlib import Path

import pytest

from exporter.logs import without_secrets
from exporter.vendorkit.secret import Secret, known_values

CANARY = "c4n4ry-s3cret"


@pytest.mark.parametrize(
    "content",
    [CANARY, f"{CANARY}\n", f"{CANARY}\r\n", f"  {CANARY} \n\n", f"\ufeff{CANARY}", f"\ufeff{CANARY}\n", f"\n{CANARY}"],
)
def test_a_file_holds_the_secret_whatever_editors_add(content: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text(content, encoding="utf-8")

    assert Secret(file=tmp_path / "s").read() == CANARY


@pytest.mark.parametrize("content", [f"{CANARY}{end}more" for end in ("\n", "\r\n", "\r", "\x0b", "\u2028")])
def test_a_file_with_several_lines_is_refused_and_not_shown(content: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match="has several lines") as caught:
        Secret(file=tmp_path / "s")

    assert CANARY not in str(caught.value)


def test_a_rotation_to_several_lines_keeps_the_last_value_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "s"
    file.write_text(CANARY)
    secret = Secret(file=file)
    file.write_text("two\nlines")

    with caplog.at_level(logging.WARNING):
        values = [secret.read(), secret.read()]
    file.write_text("the-next-one")

    assert values == [CANARY, CANARY]
    assert secret.read() == "the-next-one"
    assert [record.message for record in caplog.records] == [
        f"secret file {file} cannot be read (the file named there has several lines; leave only the secret in it); "
        "its last value stays in use"
    ]


@pytest.mark.parametrize(
    ("value", "doubt"),
    [
        ("short", "has fewer than 6 characters"),
        ('"quoted-secret"', "begins and ends with quotes"),
        ("'quoted-secret'", "begins and ends with quotes"),
        ("'half-quoted", ""),
        (CANARY, ""),
    ],
)
def test_a_value_that_is_probably_wrong_is_doubted(value: str, doubt: str) -> None:
    assert Secret(value).doubt().startswith(doubt)
    assert (Secret(value).doubt() == "") == (doubt == "")


def test_a_short_secret_does_not_shred_the_log() -> None:
    short, long = Secret("s"), Secret(CANARY)

    assert without_secrets(f"source aom-test says {CANARY}") == "source aom-test says ***"
    assert short.read() not in known_values()
    assert long.read() in known_values()


def test_a_secret_from_a_pipe_is_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, CANARY.encode())
    os.close(writing)

    secret = Secret(file=Path(f"/dev/fd/{reading}"))

    assert [secret.read(), secret.read()] == [CANARY, CANARY]
    os.close(reading)
