"""Payloads for human eyes: JSON if it is that, text if it is that, else bytes in hexadecimal.

A payload is data that anybody may have sent: what a terminal would obey is shown as an escape.
"""

import json
from typing import Literal, get_args

View = Literal["auto", "json", "text", "hex"]
VIEWS: tuple[View, ...] = get_args(View)

#: So many bytes of a payload are looked at.
MOST_BYTES = 4096


def preview(data: bytes, view: View = "auto") -> str:
    r"""Return what to show of a payload, on several lines where it has them.

    >>> preview(b'{"a": [1, 2]}'), preview(b"plain"), preview(b"\x1b[2J", "text")
    ('{\n  "a": [\n    1,\n    2\n  ]\n}', 'plain', '\\x1b[2J')
    >>> print(preview(bytes(range(20))))
    00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|
    00000010  10 11 12 13                                       |....|
    """
    if view == "hex":
        return _hexadecimal(data)
    if view in ("auto", "json"):
        pretty = _json(data)
        if pretty is not None:
            return pretty
        if view == "json":
            return f"This is no JSON (or more than {MOST_BYTES} bytes of it)."
    if view == "auto" and not _is_text(data):
        return _hexadecimal(data)
    return _visible(data[:MOST_BYTES].decode("utf-8", "backslashreplace")) + _rest(data)


def summary(data: bytes, width: int = 200) -> str:
    r"""Return a payload on one line.

    >>> summary(b"two\nlines"), summary(b"\xff\x00"), summary(b"long" * 5, 10)
    ('two lines', 'ff 00', 'longlongl…')
    """
    head = data[: 4 * width]
    line = " ".join(preview(head, "text").split()) if _is_text(head) else head[:width].hex(" ")
    return line if len(line) <= width and len(data) <= 4 * width else line[: width - 1] + "…"


def _json(data: bytes) -> str | None:
    if len(data) > MOST_BYTES or data[:1] not in (b"{", b"["):
        return None
    try:
        return _visible(json.dumps(json.loads(data), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None


def _is_text(data: bytes) -> bool:
    """Tell whether it is text, but for a character that the cut may have divided."""
    head = data[:MOST_BYTES]
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or error.reason != "unexpected end of data":
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\n\r\t" for character in text)


def _visible(text: str) -> str:
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text.replace("\r\n", "\n")
    ).expandtabs(4)


def _hexadecimal(data: bytes) -> str:
    lines = []
    for offset in range(0, min(len(data), MOST_BYTES), 16):
        row = data[offset : offset + 16]
        halves = f"{row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}"
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset:08x}  {halves}  |{text}|")
    return "\n".join(lines) + _rest(data)


def _rest(data: bytes) -> str:
    return f"\n… and {len(data) - MOST_BYTES} bytes more" if len(data) > MOST_BYTES else ""
