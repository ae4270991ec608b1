"""Numbers as vendors write them: a number, its text, or anything at all."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.errors import ItemRejected
from exporter.vendorkit.fields import is_digits, moment_from_s, whole_number


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex(r"\d{1,40}", fullmatch=True))
@example("9" * 5_000)
@example(10**4_299)
def test_anything_is_a_whole_number_within_bounds_or_none_or_rejected(value: Any) -> None:
    try:
        number = whole_number(value, "total", most=1_000)
    except ItemRejected:
        return

    assert number is None or (type(number) is int and 0 <= number <= 1_000)


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7), ("7", 7), (" 7 ", 7), (7.0, 7), (0, 0), ("", None), (None, None)]
)
def test_a_number_may_be_written_as_text(value: Any, number: int | None) -> None:
    assert whole_number(value, "total") == number


@pytest.mark.parametrize("text", ["\u0661\u0662", "\xb2", "9" * 16, "-1", "1.0", "1_0", "", " 1"])
def test_digits_are_few_and_ascii(text: str) -> None:
    assert not is_digits(text)


def test_a_time_in_digits_of_another_script_is_no_time() -> None:
    arabic = "".join(chr(0x660 + int(digit)) for digit in "1718000102")

    assert moment_from_s("1718000102", "create_time") == datetime(2024, 6, 10, 6, 15, 2, tzinfo=UTC)
    with pytest.raises(ItemRejected):
        moment_from_s(arabic, "create_time")
