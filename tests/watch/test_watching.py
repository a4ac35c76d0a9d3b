"""Looking at real queues, at queues that vanish, and at queues that do not answer."""

import itertools
from pathlib import Path

import pytest

from persipubsub import Durability, Environment, QueueManager
from persipubsub.errors import UnknownSubscriberError
from persipubsub.watch.sampling import State
from persipubsub.watch.source import Source
from persipubsub.watch.watching import Watch
from tests.process.support import BOUND, wait_until
from tests.watch.support import Stuck, fill

_NAMES = itertools.count()


@pytest.fixture(params=["local", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Return a queue on each engine that needs no server."""
    if request.param == "local":
        return Source("orders", tmp_path / "orders")
    return Source("orders", f"memory:watch-{next(_NAMES)}")


def deploy(source: Source) -> Environment:
    environment = Environment(source.location)
    environment.new_control(subscriber_ids={"worker"})
    return environment


def test_a_queue_is_read_as_it_is(source: Source) -> None:
    watch = Watch([source])
    with deploy(source) as environment:
        environment.new_publisher().send_many([b"one", b"two"])
        (view,) = watch.sample(BOUND)
        assert (view.state, view.messages, view.published, view.lag) == (State.OK, 2, 2, 2)
        assert (view.free_bytes is None) == source.location.startswith("memory:")
        with environment.new_subscriber("worker").receive(timeout=0):
            (view,) = watch.sample(BOUND)
            assert [owner.leased for owner in view.subscribers[0].owners or ()] == [1]
        (view,) = watch.sample(BOUND)
        assert (view.lag, view.subscribers[0].settled) == (1, 1)
    watch.close()


def test_messages_and_dead_letters(source: Source) -> None:
    with deploy(source) as environment:
        assert source.last_messages() == []
        ids = environment.new_publisher().send_many([b"1", b"2", b"3"])
        assert [message.id for message in source.last_messages(2)] == [ids[2], ids[1]]
        subscriber = environment.new_subscriber("worker")
        for message in subscriber.get_many(3, timeout=0):
            message.reject("no good")
        assert [(letter.id, letter.reason) for letter in source.dead_letters()] == [(one, "no good") for one in ids]
        assert source.requeue("worker", [ids[0]]) == 1
        assert source.discard("worker", [ids[1], 999]) == 1
        assert [letter.id for letter in source.dead_letters(["worker"])] == [ids[2]]
        assert source.discard("worker", None) == 1
        with subscriber.receive_message(timeout=0) as again:
            assert again is not None
            assert again.id == ids[0]
        with pytest.raises(UnknownSubscriberError, match="nobody"):
            source.requeue("nobody", None)
    source.close()


def test_few_large_messages_are_read_to_show_the_last(tmp_path: Path) -> None:
    source = Source("frames", tmp_path / "frames")
    with deploy(source) as environment:
        environment.new_publisher().send_many([bytes(1 << 20)] * 8)
        assert len(source.last_messages(20)) == 4


def test_a_queue_comes_and_goes_and_others_go_on(tmp_path: Path) -> None:
    manager = QueueManager(tmp_path)
    fill(tmp_path / "stays")
    watch = Watch([Source("comes", tmp_path / "comes"), Source("stays", tmp_path / "stays")])
    assert [view.state for view in watch.sample(BOUND)] == [State.GONE, State.OK]
    manager.create("comes", subscriber_ids={"a"}).close()
    assert [view.state for view in watch.sample(BOUND)] == [State.OK, State.OK]
    # Whoever only watches is not in the way.
    assert manager.delete("comes")
    assert [view.state for view in watch.sample(BOUND)] == [State.GONE, State.OK]
    with Environment(tmp_path / "stays") as environment:
        environment.open_control().configure(durability=Durability.FULL)
    watch.close()


def test_a_queue_that_is_no_queue_is_failing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"not LMDB" * 2000)
    watch = Watch([Source("other", tmp_path / "other")])
    (view,) = watch.sample(BOUND)
    assert view.state is State.FAILING
    assert str(tmp_path / "other") in (view.problem or "")
    watch.close()


def test_a_queue_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    fill(tmp_path / "stays")
    stuck = Stuck()
    times = itertools.count(100.0, 5.0)
    watch = Watch([stuck, Source("stays", tmp_path / "stays")], clock=lambda: next(times))
    states = [watch.sample(0.3)[0] for _ in range(2)]
    assert [view.state for view in states] == [State.BUSY, State.BUSY]
    assert "no answer for" in (states[1].problem or "")
    wait_until(lambda: watch.sample(0.3)[1].state is State.OK, "the other is read")
    stuck.go_on.set()
    wait_until(lambda: watch.sample(0.3)[0].state is State.OK, "it answers")
    watch.close()
