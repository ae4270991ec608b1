"""normalise_all(): one bad item costs only itself. Page lists are decoded the same way."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from exporter.errors import ItemRejected, Reason, SourceUnintelligible
from exporter.model.reading import Rejections
from exporter.model.records import Kind

T = TypeVar("T")
R = TypeVar("R")
P = TypeVar("P")

# A hundred times the longest page that is asked for. A longer one is no page, and walking it would stop all else.
LONGEST_LIST = 100_000
# Each place that is mended costs a call.
_MOST_MENDED = 1_000_000


class Normalised(NamedTuple, Generic[R]):
    """Items that could be read, and the rejections of the others."""

    items: list[R]
    rejected: Rejections


def normalise_all(kind: Kind, items: Iterable[T], convert: Callable[[T], R | None]) -> Normalised[R]:
    """Returns every item converted; None leaves one out, ItemRejected costs only that item."""
    converted: list[R] = []
    rejected = Rejections()
    for item in items:
        try:
            result = convert(item)
        except ItemRejected as error:
            rejected.add(kind, str(error))
        else:
            if result is not None:
                converted.append(result)
    return Normalised(converted, rejected)


class Decoded(NamedTuple, Generic[P, T]):
    """A page: its envelope, its items that could be decoded, why others could not, and of these what names them."""

    page: P
    items: list[T]
    rejected: Rejections
    bare: Sequence[Any] = ()


class Rows(Generic[T]):
    """The rows of one list, as its pages come in. `bare` holds what names those that could not be decoded.

    `is_cut` says that the list goes on beyond these rows.
    """

    def __init__(self, *items: T) -> None:
        self.items = [*items]
        self.rejected = Rejections()
        self.bare: list[Any] = []
        self.pages = 0
        self.skipped = 0
        self.is_cut = False

    def __len__(self) -> int:
        return len(self.items) + len(self.rejected)

    def add(self, page: "Decoded[Any, T] | Rows[T]") -> None:
        """Takes in the rows of a page, or of another list."""
        self.pages += 1
        self.items += page.items
        self.rejected.extend(page.rejected)
        self.bare += page.bare

    def skip(self, is_old: Callable[[T], bool]) -> None:
        """Leaves out rows that have a readable id and nothing new."""
        new = [item for item in self.items if not is_old(item)]
        self.skipped += len(self.items) - len(new)
        self.items = new

    def check_ids(self, key_from: Callable[[Any], str]) -> None:
        """Raises `bad_response` for a list that has rows, and none of them with an id that `key_from` can read."""
        for row in (*self.items, *self.bare):
            with suppress(ItemRejected):
                key_from(row)
                return
        if len(self):
            raise SourceUnintelligible("no row of the list has an id that can be read")

    def refuse(self, is_refused: Callable[[T], bool], kind: Kind, why: str) -> None:
        """Treats some of the rows as unreadable."""
        taken: list[T] = []
        for item in self.items:
            if is_refused(item):
                self.rejected.add(kind, why)
                self.bare.append(item)
            else:
                taken.append(item)
        self.items = taken


class PageDecoder(Generic[P, T]):
    """Decodes a page of items straight into structs; item by item only where one of them has the wrong shape.

    Args:
        page: a generic struct, `Page[item]`.
        item: the struct of one item.
        items_of: the list inside a decoded page; None counts as empty.
        kind: what an unreadable item is counted as.
        bare: a struct of what names an item, fields of any type, for items of another shape; without it they are lost.
    """

    def __init__(
        self,
        page: Any,
        item: type[T],
        *,
        items_of: Callable[[Any], Sequence[Any] | None],
        kind: Kind,
        bare: type[msgspec.Struct] | None = None,
    ) -> None:
        self._whole = msgspec.json.Decoder(page[item])
        self._loose = msgspec.json.Decoder(page[msgspec.Raw])
        self._item = msgspec.json.Decoder(item)
        self._bare = msgspec.json.Decoder(bare) if bare is not None else None
        self._items_of = items_of
        self._kind = kind

    def decode(self, body: bytes) -> Decoded[P, T]:
        """Returns the page.

        Raises:
            msgspec.DecodeError: the envelope itself cannot be read; ValidationError if it has the wrong shape.
            SourceUnintelligible: `too_large`, the list is far longer than any page that was asked for.
        """
        try:
            page = self._whole.decode(body)
        except msgspec.ValidationError:
            return self._one_by_one(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            mended = mend(body)
            if mended == body:
                raise
            return self._one_by_one(mended)
        return Decoded(page, list(self._listed(page)), Rejections())

    def _one_by_one(self, body: bytes) -> Decoded[P, T]:
        page = self._loose.decode(body)
        items: list[T] = []
        rejected = Rejections()
        bare: list[Any] = []
        for raw in self._listed(page):
            try:
                items.append(self._item.decode(raw))
            except msgspec.ValidationError as error:
                rejected.add(self._kind, f"not of the documented shape: {error}")
                if self._bare is not None:
                    with suppress(msgspec.ValidationError):
                        bare.append(self._bare.decode(raw))
        return Decoded(page, items, rejected, bare)

    def _listed(self, page: Any) -> Sequence[Any]:
        return checked_length(self._items_of(page) or ())


def checked_length(items: Sequence[T]) -> Sequence[T]:
    """Returns the items of a list inside an answer; raises `too_large` if they are too many to be walked."""
    if len(items) > LONGEST_LIST:
        raise SourceUnintelligible(f"a list of more than {LONGEST_LIST} items in one answer", reason=Reason.TOO_LARGE)
    return items


_ESCAPED_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\\\"
)


def mend(body: bytes) -> bytes:
    """Returns the body with invalid UTF-8 and lone surrogate escapes replaced by U+FFFD.

    A body that needs more than a million changes is left alone.
    """
    text = body.decode("utf-8", "replace").encode()
    return _ESCAPED_SURROGATE.sub(
        lambda found: b"\\ufffd" if len(found[0]) == 6 else found[0], text, count=_MOST_MENDED
    )


def decode_mended(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decodes an answer that is no list of items, mending what is no Unicode if that is what is in the way."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        mended = mend(body)
        if mended == body:
            raise
        return decoder.decode(mended)
