"""Payloads for human eyes: nothing that a terminal would obey comes through."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persipubsub.watch.preview import MOST_BYTES, VIEWS, View, preview, summary


@given(st.binary(max_size=300), st.sampled_from(VIEWS))
def test_nothing_but_printable_characters(data: bytes, view: View) -> None:
    assert all(character.isprintable() or character == "\n" for character in preview(data, view))
    assert summary(data).isprintable()


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\u202edrawkcab", "\x9b31m"])
def test_control_characters_are_shown_as_escapes(text: str) -> None:
    assert preview(text.encode(), "text").isascii()
    assert text not in preview(json.dumps([text], ensure_ascii=False).encode())


def test_json_is_indented() -> None:
    assert preview(b'{"name":"\xc5\x81ukasz"}') == '{\n  "name": "Łukasz"\n}'
    assert preview(b"[1,", "json").startswith("This is no JSON")
    assert preview(b"[" * 3000 + b"]" * 1000).startswith("[[[")


def test_text_that_is_cut_within_a_character_is_still_text() -> None:
    data = b"x" * (MOST_BYTES - 1) + "Ł".encode() + b"tail"
    shown = preview(data)
    assert shown.startswith("xxx")
    assert shown.endswith("and 5 bytes more")


def test_bytes_are_hexadecimal_and_bounded() -> None:
    shown = preview(bytes(100_000))
    assert shown.startswith("00000000  00 00")
    assert len(shown) < 30_000
    assert shown.endswith(f"and {100_000 - MOST_BYTES} bytes more")


def test_a_summary_is_one_short_line() -> None:
    assert summary(b"a\r\nb\tc") == "a b c"
    assert len(summary(b"x" * 1_000_000, 40)) == 40
    assert summary(b"\xff" * 1000, 11) == "ff ff ff f…"
