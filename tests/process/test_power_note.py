"""The note that tells of a power cut under durability "process" stands as long as anybody has the queue open."""

import multiprocessing
import pathlib
from multiprocessing.connection import Connection

import pytest

from persipubsub import Durability, Environment
from persipubsub.engine.local import doubt, locks, opening
from persipubsub.engine.local.store import Store
from tests.process.support import BOUND

SPAWN = multiprocessing.get_context("spawn")


def open_when_told(path: pathlib.Path, pipe: Connection) -> None:
    while pipe.recv():
        try:
            with Environment(path) as env:
                env.new_publisher()
            pipe.send(None)
        except Exception as error:  # noqa: BLE001  the test shows it
            pipe.send(repr(error))


@pytest.fixture
def queue(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "queue"
    with Environment(path) as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
    return path


@pytest.mark.parametrize("in_doubt", [False, True])
def test_processes_open_at_the_same_time(queue: pathlib.Path, in_doubt: bool) -> None:
    pipes = []
    processes = []
    for _ in range(4):
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=open_when_told, args=(queue, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    failures = []
    for _ in range(60):
        if in_doubt:
            (queue / "seal").unlink(missing_ok=True)  # several of them may look at everything first
        for pipe in pipes:
            pipe.send(True)
        failures += [failure for pipe in pipes if (failure := pipe.recv())]
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join(BOUND)
        process.close()
        pipe.close()
    assert failures == []


def test_the_last_to_leave_takes_nobody_elses_note(queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens while the last user closes leaves a note that stays: the lock on users is held until it is gone."""
    held: list[bool] = []
    leave = doubt.leave

    def leave_and_look(path: pathlib.Path) -> None:
        # POSIX record locks belong to the process, so another one has to look.
        ours, theirs = SPAWN.Pipe()
        looker = SPAWN.Process(target=tell_whether_shared, args=(path, theirs))
        looker.start()
        held.append(not ours.recv())
        looker.join(BOUND)
        looker.close()
        ours.close()
        theirs.close()
        leave(path)

    monkeypatch.setattr(doubt, "leave", leave_and_look)
    env = Environment(queue)
    env.new_publisher()
    env.close()
    assert held == [True]
    assert not (queue / "boot").exists()


def tell_whether_shared(path: pathlib.Path, pipe: Connection) -> None:
    store = Store(path, Durability.FULL, None, opening.clock)
    pipe.send(store.locks.try_shared(locks.USERS))
    store.close()
