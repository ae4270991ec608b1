"""Page walks with a cap and a guard against a repeated cursor: what comes back is complete, or an error."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from exporter.errors import Reason, SourceUnintelligible


class HasNext(Protocol):
    """A page that says where the next one starts; None or "" on the last page."""

    @property
    def next_cursor(self) -> str | None: ...


P = TypeVar("P", bound=HasNext)
N = TypeVar("N")


async def follow_cursors(
    fetch: Callable[[str | None], Awaitable[P]], *, max_pages: int, first: str | None = None
) -> AsyncIterator[P]:
    """Yields pages until one names no next; raises `truncated` at the page cap and for a repeated cursor."""
    cursor = first
    used = {cursor}
    for _ in range(max_pages):
        page = await fetch(cursor)
        yield page
        cursor = page.next_cursor
        if not cursor:
            return
        if cursor in used:
            raise SourceUnintelligible("the vendor repeated a page cursor", reason=Reason.TRUNCATED)
        used.add(cursor)
    raise SourceUnintelligible(f"the list is longer than {max_pages} pages", reason=Reason.TRUNCATED)


async def follow_numbers(
    fetch: Callable[[int], Awaitable[N]], *, max_pages: int, is_last: Callable[[N, int], bool]
) -> AsyncIterator[N]:
    """Yields pages 1, 2, 3 … until `is_last(page, number)`; raises `truncated` at the page cap."""
    for number in range(1, max_pages + 1):
        page = await fetch(number)
        yield page
        if is_last(page, number):
            return
    raise SourceUnintelligible(f"the list is longer than {max_pages} pages", reason=Reason.TRUNCATED)
