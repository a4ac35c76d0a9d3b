"""A power cut at any point of a queue's life: what was promised is there.

``python -m tests.soak --rows power-loss-full`` looks longer.
"""

import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable

import lmdb
import pytest

from persipubsub import Durability, Environment, QueueManager, config
from persipubsub.engine.local import doubt, files, trust
from tests.faults import powerloss
from tests.faults.powercut import MANNERS, PowerCut
from tests.faults.recorder import Recorder

CUTS = {Durability.FULL: 150, Durability.COMMIT: 150, Durability.PROCESS: 200}


def judge(
    folder: pathlib.Path, durability: Durability, cuts: int, operations: int = 40, enough: int = 1000, seed: int = 1
) -> powerloss.Verdict:
    life = powerloss.live(folder / "life", durability, seed, operations)
    verdict = powerloss.cut_and_judge(life, folder, 2, cuts, enough=enough)
    life.recorder.close()
    shutil.rmtree(folder / "life")
    return verdict


@pytest.mark.parametrize("durability", list(Durability))
def test_what_was_promised_survives_a_power_cut(memory: pathlib.Path, durability: Durability) -> None:
    verdict = judge(memory, durability, CUTS[durability])
    assert verdict.findings == []
    assert verdict.cuts >= CUTS[durability]
    assert verdict.deepest <= {Durability.FULL: 0, Durability.COMMIT: 1, Durability.PROCESS: 100}[durability]
    # With no sync per commit, cuts do damage; it is always found before anything is delivered.
    assert (verdict.refused > 0) == (durability is Durability.PROCESS)


@pytest.mark.parametrize("durability", list(Durability))
def test_a_cut_while_a_queue_is_deployed_leaves_all_or_nothing(memory: pathlib.Path, durability: Durability) -> None:
    verdict = judge(memory, durability, 300, operations=0)
    assert verdict.findings == []
    assert 50 < verdict.absent < verdict.cuts


# -- what would be seen ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durability", "flags"),
    [
        (Durability.FULL, {"sync": False}),
        (Durability.FULL, {"metasync": False}),
        (Durability.COMMIT, {"sync": False}),
    ],
)
def test_a_sync_that_is_left_out_is_seen(
    memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, flags: dict[str, bool]
) -> None:
    monkeypatch.setattr(lmdb, "open", powerloss.without_sync(**flags))
    life = powerloss.live(memory / "life", durability, 1, 40)
    monkeypatch.undo()
    assert powerloss.cut_and_judge(life, memory, 2, 100, enough=1).findings
    life.recorder.close()


def test_a_folder_that_is_not_synced_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    assert any("not there" in finding for finding in judge(memory, Durability.FULL, 100, 5, enough=5).findings)


@pytest.mark.parametrize("left_out", ["verify_pages", "check", "note"])
def test_trust_without_a_look_is_seen(memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    """Without the verification of pages, without that of records, and without the note that asks for them."""
    if left_out == "verify_pages":
        monkeypatch.setattr(files, "verify_pages", lambda path: [])
    elif left_out == "check":
        monkeypatch.setattr(trust, "check", lambda store: [])
    else:
        monkeypatch.setattr(doubt, "note_boot", lambda path: None)
    # Not every life comes to a moment at which it matters.
    assert any(judge(memory, Durability.PROCESS, 500, enough=1, seed=seed).findings for seed in range(1, 11))


# -- the simulation itself -----------------------------------------------------------------------------------


def test_the_simulation_keeps_what_was_synced_and_tears_the_rest(memory: pathlib.Path) -> None:
    root = memory / "root"
    root.mkdir()
    recorder = Recorder(root)
    old, new = b"o" * 4096, b"n" * 4096
    with recorder.recording():
        descriptor = os.open(root / "file", os.O_RDWR | os.O_CREAT)
        os.write(descriptor, old)
        os.fsync(descriptor)
        files.sync_folder(root)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, new)
        os.fsync(descriptor)
        os.rename(root / "file", root / "renamed")
    os.close(descriptor)
    source = random.Random(1)
    seen: dict[str, set[tuple[str, bytes]]] = {}
    cut = PowerCut(recorder)
    for number, point in cut.points():
        for manner in MANNERS * 5:
            target = memory / "cut"
            cut.build(target, manner, source)
            for path in target.iterdir():
                seen.setdefault(f"{number} {point.name}", set()).add((path.name, path.read_bytes()))
            shutil.rmtree(target)
    recorder.close()
    states = list(seen.values())
    # Before the folder was synced, the file may be missing, empty or torn; then it is sure; then torn again.
    assert any(("file", b"") in state for state in states)
    sure = [number for number, state in enumerate(states) if state == {("file", old)}]
    torn = [number for number, state in enumerate(states) if any(b"on" in data or b"no" in data for _, data in state)]
    assert sure
    assert torn
    assert min(torn) > min(sure)
    assert {("file", new), ("renamed", new)} == states[-1]


def by_manager(root: pathlib.Path) -> pathlib.Path:
    manager = QueueManager(root / "new" / "folder")
    manager.create("queue", subscriber_ids={"a"}).close()
    return root / "new" / "folder" / "queue"


def by_configuration(root: pathlib.Path) -> pathlib.Path:
    file = root / "queues.json"
    file.write_text(json.dumps({"root": "new/folder", "queues": {"queue": {"subscribers": ["a"]}}}))
    config.deploy(config.load(file))
    return root / "new" / "folder" / "queue"


@pytest.mark.parametrize("create", [by_manager, by_configuration])
def test_a_new_queue_stands_with_the_folders_above_it(
    memory: pathlib.Path, create: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    root = memory / "root"
    root.mkdir()
    recorder = Recorder(root)
    with recorder.recording():
        where = create(root).relative_to(root)
    cut = PowerCut(recorder)
    for _ in cut.points():
        pass
    cut.build(memory / "cut", "dropped", random.Random(1))
    recorder.close()
    with Environment(memory / "cut" / where) as env:
        assert env.open_control().subscriber_ids == {"a"}
        assert env.new_publisher().send(b"") == 1
