"""Page walks with a cap and a guard against a repeated cursor: what comes back is complete, or an error follows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from exporter.errors import Reason, SourceUnintelligible


class ListTooLong(SourceUnintelligible):
    """A list goes on beyond the pages, or the time, that a poll has for it."""

    reason = Reason.TRUNCATED


class HasNext(Protocol):
    """A page that says where the next one starts; None or "" on the last page."""

    @property
    def next_cursor(self) -> str | None: ...


P = TypeVar("P", bound=HasNext)
N = TypeVar("N")


async def follow_cursors(
    fetch: Callable[[str | None], Awaitable[P]],
    *,
    max_pages: int,
    first: str | None = None,
    has_time: Callable[[], bool] = lambda: True,
) -> AsyncIterator[P]:
    """Yields pages until one names no next.

    Raises:
        ListTooLong: at the page cap, and when there is no time for another page after the first.
        SourceUnintelligible: `truncated`, for a repeated cursor.
    """
    cursor = first
    used = {cursor}
    for number in range(max_pages):
        if number and not has_time():
            raise ListTooLong("there is no time for a further page of the list")
        page = await fetch(cursor)
        yield page
        cursor = page.next_cursor
        if not cursor:
            return
        if cursor in used:
            raise SourceUnintelligible("the vendor repeated a page cursor", reason=Reason.TRUNCATED)
        used.add(cursor)
    raise ListTooLong(f"the list is longer than {max_pages} pages")


async def follow_numbers(
    fetch: Callable[[int], Awaitable[N]],
    *,
    max_pages: int,
    is_last: Callable[[N, int], bool],
    has_time: Callable[[], bool] = lambda: True,
) -> AsyncIterator[N]:
    """Yields pages 1, 2, 3 … until `is_last(page, number)`; raises ListTooLong as `follow_cursors` does."""
    for number in range(1, max_pages + 1):
        if number > 1 and not has_time():
            raise ListTooLong("there is no time for a further page of the list")
        page = await fetch(number)
        yield page
        if is_last(page, number):
            return
    raise ListTooLong(f"the list is longer than {max_pages} pages")
