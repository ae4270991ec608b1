"""Cleaner: removes everything personal from a vendor's JSON so that it still reads the same.

A value stays only where it is known to be harmless: a number, a boolean, null, or a value of a documented table.
Everything else becomes a placeholder of its form. The same value always becomes the same placeholder, and different
values different ones, so that identities still match; the placeholders come from a key that is never written down.
"""

import hashlib
import json
import random
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec

from exporter.vendorkit.reasons import KEYWORDS


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The words a vendor documents, from which follows what may stay in a cleaned answer.

    `values` are documented values in lower case. `ids` are the fields whose values are identities, `numbers` those
    that may write a number as text, `maps` those whose keys are words of the user's own. `keywords` are the patterns
    that the vendor's readers look for in free texts; `headers` are the response headers that they read.
    """

    values: frozenset[str]
    ids: frozenset[str]
    numbers: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()
    keywords: tuple[re.Pattern[str], ...] = ()
    headers: frozenset[str] = frozenset()


def words(*tables: Iterable[object]) -> frozenset[str]:
    """Returns the values of tables in lower case, for `Vocabulary.values`; a text is split at spaces."""
    found: set[str] = set()
    for table in tables:
        found.update(table.lower().split() if isinstance(table, str) else (str(value).lower() for value in table))
    return frozenset(found)


class Number(str):
    """A number as it is spelled in JSON: it must not change by being read as a float."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object in its order; a key may come twice."""


# Seconds and milliseconds of the years 2001 to 2100, as numbers of 10 and 13 digits: what a number says as a time.
_SECONDS = re.compile(r"[1-3][0-9]{9}|40[0-9]{8}")
_MILLISECONDS = re.compile(r"[1-3][0-9]{12}|40[0-9]{11}")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})([T ])([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
# A field name as programmers write them: snake_case, camelCase, dotted; without digits, which identities have.
_FIELD = re.compile(r"@?[A-Za-z][A-Za-z]*(?:[._-][A-Za-z]+){0,6}")
_LONGEST_FIELD = 48

# Alphabets without vowels: no placeholder spells a word, and so none that a reader looks for.
_LOWER, _UPPER = "bcdfghjklmnpqrstvwxz", "BCDFGHJKLMNPQRSTVWXZ"
_HAN, _CYRILLIC, _OTHER, _MARKS = "甲乙丙丁戊己庚辛壬癸", "бвгджзклмнпрст", "·•◦‣", "._:~"
# Digits without 5: failure reasons are recognised from a status of 500 and more.
_DIGITS, _FIRST_DIGITS = "012346789", "12346789"

_MANY_TRIES = 64


class Cleaner:
    """Cleans the answers of one capture; what was equal in two of them is equal afterwards.

    Args:
        vocabulary: what the vendor documents.
        zone: the zone of the vendor's times that name none.
        key: decides the placeholders and the shift of times.
    """

    def __init__(self, vocabulary: Vocabulary, zone: tzinfo = UTC, *, key: bytes | None = None) -> None:
        self._known = vocabulary
        self._zone = zone
        self._key = secrets.token_bytes(32) if key is None else key
        # Back by 30 days to 5 years: all times stay in the range that identifies them as times.
        self._shift = -timedelta(seconds=self._random("shift").randrange(30 * 86_400, 5 * 365 * 86_400))
        self._placeholders: dict[str, str] = {}
        self._taken: set[str] = set()
        self._keywords = (*vocabulary.keywords, *(pattern for pattern, _ in KEYWORDS))

    def body(self, body: bytes) -> str | None:
        """Returns a cleaned JSON body; None for a body that is not JSON."""
        try:
            return spell(self.value(parse(body.decode("utf-8", "replace")), ""))
        except (ValueError, RecursionError):
            return None

    def value(self, value: Any, field: str) -> Any:
        """Cleans a value from `parse`, as the value of a field."""
        if isinstance(value, Pairs):
            is_own = field in self._known.maps
            return Pairs((self._field(name, is_own=is_own), self.value(item, name)) for name, item in value)
        if isinstance(value, list):
            return [self.value(item, field) for item in value]
        if isinstance(value, Number):
            return self._number(value, field)
        return self.text(value, field) if isinstance(value, str) else value

    def text(self, text: str, field: str) -> str:
        """Cleans the text of a field."""
        if not text.strip() or self.is_documented(text):
            return text
        if field in self._known.ids:
            return self.identity(text)
        if moment := self._shifted_text(text):
            return moment
        if text.isascii() and text.isdecimal() and (_SECONDS.fullmatch(text) or _MILLISECONDS.fullmatch(text)):
            return self._shifted_number(text)
        if field in self._known.numbers and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
            return text
        if text.lstrip()[:1] in ("{", "["):  # JSON inside a text
            inner = self.body(text.encode("utf-8", "replace"))
            if inner is not None:
                return inner
        return self._placeholder(text, self._prose)

    def identity(self, text: str) -> str:
        """Returns the placeholder of an identity: digits for digits, letters for letters, the same marks between."""
        if not text.strip():
            return text
        return self._placeholder(text, _shaped)

    def moment(self, moment: datetime) -> datetime:
        """Returns a time shifted like all times of the capture."""
        return moment + self._shift

    def is_documented(self, text: str) -> bool:
        """Reports whether a text is a documented value, or several joined by `|`."""
        return all(part in self._known.values for part in text.lower().split("|"))

    def _field(self, name: str, *, is_own: bool) -> str:
        if not is_own and len(name) <= _LONGEST_FIELD and _FIELD.fullmatch(name):
            return name
        return name if self.is_documented(name) else self.identity(name)

    def _number(self, number: Number, field: str) -> Number:
        if self.is_documented(number):
            return number
        if field in self._known.ids and number.isdecimal():
            return Number(self.identity(number))
        if _SECONDS.fullmatch(number) or _MILLISECONDS.fullmatch(number):
            return Number(self._shifted_number(number))
        return number

    def _shifted_number(self, number: str) -> str:
        seconds = int(self._shift.total_seconds())
        return str(int(number) + (seconds if len(number) == 10 else seconds * 1000))

    def _shifted_text(self, text: str) -> str | None:
        found = _ISO.fullmatch(text)
        if found is None:
            return None
        day, between, time, fraction, zone = found.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{time}{zone or ''}")
            if zone is None:
                shifted = (moment.replace(tzinfo=self._zone).astimezone(UTC) + self._shift).astimezone(self._zone)
            else:
                shifted = moment + self._shift
        except (ValueError, OverflowError):
            return None
        return f"{shifted:%Y-%m-%d}{between}{shifted:%H:%M:%S}{fraction or ''}{zone or ''}"

    def _prose(self, text: str, chance: random.Random) -> str:
        """Returns a placeholder of a text, in which what readers look for stays."""
        kept = [False] * len(text)
        for pattern in self._keywords:
            for found in pattern.finditer(text):
                kept[found.start() : found.end()] = [True] * (found.end() - found.start())
        return "".join(
            character if keep else _replaced(character, chance, marks=_MARKS)
            for character, keep in zip(text, kept, strict=True)
        )

    def _placeholder(self, text: str, make: Callable[[str, random.Random], str]) -> str:
        known = self._placeholders.get(text)
        if known is not None:
            return known
        made = text
        for turn in range(_MANY_TRIES):
            made = make(text, self._random(f"{turn} {text}"))
            if made != text and made not in self._taken:
                break
        self._placeholders[text] = made
        self._taken.add(made)
        return made

    def _random(self, text: str) -> random.Random:
        seed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        return random.Random(seed)  # noqa: S311 the seed is a keyed digest


def _shaped(text: str, chance: random.Random) -> str:
    is_hex = re.fullmatch(r"[0-9a-f-]+|[0-9A-F-]+", text) is not None and not text.replace("-", "").isdecimal()
    if is_hex:
        alphabet = "0123456789abcdef" if text == text.lower() else "0123456789ABCDEF"
        return "".join(character if character == "-" else chance.choice(alphabet) for character in text)
    made = [_replaced(character, chance) for character in text]
    if text.lstrip("-")[:1] in "123456789" and made:  # a number keeps its length
        made[len(text) - len(text.lstrip("-"))] = chance.choice(_FIRST_DIGITS)
    return "".join(made)


def _replaced(character: str, chance: random.Random, marks: str = "") -> str:
    """Returns a character of the same class; a mark stays, or becomes one of `marks`."""
    if character.isspace():
        return " "
    if character.isdecimal():
        return chance.choice(_DIGITS)
    if "a" <= character <= "z":
        return chance.choice(_LOWER)
    if "A" <= character <= "Z":
        return chance.choice(_UPPER)
    if character.isascii():
        return chance.choice(marks) if marks else character
    if "\u0400" <= character <= "\u04ff":
        return chance.choice(_CYRILLIC)
    return chance.choice(_HAN if character.isalpha() else _OTHER)


def parse(text: str) -> Any:
    """Reads JSON so that `spell` writes the same: numbers by their spelling, objects as pairs.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep to be an answer of an API.
    """
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_constant, object_pairs_hook=Pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def spell(value: Any) -> str:
    """Writes what `parse` read."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{_quoted(name)}:{spell(item)}" for name, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spell, value)) + "]"
    return str(value) if isinstance(value, Number) else _quoted(value)


def _quoted(value: Any) -> str:
    # Escapes what is no Unicode, so that a cleaned answer always is.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
