"""Slots and owners: what one process has claimed no other can, until it is given up."""

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from persipubsub.engine.local import create_local, locks, open_local
from persipubsub.engine.local.board import Slots
from persipubsub.engine.local.locks import ByteLocks
from persipubsub.engine.local.owners import Owners
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings


@pytest.fixture
def byte_locks(tmp_path: pathlib.Path) -> Iterator[ByteLocks]:
    descriptor = os.open(tmp_path / "locks", os.O_RDWR | os.O_CREAT)
    yield ByteLocks(descriptor)
    os.close(descriptor)


def elsewhere(question: Callable[[], bool]) -> bool:
    """Ask in a forked process, which inherits no lock."""
    child = os.fork()
    if not child:
        answer = 2
        try:
            answer = not question()
        finally:
            os._exit(answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_a_slot_that_was_given_up_is_for_others(byte_locks: ByteLocks) -> None:
    slots, theirs = Slots(byte_locks, locks.PROGRESS, 2), Slots(byte_locks, locks.PROGRESS, 2)
    assert (slots.claim(), slots.claim(), slots.claim()) == (0, 1, None)
    assert not slots.try_claim(1)
    assert elsewhere(lambda: theirs.claim() is None)
    slots.give_up(1)
    assert elsewhere(lambda: theirs.claim() == 1)
    assert slots.claim() == 1


def test_an_owner_that_has_ended_is_dead_for_others(byte_locks: ByteLocks) -> None:
    owners, theirs = Owners(byte_locks), Owners(byte_locks)
    owner = owners.new()
    assert owners.is_mine(owner)
    assert owners.is_alive(owner)
    assert elsewhere(lambda: theirs.is_alive(owner) and not theirs.is_mine(owner))
    owners.end(owner)
    owners.end(owner)
    assert not owners.is_mine(owner)
    assert elsewhere(lambda: not theirs.is_alive(owner))


def test_a_dead_owner_is_not_shown(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(path)
    engine.put([Entry(b"x", 1)])
    assert engine.take("a", 1, None)
    (owner,) = engine.statistics().subscribers[0].owners or ()
    assert owner.leased == 1
    engine._store.owners.end(engine._taker.owner())
    assert engine.statistics().subscribers[0].owners == ()
    engine.close()
