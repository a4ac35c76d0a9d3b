"""Coming from persistent-queue-log."""

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import ClosedError, Durability, Environment, Retention, SubscriberSettings
from persipubsub.engine.local import waiting
from persipubsub.serializers import json_loads, msgpack_dumps, msgpack_loads
from tests.contract.support import Queue, rest
from tests.examples.support import checks
from tests.process import support
from tests.process.support import BOUND, Children


@pytest.fixture
def log(queue: Queue) -> Queue:
    """Return a log with the client "sub"."""
    queue.deploy(("sub",), retention=Retention.LOG)
    return queue


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Environment]:
    """Return a log that processes share, with the client "sub"."""
    with Environment(tmp_path / "log") as env:
        env.new_control({"sub"}, retention=Retention.LOG)
        yield env


@checks('with Queue("log.sqlite") as queue')
def test_opening(tmp_path: Path) -> None:
    for location in (tmp_path / "log", "memory:"):
        with Environment(location) as env:
            assert env.new_control(retention=Retention.LOG).settings.retention is Retention.LOG
        with pytest.raises(ClosedError):
            env.new_publisher()


@checks("queue.put(item)")
def test_putting(shared: Environment, children: Children) -> None:
    assert shared.open_control().settings.durability is Durability.FULL
    child = children.new()
    child.do(support.open_publisher, shared.path)
    child.do(support.send, b"1")
    child.kill()
    assert rest(shared.new_subscriber("sub")) == [b"1"]


@checks("for item in queue.get(client)", "break or an exception")
def test_getting(log: Queue) -> None:
    log.send(b"1", b"2", b"3")
    sub = log.sub("sub")
    with sub.messages(timeout=0) as messages:
        for message in messages:
            if message.data == b"2":
                break
    assert log.figures("sub").settled == 1

    def fail() -> None:
        with sub.messages(timeout=0) as messages:
            assert next(messages).data == b"2"
            raise OSError("no paper")

    with pytest.raises(OSError, match="no paper"):
        fail()
    with sub.messages(timeout=0) as messages:
        assert [message.data for message in messages] == [b"2", b"3"]


@checks("a new client begins at the beginning", "messages are kept for ever")
def test_a_new_client(log: Queue) -> None:
    log.send(b"1", b"2")
    rest(log.sub("sub"))
    assert log.control.prune_dangling_messages() == 0
    log.control.add_subscriber("new", start="first")
    assert rest(log.sub("new")) == [b"1", b"2"]
    assert log.retained() == [1, 2]
    log.limit(max_messages=1)
    assert log.send(b"3") == [3]
    assert log.retained() == [3]


@checks(
    "queue.get_blocking(client), queue.trigger()",
    'producers and consumers: two processes at once raised "database is locked"',
)
def test_blocking(shared: Environment, children: Children) -> None:
    consumer, producer = children.new(), children.new()
    consumer.do(support.open_subscriber, shared.path)
    producer.do(support.open_publisher, shared.path)
    for number in range(20):
        consumer.start(support.get_and_ack, support.BOUND)
        producer.do(support.send, b"%d" % number)
        assert consumer.returned()[0] == b"%d" % number
    # Both go on while a third is in the middle of its loop.
    shared.open_control().add_subscriber("third", start="first")
    with shared.new_subscriber("third").messages(timeout=0) as messages:
        for message in messages:
            producer.do(support.send, b"more")
            assert consumer.do(support.get_and_ack, support.BOUND)[0] == b"more"
            if message.id == 5:
                break


@checks("any object that pickle takes")
def test_objects(log: Queue) -> None:
    log.env.new_publisher(serializer=msgpack_dumps).send({"order": 1})
    log.env.new_publisher(serializer=pickle.dumps).send({1, 2})
    with log.env.new_subscriber("sub", msgpack_loads).receive(timeout=0) as item:
        assert item == {"order": 1}
    with log.env.new_subscriber("sub", pickle.loads).receive(timeout=0) as item:
        assert item == {1, 2}


@checks("get_blocking wakes at once: not if the put came a moment before the wait")
def test_no_wake_up_is_lost(log: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST", support.PATIENT)
    sub = log.sub("sub")
    sends = threading.Thread(target=lambda: [log.pub.send(b"") for _ in range(300)])
    sends.start()
    for _ in range(300):
        before = time.monotonic()
        with sub.receive(timeout=BOUND) as item:
            assert item == b""
        # Who was not woken looks once more at the end of its time.
        assert time.monotonic() - before < BOUND
    sends.join()


@checks('kept "by default": there was nothing but the default')
def test_limits(log: Queue) -> None:
    log.limit(max_messages=10)
    for _ in range(25):
        log.send(b"")
        assert log.statistics().messages <= 10


@checks("clients: no list, no lag, no removal, no rewind, no start at the end")
def test_clients(log: Queue) -> None:
    log.send(b"1", b"2")
    log.control.add_subscriber("late", start="latest")
    assert log.control.subscriber_ids == {"sub", "late"}
    assert (log.figures("sub").lag, log.figures("late").lag) == (2, 0)
    rest(log.sub("sub"))
    log.sub("sub").seek("first")
    assert log.figures("sub").lag == 2
    assert log.control.remove_subscriber("sub")
    assert log.control.subscriber_ids == {"late"}


@checks("two consumers of one name: both got everything")
def test_two_consumers(log: Queue) -> None:
    log.send(b"1", b"2")
    with log.sub("sub").receive(timeout=0) as one, log.sub("sub").receive(timeout=0) as other:
        assert (one, other) == (b"1", b"2")


@checks("the last message: acknowledged only by asking for one more")
def test_the_last_message(log: Queue) -> None:
    log.send(b"1", b"2")
    with log.sub("sub").receive(timeout=0):
        pass
    log.take("sub").ack()
    assert log.figures("sub").settled == 2


@checks("get_blocking: could not be stopped, nor timed out")
def test_stopping(shared: Environment) -> None:
    sub = shared.new_subscriber("sub")
    assert list(sub.messages(timeout=0.01)) == []
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(ClosedError):
            list(sub.messages(timeout=None))
        ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    support.wait_until(lambda: support.armed_bells(shared.path) == 1, "it waits")
    sub.close()
    support.wait_until(ended.is_set, "it ends")
    waiting.join()


@checks("one fsync for each put, and no ids")
def test_many_at_once(log: Queue) -> None:
    assert list(log.pub.send_many([b"1", b"2", b"3"])) == [1, 2, 3]


@checks(
    "the position of a client only moves forward",
    "a message that cannot be unpickled: blocks its client for ever, or runs code",
)
def test_positions_and_what_cannot_be_read(queue: Queue) -> None:
    queue.deploy({"client": SubscriberSettings(max_deliveries=1)}, retention=Retention.LOG)
    queue.send(b"no JSON", b"1")
    sub = queue.env.new_subscriber("client", json_loads)
    message = sub.get(timeout=0)
    assert message is not None
    assert message.data == 1
    assert sub.ack([1, 2]) == 1
    assert sub.ack([1, 2]) == 0
    assert sub.get(timeout=0) is None
    sub.seek(2)
    again = sub.get(timeout=0)
    assert again is not None
    assert again.id == 2
