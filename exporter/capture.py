"""capture and replay: one poll of a source as a file that holds nothing personal, and the same poll from that file."""

import asyncio
import gzip
import io
import os
import selectors
import tempfile
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import anyio
import httpx
import msgspec
from msgspec import UNSET, UnsetType
from pydantic import BaseModel, ValidationError

from exporter import files
from exporter.config import Metrics
from exporter.errors import ConfigError, FetchError, Reason, SourceUnintelligible, SourceUnreachable
from exporter.exposition.prometheus import Renderer
from exporter.fleet import Watch, own_now
from exporter.model.snapshot import ReloadState, Snapshot, SourceState
from exporter.vendorkit.cleaning import Cleaner, Number, Pairs, parse, spell
from exporter.vendorkit.contract import FirstPoll, SourceConfig
from exporter.vendorkit.secret import Secret
from exporter.vendorkit.settings import text_from
from exporter.vendors import load_all
from exporter.version import revision, version

FORMAT = "vendor-alert-exporter capture"
FORMAT_VERSION = 1
# Size of a capture at most, compressed and not, in bytes.
_LARGEST_FILE = 256 * 1024**2
_LARGEST = 2 * 1024**3
# Length of a body that is not JSON, in characters.
_LONGEST_PROSE = 2000

_ENDPOINT = "https://replay.invalid"
# Settings that say how this installation reaches its vendor and names things, not what the vendor answers.
_LEFT_OUT = {"tls", "proxy", "labels", "endpoint"}
# Words of our own configuration whose type is plain text.
_OWN_WORDS = {"aksk", "token", "password", "auto", "id", "alarmId"}
_SAID_BY_HEADERS = ("content-type", "date", "retry-after")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a capture: what was polled, with which settings, and when by the shifted clock."""

    format: str
    version: int
    exporter: str
    vendor: str
    settings: dict[str, Any]
    at: datetime


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, without host, path and headers."""

    method: str
    query: list[tuple[str, str]]
    body: msgspec.Raw


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One HTTP attempt. It has a status with headers and a body, or an `error`: the reason why there was no answer.

    Without either it was under way when the poll ended. `body` is the answer's JSON; `prose` stands for a body that
    was none.
    """

    endpoint: str
    request: Request
    seconds: float
    status: int | None = None
    headers: dict[str, str] = {}
    body: msgspec.Raw | UnsetType = UNSET
    prose: str = ""
    error: Reason | None = None


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """A capture in memory."""

    header: Header
    exchanges: Sequence[Exchange]


# Recording.


class Recorder(httpx.AsyncBaseTransport):
    """Notes every attempt that passes to the wrapped transport, cleaned."""

    def __init__(
        self, wrapped: httpx.AsyncBaseTransport, cleaner: Cleaner, headers: frozenset[str], notes: list[Exchange]
    ) -> None:
        self._wrapped = wrapped
        self._cleaner = cleaner
        self._headers = headers
        self._notes = notes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer of the wrapped transport."""
        started = anyio.current_time()
        # Cleaned before the answer: an identity that was asked for is known as one, wherever it stands in the answer.
        asked = self._request(request)
        endpoint = str(request.extensions.get("endpoint", ""))
        try:
            response = await self._wrapped.handle_async_request(request)
        except FetchError as error:
            self._notes.append(Exchange(endpoint=endpoint, request=asked, seconds=_since(started), error=error.reason))
            raise
        except anyio.get_cancelled_exc_class():
            self._notes.append(Exchange(endpoint=endpoint, request=asked, seconds=_since(started)))
            raise
        body, prose = self._answer(response.content)
        self._notes.append(
            Exchange(
                endpoint=endpoint,
                request=asked,
                seconds=_since(started),
                status=response.status_code,
                headers=self._said(response.headers),
                body=body,
                prose=prose,
            )
        )
        return response

    async def aclose(self) -> None:
        """Closes the wrapped transport."""
        await self._wrapped.aclose()

    def _request(self, request: httpx.Request) -> Request:
        clean = self._cleaner
        body = clean.body(request.content) if request.content else None
        return Request(
            method=request.method,
            query=[(name, clean.text(value, name)) for name, value in request.url.params.multi_items()],
            body=msgspec.Raw((body or "null").encode()),
        )

    def _answer(self, content: bytes) -> tuple[msgspec.Raw | UnsetType, str]:
        cleaned = self._cleaner.body(content)
        if cleaned is not None:
            return msgspec.Raw(cleaned.encode()), ""
        text = content.decode("utf-8", "replace")[:_LONGEST_PROSE]
        # The first mark says that it is HTML, which is what a person has to know.
        mark = "<" if text.lstrip()[:1] == "<" else ""
        return UNSET, mark + self._cleaner.text(text, "")

    def _said(self, headers: httpx.Headers) -> dict[str, str]:
        said = {}
        for name in (*_SAID_BY_HEADERS, *self._headers):
            value = headers.get(name)
            if value is None:
                continue
            if name == "content-type":
                value = "application/json" if "json" in value else "text/html" if "html" in value else "other"
            elif (moment := _http_date(value)) is not None:
                value = f"{self._cleaner.moment(moment):%a, %d %b %Y %H:%M:%S} GMT"
            elif not value.strip().isdecimal():
                value = self._cleaner.identity(value)
            said[name] = value
        return said


def _since(started: float) -> float:
    return round(anyio.current_time() - started, 3)


def _http_date(text: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return None


async def record(
    config: SourceConfig,
    metrics: Metrics,
    *,
    network: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], datetime] = own_now,
) -> tuple[Capture, SourceState]:
    """Polls a source once, counting the whole first window; returns what was exchanged, cleaned, and what it says.

    A poll that fails is recorded, too: that is when a capture is needed. `network` replaces the real one in tests.
    """
    vendor = load_all()[config.vendor]
    cleaner = Cleaner(vendor.vocabulary, getattr(config, "timezone", UTC))
    exchanges: list[Exchange] = []

    def around(transport: httpx.AsyncBaseTransport) -> Recorder:
        return Recorder(transport, cleaner, vendor.vocabulary.headers, exchanges)

    at = now()
    state = await _polled(config, metrics, network=network, now=now, around=around)
    header = Header(
        format=FORMAT,
        version=FORMAT_VERSION,
        exporter=version(),
        vendor=vendor.name,
        settings=settings_of(config, cleaner),
        at=cleaner.moment(at),
    )
    return Capture(header=header, exchanges=exchanges), state


def capture(config: SourceConfig, metrics: Metrics) -> tuple[Capture, SourceState]:
    """Runs `record` in an event loop of its own."""
    return anyio.run(record, config, metrics)


async def _polled(config: SourceConfig, metrics: Metrics, **options: Any) -> SourceState:
    counting_all = config.model_copy(update={"first_poll": FirstPoll.BACKFILL})
    watch = Watch("captured", counting_all, metrics, published=lambda: None, **options)
    await watch.poller.poll()
    await watch.close()
    return watch.book.state


def settings_of(config: SourceConfig, cleaner: Cleaner) -> dict[str, Any]:
    """Returns the settings of a source that decide what it asks and reads, cleaned as the answers are."""
    kept = {name: value for name, value in _fields(config) if name not in _LEFT_OUT}
    return {name: _cleaned(value, name, cleaner) for name, value in kept.items()} | {"endpoint": _ENDPOINT}


def _fields(settings: BaseModel) -> Iterator[tuple[str, Any]]:
    for name in type(settings).model_fields:
        if (value := getattr(settings, name)) is not None:
            yield name, value


def _cleaned(value: Any, name: str, cleaner: Cleaner) -> Any:
    match value:
        case Secret():
            return "replayed"
        case BaseModel():
            return {inner: _cleaned(item, inner, cleaner) for inner, item in _fields(value)}
        case bool() | float():
            return value
        case timedelta():
            return text_from(value)
        case Enum() | ZoneInfo():
            return str(value)
        case int():
            return int(cleaner.value(Number(str(value)), name))
        case list() | tuple():
            return [_cleaned(item, name, cleaner) for item in value]
        case dict():
            return {cleaner.text(key, ""): _cleaned(item, name, cleaner) for key, item in value.items()}
        case str() if name == "vendor" or value in _OWN_WORDS or cleaner.is_documented(value):
            return value
        case str() if value.startswith(("http://", "https://")):
            return _ENDPOINT
        case str():
            return cleaner.identity(value)
        case _:
            return str(value)


# The file.


def write(captured: Capture, file: Path) -> int:
    """Writes a capture and returns its size in bytes; the file appears whole or not at all, readable by its owner.

    Raises:
        OSError: it cannot be written.
    """
    lines = [captured.header, *captured.exchanges]
    packed = gzip.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in lines), mtime=0)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(packed)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
    return len(packed)


def read(file: Path) -> Capture:
    """Reads a capture.

    Raises:
        ConfigError: the file cannot be read, is damaged, or is not a capture that this version understands.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(files.read(file, largest=_LARGEST_FILE))) as opened:
            text = opened.read(_LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ConfigError(f"{file}: is damaged or not a capture: it cannot be unpacked as gzip") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(text) > _LARGEST:
        raise ConfigError(f"{file}: is larger than any capture")
    first, *rest = text.splitlines() or [b""]
    exchanges: list[Exchange] = []
    try:
        header = msgspec.json.decode(first, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{file}: is not a capture: line 1 cannot be read") from None
    if header.format != FORMAT or header.version != FORMAT_VERSION:
        raise ConfigError(f"{file}: is not a capture of a version that this program reads ({FORMAT_VERSION})")
    try:
        exchanges.extend(msgspec.json.decode(line, type=Exchange) for line in rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        line = len(exchanges) + 2
        raise ConfigError(f"{file}: is damaged: line {line} cannot be read") from None
    return Capture(header=header, exchanges=exchanges)


# Replaying.


class Replay(httpx.AsyncBaseTransport):
    """A network that answers from a capture.

    A request gets the next answer to one that named the same identities at the same endpoint, else the next unused
    answer of that endpoint.
    """

    def __init__(self, captured: Capture) -> None:
        self._ids = load_all()[captured.header.vendor].vocabulary.ids
        self._unused: dict[str, deque[Exchange]] = defaultdict(deque)
        for exchange in captured.exchanges:
            self._unused[exchange.endpoint].append(exchange)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the captured answer, after the time it took."""
        exchange = self._next(request)
        if exchange is None:  # the poll that was captured had no time for it
            return await self._never()
        await anyio.sleep(exchange.seconds)
        if exchange.error is not None:
            raise _failure(exchange.error)
        if exchange.status is None:
            return await self._never()
        content = exchange.prose.encode() if exchange.body is UNSET else bytes(exchange.body)
        return httpx.Response(exchange.status, headers=exchange.headers, content=content)

    async def _never(self) -> NoReturn:
        while True:
            await anyio.sleep_forever()

    def _next(self, request: httpx.Request) -> Exchange | None:
        endpoint = str(request.extensions.get("endpoint", ""))
        unused = self._unused.get(endpoint)
        if unused is None:
            raise SourceUnintelligible(f"the capture holds no answer of {endpoint}", reason=Reason.NOT_FOUND)
        if not unused:
            return None
        asked = self._identities(request.url.params.multi_items(), request.content)
        found = next(
            (one for one in unused if self._identities(one.request.query, bytes(one.request.body)) == asked), unused[0]
        )
        unused.remove(found)
        return found

    def _identities(self, query: Sequence[tuple[str, str]], body: bytes) -> list[str]:
        found = [value for name, value in query if name in self._ids]
        with suppress(ValueError, RecursionError):
            found += self._inside(parse(body.decode()), "")
        return sorted(found)

    def _inside(self, value: Any, field: str) -> Iterator[str]:
        if isinstance(value, Pairs):
            for name, item in value:
                yield from self._inside(item, name)
        elif isinstance(value, list):
            for item in value:
                yield from self._inside(item, field)
        elif field in self._ids:
            yield spell(value).strip('"')


def _failure(reason: Reason) -> FetchError:
    told = "as captured"
    if reason in (Reason.TIMEOUT, Reason.CONNECTION, Reason.TLS):
        return SourceUnreachable(told, reason=reason)
    return SourceUnintelligible(told, reason=reason)


class _Jump(selectors.DefaultSelector):
    """A selector that does not wait: while nothing is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns what is ready, as the class above does."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time: pauses of a captured poll are not waited for again."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Returns the seconds of virtual time since the loop was made."""
        return self._jump.now


def replay(captured: Capture) -> SourceState:
    """Polls from a capture, without network and without waiting, and returns what the source's state is then.

    Raises:
        ConfigError: the capture's vendor or settings are not of this version.
    """
    header = captured.header
    vendor = load_all().get(header.vendor)
    if vendor is None:
        raise ConfigError(f"the capture is of vendor {header.vendor!r}, which this version does not know")
    try:
        config = vendor.config.model_validate(header.settings)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise ConfigError(f"the capture's settings are not of this version: {where}") from None

    async def main() -> SourceState:
        started = anyio.current_time()

        def now() -> datetime:
            return header.at + timedelta(seconds=anyio.current_time() - started)

        return await _polled(config, Metrics(), network=Replay(captured), now=now)

    return anyio.run(main, backend_options={"loop_factory": VirtualTime})


def exposition_of(state: SourceState, at: datetime) -> str:
    """Returns what /metrics would show of a source in this state, in the text format."""
    snapshot = Snapshot(at=at, moment=0.0, sources=[state], reload=ReloadState(successful=True, succeeded_at=at))
    return Renderer(version=version(), revision=revision()).render(snapshot).text.body(0.0).decode()
