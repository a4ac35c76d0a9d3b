"""What only a queue on disk can show: everything is there when it is opened again, and damage is found."""

import pathlib
import threading

import pytest

from persipubsub import Draft, Environment, QueueDamagedError, Retention, SubscriberSettings
from tests.contract.support import Queue, ids_of, rest, run_all
from tests.process.support import BOUND


def reopen(queue: Queue) -> None:
    """Close the queue everywhere and open it again."""
    queue.env.close()
    queue.env = queue.join()


def test_everything_is_there_when_it_is_opened_again(durable: Queue) -> None:
    queue = durable
    queue.deploy(
        {"a": SubscriberSettings(max_deliveries=5), "b": SubscriberSettings(topic_filter="t.>")}, max_messages=20
    )
    queue.pub.send_many([Draft(b"%d" % number, topic="t.x", headers={"h": b"v"}) for number in range(10)])
    queue.pub.send(b"once", deduplication_id="once")
    one, two, three, four, five = queue.sub().get_many(5, timeout=0)
    one.ack()
    two.nack(delay=60, reason="busy")
    three.nack(reason="bad")
    four.reject("no")
    queue.sub().ack(8)
    assert five.id == 5
    queue.control.pause_subscriber("b")
    before = queue.control.settings, queue.control.subscribers
    figures = queue.figures("b")
    reopen(queue)
    assert (queue.control.settings, queue.control.subscribers) == before
    assert queue.figures("b") == figures
    assert queue.pub.send(b"once", deduplication_id="once") == 11
    # What was only taken came back with the end of its owner.
    found = queue.sub().get_many(20, timeout=0)
    assert [(message.id, message.delivery_count, message.last_error) for message in found] == [
        (3, 2, "bad"),
        (5, 2, None),
        *[(number, 1, None) for number in (6, 7, 9, 10, 11)],
    ]
    assert (found[0].data, found[0].topic, dict(found[0].headers)) == (b"2", "t.x", {"h": b"v"})
    for message in found:
        message.ack()
    reopen(queue)
    assert [(letter.id, letter.reason) for letter in queue.control.dead_letters("a")] == [(4, "no")]
    assert queue.lag("a") == (0, 0, 1)
    queue.clock.go(61)
    assert rest(queue.sub()) == [b"1"]
    queue.control.resume_subscriber("b")
    assert len(rest(queue.sub("b"))) == 10
    assert queue.retained() == []
    reopen(queue)
    assert queue.fill(1) == [12]


def test_requeued_dead_letters_and_gaps_survive(durable: Queue) -> None:
    queue = durable
    queue.deploy(max_messages=4)
    queue.send(b"dead")
    queue.take().reject("no")
    queue.control.dead_letters("a").requeue()
    queue.fill(4)
    queue.fill(1)
    reopen(queue)
    found = queue.sub().get_many(9, timeout=0)
    assert [(message.id, message.data, message.missed) for message in found] == [
        (1, b"dead", 0),
        (4, b"x", 2),
        (5, b"x", 0),
        (6, b"x", 0),
    ]


def test_a_log_is_replayed_after_it_was_opened_again(durable: Queue) -> None:
    queue = durable
    queue.deploy(retention=Retention.LOG)
    queue.pub.send_many([b"%d" % number for number in range(100)])
    rest(queue.sub())
    reopen(queue)
    queue.sub().seek(51)
    assert rest(queue.sub()) == [b"%d" % number for number in range(50, 100)]


def test_threads_that_send_at_once_each_get_their_ids(durable: Queue) -> None:
    queue = durable
    queue.deploy()
    gate = threading.Barrier(8)
    ids: list[int] = []

    def publish() -> None:
        pub = queue.env.new_publisher()
        for _ in range(6):
            gate.wait(BOUND)
            ids.append(pub.send(b"x"))

    run_all(*[publish] * 8)
    assert sorted(ids) == list(range(1, 49))
    reopen(queue)
    assert len(rest(queue.sub())) == 48


def test_one_that_fails_does_not_spoil_what_others_send_at_once(durable: Queue) -> None:
    queue = durable
    queue.deploy(max_message_bytes=10)
    gate = threading.Barrier(6)
    refused: list[str] = []

    def publish(payload: bytes) -> None:
        pub = queue.env.new_publisher()
        for _ in range(10):
            gate.wait(BOUND)
            try:
                pub.send(payload)
            except ValueError as error:
                refused.append(str(error))

    run_all(*[lambda: publish(b"good")] * 4, *[lambda: publish(b"far too large")] * 2)
    assert len(refused) == 20
    assert rest(queue.sub()) == [b"good"] * 40


def damage(queue: Queue, old: bytes, new: bytes) -> None:
    """Change bytes on disk wherever they stand; old pages may hold them, too."""
    data = pathlib.Path(queue.location, "data.mdb")
    stored = data.read_bytes()
    at = stored.find(old)
    assert at >= 0
    with open(data, "r+b") as stream:
        while at >= 0:
            stream.seek(at)
            stream.write(new)
            at = stored.find(old, at + 1)


def test_a_damaged_message_goes_to_the_dead_letters_and_the_queue_flows_on(durable: Queue) -> None:
    queue = durable
    queue.deploy(["a", "b"], map_size=2**23)
    queue.send(b"before", b"the payload that is hit by a cosmic ray", b"after", b"large" + b"x" * 100_000, b"last")
    queue.env.close()
    damage(queue, b"cosmic", b"Cosmic")
    damage(queue, b"large" + b"x" * 10, b"Large" + b"x" * 10)
    queue.env = queue.join()
    assert len(queue.control.check()) == 2
    with pytest.raises(QueueDamagedError, match="2"):
        list(queue.env.browse())
    assert rest(queue.sub("a")) == [b"before", b"after", b"last"]
    assert [letter.id for letter in queue.control.dead_letters("a")] == [2, 4]
    assert all(letter.reason.startswith("damaged") for letter in queue.control.dead_letters("a"))
    with queue.sub("b").receive_many(9, timeout=0) as payloads:
        assert payloads == [b"before", b"after", b"last"]
    assert queue.retained() == []
    queue.control.dead_letters("a").discard()
    queue.control.dead_letters("b").discard()


@pytest.mark.parametrize("form", ["pop", "view", "top", "messages"])
def test_a_damaged_message_is_delivered_in_no_form(durable: Queue, form: str) -> None:
    queue = durable
    queue.deploy(map_size=2**23)
    queue.send(b"good", b"a cosmic ray" + b"x" * 70_000)
    queue.env.close()
    damage(queue, b"cosmic", b"Cosmic")
    queue.env = queue.join()
    sub = queue.sub()
    if form == "top":
        with sub.receive_to_top(timeout=0) as payload:
            assert payload == b"good"
    elif form == "view":
        for expected in (b"good", None):
            with sub.receive_view(timeout=0) as view:
                assert (None if view is None else bytes(view)) == expected
    elif form == "pop":
        popped = [sub.pop(timeout=0), sub.pop(timeout=0)]
        assert [None if message is None else message.data for message in popped] == [b"good", None]
    else:
        assert [message.data for message in sub.messages(timeout=0)] == [b"good"]
    assert [letter.id for letter in queue.control.dead_letters("a")] == [2]
    queue.control.dead_letters("a").discard()


def test_a_second_environment_sees_the_same_queue(durable: Queue, tmp_path: pathlib.Path) -> None:
    queue = durable
    queue.deploy()
    (tmp_path / "link").symlink_to(queue.location)
    with Environment(tmp_path / "link") as one, Environment(tmp_path / "." / "queue") as other:
        one.new_publisher().send_many([b"x"] * 3)
        held = other.new_subscriber("a").get_many(2, timeout=0)
        assert ids_of(held) == [1, 2]
        message = one.new_subscriber("a").get(timeout=0)
        assert message is not None
        assert message.id == 3
        held[0].ack()
        message.ack()
    assert queue.lag() == (1, 0, 0)
