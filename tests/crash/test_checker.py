"""The checker of the journals finds what must not be, in journals that were written by hand."""

import ast
import itertools
import json
import pathlib
import sys
from typing import Any

import pytest

from tests.crash import checker, journal

Event = tuple[str, str, dict[str, Any]]
"""Process, event and facts; each happens a second (in ns, a thousand) after the one before."""

TOLD: list[Event] = [
    ("supervisor", "expected", {"subscribers": ["one"]}),
    ("pub", "trying", {"names": ["a", "b"]}),
    ("pub", "sent", {"messages": [["a", 1], ["b", 2]]}),
    ("x", "consuming", {"subscriber": "one", "order": True}),
    ("y", "consuming", {"subscriber": "one", "order": True}),
]


def took(process: str, since: int, *messages: tuple[str, int, int]) -> Event:
    return process, "took", {"since": since, "messages": [list(message) for message in messages]}


def acked(process: str, *ids: int) -> list[Event]:
    facts = {"how": "ack", "ids": list(ids)}
    return [(process, "ending", facts), (process, "ended", facts)]


def nacked(process: str, *ids: int) -> list[Event]:
    facts = {"how": "nack", "ids": list(ids)}
    return [(process, "ending", facts), (process, "ended", facts)]


def killed(process: str) -> list[Event]:
    return [("supervisor", "killing", {"process": process}), ("supervisor", "dead", {"process": process})]


def judged(folder: pathlib.Path, *events: Event) -> checker.Verdict:
    moments = itertools.count(1000, 1000)
    for process, event, facts in events:
        with open(folder / f"{process}{journal.SUFFIX}", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({**facts, "event": event, "moment": next(moments)}) + "\n")
    return checker.judge(folder)


def test_all_is_well(tmp_path: pathlib.Path) -> None:
    verdict = judged(
        tmp_path,
        *TOLD,
        took("x", 5500, ("a", 1, 1)),
        *nacked("x", 1),
        took("y", 8500, ("a", 1, 2), ("b", 2, 1)),
        *acked("y", 1),
        *killed("y"),
        took("x", 14500, ("b", 2, 2)),
        *acked("x", 2),
    )
    assert verdict.findings == []
    assert (verdict.sent, verdict.deliveries, verdict.redeliveries, verdict.deaths) == (2, 4, 2, 1)
    assert verdict.rescues == [pytest.approx(2e-6)]


BAD: dict[str, tuple[str, list[Event]]] = {
    "lost": ("b (2) was sent and never delivered to one", [took("x", 5500, ("a", 1, 1)), *acked("x", 1)]),
    "two owners": (
        "a of one had two owners at once",
        [took("x", 5500, ("a", 1, 1)), took("y", 5600, ("a", 1, 2)), *acked("x", 1), took("x", 9500, ("b", 2, 1))],
    ),
    "two owners, one of them killed later": (
        "a of one had two owners at once",
        [took("x", 5500, ("a", 1, 1)), took("y", 5600, ("a", 1, 2)), *killed("x"), took("y", 9500, ("b", 2, 1))],
    ),
    "again after its acknowledgement": (
        "a of one was delivered again after its acknowledgement",
        [took("x", 5500, ("a", 1, 1)), *acked("x", 1), took("y", 8500, ("a", 1, 2), ("b", 2, 1))],
    ),
    "taken from the living": (
        "delivered again though x lived and held it",
        [took("x", 5500, ("a", 1, 1)), took("y", 6500, ("a", 1, 2), ("b", 2, 1))],
    ),
    "given back for nothing": (
        "a of one was given back and never delivered again",
        [took("x", 5500, ("a", 1, 1), ("b", 2, 1)), *nacked("x", 1), *acked("x", 2)],
    ),
    "stuck in dead hands": (
        "a of one was held by x and never delivered again",
        [took("x", 5500, ("a", 1, 1)), *killed("x"), took("y", 8500, ("b", 2, 1)), *acked("y", 2)],
    ),
    "out of order": (
        "one got a (1) for the first time after 2",
        [took("x", 5500, ("b", 2, 1)), took("y", 6500, ("a", 1, 1))],
    ),
    "damaged": (
        "message 1 of one is not what was sent",
        [("x", "damaged", {"id": 1}), took("x", 5500, ("a", 1, 1), ("b", 2, 1))],
    ),
    "from nowhere": ("one got c, which nobody sent", [took("x", 5500, ("a", 1, 1), ("b", 2, 1), ("c", 3, 1))]),
    "another id": ("one got b as [3], but it was sent as 2", [took("x", 5500, ("a", 1, 1), ("b", 3, 1))]),
    "one id twice": (
        "the id 2 was given to 2 messages",
        [
            ("pub", "trying", {"names": ["c"]}),
            ("pub", "sent", {"messages": [["c", 2]]}),
            took("x", 7500, ("a", 1, 1), ("b", 2, 1), ("c", 2, 1)),
        ],
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_must_not_be_is_found(tmp_path: pathlib.Path, bad: str) -> None:
    finding, events = BAD[bad]
    assert finding in "\n".join(judged(tmp_path, *TOLD, *events).findings)


def test_what_was_under_way_is_judged_with_care(tmp_path: pathlib.Path) -> None:
    # Both takes were under way at once, so nobody knows which came first; x died in its acknowledgement, and
    # what was being sent when the publisher died may have arrived or not.
    verdict = judged(
        tmp_path,
        *TOLD,
        ("pub", "trying", {"names": ["c", "d"]}),
        took("x", 5500, ("b", 2, 1)),
        took("y", 5500, ("a", 1, 1)),
        ("x", "ending", {"how": "ack", "ids": [2]}),
        ("x", "dying", {"at": "inside settling"}),
        ("supervisor", "dead", {"process": "x"}),
        *acked("y", 1),
        took("y", 12500, ("b", 2, 2), ("c", 3, 1)),
        *acked("y", 2, 3),
    )
    assert verdict.findings == []


def test_a_last_line_cut_short_is_none(tmp_path: pathlib.Path) -> None:
    writing = journal.Journal(tmp_path, "x")
    writing.write("sent", messages=[])
    writing.close()
    path = tmp_path / f"x{journal.SUFFIX}"
    path.write_bytes(path.read_bytes() + b'{"event": "se')
    assert [event["event"] for event in journal.read(path)] == ["sent"]


def test_the_checker_does_not_know_the_library() -> None:
    for module in (checker, journal):
        tree = ast.parse(pathlib.Path(str(module.__file__)).read_text(encoding="utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                imported.add(f"{node.module}.{node.names[0].name}")
        allowed = {*sys.stdlib_module_names, "tests.crash.journal"}
        assert {name for name in imported if name not in allowed and name.split(".")[0] not in allowed} == set()
