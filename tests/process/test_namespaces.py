"""Processes in different containers: the namespaces that these are made of, without the rest."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persipubsub import Environment
from persipubsub.engine.local import waiting
from tests.process.contained import BEHIND_INIT, FIRST, Contained
from tests.process.support import BOUND, PATIENT, armed_bells, wait_until

Contain = Callable[..., Contained]


@pytest.fixture
def contain(path: Path) -> Iterator[Contain]:
    """Give a source of contained processes; all of them end with the test."""
    made: list[Contained] = []

    def new(*namespaces: str, init: tuple[str, ...] = FIRST) -> Contained:
        made.append(Contained(path, *namespaces, init=init))
        return made[-1]

    yield new
    for one in made:
        one.kill()


def test_messages_cross_pid_namespaces(env: Environment, contain: Contain) -> None:
    one, other = contain("--pid"), contain("--pid", init=BEHIND_INIT)
    assert one.do("open") == 1
    assert other.do("open") == 2
    one.do("send", "hello")
    assert other.do("take", 0) == ["hello", 1]
    other.do("ack")
    other.do("send", "and back")
    assert one.do("take", 0) == ["and back", 1]
    one.do("ack")
    assert env.open_control().statistics().subscribers[0].lag == 0


@pytest.mark.parametrize("namespace", ["--pid", "--net"])
def test_a_sleeper_is_woken_across_namespaces(env: Environment, path: Path, contain: Contain, namespace: str) -> None:
    sleeper = contain(namespace)
    sleeper.do("be_patient")
    sleeper.do("open")
    sleeper.start("take", 300)
    wait_until(lambda: armed_bells(path), "it asks to be woken")
    env.new_publisher().send(b"wake up")
    assert sleeper.answer() == ["wake up", 1]
    sleeper.do("ack")


def test_the_death_of_a_container_is_noticed(
    env: Environment, path: Path, contain: Contain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pid of it can be watched from here, so one looks after it; a wake-up by chance would take minutes."""
    monkeypatch.setattr(waiting, "LONGEST", PATIENT)
    worker = contain("--pid")
    worker.do("open")
    worker.do("send", "work")
    assert worker.do("take", 0) == ["work", 1]

    def kill_while_asleep() -> None:
        wait_until(lambda: armed_bells(path), "it asks to be woken")
        worker.kill()

    thread = threading.Thread(target=kill_while_asleep)
    began = time.monotonic()
    thread.start()
    with env.new_subscriber("sub") as sub, sub.receive_message(timeout=BOUND) as message:
        assert message is not None
        assert (message.data, message.delivery_count, message.last_error) == (b"work", 2, "owner died")
    thread.join()
    assert time.monotonic() - began < BOUND / 2, "it was only found at the end of the wait"


def test_owners_in_other_containers_are_shown_as_such(env: Environment, contain: Contain) -> None:
    worker = contain("--pid")
    worker.do("open")
    worker.do("send", "work")
    worker.do("take", 0)
    with env.new_subscriber("sub") as sub:
        sub.get(timeout=0)
        owners = {owner.elsewhere: owner for owner in env.open_control().statistics().subscribers[0].owners or ()}
    assert (owners[True].pid, owners[True].leased) == (1, 1)
    assert owners[False].pid > 1
    worker.do("ack")


@pytest.mark.parametrize(("init", "pid"), [(FIRST, 1), (BEHIND_INIT, 2)])
def test_equal_pids_are_refused_and_the_cure_is_named(contain: Contain, init: tuple[str, ...], pid: int) -> None:
    """An init process alone does not help where it starts both under the same number."""
    first, second = contain("--pid", init=init), contain("--pid", init=init)
    assert first.do("open") == pid
    kind, text = second.do("open")
    assert kind == "PidCollisionError"
    assert f"the same process id as this one, {pid}," in text
    assert "share a PID namespace" in text
    assert "init process" in text
    # The first one is not disturbed, and the second may come when it has gone.
    first.do("send", "still here")
    assert first.do("take", 0) == ["still here", 1]
    first.do("ack")
    first.kill()
    assert second.do("open") == pid


def test_a_writer_of_another_container_is_named_as_such(path: Path, env: Environment, contain: Contain) -> None:
    env.open_control().configure(lock_timeout=0.2)
    worker = contain("--pid")
    worker.do("open")
    engine = env.new_publisher()._engine()
    with engine._store.writer.locked():  # type: ignore[attr-defined]
        kind, text = worker.do("send", "never")
    assert kind == "QueueBusyError"
    assert "a process of another container (PID namespace) has kept the write lock" in text


def test_what_a_dead_reader_of_the_same_pid_has_left_is_freed(env: Environment, contain: Contain) -> None:
    # Somebody has the queue open all the time: else the table of readers would begin anew.
    env.new_publisher().send(b"read me")
    keeper = contain("--pid")
    pid = keeper.do("die_while_reading")
    engine = env.new_publisher()._engine()
    assert f" {pid} " in engine._store.env.readers()  # type: ignore[attr-defined]
    assert keeper.do("reopen_as", pid) == [pid, 0]
