"""A process that is stopped inside its transaction: others are told so, and are not stuck themselves."""

import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from persipubsub import Durability, Environment, QueueBusyError
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from tests.process import support
from tests.process.support import BOUND, Child, Children, Here

TIMEOUT = 0.5


def store_of(env: Environment) -> Store:
    engine: Any = env._connection.engine()
    store: Store = engine._store
    return store


def stop_inside(here: Here, path: pathlib.Path) -> int:
    """Publish, and be stopped in the middle of the transaction."""
    here.env = Environment(path)
    here.pub = here.env.new_publisher()
    finish = Work.finish

    def finish_later(work: Work) -> bool:
        setattr(Work, "finish", finish)  # noqa: B010
        here.tell("inside")
        os.kill(os.getpid(), signal.SIGSTOP)
        return finish(work)

    setattr(Work, "finish", finish_later)  # noqa: B010
    message_id: int = here.pub.send(b"of the stopped one")
    return message_id


@pytest.fixture(params=[Durability.FULL, Durability.PROCESS], ids=["full", "process"])
def path(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    folder = tmp_path / "queue"
    with Environment(folder) as env:
        env.new_control({"sub"}, lock_timeout=TIMEOUT, durability=request.param)
    yield folder
    support.assert_sound(folder)


@pytest.fixture
def other(path: pathlib.Path, children: Children) -> Child:
    """Give a process that has used the queue before the writer is stopped."""
    child = children.new()
    child.do(support.open_publisher, path)
    child.do(support.open_subscriber, path)
    child.do(use_both, path)
    return child


def use_both(here: Here, path: pathlib.Path) -> None:
    here.env = Environment(path)
    here.pub, here.sub = here.env.new_publisher(), here.env.new_subscriber("sub")
    here.pub.send(b"before")
    with here.sub.receive(timeout=0) as data:
        assert data == b"before"


@pytest.fixture
def stopped(path: pathlib.Path, other: Child, children: Children) -> Child:
    """Give a process that is stopped inside its transaction."""
    child = children.new()
    child.start(stop_inside, path)
    assert child.told() == "inside"
    support.wait_until(lambda: support.state_of(child.pid) == "T", "it is stopped")
    return child


def try_everything(here: Here) -> list[tuple[str, float]]:
    """Try what writes; return the errors, and how long each took to come."""
    attempts: list[Callable[[], Any]] = [
        lambda: here.pub.send(b"of another"),
        lambda: here.sub.get(timeout=0),
        lambda: here.sub.get(timeout=BOUND),
        lambda: here.sub.ack([1]),
        lambda: here.sub.peek(),
        lambda: here.env.open_control().add_subscriber("new"),
    ]
    errors = []
    for attempt in attempts:
        began = time.monotonic()
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - the test judges it
            errors.append((f"{type(error).__name__}: {error}", time.monotonic() - began))
    return errors


def test_others_raise_in_time_and_name_the_process(stopped: Child, other: Child) -> None:
    def latest() -> float:
        errors = other.do(try_everything)
        assert len(errors) == 6
        for text, seconds in errors:
            assert text.startswith("QueueBusyError: ")
            assert f"process {stopped.pid} " in text
            assert seconds >= TIMEOUT
        return max(float(seconds) for _, seconds in errors)

    support.in_time(latest, TIMEOUT + 2.5, "they raise")
    stopped.signal(signal.SIGCONT)
    assert stopped.returned() == 2
    # All goes on, and of what was refused nothing was stored.
    assert other.do(support.send, b"after") == 3
    assert other.do(support.get_and_ack, 0)[0] == b"of the stopped one"
    assert other.do(support.get_and_ack, 0)[0] == b"after"
    assert other.do(support.get_and_ack, 0) is None


def test_reading_is_not_disturbed(stopped: Child, other: Child) -> None:
    def read() -> float:
        began = time.monotonic()
        assert other.do(published) == 1
        return time.monotonic() - began

    support.in_time(read, TIMEOUT, "reading")
    stopped.signal(signal.SIGCONT)
    assert stopped.returned() == 2
    assert other.do(published) == 2


def published(here: Here) -> int:
    number: int = here.env.open_control().statistics().published
    return number


def test_killed_in_the_middle_leaves_nothing(stopped: Child, other: Child) -> None:
    stopped.kill()
    assert other.do(support.send, b"after") == 2
    assert other.do(support.get_and_ack, 0)[0] == b"after"
    assert other.do(support.get_and_ack, 0) is None


def configure(here: Here, lock_timeout: float) -> None:
    here.env.open_control().configure(lock_timeout=lock_timeout)


def send_interruptibly(here: Here) -> float:
    """Tell when it waits for the lock, and wait for an interrupt; return how long that took to come through."""
    store = store_of(here.env)
    holder = store.locks.holder
    attempts = 0

    def counted(offset: int) -> int | None:
        nonlocal attempts
        attempts += 1
        if attempts == 100:
            here.tell("waiting")
        return holder(offset)

    store.locks.holder = counted  # type: ignore[method-assign]
    began = time.monotonic()
    try:
        here.pub.send(b"interrupted")
    except KeyboardInterrupt:
        return time.monotonic() - began
    finally:
        store.locks.holder = holder  # type: ignore[method-assign]
    raise AssertionError("it was sent")


def test_interrupt_comes_through(path: pathlib.Path, other: Child, children: Children) -> None:
    other.do(configure, 10 * BOUND)
    stopped = children.new()
    stopped.start(stop_inside, path)
    assert stopped.told() == "inside"
    other.do(published)
    other.start(send_interruptibly)
    assert other.told() == "waiting"
    other.signal(signal.SIGINT)
    assert other.returned() < BOUND
    stopped.signal(signal.SIGCONT)
    assert stopped.returned() == 2
    assert other.do(support.send, b"after") == 3
    assert other.do(support.get_and_ack, 0)[0] == b"of the stopped one"
    assert other.do(support.get_and_ack, 0)[0] == b"after"


def open_late(here: Here, path: pathlib.Path) -> tuple[str, float]:
    """Open the queue and send; return the error, and how long it took to come."""
    began = time.monotonic()
    try:
        Environment(path).new_publisher().send(b"late")
    except QueueBusyError as error:
        return str(error), time.monotonic() - began
    return "it was sent", 0.0


def test_opening_meanwhile_waits_for_a_bounded_time(path: pathlib.Path, stopped: Child, children: Children) -> None:
    late = children.new()

    def refused() -> float:
        text, seconds = late.do(open_late, path)
        assert f" process {stopped.pid} " in text
        return float(seconds)

    support.in_time(refused, TIMEOUT + 5, "it raises")
    stopped.signal(signal.SIGCONT)
    assert stopped.returned() == 2
