"""The sources being polled: made, kept and stopped as the configuration wants them."""

from collections.abc import Callable
from datetime import UTC, datetime

import anyio
import httpx
import msgspec

from exporter.config import Config, Metrics
from exporter.errors import ConfigError
from exporter.model.alert import Severity
from exporter.polling.bucket import Bucket
from exporter.polling.poller import Poller
from exporter.state.book import Keeping, SourceBook
from exporter.vendorkit.clock import VendorClock
from exporter.vendorkit.contract import SourceConfig, Vendor
from exporter.vendorkit.http import Http
from exporter.vendorkit.network import client_for, network_for
from exporter.vendorkit.transport import Attempt
from exporter.vendors import load_all

# Seconds that the connections of a source have to be closed in.
CLOSE_SECONDS = 1.0


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
        around: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda guarded: guarded,
    ) -> None:
        vendor = load_all()[config.vendor]
        self.name = name
        self.config = config
        self.metrics = metrics
        self.clock = VendorClock(now, anyio.current_time)
        self.book = SourceBook(_keeping(name, vendor, config, metrics))
        self._bucket = Bucket(config.max_requests_per_second, anyio.current_time())
        self.client = client_for(
            vendor,
            config,
            network=network or network_for(config),
            clock=self.clock,
            take_permit=self._take_permit,
            observe=self._observe,
            around=around,
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
            counts_from=counts_from if counts_from is not None else anyio.current_time(),
        )
        self.scope = anyio.CancelScope()

    def adopt(self, metrics: Metrics) -> bool:
        """Shows its alerts by these settings from the next poll on; False where its counters cannot go on with them."""
        if labelled_by(metrics) != labelled_by(self.metrics):
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
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await self.client.aclose()

    async def _take_permit(self) -> None:
        try:
            await anyio.sleep(self._bucket.take(anyio.current_time()))
        except anyio.get_cancelled_exc_class():
            self._bucket.give_back()
            raise

    def _observe(self, attempt: Attempt) -> None:
        self.book.observe(attempt.endpoint, attempt.code, attempt.seconds)


def labelled_by(metrics: Metrics) -> tuple[object, ...]:
    """The settings that decide which labels the counters of a source have."""
    return metrics.group_by, metrics.group_limit, bool(metrics.owners)


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
        owners=metrics.owner_rules(),
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


def problems_of(config: Config) -> list[str]:
    """The problems of sources that only show when their connections are set up, by path."""
    problems: list[str] = []
    for name, source in config.sources.items():
        try:
            network_for(source)
        except ConfigError as error:
            problems += [f"sources.{name}.{problem}" for problem in error.problems]
    return problems
