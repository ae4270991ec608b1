"""Puts the parts together: builds sources, starts, reloads and stops them."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import msgspec

from exporter import logs
from exporter.config import Config, Metrics, address_from
from exporter.errors import ConfigError
from exporter.exposition.prometheus import Exposition, Renderer
from exporter.exposition.web import Shown, WebServer
from exporter.healthfile import HealthFile
from exporter.model.alert import Severity
from exporter.model.facts import Fact
from exporter.model.snapshot import ReloadState, Snapshot, SourceState
from exporter.polling.bucket import Bucket
from exporter.polling.poller import Poller
from exporter.sharding import shard_of
from exporter.state.book import Keeping, SourceBook
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import FirstPoll, SourceConfig, Vendor
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for, network_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors import load_all
from exporter.version import NAME, revision, version

if TYPE_CHECKING:
    from exporter.exposition.otlp import Push

log = logging.getLogger(__name__)

# Between polls the text is made anew so often: gauges become stale, and the process's own figures move.
REFRESH_SECONDS = 10.0
STOP_SECONDS = 1.0
# From the signal to the end of the process, whatever hangs.
LAST_SECONDS = 1.5
# Names looked up at once. A look-up cannot be cancelled: as many as hang must not keep the others waiting.
LOOK_UPS = 256


def own_now() -> datetime:
    """Our own clock."""
    return datetime.now(UTC)


class Watch:
    """One source being watched: its client, its memory, and the task that polls it.

    Must be made inside the event loop; `network` replaces the real one in tests. What happened since `counts_from`
    counts, in seconds of the event loop's clock: that of the source it takes the place of, else now.
    """

    def __init__(
        self,
        name: str,
        config: SourceConfig,
        metrics: Metrics,
        *,
        published: Callable[[], None],
        counts_from: float | None = None,
        network: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], datetime] = own_now,
    ) -> None:
        vendor = load_all()[config.vendor]
        self.name = name
        self.config = config
        self.metrics = metrics
        self.clock = VendorClock(now, anyio.current_time)
        self.book = SourceBook(_keeping(name, vendor, config, metrics))
        self._attempts = 0
        self._bucket = Bucket(config.max_requests_per_second, anyio.current_time())
        self.client = client_for(
            vendor,
            config,
            network=network or network_for(config),
            clock=self.clock,
            take_permit=self._take_permit,
            observe=self._observe,
        )
        self.poller = Poller(
            name,
            vendor,
            config,
            http=Http(self.client, config.endpoint),
            clock=self.clock,
            book=self.book,
            now=now,
            published=published,
            attempts=lambda: self._attempts,
            counts_from=counts_from if counts_from is not None else anyio.current_time(),
        )
        self.scope = anyio.CancelScope()

    def adopt(self, metrics: Metrics) -> bool:
        """Shows its alerts by these settings from the next poll on; False where its counters cannot go on with them."""
        if (metrics.group_by, metrics.group_limit) != (self.metrics.group_by, self.metrics.group_limit):
            return False
        self.metrics = metrics
        self.book.keep(_keeping(self.name, load_all()[self.config.vendor], self.config, metrics))
        return True

    async def run(self) -> None:
        """Polls until the scope is cancelled; then closes the connections, which no poll uses any more."""
        with self.scope:
            await self.poller.run()
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await self.client.aclose()

    async def _take_permit(self) -> None:
        try:
            await anyio.sleep(self._bucket.take(anyio.current_time()))
        except anyio.get_cancelled_exc_class():
            self._bucket.give_back()
            raise

    def _observe(self, attempt: Attempt) -> None:
        self._attempts += 1
        self.book.observe(attempt.endpoint, attempt.code, attempt.seconds)


def _keeping(name: str, vendor: Vendor, config: SourceConfig, metrics: Metrics) -> Keeping:
    severities = tuple(s for s in Severity if s in {*vendor.labels.severities, *config.severity_map.values()})
    return Keeping(
        name=name,
        vendor=vendor.name,
        constant_labels=config.labels,
        label_sets=msgspec.structs.replace(vendor.labels, severities=severities),
        resolution=vendor.resolution,
        interval=config.interval,
        stale_after=metrics.stale_after,
        max_records=config.max_records,
        group_by=tuple(metrics.group_by),
        group_limit=metrics.group_limit,
        alert_info=metrics.alert_info,
        alert_info_limit=metrics.alert_info_limit,
    )


class Fleet:
    """The sources being watched: made, kept and stopped as the configuration wants them."""

    def __init__(
        self,
        make: Callable[[str, SourceConfig, Metrics, float | None], Watch],
        start: Callable[[str, Watch], None],
    ) -> None:
        self.watches: dict[str, Watch] = {}
        self._make = make
        self._start = start

    def follow(self, config: Config) -> None:
        """Watches the sources of `config`; one that reads the same keeps its state and its counters."""
        sources, metrics, before = config.sources, config.metrics, self.watches
        kept = {}
        for name, watch in before.items():
            if sources.get(name) == watch.config and watch.adopt(metrics):
                kept[name] = watch
            else:
                watch.scope.cancel()
        counted = {name: watch.poller.counted_until for name, watch in before.items()}
        fresh = {
            name: self._make(name, sources[name], metrics, counted.get(name)) for name in sources if name not in kept
        }
        # Replaced as a whole: other threads look at it.
        self.watches = {name: kept.get(name) or fresh[name] for name in sources}
        for name, watch in fresh.items():
            self._start(name, watch)


class Daemon:
    """The running program: its sources, its web server, and what it shows."""

    def __init__(self, config: Config, load: Callable[[], Config], health_file: HealthFile | None = None) -> None:
        self._config = config
        self._health_file = health_file if config.web.listen_address == "none" else None
        self._load = load
        self._fleet = Fleet(self._made, self._started)
        self._renderer = Renderer(version=version(), revision=revision())
        self._reloaded = ReloadState(successful=True, succeeded_at=own_now())
        self._reloading = anyio.Lock()
        self._news = anyio.Event()
        self._push = push_for(config)
        self._shown = Shown(*self._rendered())
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def server(self) -> WebServer | None:
        """The web server that shows what this daemon knows; None where none is wanted."""
        web = self._config.web
        if web.listen_address == "none":
            return None
        return WebServer(
            listen_address=web.listen_address,
            telemetry_path=web.telemetry_path,
            web_config_file=web.config_file,
            enable_lifecycle=web.enable_lifecycle,
            shown=self._shown,
            healthy=self._stuck,
            ready=self._waiting,
            reload=self._reload_from_outside,
            version=version(),
        )

    async def run(self, started: Callable[[], None]) -> None:
        """Polls until a signal says stop; then what is left to push has a moment to be delivered.

        Calls `started` as soon as signals are heard.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOK_UPS, "look-up"))
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            started()
            if self._push is not None:
                self._push.start(lambda: self._shown.current[0])
            if self._health_file is not None:
                self._health_file.renew([])
            async with anyio.from_thread.BlockingPortal() as portal, anyio.create_task_group() as self._tasks:
                self._portal = portal
                self._fleet.follow(self._config)
                self._tasks.start_soon(self._render_for_ever)
                await self._until_stopped(signals)
                self._portal = None
                if self._push is not None:
                    self._push.stop()
                self._tasks.cancel_scope.cancel()
        _on_the_way_out()

    def end(self, seconds: float) -> None:
        """Takes back that it is healthy, and waits for the last push, at most so long."""
        if self._health_file is not None:
            self._health_file.remove()
        if self._push is not None:
            self._push.join(seconds)

    def _made(self, name: str, config: SourceConfig, metrics: Metrics, counts_from: float | None) -> Watch:
        watch = Watch(name, config, metrics, published=self._publish, counts_from=counts_from)
        if self._push is not None and self._push.wants_occurrences:
            watch.book.occurrences = []
        return watch

    def _started(self, name: str, watch: Watch) -> None:
        self._tasks.start_soon(watch.run, name=f"source {name}")

    async def _until_stopped(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for received in signals:
            if received is signal.SIGHUP:
                self._tasks.start_soon(self.reload)
                continue
            log.info("stopping", extra={"signal": received.name})
            break
        # Python itself would wait for the threads that look up names.
        last = threading.Timer(LAST_SECONDS, os._exit, [0])
        last.daemon = True
        last.start()
        _on_the_way_out()

    async def reload(self) -> str | None:
        """Reads the configuration again; the reason why the old one stays, if it does.

        Sources that read the same keep their state and their counters.
        """
        async with self._reloading:
            try:
                config = await anyio.to_thread.run_sync(self._load)
                check(config)
            except ConfigError as error:
                return self._not_reloaded(error.problems)
            except Exception:  # else a defect in reading would end the tasks of all sources, and with them all counts
                log.exception("a defect kept the configuration from being read")
                return self._not_reloaded(["this is a defect of the exporter: the log has its traceback"])
            old, self._config = self._config, config
            logs.setup(config.log.level, config.log.format)
            self._fleet.follow(config)
            if (config.web, config.otlp) != (old.web, old.otlp):
                log.warning("changes under `web` and `otlp` take effect after a restart")
            self._reloaded = ReloadState(successful=True, succeeded_at=own_now())
            self._publish()
            log.info("configuration reloaded")
            return None

    def _not_reloaded(self, problems: Sequence[str]) -> str:
        self._reloaded = msgspec.structs.replace(self._reloaded, successful=False)
        self._publish()
        log.error("reload failed, the old configuration stays: %s", "; ".join(problems))
        return "\n".join(problems)

    # Called from the web server's thread.

    def _reload_from_outside(self) -> str | None:
        return self._portal.call(self.reload) if self._portal else "not running"

    def _stuck(self) -> list[str]:
        now = time.monotonic()  # the event loop's clock
        return [name for name, watch in self._fleet.watches.items() if not watch.poller.is_turning(now)]

    def _waiting(self) -> list[str]:
        watches = self._fleet.watches
        return [name for name in self._config.sources if name not in watches or not watches[name].book.state.polls]

    # What is shown.

    def _publish(self) -> None:
        self._news.set()
        for watch in self._fleet.watches.values():
            if self._push is not None and watch.book.occurrences:
                self._push.tell(watch.book.occurrences, own_now())
                watch.book.occurrences = []

    async def _render_for_ever(self) -> None:
        while True:
            with anyio.move_on_after(REFRESH_SECONDS):
                await self._news.wait()
            self._news = anyio.Event()
            await self._render_now()

    async def _render_now(self) -> None:
        self._shown.show(*await anyio.to_thread.run_sync(self._rendered))
        if self._health_file is not None:
            await anyio.to_thread.run_sync(self._health_file.renew, self._stuck())

    def _rendered(self) -> tuple[Snapshot, Exposition]:
        snapshot = Snapshot(
            at=own_now(),
            sources=[watch.book.state for watch in self._fleet.watches.values()],
            group_by=self._config.metrics.group_by,
            reload=self._reloaded,
            deliveries=self._push.deliveries() if self._push is not None else None,
        )
        return snapshot, self._renderer.render(snapshot, snapshot.at)


def _on_the_way_out() -> None:
    """Has any further signal end the process at once."""
    # It may be the first of a container, for which the default action of a signal is nothing at all.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(1))


def run(load: Callable[[], Config], health_file: HealthFile | None = None) -> int:
    """Runs the daemon until a signal; the exit code. `load` reads the configuration, now and at each reload.

    `health_file` says that it is healthy where no port is to be opened.

    Raises:
        ConfigError: the configuration is wrong, or the address cannot be had.
    """
    config = of_this_shard(load())
    logs.setup(config.log.level, config.log.format)
    check(config)
    daemon = Daemon(config, lambda: of_this_shard(load()), health_file)
    server = daemon.server()

    def started() -> None:
        if server is not None:
            server.start()
            log.info("listening on %s:%d", *server.address)

    # Polling and rendering compute for tens of milliseconds; a scrape must not wait 5 ms, the default, for each turn.
    sys.setswitchinterval(0.0005)
    # What was imported stays: a full collection that need not walk it is a pause of a few milliseconds less.
    gc.freeze()
    try:
        anyio.run(daemon.run, started)
    finally:
        until = time.monotonic() + STOP_SECONDS
        if server is not None:
            server.stop(STOP_SECONDS)
        daemon.end(max(0.0, until - time.monotonic()))
    log.info("stopped")
    return 0


def of_this_shard(config: Config) -> Config:
    """The configuration with the sources that this process polls; raises ConfigError if it cannot tell its number."""
    try:
        number = config.shard.number(socket.gethostname())
    except ValueError as error:
        raise ConfigError(f"shard.index: {error}") from error
    total = config.shard.total
    sources = {name: source for name, source in config.sources.items() if shard_of(name, total) == number}
    return config.model_copy(update={"sources": sources})


def check(config: Config) -> None:
    """Raises ConfigError now, with every problem, for what would only fail when a source is built."""
    problems: list[str] = []
    for name, source in config.sources.items():
        try:
            network_for(source)
        except ConfigError as error:
            problems += [f"sources.{name}.{problem}" for problem in error.problems]
    try:
        push_for(config)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(*problems)


def push_for(config: Config) -> "Push | None":
    """What sends metrics and logs over OTLP; None where no receiver is named.

    Raises:
        ConfigError: the extra is not installed.
    """
    destinations = config.otlp.destinations()
    if not destinations:
        return None
    try:
        if any(to.protocol == "grpc" for to in destinations):
            # It would write to standard error, at every attempt, what we log once.
            os.environ.setdefault("GRPC_VERBOSITY", "none")
            import grpc  # noqa: F401 the sender imports it when it connects
        from exporter.exposition.otlp import Encoder, Push
    except ImportError as error:
        missing = "needs packages that are not installed; run pip install vendor-alert-exporter[otlp]"
        raise ConfigError(f"otlp: {missing}") from error
    address = address_from(config.web.listen_address)
    host = socket.gethostname()
    resource = {
        "service.name": NAME,
        "service.version": version(),
        # As the `instance` of a scrape: unlike a random number it stays the same, and so do the series.
        "service.instance.id": f"{host}:{address[1]}" if address else host,
        **config.otlp.resource_attributes(),
    }
    encoder = Encoder(resource, version=version(), revision=revision(), started_at=own_now())
    return Push(destinations, interval_seconds=config.otlp.interval_seconds(), encoder=encoder)


class PollReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one poll of one source found; None for what this source cannot tell."""

    source: str
    vendor: str
    up: bool
    reason: str | None
    requests: int
    duration_seconds: float
    open: Mapping[str, int]
    notices: int | None
    notice_failures: int | None
    convergences: int | None


def poll(config: Config, names: Sequence[str], on_progress: Callable[[str], None] | None = None) -> list[PollReport]:
    """Polls the named sources, or all, once, counting the whole first window.

    Raises:
        ConfigError: what `check` finds.
    """
    check(config)

    async def one(name: str, reports: dict[str, PollReport]) -> None:
        source = config.sources[name].model_copy(update={"first_poll": FirstPoll.BACKFILL})
        watch = Watch(name, source, config.metrics, published=lambda: None)
        await watch.poller.poll()
        await watch.close()
        reports[name] = report_from(watch.book.state)
        if on_progress is not None:
            on_progress(name)

    async def main() -> list[PollReport]:
        reports: dict[str, PollReport] = {}
        async with anyio.create_task_group() as tasks:
            for name in names or config.sources:
                tasks.start_soon(one, name, reports)
        return [reports[name] for name in config.sources if name in reports]

    return anyio.run(main)


def report_from(state: SourceState) -> PollReport:
    """What a source's state after one poll says to a person."""
    alerts = state.alerts
    notices = alerts if alerts and Fact.NOTICES in state.facts else None
    found = dict.fromkeys(state.label_sets.severities, 0) | dict(state.open_by_severity)
    return PollReport(
        source=state.name,
        vendor=state.vendor,
        up=state.up,
        reason=state.last_reason,
        requests=sum(state.requests.values()),
        duration_seconds=round(state.last_poll_seconds or 0.0, 3),
        open={str(severity): count for severity, count in found.items()} if alerts else {},
        notices=sum(notices.notices.values()) if notices else None,
        notice_failures=sum(notices.notice_failures.values()) if notices else None,
        convergences=alerts.convergences if alerts and Fact.CONVERGENCES in state.facts else None,
    )
