"""A blocked consumer wakes at once, and costs nothing while it sleeps."""

import pathlib
import resource
import select
import shutil
import statistics
import time

import pytest

from persipubsub import Environment
from persipubsub.engine.local import files, waiting
from tests.process import support
from tests.process.support import Child, Children, Here

ROUNDS = 20


def consumer(children: Children, path: pathlib.Path, identifier: str = "sub") -> Child:
    """Return a process that consumes, and that is never awake by itself."""
    child = children.new()
    child.do(support.be_patient)
    child.do(support.open_subscriber, path, identifier)
    return child


def receive(here: Here, timeout: float) -> tuple[bytes | None, int]:
    with here.sub.receive(timeout=timeout) as data:
        return data, time.monotonic_ns()


def test_blocked_receive_returns_soon_after_a_send(path: pathlib.Path, env: Environment, children: Children) -> None:
    child = consumer(children, path)
    pub = env.new_publisher()

    def latency() -> float:
        latencies: list[float] = []
        for number in range(ROUNDS):
            child.start(receive, support.PATIENT)
            support.wait_until_asleep(child, path)
            began = time.monotonic_ns()
            pub.send(b"%d" % number)
            data, woke = child.returned()
            assert data == b"%d" % number
            latencies.append((woke - began) / 1e9)
        return statistics.median(latencies)

    support.in_time(latency, 0.5, "it is awake")


def test_all_that_wait_wake(path: pathlib.Path, env: Environment, children: Children) -> None:
    env.open_control().add_subscriber("other")
    waiting = [consumer(children, path, identifier) for identifier in ("sub", "other")]
    for number, child in enumerate(waiting):
        child.start(receive, support.PATIENT)
        support.wait_until_asleep(child, path, bells=number + 1)
    env.new_publisher().send(b"for both")
    for child in waiting:
        assert child.returned()[0] == b"for both"


@pytest.mark.parametrize("how", ["seek", "nack", "requeue", "resume"])
def test_what_waits_again_wakes(path: pathlib.Path, env: Environment, children: Children, how: str) -> None:
    sub, control = env.new_subscriber("sub"), env.open_control()
    env.new_publisher().send(b"again")
    held = sub.get(timeout=0)
    assert held is not None
    if how == "requeue":
        held.reject("not now")
    elif how == "resume":
        control.pause_subscriber("sub")
        held.nack()
    child = consumer(children, path)
    child.start(receive, support.PATIENT)
    support.wait_until_asleep(child, path)
    if how == "seek":
        sub.seek("first")
    elif how == "nack":
        held.nack()
    elif how == "resume":
        control.resume_subscriber("sub")
    else:
        control.dead_letters("sub").requeue()
    assert child.returned()[0] == b"again"


def wait_idly(here: Here, timeout: float) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    with here.sub.receive(timeout=timeout) as data:
        assert data is None
    return used() - before


@pytest.mark.parametrize("held", [False, True])
def test_idle_waiting_costs_no_time(path: pathlib.Path, env: Environment, children: Children, held: bool) -> None:
    if held:
        # Whose death has to be watched for.
        env.new_publisher().send(b"held")
        message = env.new_subscriber("sub").get(timeout=0)
        assert message is not None
    child = children.new()
    child.do(support.open_subscriber, path)
    assert child.do(support.get, 0) is None
    support.in_time(lambda: child.do(wait_idly, 2.0), 0.02, "waiting for 2 s, of the processor's time")


# -- the descriptor -----------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever is not woken in this process sleep for minutes."""
    monkeypatch.setattr(waiting, "LONGEST", support.PATIENT)


def is_readable(descriptor: int, bound: float = 0.0) -> bool:
    return bool(select.select([descriptor], [], [], bound)[0])


def test_fileno_is_readable_until_a_take_finds_none(path: pathlib.Path, env: Environment, children: Children) -> None:
    child = children.new()
    child.do(support.open_publisher, path)
    child.do(support.send, b"there before")
    sub = env.new_subscriber("sub")
    descriptor = sub.fileno()
    assert is_readable(descriptor)
    for round_number in range(3):
        message = sub.get(timeout=0)
        assert message is not None
        message.ack()
        assert is_readable(descriptor)
        assert sub.get(timeout=0) is None
        assert not is_readable(descriptor)
        child.do(support.send, b"round %d" % round_number)
        assert is_readable(descriptor, support.BOUND)
        assert sub.fileno() == descriptor


@pytest.mark.usefixtures("patient")
def test_fileno_is_readable_when_a_delayed_message_is_due(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    sub = env.new_subscriber("sub")
    descriptor = sub.fileno()
    child = children.new()
    child.do(support.open_publisher, path)

    def become_due(factor: float) -> None:
        delay = 0.5 * factor
        env.open_control().purge("sub")
        began = time.monotonic()
        child.do(support.send, b"later", {"delay": delay})
        # The publication itself may make it readable: a take that finds none ends that.
        assert sub.get(timeout=0) is None
        assert not is_readable(descriptor)
        assert is_readable(descriptor, support.BOUND)
        assert time.monotonic() - began > delay - 0.05
        message = sub.get(timeout=0)
        assert message is not None
        assert message.data == b"later"

    support.patiently(become_due)


@pytest.mark.usefixtures("patient")
def test_fileno_is_readable_when_a_bounded_lease_ends(path: pathlib.Path, env: Environment, children: Children) -> None:
    child = children.new()
    child.do(support.open_subscriber, path)

    def end(factor: float) -> None:
        lease = 0.5 * factor
        env.open_control().purge("sub")
        env.new_publisher().send(b"leased")
        sub = env.new_subscriber("sub")
        began = time.monotonic()
        child.do(support.get, 0, lease)
        descriptor = sub.fileno()
        assert sub.get(timeout=0) is None
        assert not is_readable(descriptor)
        assert is_readable(descriptor, support.BOUND)
        assert time.monotonic() - began > lease - 0.05
        message = sub.get(timeout=0)
        assert message is not None
        assert message.delivery_count == 2

    support.patiently(end)


@pytest.mark.usefixtures("patient")
def test_fileno_is_readable_when_a_holder_is_killed(path: pathlib.Path, env: Environment, children: Children) -> None:
    env.new_publisher().send(b"held")
    child = children.new()
    child.do(support.open_subscriber, path)
    child.do(support.get, 0)
    sub = env.new_subscriber("sub")
    descriptor = sub.fileno()
    assert sub.get(timeout=0) is None
    assert not is_readable(descriptor)
    child.kill()
    assert is_readable(descriptor, support.BOUND)
    message = sub.get(timeout=0)
    assert message is not None
    assert message.delivery_count == 2


# -- what goes wrong ----------------------------------------------------------------------------------


def test_bell_of_a_dead_process_does_no_harm(path: pathlib.Path, env: Environment, children: Children) -> None:
    dead = children.new()
    dead.do(support.open_subscriber, path)
    dead.start(receive, 60)
    support.wait_until_asleep(dead, path)
    dead.kill()
    fifos = list((path / files.BELLS).iterdir())
    assert len(fifos) == support.armed_bells(path) == 1

    # Nobody is woken and nobody is blocked by it, and the next one takes its place.
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send(b"first")
    with sub.receive(timeout=0) as data:
        assert data == b"first"
    child = consumer(children, path)
    child.start(receive, support.PATIENT)
    support.wait_until_asleep(child, path)
    pub.send(b"second")
    assert child.returned()[0] == b"second"
    child.do(support.close)
    env.close()
    support.assert_sound(path)
    # Whoever opens the queue sweeps.
    assert list((path / files.BELLS).iterdir()) == []


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_something_else_in_the_place_of_a_bell_does_no_harm(
    path: pathlib.Path, env: Environment, children: Children, tmp_path: pathlib.Path, what: str
) -> None:
    child = children.new()
    child.do(support.open_subscriber, path)
    child.start(receive, 60)
    support.wait_until_asleep(child, path)
    (fifo,) = (path / files.BELLS).iterdir()
    fifo.unlink()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    if what == "file":
        fifo.write_bytes(b"")
    elif what == "folder":
        fifo.mkdir()
    else:
        fifo.symlink_to(victim)
    env.new_publisher().send(b"all the same")
    data, _ = child.returned()
    assert data == b"all the same"
    assert victim.read_bytes() == b"precious"
    # And those who come now.
    with env.new_subscriber("sub").receive(timeout=0.01) as data:
        assert data is None


def test_messages_arrive_though_the_folder_of_bells_is_gone(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    waiting = children.new()
    waiting.do(support.open_subscriber, path)
    waiting.start(receive, 60)
    support.wait_until_asleep(waiting, path)
    shutil.rmtree(path / files.BELLS)
    pub = env.new_publisher()
    pub.send(b"to one that waited before")
    data, _ = waiting.returned()
    assert data == b"to one that waited before"

    # One that begins to wait now has no bell.
    waiting.start(support.get, 60)
    pub.send(b"to one that has no bell")
    assert waiting.returned()[0] == b"to one that has no bell"

    # One that opens the queue brings the folder back.
    late = children.new()
    late.do(support.open_subscriber, path)
    late.start(receive, 60)
    support.wait_until_asleep(late, path)
    pub.send(b"to one that came later")
    data, _ = late.returned()
    assert data == b"to one that came later"
