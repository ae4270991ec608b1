"""The command doctor: asks each source step by step what a poll needs, and says what to do about the first failure."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from enum import StrEnum
from socket import gaierror

import anyio
import httpx
import msgspec

from exporter.config import Config, Metrics
from exporter.errors import FetchError, Reason, SourceRefused
from exporter.fleet import Watch, own_now, problems_of
from exporter.model.snapshot import SourceState
from exporter.vendorkit.contract import DAY, FirstPoll, Load, SourceConfig, Vendor
from exporter.vendorkit.proxies import proxy_for
from exporter.vendors import load_all

# A poll that only looks reads one page of each list and asks for one detail, and gives up soon.
_PAGES = _DETAILS = 1
_POLL = timedelta(seconds=30)
_TIMEOUT = timedelta(seconds=10)

# Seconds that our clock may differ from the vendor's before a person should know.
_CLOCK_NOTICED = 30.0
_SEND_CAPTURE = "make a capture of this source and send it to the project (docs/capture.md)"


class Result(StrEnum):
    """How a step ended; one is skipped where an earlier one failed, or where there was nothing to try it on."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: its name, how it ended, and what to do; `reason` is that of polls."""

    step: str
    result: Result
    reason: Reason | None = None
    what_to_do: str = ""
    seconds: float = 0.0


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The requests the source costs a day at today's alerts; the share is of `max_requests_per_second`."""

    requests_per_day: float
    by_endpoint: Mapping[str, float]
    share_of_limit: float


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about one source; no forecast if its alerts could not be read."""

    source: str
    vendor: str
    steps: Sequence[Step]
    forecast: Forecast | None

    @property
    def is_well(self) -> bool:
        """Returns whether no step failed."""
        return all(step.result is not Result.FAILED for step in self.steps)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the poll: the endpoint, why there was no answer, and which step such a failure belongs to."""

    endpoint: str
    seconds: float
    error: FetchError | None = None
    step: str = ""


class Witness(httpx.AsyncBaseTransport):
    """Notes what becomes of every request, and lets none follow one that was refused.

    A vendor may lock a key after a few bad signatures: one is enough to know.
    """

    def __init__(self, wrapped: httpx.AsyncBaseTransport) -> None:
        self._wrapped = wrapped
        self._refused: int | None = None
        self.attempts: list[Attempt] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer of the wrapped transport."""
        endpoint = str(request.extensions.get("endpoint", ""))
        if self._refused is not None:
            raise SourceRefused(f"HTTP {self._refused}: the credentials were refused")
        started = anyio.current_time()
        try:
            response = await self._wrapped.handle_async_request(request)
        except FetchError as error:
            seconds = anyio.current_time() - started
            self.attempts.append(Attempt(endpoint=endpoint, seconds=seconds, error=error, step=_step_of(error)))
            raise
        self.attempts.append(Attempt(endpoint=endpoint, seconds=anyio.current_time() - started))
        if response.status_code == 401:
            self._refused = response.status_code
        return response

    async def aclose(self) -> None:
        """Closes the wrapped transport."""
        await self._wrapped.aclose()


def _step_of(error: FetchError) -> str:
    """Returns the step that a failure without an answer belongs to; "" where a connection stood."""
    if error.reason is Reason.TLS:
        return "tls"
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, gaierror) for cause in causes):
        return "dns"
    return "connect" if any(isinstance(cause, _NOT_CONNECTED) for cause in causes) else ""


# Tries the way to a source, before anything is asked: a step for each part of it, up to the first that fails.
Reach = Callable[[SourceConfig], AsyncGenerator[Step]]

_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, ConnectionRefusedError)
# Seconds for a look-up of a name, and for a connection.
_REACHED_WITHIN = 5.0


async def reached(config: SourceConfig) -> AsyncGenerator[Step]:
    """Looks the hosts of a source up and connects to them, or to the proxy that leads there; sends nothing."""
    for url in (config.endpoint, getattr(getattr(config, "auth", None), "iam_endpoint", None)):
        if url is None:
            continue
        proxy = proxy_for(url, config.proxy)
        place = httpx.URL(proxy or url)
        host, port = place.host, place.port or (443 if place.scheme == "https" else 80)
        role = "the proxy " if proxy else ""
        for step in (_looked_up, _connected):
            yield await step(f"{role}{host}", host, port)


async def _looked_up(called: str, host: str, port: int) -> Step:
    started = anyio.current_time()
    why = ""
    try:
        with anyio.fail_after(_REACHED_WITHIN):
            await anyio.getaddrinfo(host, port)
    except TimeoutError:
        why = "no answer of the name server"
    except (gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such name can be"
    remedy = f"{called} cannot be looked up ({why}): check the host in `endpoint`, and the DNS of this machine"
    return _way_step("dns", remedy if why else "", started)


async def _connected(called: str, host: str, port: int) -> Step:
    started = anyio.current_time()
    why = ""
    try:
        with anyio.fail_after(_REACHED_WITHIN):
            connection = await anyio.connect_tcp(host, port)
        await connection.aclose()
    except TimeoutError:
        why = "it does not answer"
    except OSError as error:
        why = "nothing listens there" if _is_refusal(error) else "there is no way there"
    remedy = f"{called}, port {port}, cannot be connected to ({why}): check port, firewalls and `proxy`"
    return _way_step("connect", remedy if why else "", started)


def _is_refusal(error: BaseException) -> bool:
    inner = error.__cause__
    errors = inner.exceptions if isinstance(inner, BaseExceptionGroup) else (error, inner)
    return any(isinstance(each, ConnectionRefusedError) for each in errors)


def _way_step(name: str, failure: str, started: float) -> Step:
    return Step(
        step=name,
        result=Result.FAILED if failure else Result.OK,
        reason=Reason.CONNECTION if failure else None,
        what_to_do=failure,
        seconds=round(anyio.current_time() - started, 3),
    )


async def diagnosed(
    name: str,
    config: SourceConfig,
    *,
    reach: Reach = reached,
    network: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], datetime] = own_now,
) -> Diagnosis:
    """Examines one source; `network` replaces the real one in tests."""
    vendor = load_all()[config.vendor]
    steps = [Step(step="config", result=Result.OK)]
    async with aclosing(reach(config)) as way:
        async for step in way:
            steps = [known for known in steps if known.step != step.step]  # of several hosts, the one asked last
            steps.append(step)
            if step.result is Result.FAILED:
                break
    if steps[-1].result is Result.FAILED:
        steps += [_skipped(step) for step in ("auth", *_apis(vendor, config), "clock", "data")]
        return Diagnosis(source=name, vendor=vendor.name, steps=steps, forecast=None)
    witness: list[Witness] = []

    def around(transport: httpx.AsyncBaseTransport) -> Witness:
        witness.append(Witness(transport))
        return witness[-1]

    looking = _looking_only(config)
    watch = Watch(name, looking, Metrics(), published=lambda: None, network=network, now=now, around=around)
    await watch.poller.poll()
    await watch.close()
    state = watch.book.state
    attempts = [attempt for each in witness for attempt in each.attempts]
    return Diagnosis(
        source=name,
        vendor=vendor.name,
        steps=_Examination(vendor, config, attempts, state).steps(steps),
        forecast=_forecast(vendor, config, state),
    )


def _looking_only(config: SourceConfig) -> SourceConfig:
    """Returns the source as it is read by a poll that only looks."""
    return config.model_copy(
        update={
            "first_poll": FirstPoll.BACKFILL,
            "max_pages": _PAGES,
            "max_detail_requests": _DETAILS,
            "max_concurrency": 1,
            "interval": min(config.interval, _POLL),
            "timeout": min(config.timeout, _TIMEOUT),
        }
    )


def _apis(vendor: Vendor, config: SourceConfig) -> list[str]:
    """Returns the endpoints that this source uses, the token first, since all others need it."""
    used = vendor.requests_per_day(config, Load(open=1, new_per_day=1))
    return sorted(used, key=lambda endpoint: (endpoint != "create_token", vendor.endpoints.index(endpoint)))


class _Examination:
    """The result of each step, from a poll that only looks."""

    def __init__(self, vendor: Vendor, config: SourceConfig, attempts: Sequence[Attempt], state: SourceState) -> None:
        self._state = state
        self._seconds: dict[str, float] = defaultdict(float)
        for attempt in attempts:
            self._seconds[attempt.endpoint] += attempt.seconds
        # In the order in which they were asked, since the first that fails is reported.
        self._apis = list(dict.fromkeys([*self._seconds, *_apis(vendor, config)]))
        self._answered = any(attempt.error is None for attempt in attempts)
        self._is_secured = config.endpoint.startswith("https:")
        # A list of more than the one page that was looked at is no failure.
        self._reason = None if state.last_reason is Reason.TRUNCATED else state.last_reason
        self._ended_at = _failed_step(self._reason, attempts) if self._reason is not None else ""

    def steps(self, way: Sequence[Step]) -> list[Step]:
        """Returns the steps in their order: those passed, what failed, and what could not be tried for that."""
        reached = [self._ended_at] if self._ended_at in ("dns", "connect") else []
        names = [
            *reached,
            *(["tls"] if self._is_secured or self._ended_at == "tls" else []),
            "auth",
            *self._apis,
            "clock",
            "data",
        ]
        found = [step for step in way if step.step not in reached]
        for name in names:
            is_after = any(step.step == self._ended_at and step.result is Result.FAILED for step in found)
            found.append(_skipped(name) if is_after else self._step(name))
        return found

    def _step(self, name: str) -> Step:
        if name == self._ended_at and self._reason is not None:
            return self._failed(name, self._reason, self._state.last_error)
        if name == "tls":
            is_known = self._answered or self._reason is None
            return self._passed(name) if is_known else _skipped(name, "there was no answer")
        if name == "auth":
            is_known = self._answered or self._reason in (None, Reason.PERMISSION)
            return self._passed(name) if is_known else _skipped(name, "there was no answer")
        if name == "clock":
            return self._passed(name, self._clock_note())
        if name == "data":
            invalid = sum(count for (_, outcome), count in self._state.records.items() if outcome == "invalid")
            if invalid:
                return self._failed(name, Reason.BAD_RESPONSE, f"{invalid} records cannot be read", _SEND_CAPTURE)
            return self._passed(name, self._data_note())
        detailed = self._state.details.get(name)
        if detailed is not None and detailed.reason is not None and not detailed.answered:
            return self._failed(name, detailed.reason, "")
        if name not in self._seconds:
            return _skipped(name, "there was nothing to ask about")
        return self._passed(name)

    def _passed(self, name: str, note: str = "") -> Step:
        return Step(step=name, result=Result.OK, what_to_do=note, seconds=round(self._seconds.get(name, 0.0), 3))

    def _failed(self, name: str, reason: Reason, said: str, remedy: str = "") -> Step:
        return Step(
            step=name,
            result=Result.FAILED,
            reason=reason,
            what_to_do=": ".join(filter(None, (said, remedy or self._state.remedies[reason]))),
            seconds=round(self._seconds.get(name, 0.0), 3),
        )

    def _clock_note(self) -> str:
        offset = self._state.clock_offset_seconds or 0.0
        if abs(offset) < _CLOCK_NOTICED:
            return ""
        return (
            f"this machine's clock is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead'}: synchronise it (NTP)"
        )

    def _data_note(self) -> str:
        note = f"{sum(self._state.records.values())} records read"
        unmapped = [f"{field} ({count})" for field, count in sorted(self._state.unmapped.items()) if count]
        return f"{note}; values of no documented table in {', '.join(unmapped)}" if unmapped else note


def _skipped(name: str, note: str = "") -> Step:
    return Step(step=name, result=Result.SKIPPED, what_to_do=note)


def _failed_step(reason: Reason, attempts: Sequence[Attempt]) -> str:
    """Returns the step at which a poll ended."""
    last = attempts[-1] if attempts else None
    if reason in (Reason.AUTH, Reason.CLOCK_SKEW):
        return "auth"
    return (last.step or last.endpoint) if last is not None else "data"


def _forecast(vendor: Vendor, config: SourceConfig, state: SourceState) -> Forecast | None:
    """Returns the requests the source costs a day; None if its alerts could not be read."""
    if state.alerts is None:
        return None
    window = max(vendor.lookback(config) or config.overlap, timedelta(minutes=1))
    load = Load(
        open=sum(state.open_by_severity.values()),
        new_per_day=sum(state.alerts.opened.values()) * (DAY / window),
    )
    expected = vendor.requests_per_day(config, load)
    total = sum(expected.values())
    return Forecast(
        requests_per_day=round(total),
        by_endpoint={endpoint: round(count) for endpoint, count in expected.items()},
        share_of_limit=round(total / (DAY.total_seconds() * config.max_requests_per_second), 4),
    )


def doctor(config: Config, names: Sequence[str]) -> list[Diagnosis]:
    """Examines the named sources, or all, side by side."""
    problems = problems_of(config)

    async def one(name: str, found: dict[str, Diagnosis]) -> None:
        source = config.sources[name]
        if wrong := [problem for problem in problems if problem.startswith(f"sources.{name}.")]:
            vendor = load_all()[source.vendor]
            steps = [Step(step="config", result=Result.FAILED, what_to_do="; ".join(wrong))]
            steps += [_skipped(step) for step in ("dns", "connect", "auth", *_apis(vendor, source), "clock", "data")]
            found[name] = Diagnosis(source=name, vendor=source.vendor, steps=steps, forecast=None)
        else:
            found[name] = await diagnosed(name, source)

    async def main() -> list[Diagnosis]:
        found: dict[str, Diagnosis] = {}
        async with anyio.create_task_group() as tasks:
            for name in names or config.sources:
                tasks.start_soon(one, name, found)
        return [found[name] for name in config.sources if name in found]

    return anyio.run(main)
