"""Opening a queue twice, by any path and in any process; and creating it, also against others and to the death."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import pickle
import random
import signal
import sys
import types
from typing import Any

import pytest

from persipubsub import (
    ClosedError,
    Control,
    Durability,
    Environment,
    Publisher,
    QueueBusyError,
    QueueManager,
    Subscriber,
    SubscriberSettings,
)
from persipubsub.engine.local import opening
from tests.process import support
from tests.process.support import BOUND, Children, Here

# -- twice in one process -----------------------------------------------------------------------------------


class PathLike:
    """An os.PathLike that is no pathlib.Path."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def environments_of(path: pathlib.Path) -> int:
    """Return how often this process has the data file of a queue mapped by LMDB."""
    wanted = os.stat(path / "lock.mdb")
    number = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        number += (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
    return number


def test_all_spellings_of_a_path_share_one_environment(
    path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(path)
    (tmp_path / "folder").mkdir()
    parent = tmp_path / "parent"
    parent.symlink_to(tmp_path)
    spellings: list[Any] = [
        path,
        str(path),
        PathLike(path),
        link,
        "queue",
        "./queue/",
        tmp_path / "folder" / ".." / "queue",
        parent / "queue",
        f"//{path}",
    ]
    environments = [Environment(spelling) for spelling in spellings]
    publishers = [environment.new_publisher() for environment in environments]
    assert len(opening._stores) == environments_of(path) == 1
    assert [publisher.send(b"") for publisher in publishers] == list(range(1, len(spellings) + 1))
    for environment in environments:
        assert len(opening._stores) == 1
        message = environment.new_subscriber("sub").get(timeout=0)
        assert message is not None
        message.ack()
        environment.close()
    assert (len(opening._stores), environments_of(path)) == (0, 0)


def test_close_of_one_environment_leaves_the_other(path: pathlib.Path, children: Children) -> None:
    one, other = Environment(path), Environment(path)
    one.new_publisher().send_many([b"0", b"1"])
    mine, hers = one.new_subscriber("sub").get(timeout=0), other.new_subscriber("sub").get(timeout=0)
    assert mine is not None
    assert hers is not None
    one.close()
    one.close()
    with pytest.raises(ClosedError):
        one.new_publisher()
    with pytest.raises(ClosedError):
        mine.ack()
    # The locks of the other owner are still there for all to see.
    child = children.new()
    child.do(support.open_subscriber, path)
    assert child.do(support.get, 0)[0] == b"0"
    assert child.do(support.get, 0) is None
    hers.ack()
    assert other.new_publisher().send(b"2") == 3
    other.close()


def test_a_queue_that_another_process_has_open_is_not_deleted(tmp_path: pathlib.Path, children: Children) -> None:
    manager = QueueManager(tmp_path)
    manager.create("jobs", subscriber_ids={"sub"}).close()
    child = children.new()
    child.do(support.open_publisher, tmp_path / "jobs")
    with pytest.raises(QueueBusyError, match=f"not deleted: process {child.pid}.*Close it there, or force"):
        manager.delete("jobs")
    assert child.do(support.send, b"one") == 1
    child.do(support.close)
    assert manager.delete("jobs")
    assert not (tmp_path / "jobs").exists()


def test_a_queue_is_not_closed_while_it_is_read_and_others_have_it_open(path: pathlib.Path, children: Children) -> None:
    child = children.new()
    child.do(support.open_publisher, path)
    env = Environment(path)
    assert child.do(support.send, b"one") == 1

    def close_within() -> None:
        with env.new_subscriber("sub").receive_view() as view:
            with pytest.raises(QueueBusyError, match="receive_view"):
                env.close()
            assert view is not None
            assert view.tobytes() == b"one"

    with pytest.raises(ClosedError):
        close_within()
    env.close()
    assert child.do(support.send, b"two") == 2
    with Environment(path) as env:
        assert env.new_subscriber("sub").ack([1, 2]) == 2  # it was given back
    support.assert_sound(path)


def test_a_queue_is_opened_and_closed_many_times(path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        with Environment(path) as env:
            env.new_publisher().send(b"%d" % number)
            with env.new_subscriber("sub").receive(timeout=0) as data:
                assert data == b"%d" % number
    assert len(os.listdir("/proc/self/fd")) == before


# -- in other processes ----------------------------------------------------------------------------------------


def answer(env: Environment, pub: Publisher, sub: Subscriber[bytes], control: Control) -> int:
    with sub.receive(timeout=BOUND) as data:
        assert data is not None
        pub.send(data + b" by the publisher")
        env.new_publisher().send(data + b" by the environment")
    return len(control.check())


def test_pickling_into_a_process(path: pathlib.Path, env: Environment) -> None:
    pub, sub, control = env.new_publisher(), env.new_subscriber("sub"), env.open_control()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        pub.send(b"sent")
        assert pool.submit(answer, env, pub, sub, control).result(BOUND) == 0
    assert sorted(message.data for message in sub.get_many(9, timeout=0)) == [
        b"sent by the environment",
        b"sent by the publisher",
    ]


def test_pickle_of_a_relative_path_leads_to_the_same_queue(
    path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Environment("queue"))
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as env:
        assert env.new_publisher().send(b"") == 1


# -- creating ----------------------------------------------------------------------------------------------------


def create_and_send(here: Here, path: pathlib.Path, number: int) -> tuple[str, int]:
    here.env = Environment(path)
    here.tell("ready")
    control = here.env.new_control({"a", "b"})
    message_id = here.env.new_publisher().send(b"%d" % number)
    return control.statistics().identity, message_id


def test_creation_by_many_processes_leaves_one_queue(tmp_path: pathlib.Path, children: Children) -> None:
    crowd = [children.new() for _ in range(6)]
    for number in range(4):
        path = tmp_path / f"queue {number}"
        for index, child in enumerate(crowd):
            child.start(create_and_send, path, index)
        for child in crowd:
            assert child.told() == "ready"
        answers = [child.returned() for child in crowd]
        assert len({identity for identity, _ in answers}) == 1
        assert sorted(message_id for _, message_id in answers) == [1, 2, 3, 4, 5, 6]
        with Environment(path) as env:
            for identifier in ("a", "b"):
                got = env.new_subscriber(identifier).get_many(10, timeout=0)
                assert sorted(message.data for message in got) == [b"%d" % index for index in range(6)]
            assert env.open_control().check() == []
    assert sorted(os.listdir(tmp_path)) == [f"queue {number}" for number in range(4)]


def count_lines(limit: int | None) -> list[int]:
    """Count the lines of ours that this process executes from now on, and kill it at the one with number ``limit``."""
    package = str(pathlib.Path(opening.__file__).parent)
    seen = [0]

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    return seen


def create_and_die(here: Here, path: pathlib.Path, durability: Durability, limit: int | None) -> int:
    before = sys.gettrace()
    with Environment(path) as env:
        seen = count_lines(limit)
        try:
            env.new_control(
                {"a": SubscriberSettings(), "b": SubscriberSettings(max_deliveries=3)}, durability=durability
            )
        finally:
            sys.settrace(before)
    return seen[0]


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_killed_deployment_leaves_all_or_nothing(
    tmp_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    # What is waited for takes more lines on a busy machine: the least are run each time.
    whole = [tmp_path / f"whole {number}" for number in range(3)]
    lines = min(children.new("forkserver").do(create_and_die, path, durability, None) for path in whole)
    assert lines > 100
    source = random.Random(1)
    outcomes = []
    for number, limit in enumerate(sorted(source.sample(range(1, lines), 25))):
        path = tmp_path / f"queue {number}"
        child = children.new("forkserver")
        child.start(create_and_die, path, durability, limit)
        assert child.ended() == -signal.SIGKILL
        outcomes.append(path.exists())
        with Environment(path) as env:
            control = env.open_control() if path.exists() else env.new_control({"a", "b"}, durability=durability)
            assert control.subscriber_ids == {"a", "b"}
            assert control.settings.durability is durability
            assert control.check() == []
            assert env.new_publisher().send(b"") == 1
    # Nothing for long, and then all of it.
    assert outcomes == sorted(outcomes)
    assert len(set(outcomes)) == 2


def open_and_close(here: Here, path: pathlib.Path, times: int) -> None:
    """Open a queue and close it again, so often."""
    for _ in range(times):
        with Environment(path) as env:
            env.open_control()


def test_the_note_of_the_boot_bears_that_many_open_and_close_at_once(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    env.open_control().configure(durability=Durability.PROCESS)
    env.close()
    crew = [children.new("forkserver") for _ in range(3)]
    for child in crew:
        child.start(open_and_close, path, 150)
    for child in crew:
        child.returned()
