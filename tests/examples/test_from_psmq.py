"""Coming from psmq."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import (
    Environment,
    IdentifierError,
    LeaseLostError,
    Message,
    MessageTooLargeError,
    QueueManager,
    QueueNotFoundError,
    Retention,
    SettingsMismatchError,
    SubscriberSettings,
)
from persipubsub.serializers import json_dumps, json_loads
from tests.contract.support import FakeClock, Queue, ids_of
from tests.examples.support import checks
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def mail(queue: Queue) -> Queue:
    """Return a queue as the page has them."""
    queue.deploy({"worker": SubscriberSettings(lease=60, max_deliveries=2)})
    return queue


def held(queue: Queue) -> Message[bytes]:
    return queue.take("worker")


@checks("Queue(connection, name)", 'reopening: a second connection raised "Library already exists"')
def test_opening(manager: QueueManager) -> None:
    for _ in range(2):
        manager.create("mail", subscriber_ids={"worker"}).close()
    with pytest.raises(SettingsMismatchError):
        manager.create("mail", subscriber_ids={"other"})
    with manager.open("mail") as one, manager.open("mail") as other:
        one.new_publisher().send(b"1")
        with other.new_subscriber("worker").receive(timeout=0) as msg:
            assert msg == b"1"


@checks(
    "create_queue, list_queues, delete_queue",
    "delete_queue: created anew, the queue served ghosts",
    "QueueManager, peek and message.delete(): in the README alone",
)
def test_managing(manager: QueueManager) -> None:
    with manager.create("mail", subscriber_ids={"worker"}) as env:
        env.new_publisher().send(b"1")
    assert manager.names() == ["mail"]
    assert manager.exists("mail")
    assert manager.delete("mail")
    assert not manager.delete("mail")
    assert manager.names() == []
    with manager.create("mail", subscriber_ids={"worker"}) as env:
        worker = env.new_subscriber("worker")
        assert worker.peek() is None
        env.new_publisher().send(b"2")
        assert worker.peek() is not None
        message = worker.get(timeout=0)
        assert message is not None
        assert message.data == b"2"
        message.ack()
        assert worker.get(timeout=0) is None


@checks("QueueDoesNotExist, InvalidQueueName", "a misspelled queue name: created a queue")
def test_names(manager: QueueManager) -> None:
    with pytest.raises(QueueNotFoundError):
        manager.open("mial")
    assert manager.names() == []
    with pytest.raises(IdentifierError):
        manager.open("a/b")


@checks("queue.push(data)", "queue.push_many(list)", "any bytes: those that were UTF-8 came back as text")
def test_pushing(mail: Queue) -> None:
    payloads = [b"", b"\x05", "ä".encode(), bytes(range(256))]
    assert mail.pub.send(payloads[0]) == 1
    assert list(mail.pub.send_many(payloads[1:])) == [2, 3, 4]
    with mail.sub("worker").receive_many(9, timeout=0) as received:
        assert received == payloads


@checks("queue.push(data, delay=5)")
def test_delay(mail: Queue, clock: FakeClock) -> None:
    mail.send(b"1", delay=5)
    mail.take_nothing("worker")
    clock.go(5)
    assert held(mail).data == b"1"


@checks("queue.push(data, ttl=60)", "ttl: accepted and dropped")
def test_ttl(mail: Queue, clock: FakeClock) -> None:
    mail.send(b"1", expires_in=60)
    clock.go(61)
    mail.take_nothing("worker")
    assert mail.figures("worker").expired == 1


@checks("the metadata dictionary of a message")
def test_metadata_of_a_message(mail: Queue) -> None:
    mail.send(b"1", headers={"priority": "high"})
    assert held(mail).headers == {"priority": "high"}


@checks("queue.get(visibility_timeout=30)", "message.retrieval_count, first_retrieved, sent")
def test_getting(mail: Queue, clock: FakeClock) -> None:
    mail.send(b"1")
    clock.go(1)
    first = mail.take("worker", lease=30)
    clock.go(29)
    mail.take_nothing("worker")
    clock.go(2)
    second = held(mail)
    assert (first.delivery_count, second.delivery_count) == (1, 2)
    assert first.first_received == second.first_received
    assert (first.first_received - first.sent).total_seconds() == 1
    second.ack()


@checks("hidden for the visibility timeout: counted from the sending, so an old message was given out twice at once")
def test_the_lease_begins_with_the_take(mail: Queue, clock: FakeClock) -> None:
    mail.send(b"1")
    clock.go(120)
    message = held(mail)
    mail.take_nothing("worker")
    message.ack()


@checks("queue.pop()", "queue.peek()")
def test_popping_and_peeking(mail: Queue) -> None:
    mail.send(b"1")
    worker = mail.sub("worker")
    for _ in range(2):
        peeked = worker.peek()
        assert peeked is not None
        assert peeked.delivery_count == 0
    assert mail.figures("worker").deliveries == 0
    popped = worker.pop(timeout=0)
    assert popped is not None
    assert (popped.data, popped.delivery_count) == (b"1", 1)
    assert mail.statistics().messages == 0
    assert worker.pop(timeout=0) is None


@checks("queue.delete(message_id), message.delete()")
def test_deleting(mail: Queue) -> None:
    waiting, delayed, taken = mail.send(b"1") + mail.send(b"2", delay=5) + mail.send(b"3")
    worker = mail.sub("worker")
    assert worker.ack(waiting) == 1
    message = held(mail)
    assert message.id == taken
    message.ack()
    message.ack()
    assert [worker.ack(delayed), worker.ack(delayed), worker.ack(99)] == [1, 0, 0]
    assert mail.statistics().messages == 0


@checks("set_queue_visibility_timeout, set_queue_max_size", "max_size: stored, never enforced")
def test_changing_settings(mail: Queue, clock: FakeClock) -> None:
    publisher = mail.pub
    mail.control.configure_subscriber("worker", lease=30)
    mail.control.configure(max_message_bytes=3)
    with pytest.raises(MessageTooLargeError):
        publisher.send(b"1234")
    publisher.send(b"123")
    slow = held(mail)
    clock.go(31)
    assert held(mail).delivery_count == 2
    with pytest.raises(LeaseLostError):
        slow.ack()


@checks("queue.metadata(): msgs, hiddenmsgs, totalsent, totalrecv")
def test_figures(mail: Queue) -> None:
    mail.send(b"1", delay=5)
    mail.send(b"2", b"3", b"4")
    held(mail).ack()
    message = held(mail)
    statistics, figures = mail.statistics(), mail.figures("worker")
    assert (statistics.messages, statistics.published) == (3, 4)
    assert (figures.waiting, figures.leased, figures.delayed, figures.deliveries) == (1, 1, 1, 2)
    message.ack()


@checks("Queue(…, serializer=…, deserializer=…)", "what cannot be deserialised: raised for ever")
def test_serializers(mail: Queue) -> None:
    mail.send(b"{")
    mail.env.new_publisher(serializer=json_dumps).send({"to": "ann"})
    worker = mail.env.new_subscriber("worker", json_loads)
    message = worker.get(timeout=0)
    assert message is not None
    assert message.data == {"to": "ann"}
    assert worker.get(timeout=0) is None
    (letter,) = mail.control.dead_letters("worker")
    assert letter.data == b"{"
    assert "DecodeError" in letter.reason


@checks("retries: never enforced")
def test_retries(mail: Queue) -> None:
    mail.send(b"1", b"2")
    for _ in range(2):
        message = held(mail)
        assert message.data == b"1"
        message.nack(reason="mailbox full")
    assert held(mail).data == b"2"
    dead = mail.control.dead_letters("worker")
    assert [(letter.reason, letter.delivery_count) for letter in dead] == [("mailbox full", 2)]
    assert dead.requeue() == 1
    assert held(mail).data == b"1"
    assert dead.discard() == 0


@checks("delete by a consumer that is late: deleted what another was working on")
def test_a_late_delete(mail: Queue, clock: FakeClock) -> None:
    mail.send(b"1")
    late = held(mail)
    clock.go(61)
    other = held(mail)
    with pytest.raises(LeaseLostError):
        late.ack()
    assert mail.figures("worker").leased == 1
    other.ack()


@checks(
    "streams: publish, create_consumer_group(name, from_start=True)",
    "list_consumer_groups(): pending, lag",
    "consumer.get(count, timeout), consumer.ack(ids)",
    "set_group_offset_id(id), roll_back_group_offset(n)",
)
def test_streams(queue: Queue) -> None:
    queue.deploy((), retention=Retention.LOG)
    queue.send(b"1", b"2", b"3", b"4")
    queue.control.add_subscriber("group", start="first")
    sub = queue.sub("group")
    messages = sub.get_many(2, timeout=0)
    figures = queue.figures("group")
    assert (figures.leased, figures.lag, figures.position) == (2, 4, 3)
    assert sub.ack(ids_of(messages)) == 2
    sub.seek(4)
    with sub.receive_many(9, timeout=0) as payloads:
        assert payloads == [b"4"]
    sub.seek(back=3)
    with sub.receive_many(9, timeout=0) as payloads:
        assert payloads == [b"2", b"3", b"4"]


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Environment]:
    """Return a queue that processes share, by the clocks of the machine."""
    with Environment(tmp_path / "stream") as env:
        env.new_control({"sub"})
        yield env


@checks("a slow stream consumer: claimed by others after three seconds")
def test_a_slow_consumer(mail: Queue, clock: FakeClock, on_disk: Environment, children: Children) -> None:
    mail.control.configure_subscriber("worker", lease=None)
    mail.send(b"1")
    slow = held(mail)
    clock.go(10_000)
    mail.take_nothing("worker")
    slow.ack()
    # While its process lives, that is.
    on_disk.new_publisher().send(b"1")
    child = children.new()
    child.do(support.open_subscriber, on_disk.path)
    assert child.do(support.get, 0)
    worker = on_disk.new_subscriber("sub")
    assert worker.get(timeout=0) is None
    child.kill()
    message = worker.get(timeout=support.BOUND)
    assert message is not None
    assert message.delivery_count == 2


@checks(
    "delete_consumer_group, reset_group_offset",
    "consumer.autoclaim(…), consumer.pop(…)",
    "roll_back_group_offset: moved nothing",
    "ids that sort by time",
)
def test_groups(queue: Queue) -> None:
    control = queue.deploy(("group",), retention=Retention.LOG)
    ids = queue.send(b"1", b"2", b"3")
    assert ids == sorted(ids)
    sub = queue.sub("group")
    dead = queue.join()
    held = dead.new_subscriber("group").get(timeout=0)
    assert held is not None
    dead.close()
    assert [message.data for message in (sub.pop(), sub.pop()) if message] == [b"1", b"2"]
    sub.seek(back=1)
    assert queue.take("group").data == b"2"
    sub.seek("first")
    assert queue.take("group").data == b"1"
    assert control.remove_subscriber("group")


@checks(
    "times: seconds here, milliseconds there, local or not",
    "hiddenmsgs: counted the delayed, too",
    "streams with binary fields: UnicodeDecodeError",
)
def test_exact_figures(mail: Queue, clock: FakeClock) -> None:
    mail.pub.send(b"\xff", headers={"key": b"\xfe"})
    mail.pub.send(b"later", delay=60)
    message = held(mail)
    assert (message.data, message.headers["key"]) == (b"\xff", b"\xfe")
    assert message.sent == message.first_received
    assert (message.sent.timestamp(), message.sent.utcoffset()) == (clock.wall / 1e9, datetime.timedelta(0))
    assert mail.sub("worker").get(timeout=0) is None
    assert (mail.figures("worker").leased, mail.figures("worker").delayed) == (1, 1)
