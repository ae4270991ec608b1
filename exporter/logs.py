"""The log formats, and the filter that keeps secrets out."""

import atexit
import base64
import json
import logging
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

import structlog

from exporter.model.text import HIDDEN
from exporter.vendorkit.secret import known_values

log = logging.getLogger(__name__)

# They log every request, with its URL: at most their warnings concern an operator.
_TALKATIVE = ("asyncio", "httpcore", "httpx", "uvicorn")

# What the formatter of another handler may have left on the record: the message once more, unfiltered.
_LEFT_BY_OTHERS = ("message", "asctime")

# Bytes of lines queued for writing.
MOST_WAITING = 1024 * 1024
# Seconds for the last lines when the process ends.
LAST_SECONDS = 0.3


class Writer:
    """Writes lines to a file descriptor from a thread of its own, so that a reader that stops delays nobody.

    Lines that find too many waiting, or that cannot be written, are dropped and counted.
    """

    def __init__(self, descriptor: int, most: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Queues a line; never blocks."""
        line = text.encode(errors="backslashreplace")
        with self._changed:
            if self._size + len(line) > self._most:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits until all lines are written, at most that long; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting[0]
            try:
                _write_whole(self._descriptor, line)
                lost = 0
            except OSError:
                lost = 1
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line)
                self.dropped += lost
                self._changed.notify_all()


def _write_whole(descriptor: int, line: bytes) -> None:
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


writer = Writer(2)
_handler: logging.Handler = logging.NullHandler()


def dropped() -> int:
    """Returns lines that were dropped so far."""
    return writer.dropped


def flush() -> None:
    """Waits for the last lines to be written, but not for a reader that has stopped."""
    writer.wait(LAST_SECONDS)


def setup(level: str, format: str) -> None:  # noqa: A002 it is the name of the setting
    """Sends all logging to standard error, one line per record; can be called again to change level or format.

    `level` is debug, info, warn or error; `format` is logfmt or json.
    """
    global _handler
    root = logging.getLogger()
    root.removeHandler(_handler)
    _handler = logging.StreamHandler(writer)
    _handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.ExtraAdder(),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("msg"),
                _without_secrets,
                _as_json if format == "json" else _as_logfmt,
            ],
        )
    )
    root.addHandler(_handler)
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    atexit.register(flush)
    logging.captureWarnings(capture=True)
    # A record that cannot be formatted would be printed with its traceback, past the filter.
    logging.raiseExceptions = False
    # A crash is logged through the filter, too: an exception's text may hold anything.
    sys.excepthook = lambda *crash: log.critical("crashed", exc_info=crash)
    threading.excepthook = lambda crash: log.critical("a thread crashed", exc_info=crash.exc_value)


def without_secrets(text: str) -> str:
    """Returns the text with every secret in use, as it is or percent-encoded or in base64, replaced by `***`."""
    pattern = _pattern_for(frozenset(known_values()))
    return pattern.sub("***", text) if pattern else text


@lru_cache(maxsize=4)
def _pattern_for(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in _forms(secret)}
    # The longest first: of two secrets that begin alike, the shorter one must not leave a rest of the other.
    return re.compile("|".join(map(_written, sorted(forms, key=len, reverse=True)))) if forms else None


def _written(form: str) -> str:
    """Returns a pattern for the text however often it was put in quotes: each time adds backslashes."""
    return "".join(r"\\+" if char == "\\" else rf"\\*{char}" if char in "\"'" else re.escape(char) for char in form)


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, json.dumps(secret)[1:-1])
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (quoted, re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), quoted))
    content = secret.encode()
    for before in range(3):  # in base64 a text looks different at each of three places, and its edges mix with others
        start, end = -(-before * 8 // 6), (before + len(content)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            middle = encode(bytes(before) + content).decode()[start:end]
            if len(middle) >= 4:
                yield middle


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ours = ("ts", "level", "logger")
    told = ((str(key), value) for key, value in event.items() if key not in _LEFT_BY_OTHERS)
    return {key: value if key in ours else _clean(value) for key, value in told}


def _clean(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case dict():
            return {without_secrets(str(key)): _clean(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case int() | float():
            return value if (text := str(value)) == (clean := without_secrets(text)) else clean
        case _:
            return without_secrets(str(value))


_FIRST = ("ts", "level", "logger", "msg")


def _ordered(event: MutableMapping[str, Any]) -> dict[str, Any]:
    return {key: event[key] for key in (*_FIRST, *(key for key in event if key not in _FIRST))}


def _one_line(text: str) -> str:
    return HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return _one_line(json.dumps(_ordered(event), ensure_ascii=False))


def _as_logfmt(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    pairs = ((re.sub(r"[^\w.-]", "_", key), _logfmt_value(value)) for key, value in _ordered(event).items())
    return " ".join(f"{key}={value}" for key, value in pairs)


def _logfmt_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text and not re.search(r'[\s"=\\]', text) and not HIDDEN.search(text)
    return text if plain else _one_line(json.dumps(text, ensure_ascii=False))
