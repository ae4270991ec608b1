"""One line per record, in either format, and no secret in any of them."""

import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
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


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_logfmt_has_time_level_logger_and_message_first(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")

    log.warning("source %s is down", "a", extra={"source": "a", "failures": 3, "why": 'said "no"\n', "empty": ""})

    (line,) = _lines(capsys)
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=warning logger=exporter\.somewhere "
        r'msg="source a is down" source=a failures=3 why="said \\"no\\"\\n" empty=""',
        line,
    )


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")

    log.info("listening", extra={"port": 10877, "paths": ["/", "/metrics"]})

    (line,) = _lines(capsys)
    told = json.loads(line)
    assert list(told) == ["ts", "level", "logger", "msg", "port", "paths"]
    assert told["ts"].endswith("Z")
    assert (told["msg"], told["port"], told["paths"]) == ("listening", 10877, ["/", "/metrics"])


@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_a_traceback_is_part_of_its_line(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", format_)

    try:
        _break("boom")
    except RuntimeError:
        log.exception("a poll broke")

    (line,) = _lines(capsys)
    assert "RuntimeError: boom" in line
    assert "Traceback" in line


def test_the_level_can_change_while_running_and_no_line_comes_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("error", "logfmt")
    log.info("unseen")
    logs.setup("debug", "json")
    log.debug("seen")

    (line,) = _lines(capsys)

    assert json.loads(line)["msg"] == "seen"


def test_libraries_tell_nothing_of_single_requests_even_at_debug_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")

    for name in ("httpx", "httpcore.http11", "uvicorn.access", "asyncio"):
        logging.getLogger(name).info("GET http://vendor/?secret=x")

    assert _lines(capsys) == []


def test_a_crash_is_told_through_the_filter(capsys: pytest.CaptureFixture[str]) -> None:
    secret = Secret(CANARY)
    logs.setup("info", "logfmt")

    try:
        _break(secret.read())
    except RuntimeError:
        sys.excepthook(*sys.exc_info())

    (line,) = _lines(capsys)
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
def test_a_secret_is_seen_in_no_form(form: str, format_: str, capsys: pytest.CaptureFixture[str]) -> None:
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

    told = "\n".join(_lines(capsys))
    assert told.count("***") >= 7
    for piece in ("c4n4ry", "s3cret", shown, *_middle_of_base64(shown)):
        assert piece not in told
    assert secret.read() == CANARY


def _middle_of_base64(shown: str) -> list[str]:
    return [shown[12:20]] if re.fullmatch(r"[A-Za-z0-9+/=_-]+", shown) else []


def test_a_line_that_cannot_be_written_is_told_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")
    broken = io.StringIO()
    broken.close()
    logging.getLogger().handlers[-1].stream = broken  # type: ignore[attr-defined]

    log.warning("a line with %s", CANARY)

    assert _lines(capsys) == []


def test_a_secret_is_not_seen_after_its_rotation_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "secret"
    file.write_text("the first value")
    secret = Secret(file=file)
    logs.setup("info", "logfmt")
    log.info("%s", secret.read())

    file.write_text("another value now")
    log.info("%s", secret.read())
    log.info("the first value")

    assert [line.rpartition(" ")[2] for line in _lines(capsys)] == ["msg=***", "msg=***", "msg=***"]


@given(text=st.text(), format_=st.sampled_from(["logfmt", "json"]), key=st.text(min_size=1).filter(str.strip))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_is_one_printable_line(
    text: str, format_: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.setup("info", format_)

    log.info("%s", text, extra={f"x{key}": text})

    written = capsys.readouterr().err
    assert written.endswith("\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", written[:-1])
    assert format_ == "logfmt" or json.loads(written)["msg"] == text
