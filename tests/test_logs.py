"""One line per record, in either format, no secret in any of them, and no wait for whoever reads them."""

import base64
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter import logs
from exporter.vendorkit.secret import Secret

CANARY = 'c4n4ry&=+/ "s3cret\\'

log = logging.getLogger("exporter.somewhere")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:], sys.excepthook
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    sys.excepthook = before[2]
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = True


def _break(why: str) -> None:
    raise RuntimeError(why)


def _lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    assert logs.writer.wait(10)
    return capfd.readouterr().err.splitlines()


def test_logfmt_has_time_level_logger_and_message_first(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")

    log.warning("source %s is down", "a", extra={"source": "a", "failures": 3, "why": 'said "no"\n', "empty": ""})

    (line,) = _lines(capfd)
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=warning logger=exporter\.somewhere "
        r'msg="source a is down" source=a failures=3 why="said \\"no\\"\\n" empty=""',
        line,
    )


def test_json_is_one_object_per_line(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")

    log.info("listening", extra={"port": 10877, "paths": ["/", "/metrics"]})

    (line,) = _lines(capfd)
    told = json.loads(line)
    assert list(told) == ["ts", "level", "logger", "msg", "port", "paths"]
    assert told["ts"].endswith("Z")
    assert (told["msg"], told["port"], told["paths"]) == ("listening", 10877, ["/", "/metrics"])


@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_a_traceback_is_part_of_its_line(format_: str, capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", format_)

    try:
        _break("boom")
    except RuntimeError:
        log.exception("a poll broke")

    (line,) = _lines(capfd)
    assert "RuntimeError: boom" in line
    assert "Traceback" in line


def test_the_level_can_change_while_running_and_no_line_comes_twice(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("error", "logfmt")
    log.info("unseen")
    logs.setup("debug", "json")
    log.debug("seen")

    (line,) = _lines(capfd)

    assert json.loads(line)["msg"] == "seen"


def test_libraries_tell_nothing_of_single_requests_even_at_debug_level(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")

    for name in ("httpx", "httpcore.http11", "uvicorn.access", "asyncio"):
        logging.getLogger(name).info("GET http://vendor/?secret=x")

    assert _lines(capfd) == []


def test_a_crash_is_told_through_the_filter(capfd: pytest.CaptureFixture[str]) -> None:
    secret = Secret(CANARY)
    logs.setup("info", "logfmt")

    try:
        _break(secret.read())
    except RuntimeError:
        sys.excepthook(*sys.exc_info())

    (line,) = _lines(capfd)
    assert "RuntimeError: ***" in line


FORMS = {
    "as it is": CANARY,
    "percent-encoded": quote(CANARY, safe=""),
    "percent-encoded in lower case": re.sub("%..", lambda code: code[0].lower(), quote(CANARY, safe="")),
    "in base64": base64.b64encode(CANARY.encode()).decode(),
    "in base64 after a user": base64.b64encode(b"user:" + CANARY.encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(b"me:" + CANARY.encode() + b"!").decode(),
    "as Python shows it": repr(CANARY),
    "as JSON": json.dumps({"password": CANARY}),
}


@pytest.mark.parametrize("format_", ["logfmt", "json"])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_seen_in_no_form(form: str, format_: str, capfd: pytest.CaptureFixture[str]) -> None:
    secret = Secret(CANARY)
    shown = FORMS[form]
    logs.setup("debug", format_)

    log.debug(
        "message %s", shown, extra={"field": shown, "nested": {"list": [shown], shown: 1}, "bytes": shown.encode()}
    )
    try:
        _break(shown)
    except RuntimeError:
        log.exception("failed with %r", {shown})

    told = "\n".join(_lines(capfd))
    assert told.count("***") >= 7
    for piece in ("c4n4ry", "s3cret", shown, *_middle_of_base64(shown)):
        assert piece not in told
    assert secret.read() == CANARY


def _middle_of_base64(shown: str) -> list[str]:
    return [shown[12:20]] if re.fullmatch(r"[A-Za-z0-9+/=_-]+", shown) else []


@contextmanager
def pipe_that_is_full() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that takes no more; writing to it blocks."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * 4096)
        os.set_blocking(writing, True)
        yield reading, writing
    finally:
        os.close(reading)
        with suppress(OSError):
            os.close(writing)


def read_until(descriptor: int, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += os.read(descriptor, 65536)
    return found


def test_a_reader_that_stops_delays_nobody_and_gets_what_fits_when_it_goes_on() -> None:
    with pipe_that_is_full() as (reading, writing):
        writer = logs.Writer(writing, most=1000)
        for number in range(100):
            writer.write(f"line {number:94d}\n")

        assert writer.dropped == 90
        assert not writer.wait(0)
        lines = read_until(reading, b"9\n").lstrip(b".").splitlines()
        assert [int(line.split()[1]) for line in lines] == [*range(10)]
        assert writer.wait(10)
        writer.write("more\n")
        assert read_until(reading, b"\n") == b"more\n"
        assert writer.dropped == 90


def test_a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 not a file with a content
        writer = logs.Writer(full.fileno())
        for _ in range(3):
            writer.write("a line\n")
            assert writer.wait(10)

    assert writer.dropped == 3


def test_a_pipe_that_does_not_block_gets_every_line() -> None:
    with pipe_that_is_full() as (reading, writing):
        os.set_blocking(writing, False)
        writer = logs.Writer(writing)
        writer.write("x" * 100_000 + "\n")

        assert read_until(reading, b"\n").lstrip(b".") == b"x" * 100_000 + b"\n"
    assert writer.dropped == 0


def test_a_record_that_cannot_be_formatted_is_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")

    log.warning("a number: %d", CANARY)

    assert _lines(capfd) == []


def test_a_secret_is_not_seen_after_its_rotation_either(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "secret"
    file.write_text("the first value")
    secret = Secret(file=file)
    logs.setup("info", "logfmt")
    log.info("%s", secret.read())

    file.write_text("another value now")
    log.info("%s", secret.read())
    log.info("the first value")

    assert [line.rpartition(" ")[2] for line in _lines(capfd)] == ["msg=***", "msg=***", "msg=***"]


@given(text=st.text(), format_=st.sampled_from(["logfmt", "json"]), key=st.text(min_size=1).filter(str.strip))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_is_one_printable_line(
    text: str, format_: str, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.setup("info", format_)

    log.info("%s", text, extra={f"x{key}": text})

    assert logs.writer.wait(10)
    written = capfd.readouterr().err
    assert written.endswith("\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", written[:-1])
    assert format_ == "logfmt" or json.loads(written)["msg"] == text
