import sys
import unicodedata

from exporter.model.text import HIDDEN


def test_every_character_that_hides_or_turns_text_is_found_and_no_letter_is() -> None:
    hidden = {char for char in map(chr, range(sys.maxunicode + 1)) if HIDDEN.fullmatch(char)}

    assert hidden >= {
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }
    assert {unicodedata.category(char)[0] for char in hidden} <= {"C", "Z"}
    assert " " not in hidden
