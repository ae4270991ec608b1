"""Assembles the program: builds sources, starts, reloads and stops them."""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from exporter import logs
from exporter.config import Config, Metrics, address_from
from exporter.errors import ConfigError
from exporter.exposition.port import Limits, Port, descriptors
from exporter.exposition.prometheus import Exposition, Renderer
from exporter.exposition.recent import LastHour
from exporter.exposition.web import Shown, Site
from exporter.exposition.webconfig import WebConfig
from exporter.filewatch import Watcher
from exporter.fleet import Fleet, Watch, own_now, problems_of
from exporter.healthfile import HealthFile
from exporter.model.facts import Fact
from exporter.model.snapshot import ReloadState, Snapshot
from exporter.sharding import shard_of
from exporter.signals import Signals
from exporter.vendorkit.contract import SourceConfig
from exporter.version import NAME, revision, version

if TYPE_CHECKING:
    from exporter.exposition.otlp import Push

log = logging.getLogger(__name__)

# Seconds between renderings at most, so that stale gauges drop out and the process's own figures move.
REFRESH_SECONDS = 10.0
STOP_SECONDS = 1.0
# Seconds between two looks at the configuration file and the files it names.
WATCH_SECONDS = 2.0
# Seconds after which a reload that failed is tried again, where files are watched.
AGAIN_SECONDS = 60.0
# File descriptors for everything but connections: the loops, the log, files being read, look-ups, pushes.
OWN_DESCRIPTORS = 32
# Connections that are served in any case.
FEWEST_CONNECTIONS = 8
# DNS threads. A look-up cannot be cancelled, so many may hang without blocking the rest.
LOOK_UPS = 256


class Daemon:
    """The running program: its sources, its web server and its output."""

    def __init__(self, config: Config, load: Callable[[], Config], health_file: HealthFile | None = None) -> None:
        self._config = config
        self._health_file = health_file if config.web.listen_address == "none" else None
        self._load = load
        self._fleet = Fleet(self._made, self._started)
        self._renderer = Renderer(version=version(), revision=revision())
        self._reloaded = ReloadState(successful=True, succeeded_at=own_now())
        self._reloading = anyio.Lock()
        self._tried_at = 0.0
        self._reader = ThreadPoolExecutor(1, "reload")
        self._news = anyio.Event()
        self._last_hour = LastHour()
        self._push = push_for(config)
        self._shown = Shown(*self._rendered())
        self._portal: anyio.from_thread.BlockingPortal | None = None
        self._port: Port | None = None
        self._descriptors = descriptors()

    def port(self) -> Port | None:
        """Returns the port that serves this daemon; None if none is configured.

        Raises:
            ConfigError: the web configuration file is wrong.
        """
        web = self._config.web
        if web.listen_address == "none":
            return None
        web_config = WebConfig(web.config_file) if web.config_file else None
        site = Site(
            shown=self._shown,
            telemetry_path=web.telemetry_path,
            web_config=web_config,
            healthy=self._stuck,
            ready=self._waiting,
            reload=self._reload_from_outside if web.enable_lifecycle else None,
            version=version(),
        )
        self._port = Port(site.app, web.listen_address, web_config=web_config)
        return self._port

    async def run(self, signals: Signals, listening: Callable[[str], object] | None = None) -> None:
        """Polls until a signal says stop; then what is left to push has a moment to be delivered.

        `listening` is called with the URL once there is one.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOK_UPS, "look-up"))
        stopped, asked = _heard(signals)
        if self._port is not None:
            self._port.start()
            log.info("listening on %s", self._port.url, extra=self._about())
            if listening is not None:
                listening(self._port.url)
        else:
            log.info("started without a port", extra=self._about())
        if self._push is not None:
            self._push.start(lambda: self._shown.current[0])
        if self._health_file is not None:
            self._health_file.renew([])
        async with anyio.from_thread.BlockingPortal() as portal, anyio.create_task_group() as self._tasks:
            self._portal = portal
            self._follow(self._config)
            self._tasks.start_soon(self._render_for_ever)
            self._tasks.start_soon(self._reload_whenever, asked)
            self._tasks.start_soon(self._reload_by_itself)
            log.info("stopping", extra={"signal": await stopped})
            self._portal = None
            if self._push is not None:
                self._push.stop()
            self._tasks.cancel_scope.cancel()

    def _about(self) -> dict[str, str | int]:
        about: dict[str, str | int] = {"version": version(), "sources": len(self._config.sources)}
        return about if self._port is None else about | {"tls": "on" if self._port.is_secured else "off"}

    def end(self, seconds: float) -> None:
        """Removes the health file, then waits up to `seconds` for the last push."""
        if self._health_file is not None:
            self._health_file.remove()
        if self._push is not None:
            self._push.join(seconds)

    def _made(self, name: str, config: SourceConfig, metrics: Metrics, before: Watch | None) -> Watch:
        watch = Watch(name, config, metrics, published=self._publish, before=before)
        if self._push is not None and self._push.wants_occurrences and watch.book.occurrences is None:
            watch.book.occurrences = []
        return watch

    def _follow(self, config: Config) -> None:
        """Polls what `config` names, and serves as many connections as leave file descriptors for that."""
        self._fleet.follow(config)
        if self._port is None:
            return
        needed = OWN_DESCRIPTORS + sum(source.max_concurrency for source in config.sources.values())
        wanted = Limits().connections
        self._port.most = max(FEWEST_CONNECTIONS, min(wanted, self._descriptors - needed))
        if self._port.most < wanted:
            log.warning(
                "%d file descriptors are allowed, of which polls need up to %d: at most %d connections are served; "
                "raise the limit (ulimit -n)",
                self._descriptors,
                needed,
                self._port.most,
            )

    def _started(self, name: str, watch: Watch) -> None:
        self._tasks.start_soon(watch.run, name=f"source {name}")

    async def _reload_whenever(self, asked: asyncio.Event) -> None:
        while await asked.wait():
            asked.clear()
            await self.reload()

    async def _reload_by_itself(self) -> None:
        """Reloads when a file has changed, and every minute while the last reload has failed.

        The latter since a file that only the new configuration names may come later than the configuration.
        """
        watcher: Watcher | None = None
        while True:
            if not self._config.config.enable_auto_reload:
                watcher = None
            elif watcher is None:
                watcher = await anyio.to_thread.run_sync(Watcher, self._files)
            elif await anyio.to_thread.run_sync(watcher.has_changed) or self._is_to_be_tried_again():
                await self.reload()
                await anyio.to_thread.run_sync(watcher.follow)
            await anyio.sleep(WATCH_SECONDS)

    def _files(self) -> Sequence[Path]:
        return self._config.files()

    def _is_to_be_tried_again(self) -> bool:
        return not self._reloaded.successful and time.monotonic() - self._tried_at >= AGAIN_SECONDS

    async def reload(self) -> str | None:
        """Reads the configuration again; the reason why the old one stays, if it does.

        Sources that read the same keep their state and their counters.
        """
        async with self._reloading:
            self._tried_at = time.monotonic()
            # How the reading ended is a value, whatever it was: raised here, a defect in it would end the tasks of all
            # sources, and with them all counts.
            reading = asyncio.wrap_future(self._reader.submit(self._read))
            await asyncio.wait([reading])
            match reading.exception():
                case None:
                    old, self._config = self._config, reading.result()
                case ConfigError() as error:
                    return self._not_reloaded(error.problems)
                case defect:
                    log.error("the configuration was not read because of a defect", exc_info=defect)
                    return self._not_reloaded(["this is a defect of the exporter: the log has its traceback"])
            config = self._config
            logs.setup(config.log.level, config.log.format)
            _log_warnings(config, old.warnings)
            self._follow(config)
            if (config.web, config.otlp) != (old.web, old.otlp):
                log.warning("changes under `web` and `otlp` take effect after a restart")
            self._reloaded = ReloadState(successful=True, succeeded_at=own_now())
            self._publish()
            log.info("configuration reloaded")
            return None

    def _read(self) -> Config:
        config = self._load()
        check(config)
        return config

    def _not_reloaded(self, problems: Sequence[str]) -> str:
        self._reloaded = msgspec.structs.replace(self._reloaded, successful=False, problems=problems)
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
        return [
            name
            for name in self._config.sources
            if name not in watches or watches[name].book.state.last_poll_seconds is None
        ]

    # Output.

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
            await anyio.sleep(self._renderer.rest_seconds)

    async def _render_now(self) -> None:
        self._shown.show(*await anyio.to_thread.run_sync(self._rendered))
        if self._health_file is not None:
            await anyio.to_thread.run_sync(self._health_file.renew, self._stuck())

    def _rendered(self) -> tuple[Snapshot, Exposition]:
        moment = time.monotonic()  # the event loop's clock
        sources = [watch.book.state for watch in self._fleet.watches.values()]
        snapshot = Snapshot(
            at=own_now(),
            moment=moment,
            sources=sources,
            group_by=self._config.metrics.group_by,
            owned=bool(self._config.metrics.owners),
            reload=self._reloaded,
            deliveries=self._push.deliveries() if self._push is not None else None,
            log_lines_dropped=logs.dropped(),
            notices_failed={
                state.name: self._last_hour.grown(state.name, sum(state.alerts.notice_failures.values()), moment)
                for state in sources
                if state.alerts is not None and Fact.NOTICES in state.facts
            },
        )
        return snapshot, self._renderer.render(snapshot)


def _heard(signals: Signals) -> tuple[asyncio.Future[str], asyncio.Event]:
    """Has signals heard from now on: the name of the one that says stop, and whether a reload is asked for."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    stopped: asyncio.Future[str] = loop.create_future()

    def soon(call: Callable[..., None], *arguments: str) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the process is about to
            loop.call_soon_threadsafe(call, *arguments)

    signals.hear(stop=partial(soon, stopped.set_result), reload=partial(soon, asked.set))
    return stopped, asked


def run(
    load: Callable[[], Config],
    signals: Signals,
    health_file: HealthFile | None = None,
    listening: Callable[[str], object] | None = None,
) -> int:
    """Runs the daemon until a signal; returns the exit code. `load` reads the configuration, now and at each reload.

    `health_file` says that it is healthy where no port is to be opened. `listening` is called with the URL of the port.

    Raises:
        ConfigError: the configuration is wrong, or the address cannot be had.
    """
    config = of_this_shard(load())
    logs.setup(config.log.level, config.log.format)
    check(config)
    _log_warnings(config)
    daemon = Daemon(config, lambda: of_this_shard(load()), health_file)
    port = daemon.port()

    # Polling and rendering compute for tens of milliseconds; a scrape must not wait 5 ms, the default, for each turn.
    sys.setswitchinterval(0.0005)
    # What was imported stays: a full collection that need not walk it is a pause of a few milliseconds less.
    gc.freeze()
    try:
        anyio.run(daemon.run, signals, listening)
    finally:
        until = time.monotonic() + STOP_SECONDS
        if port is not None:
            port.stop(STOP_SECONDS)
        daemon.end(max(0.0, until - time.monotonic()))
    log.info("stopped")
    signals.ignore()
    return 0


def _log_warnings(config: Config, known: Sequence[str] = ()) -> None:
    for warning in config.warnings:
        if warning not in known:
            log.warning("configuration: %s", warning)


def of_this_shard(config: Config) -> Config:
    """Returns the configuration with this process's sources; raises ConfigError if its shard number is unknown."""
    try:
        number = config.shard.number(socket.gethostname())
    except ValueError as error:
        raise ConfigError(f"shard.index: {error}") from error
    total = config.shard.total
    sources = {name: source for name, source in config.sources.items() if shard_of(name, total) == number}
    return config.model_copy(update={"sources": sources})


def check(config: Config) -> None:
    """Raises ConfigError now, with every problem, for what would only fail when a source is built."""
    problems = problems_of(config)
    try:
        push_for(config)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(*problems)


def push_for(config: Config) -> "Push | None":
    """Returns the push of metrics and logs over OTLP; None if no receiver is configured.

    Raises:
        ConfigError: the extra is not installed.
    """
    destinations = config.otlp.destinations()
    if not destinations:
        return None
    try:
        if any(to.protocol == "grpc" for to in destinations):
            # It would write to standard error at every attempt; we log once.
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
