"""Opening, closing, pickling, forking and browsing."""

import datetime
import gc
import itertools
import os
import pathlib
import pickle
import threading
from typing import Any

import pytest

import persipubsub
from persipubsub import Environment, Retention
from persipubsub.engine import forking
from tests.process.support import wait_until


def test_nothing_is_deployed_by_opening() -> None:
    for call in ("new_publisher", "open_control", "browse"):
        with Environment("memory:") as env, pytest.raises(persipubsub.QueueNotFoundError, match="new_control"):
            getattr(env, call)()
    with Environment("memory:") as env, pytest.raises(persipubsub.QueueNotFoundError):
        env.new_subscriber("sub")


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes", 5, None])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(persipubsub.OpenError):
        Environment(path)


def test_an_unknown_kind_of_queue() -> None:
    with pytest.raises(persipubsub.UnsupportedByEngineError):
        Environment("redis://localhost")


def test_private_and_shared_queues_in_memory() -> None:
    with Environment("memory:shared") as one, Environment("memory:shared") as two, Environment("memory:") as alone:
        one.new_control({"sub"})
        two.new_publisher().send(b"1")
        assert two.new_control().subscriber_ids == {"sub"}
        with one.new_subscriber("sub").receive(timeout=0) as msg:
            assert msg == b"1"
        with pytest.raises(persipubsub.QueueNotFoundError):
            alone.new_publisher()


def test_paths(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment("queue")
    assert env.path == pathlib.Path("queue")
    assert env.location == str(tmp_path / "queue")
    monkeypatch.chdir("/")
    assert env.location == str(tmp_path / "queue")
    assert str(tmp_path) in repr(env)
    assert Environment(tmp_path).path == tmp_path
    assert pickle.loads(pickle.dumps(env)).location == env.location


def test_closing_closes_everything() -> None:
    env = Environment("memory:")
    control = env.new_control({"sub"})
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send_many([b"1", b"2"])
    held = sub.get(timeout=0)
    loop = sub.messages(timeout=0)
    next(loop)
    rows = env.browse(follow=True)
    next(rows)
    env.close()
    env.close()
    assert env.closed
    assert pub.closed
    assert sub.closed
    assert control.closed
    assert held is not None
    calls: list[Any] = [
        lambda: env.new_control(),
        lambda: env.open_control(),
        lambda: env.new_publisher(),
        lambda: env.new_subscriber("sub"),
        lambda: env.browse(),
        lambda: pub.send(b"x"),
        lambda: sub.get(timeout=0),
        lambda: next(loop),
        lambda: next(itertools.islice(rows, 5, None)),
        lambda: control.statistics(),
        lambda: held.ack(),
    ]
    for call in calls:
        with pytest.raises(persipubsub.ClosedError):
            call()
    assert "closed" in repr(env)


def test_what_was_made_outlives_a_lost_environment() -> None:
    def make() -> tuple[persipubsub.Publisher, persipubsub.Subscriber[bytes]]:
        env = Environment("memory:")
        env.new_control({"sub"})
        return env.new_publisher(), env.new_subscriber("sub")

    pub, sub = make()
    gc.collect()
    pub.send(b"1")
    with sub.receive(timeout=0) as msg:
        assert msg == b"1"


def test_a_lost_environment_is_closed() -> None:
    with Environment("memory:lost") as env:
        control = env.new_control({"sub"})
        env.new_publisher().send(b"1")
        other = Environment("memory:lost")
        held = other.new_subscriber("sub").get(timeout=0)
        assert held is not None
        del held, other
        gc.collect()
        with env.new_subscriber("sub").receive(timeout=60) as msg:
            assert msg == b"1"
        assert control.subscriber_ids == {"sub"}


def test_pickling() -> None:
    with Environment("memory:pickled") as env:
        control = env.new_control({"sub"})
        copy, copied_control = pickle.loads(pickle.dumps((env, control)))
        with copy:
            assert copied_control.subscriber_ids == {"sub"}
            copy.new_publisher().send(b"1")
        assert copied_control.closed, "what was pickled together belongs together"
        assert [message.data for message in env.browse()] == [b"1"]
    with Environment("memory:") as env, pytest.raises(persipubsub.UnsupportedByEngineError, match="pickled"):
        pickle.dumps(env)


def in_child(work: Any) -> None:
    """Run ``work`` in a forked child; its assertions count."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writing, b"well")
        except BaseException as error:  # noqa: BLE001 - the child tells its parent and ends
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"well"
    os.waitpid(pid, 0)


def test_a_fork_is_counted_and_frees_locks() -> None:
    before = forking.generation
    lock = forking.Lock()
    called: list[int] = []
    forking.on_fork_child(lambda: called.append(1))
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)

    def child() -> None:
        with lock:
            pass
        assert forking.generation == before + 1
        assert called

    in_child(child)
    done.set()
    thread.join(60)
    assert forking.generation == before
    assert not called


def test_messages_taken_before_a_fork_belong_to_the_parent() -> None:
    with Environment("memory:") as env:
        env.new_control({"sub"})
        env.new_publisher().send_many([b"1", b"2", b"3"])
        sub = env.new_subscriber("sub")
        held = sub.get(timeout=0)
        loop = sub.messages(timeout=0)
        next(loop)
        assert held is not None

        def child() -> None:
            for settle in (held.ack, held.nack, lambda: held.reject("x"), lambda: held.extend(1)):
                with pytest.raises(persipubsub.LeaseLostError, match="fork"):
                    settle()
            with pytest.raises(persipubsub.UnsupportedByEngineError, match="directory"):
                sub.get(timeout=0)
            loop.close()
            sub.close()
            env.close()

        in_child(child)
        with pytest.raises(ValueError, match="x"), env.new_subscriber("sub").receive(timeout=0) as nothing:  # noqa: PT012 - the block is what is tested
            assert nothing is None
            in_child(child)
            raise ValueError("x")
        held.ack()
        assert next(loop).data == b"3"


def test_leaving_a_block_in_the_child_does_nothing() -> None:
    with Environment("memory:") as env:
        env.new_control({"sub"})
        env.new_publisher().send(b"1")
        block = env.new_subscriber("sub").receive(timeout=0)
        with block:

            def child() -> None:
                block.__exit__(None, None, None)
                block.__exit__(ValueError, ValueError(), None)

            in_child(child)
        (figures,) = env.open_control().statistics().subscribers
        assert (figures.lag, figures.settled) == (0, 1)


def test_browsing() -> None:
    with Environment("memory:") as env:
        env.new_control({"sub"}, retention=Retention.LOG)
        ids = env.new_publisher().send_many([b"%d" % number for number in range(200)], topic="t", headers={"k": "v"})
        first = next(env.browse())
        assert (first.id, first.data, first.topic, first.headers) == (ids[0], b"0", "t", {"k": "v"})
        assert first.sent.tzinfo is not None
        assert "RetainedMessage" in repr(first)
        assert [message.id for message in env.browse()] == list(ids)
        assert [message.id for message in env.browse(limit=70)] == list(ids)[:70]
        assert [message.id for message in env.browse(limit=0)] == []
        assert [message.id for message in env.browse(start=ids[198])] == list(ids)[198:]
        assert list(env.browse(start="latest")) == []
        middle = list(env.browse())[100].sent
        since = list(env.browse(start=middle))
        assert since[0].sent >= middle
        assert ids[100] in [message.id for message in since]
        assert list(env.browse(start=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))) == []
        (figures,) = env.open_control().statistics().subscribers
        assert (figures.waiting, figures.deliveries) == (200, 0)


def test_following() -> None:
    with Environment("memory:") as env:
        env.new_control({"sub"}, retention=Retention.LOG)
        pub = env.new_publisher()
        rows = env.browse("latest", limit=2, follow=True)
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.extend(row.data for row in rows))
        pub.send(b"before")
        thread.start()

        def send() -> bool:
            # Where the latest is, is looked up by the thread, which may come to it late.
            pub.send(b"after")
            return not thread.is_alive()

        wait_until(send, "it has followed two messages")
        assert found == [b"after", b"after"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": "middle"},
        {"start": -1},
        {"start": None},
        {"limit": -1},
        {"limit": 1.5},
        {"start": datetime.datetime(2024, 1, 1)},  # noqa: DTZ001
    ],
)
def test_wrong_browsing(arguments: dict[str, Any]) -> None:
    with Environment("memory:") as env:
        env.new_control({"sub"})
        with pytest.raises((persipubsub.PositionError, persipubsub.SettingsError)):
            env.browse(**arguments)
