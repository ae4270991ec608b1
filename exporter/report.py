"""The command poll: asks each source once, and reports what was found."""

from collections.abc import Callable, Mapping, Sequence

import anyio
import msgspec

from exporter.config import Config
from exporter.errors import ConfigError, Reason
from exporter.fleet import Watch, problems_of
from exporter.model.facts import Fact
from exporter.model.snapshot import Detailed, SourceState
from exporter.vendorkit.contract import FirstPoll


class PollReport(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of one poll of one source; None for anything no call answered."""

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
    details: Mapping[str, Detailed] = {}
    list_truncated: Sequence[str] = ()

    @property
    def blind_in(self) -> tuple[str, Reason] | None:
        """Returns an endpoint of which every detail call failed, and why; None where there is none."""
        for endpoint, detailed in self.details.items():
            if detailed.reason is not None and not detailed.answered:
                return endpoint, detailed.reason
        return None

    @property
    def is_complete(self) -> bool:
        """Returns whether the poll succeeded and can see all that it asked for."""
        return self.up and self.blind_in is None


def poll(config: Config, names: Sequence[str], on_progress: Callable[[str], None] | None = None) -> list[PollReport]:
    """Polls the named sources, or all, once, counting the whole first window.

    Raises:
        ConfigError: a source cannot be asked by its configuration.
    """
    if problems := problems_of(config):
        raise ConfigError(*problems)

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
    """Returns the report on a source's state after one poll."""
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
        details=state.details,
        list_truncated=sorted(state.list_truncated),
        convergences=sum(alerts.convergences.values()) if alerts and Fact.CONVERGENCES in state.facts else None,
    )
