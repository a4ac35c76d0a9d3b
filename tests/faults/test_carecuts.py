"""Power cuts while a queue is looked after, and what can be saved after one.

``python -m tests.soak --rows power-loss-care power-loss-salvage`` looks longer.
"""

import os
import pathlib
import random
from collections.abc import Callable

import pytest

from persipubsub import Durability
from persipubsub.cli import receive
from persipubsub.engine.local import copying, doubt, files
from tests.faults import carecuts, powerloss
from tests.faults.powercut import PowerCut
from tests.faults.recorder import Recorder


def judge(
    folder: pathlib.Path, name: str, cuts: int, durability: Durability = Durability.FULL, enough: int = 1000
) -> powerloss.Verdict:
    done = carecuts.care(folder / "care", name, durability, 1)
    verdict = carecuts.cut_and_judge(done, folder, 2, cuts, enough=enough)
    done.recorder.close()
    return verdict


@pytest.mark.parametrize("name", carecuts.NAMES)
def test_a_cut_leaves_what_was_there_and_nothing_half_made(memory: pathlib.Path, name: str) -> None:
    durability = list(Durability)[carecuts.NAMES.index(name) % len(Durability)]
    verdict = judge(memory, name, 16, durability)
    assert verdict.findings == []
    assert verdict.cuts == 16
    assert verdict.absent < verdict.cuts


def test_after_a_cut_what_can_be_read_is_saved_and_what_is_uncertain_is_said(memory: pathlib.Path) -> None:
    life = powerloss.live(memory / "life", Durability.PROCESS, 3, 12)
    verdict = carecuts.cut_and_salvage(life, memory, 1, 60)
    life.recorder.close()
    assert verdict.findings == []
    assert verdict.refused
    assert verdict.saved, "nothing was saved at all"


def test_a_message_that_is_written_to_a_file_is_there_before_it_is_settled(memory: pathlib.Path) -> None:
    root = memory / "root"
    root.mkdir()
    recorder = Recorder(root)
    with recorder.recording():
        receive._write_file(root / "message", b"of a queue")
    cut = PowerCut(recorder)
    for _ in cut.points():
        pass
    cut.build(memory / "cut", "dropped", random.Random(1))
    recorder.close()
    assert (memory / "cut" / "message").read_bytes() == b"of a queue"


# -- what would be seen ------------------------------------------------------------------------------------


def write_unsynced(folder: pathlib.Path, copy: Callable[[int], None]) -> None:
    """Write a copy, as ``copying`` does, but without a sync."""
    descriptor = os.open(folder / files.DATA, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    copy(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "finding"), [("backup", "what was made is"), ("compact", "not what it was"), ("export", "is not there")]
)
def test_a_sync_that_is_left_out_is_seen(
    memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, finding: str
) -> None:
    monkeypatch.setattr(copying, "_write", write_unsynced)
    monkeypatch.setattr(copying, "_cut", lambda path, end: None)
    if name == "export":
        monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    assert finding in "\n".join(judge(memory, name, 60, enough=1).findings)


def test_a_salvage_that_is_too_sure_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "unsynced", lambda path: None)
    life = powerloss.live(memory / "life", Durability.PROCESS, 3, 8)
    findings = carecuts.cut_and_salvage(life, memory, 1, 150, enough=1).findings
    life.recorder.close()
    assert "it says that nothing was lost" in "\n".join(findings)
