"""The sources being polled: made, kept and stopped as the configuration wants them."""

from collections.abc import Callable
from datetime import UTC, datetime

import anyio
import httpx
import msgspec

from exporter.config import Config, Metrics, record_limits
from exporter.errors import REMEDIES, ConfigError
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
    """Returns the time by our own clock."""
    return datetime.now(UTC)


class Watch:
    """One source being watched: its client, its memory, and the task that polls it.

    Must be made inside the event loop; `network` replaces the real one in tests. `before` is what it takes the place
    of, after a reload: where that watched the same account its memory is handed over; else what happened since its
    last success counts.
    """

    def __init__(
        self,
        name: str,
        config: SourceConfig,
        metrics: Metrics,
        *,
        published: Callable[[], None],
        before: "Watch | None" = None,
        network: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], datetime] = own_now,
        around: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda guarded: guarded,
    ) -> None:
        vendor = load_all()[config.vendor]
        self.name = name
        self.config = config
        self._now = now
        self._keeping = keeping = _keeping(name, vendor, config, metrics, config.max_records)
        heir = before is not None and before.config.is_same_account(config)
        self.clock: VendorClock = before.clock if before and heir else VendorClock(now, anyio.current_time)
        self.book: SourceBook = before.book if before and heir else SourceBook(keeping, now() if before else None)
        self.book.keep(keeping, now())
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
        self.poller: Poller = Poller(
            name,
            vendor,
            config,
            http=Http(self.client, config.endpoint),
            clock=self.clock,
            book=self.book,
            now=now,
            published=published,
            counts_from=before.poller.counted_until if before is not None else anyio.current_time(),
        )
        if before and heir:
            self.poller.follow(before.poller)
        self.scope = anyio.CancelScope()

    def adopt(self, metrics: Metrics, max_records: int) -> None:
        """Applies these settings and this limit of remembered records from the next poll on."""
        keeping = _keeping(self.name, load_all()[self.config.vendor], self.config, metrics, max_records)
        if keeping != self._keeping:
            self._keeping = keeping
            self.book.keep(keeping, self._now())

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
        wait = self._bucket.take(anyio.current_time())
        if not wait:
            return
        try:
            await anyio.sleep(wait)
        except anyio.get_cancelled_exc_class():
            self._bucket.give_back()
            raise

    def _observe(self, attempt: Attempt) -> None:
        self.book.observe(attempt.endpoint, attempt.code, attempt.seconds)


def _keeping(name: str, vendor: Vendor, config: SourceConfig, metrics: Metrics, max_records: int) -> Keeping:
    severities = tuple(s for s in Severity if s in {*vendor.labels.severities, *config.severity_map.values()})
    return Keeping(
        name=name,
        vendor=vendor.name,
        constant_labels=config.labels,
        label_sets=msgspec.structs.replace(vendor.labels, severities=severities),
        resolution=vendor.resolution,
        interval=config.interval,
        stale_after=metrics.stale_after,
        max_records=max_records,
        remedies={**REMEDIES, **vendor.remedies},
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
        make: Callable[[str, SourceConfig, Metrics, Watch | None], Watch],
        start: Callable[[str, Watch], None],
    ) -> None:
        self.watches: dict[str, Watch] = {}
        self._make = make
        self._start = start

    def follow(self, config: Config) -> None:
        """Watches the sources of `config`.

        One that reads the same goes on undisturbed; one that is changed has its memory handed over where it is of the
        same account.
        """
        sources, metrics, before = config.sources, config.metrics, self.watches
        kept = {}
        for name, watch in before.items():
            if sources.get(name) == watch.config:
                kept[name] = watch
            else:
                watch.scope.cancel()
        fresh = {
            name: self._make(name, sources[name], metrics, before.get(name)) for name in sources if name not in kept
        }
        # Replaced as a whole: other threads look at it.
        self.watches = {name: kept.get(name) or fresh[name] for name in sources}
        for name, most in record_limits(sources).items():
            self.watches[name].adopt(metrics, most)
        for name, watch in fresh.items():
            self._start(name, watch)


def problems_of(config: Config) -> list[str]:
    """Returns the problems of sources that only show when their connections are set up, by path."""
    problems: list[str] = []
    for name, source in config.sources.items():
        try:
            network_for(source)
        except ConfigError as error:
            problems += [f"sources.{name}.{problem}" for problem in error.problems]
    return problems
