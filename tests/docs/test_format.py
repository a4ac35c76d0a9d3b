"""The page on the on-disk format agrees with the code, number by number."""

import re

import pytest

from persipubsub.engine.local import board, doubt, files, locks, posts
from persipubsub.engine.local import format as on_disk
from tests.docs.pages import DOCS

PAGE = (DOCS / "reference" / "format.rst").read_text(encoding="utf-8")


def diagram(section: str, number: int = 0) -> list[int]:
    """Return the offsets over a byte diagram of a section."""
    text = PAGE.partition(f"The file ``{section}``\n---")[2]
    lines = [line for line in text.splitlines() if re.fullmatch(r"   0 +\d[^|]*", line)]
    return [int(offset) for offset in re.findall(r"\d+", lines[number])]


def test_the_board() -> None:
    assert diagram("board") == [0, board.SLOTS, board._GENERATION_AT, board.WRITERS_AT, board.SIZE]
    assert f"{board.SIZE:,} bytes" in PAGE
    assert (board.IDLE, board.FOR_MESSAGES, board.FOR_ROOM, board._PROGRESS.size) == (0, 1, 2, 24)


def test_the_posts() -> None:
    end = posts._DECIDED_AT + posts.SLOTS
    assert diagram("posts") == [0, posts.SLOTS, posts._DECIDED_AT, end, posts._PART, posts._PART, 2 * posts._PART]
    assert diagram("posts", 1) == [0, 16, 20, 24, posts._HEAD.size]
    assert f"{posts.SIZE:,} bytes" in PAGE
    assert f"{posts.LONGEST:,} bytes" in PAGE


@pytest.mark.parametrize(
    ("offset", "place"),
    [
        *((str(offset), "") for offset in (locks.WRITER, locks.USERS)),
        *((locks.BELLS, "place"), (locks.PROGRESS, "place"), (locks.WRITERS, "place")),
        *((locks.POSTS, "slot"), (locks.OWNERS, "owner")),
    ],
)
def test_the_locks(offset: int | str, place: str) -> None:
    shown = offset if isinstance(offset, str) else rf"2\ :sup:`{offset.bit_length() - 1}` + {place}"
    assert re.search(rf"^{re.escape(shown)}  +", PAGE, re.MULTILINE)


def test_every_file_and_every_name_is_there() -> None:
    for name in (files.DATA, files.LMDB_LOCK, files.LOCKS, files.BOARD, files.POSTS, files.BOOT, files.SEAL):
        assert f"\n``{name}``" in PAGE
    assert f"``{doubt._FAILED.strip()}``" in PAGE
    for database in on_disk.FIXED_DBS:
        assert f"\n``{database.decode()}``" in PAGE
    kinds = {name: kind for name, kind in vars(on_disk).items() if isinstance(kind, bytes) and len(kind) == 1}
    assert len(kinds) == 14
    for kind in kinds.values():
        assert re.search(rf"``{kind.decode()}``, ", PAGE), kind


def test_a_board_is_what_the_page_says() -> None:
    page = bytearray(board.SIZE)
    shown = board.Board(page)  # type: ignore[arg-type]
    shown.set_bell(7, board.FOR_ROOM)
    shown.begin_batch(2, 5, 6)
    shown.hand_over(2, 3)
    shown.next_generation()
    assert page[7] == 2
    assert page[4096 + 2 * 24 : 4096 + 3 * 24] == b"".join(number.to_bytes(8, "little") for number in (5, 6, 3))
    assert page[102400:102408] == (1).to_bytes(8, "little")
