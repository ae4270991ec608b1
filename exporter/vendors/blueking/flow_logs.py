"""FlowLogs: reads the flow logs of alerts, each again when it may have grown."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from zlib import crc32

from exporter.model.facts import Fact
from exporter.model.reading import Details, Happened, Rejections, Window
from exporter.model.records import Kind, Notice, Record
from exporter.vendorkit.details import Follow
from exporter.vendorkit.fields import text
from exporter.vendorkit.http import Http
from exporter.vendorkit.items import Decoded, normalise_all
from exporter.vendors.blueking.client import Client
from exporter.vendors.blueking.config import BluekingConfig
from exporter.vendors.blueking.normalise import (
    is_over,
    is_unfinished,
    notice_from_row,
    operation_from,
    seconds_of,
)
from exporter.vendors.blueking.payload import ActionRow, AlertRow, FlowLog, FlowRow

# The age below which a change may be followed by another one within the same second, which leaves the alert's version
# as it is: its log is read once more. It covers the uncertainty of the vendor's clock, too.
SETTLING = timedelta(seconds=10)
# The time after an alert's end in which jobs write their last rows; its log is read once more then.
GROWS_AFTER_END = timedelta(minutes=5)
# The time for which a result that is still to come is waited for.
PATIENCE = timedelta(days=1)


class FlowLogs:
    """The logs to read, and their contents.

    A log grows when its alert changes; when something is done about the alert, which leaves the alert as it is and
    shows in the handling records; and when the server notes something by the way, which shows nowhere else. So it is
    read at the first two, and in any case once in a `detail_interval`: the alerts take turns. What ended is read once
    more some minutes later.

    Args:
        is_told_here: whether the notice in a row appears nowhere else.
    """

    REMEMBERED = ("_follow", "_acted")

    def __init__(
        self, config: BluekingConfig, http: Http, client: Client, is_told_here: Callable[[Notice], bool]
    ) -> None:
        self._config = config
        self._follow = Follow[Decoded[FlowLog[FlowRow], FlowRow] | None](
            "get_event_log", client.get_event_log, http=http, config=config
        )
        self._is_told_here = is_told_here
        self._acted: dict[str, int] = {}
        self._rows: Mapping[str, AlertRow] = {}

    def begin(self, window: Window, rows: Mapping[str, AlertRow], actions: Iterable[ActionRow]) -> None:
        """Starts a poll with the alerts and the handling records that it has read."""
        queue = self._follow.queue
        self._follow.begin(window)
        self._rows = rows
        self._note(actions)
        counted_from = window.counted_from.timestamp()
        for key, row in rows.items():
            changed, is_open = seconds_of(row.update_time), not is_over(row)
            version = changed, self._acted.get(key, 0)
            if window.first and max(version) < int(counted_from):
                # All its rows belong to the baseline, but for those that are still to come.
                queue.know(key, version)
                if not is_open and changed > counted_from - GROWS_AFTER_END.total_seconds():
                    queue.again(key, window.end + self._after_end)
            else:
                queue.offer(key, version)
            if is_open and queue.is_idle(key):
                queue.again(key, self._turn_of(key, window.end))
        self._acted = {key: at for key, at in self._acted.items() if key in queue}

    def _note(self, actions: Iterable[ActionRow]) -> None:
        """Notes when something was last done about an alert; of notices only their beginning is in its log."""
        for row in actions:
            if row.signal == "collect":
                continue  # it names all alerts of a storm, and is in none of their logs
            stamps = [row.create_time] if row.action_plugin_type == "notice" else [row.create_time, row.end_time]
            newest = max(map(seconds_of, stamps))
            for alert in row.alert_id if isinstance(row.alert_id, list) else [row.alert_id]:
                key = text(alert)
                self._acted[key] = max(newest, self._acted.get(key, 0))

    @property
    def _after_end(self) -> timedelta:
        return min(self._config.detail_interval, GROWS_AFTER_END)

    def _turn_of(self, key: str, now: datetime) -> datetime:
        """Returns the next moment at which it is this alert's turn: they are spread evenly over the interval."""
        interval = self._config.detail_interval.total_seconds()
        share = crc32(key.encode()) / 2**32
        return now + timedelta(seconds=(share * interval - now.timestamp()) % interval)

    async def read(self) -> Happened:
        """Reads the logs that are due; returns their records."""
        now = self._follow.queue.now
        rows, self._rows = self._rows, {}  # between polls they would be most of what is kept in a storm
        records: list[Record] = []
        rejected = Rejections()
        queue = self._follow.queue
        for key, log in (await self._follow.read()).items():
            if log is None:
                continue
            told, unreadable, is_settled = self._records_from(key, log.items, now)
            records += told
            rejected.extend(log.rejected + unreadable)
            row = rows.get(key)
            if not is_settled or (row and seconds_of(row.update_time) > (now - SETTLING).timestamp()):
                queue.again(key, now + SETTLING)
            last = queue.since(key) + self._after_end
            if (row is None or is_over(row)) and now < last:
                queue.again(key, last)
        return Happened(records, rejected)

    def _records_from(
        self, alert: str, rows: Iterable[FlowRow], now: datetime
    ) -> tuple[list[Record], Rejections, bool]:
        """Returns the records of the rows, the unreadable rows, and whether all their results are known.

        A row with a pending result is reported once the result is known.
        """
        zone = self._config.timezone
        is_settled = True

        def records_from(row: FlowRow) -> list[Record]:
            nonlocal is_settled
            operation = operation_from(alert, row, zone)
            if is_unfinished(row) and operation.at is not None and operation.at > now - PATIENCE:
                is_settled = False
                return []
            notice = notice_from_row(alert, row, zone) if self._config.notices else None
            return [operation] if notice is None or not self._is_told_here(notice) else [operation, notice]

        records, rejected = normalise_all(Kind.OPERATION, rows, records_from)
        return [record for each in records for record in each], rejected, is_settled

    def reading(self, facts: frozenset[Fact]) -> Details:
        """Returns the outcome of this poll's log calls; `facts` are those that nothing else feeds."""
        self._follow.facts = facts
        return self._follow.reading()

    def end(self) -> None:
        """Ends the poll; raises the failure that asks for the longest wait, if one does."""
        self._follow.end()
