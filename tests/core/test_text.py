"""Text of others, made safe to show."""

from __future__ import annotations

import json
import unicodedata

import orjson
from hypothesis import given
from hypothesis import strategies as st

from controller.core.text import escaped, escaped_json

UNSAFE_CATEGORIES = {"Cc", "Zl", "Zp"}
DIRECTION_MARKS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_unsafe(character: str) -> bool:
    """By Unicode's own classes: control characters, line and paragraph ends, and marks of direction."""
    return unicodedata.category(character) in UNSAFE_CATEGORIES or character in DIRECTION_MARKS


def test_every_character_is_escaped_or_left_by_its_class() -> None:
    """Of all of Unicode exactly the unsafe characters change, each to the escape that JSON has for it."""
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(code)
        assert escaped(character) == (f"\\u{code:04x}" if is_unsafe(character) else character)


def test_marks_of_direction_are_those_of_unicode() -> None:
    """The list above is complete: embeddings, overrides, isolates and the invisible marks."""
    marks = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert {chr(code) for code in range(0x3000) if unicodedata.bidirectional(chr(code)) in marks} <= DIRECTION_MARKS


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_text_of_a_terminal_escape_is_seen_and_not_obeyed(text: str) -> None:
    """Nothing unsafe is left, and a text without unsafe characters is itself."""
    shown = escaped(text)
    assert not any(map(is_unsafe, shown))
    if not any(map(is_unsafe, text)):
        assert shown == text


JSON = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(JSON)
def test_escaped_json_is_the_same_value_without_unsafe_characters(value: object) -> None:
    """Readers get what they would have got; also of indented JSON, whose line ends stay."""
    for option in (0, orjson.OPT_INDENT_2):
        written = escaped_json(orjson.dumps(value, option=option))
        assert json.loads(written) == value
        assert not any(is_unsafe(c) for c in written.decode() if c != "\n")
