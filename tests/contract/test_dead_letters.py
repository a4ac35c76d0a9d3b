"""Dead letters: how messages die, how they come back, and that they hold up nobody."""

import pytest

from persipubsub import MessageError, Retention, SubscriberSettings, UnknownSubscriberError
from tests.contract.support import Queue, ids_of, rest


def letters(queue: Queue, identifier: str = "a") -> list[tuple[int, bytes, int, str]]:
    return [
        (letter.id, letter.data, letter.delivery_count, letter.reason)
        for letter in queue.control.dead_letters(identifier)
    ]


@pytest.mark.needs("turned_clock")
def test_reject_moves_a_message_aside(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.send(b"1", topic="t", headers={"h": b"v"})
    queue.send(b"2")
    sent = queue.clock.wall
    queue.clock.go(5)
    queue.take().reject("too dark")
    (letter,) = queue.control.dead_letters("a")
    assert (letter.id, letter.data, letter.topic, dict(letter.headers)) == (1, b"1", "t", {"h": b"v"})
    assert (letter.reason, letter.delivery_count) == ("too dark", 1)
    assert letter.sent.timestamp() == sent / 1e9
    assert (letter.died - letter.sent).total_seconds() == 5
    assert rest(queue.sub("a")) == [b"2"]
    assert rest(queue.sub("b")) == [b"1", b"2"]
    assert queue.retained() == []
    assert letters(queue) == [(1, b"1", 1, "too dark")]
    assert letters(queue, "b") == []


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("how", ["nack", "exception", "lease", "delay", "closing"])
@pytest.mark.parametrize("limit", [1, 3])
def test_delivered_too_often_is_dead(queue: Queue, limit: int, how: str) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=limit)})
    queue.send(b"poison", b"good")
    for count in range(1, limit + 1):
        sub = queue.sub()
        message = sub.get(timeout=0, lease=5)
        assert message is not None
        assert (message.id, message.delivery_count) == (1, count)
        if how == "nack":
            message.nack(reason="bad")
        elif how == "exception":
            message.nack(reason="ValueError: bad")
        elif how == "lease":
            queue.clock.go(6)
        elif how == "closing":
            sub.close()
        else:
            message.nack(delay=5)
            queue.clock.go(6)
    assert rest(queue.sub()) == [b"good"]
    ((message_id, data, count, reason),) = letters(queue)
    assert (message_id, data, count) == (1, b"poison", limit)
    assert reason == {"nack": "bad", "exception": "ValueError: bad", "lease": "lease ended"}.get(
        how, "delivered too often"
    )
    assert (queue.figures().dead, queue.figures().lag) == (1, 0)


def test_twenty_deliveries_unless_told_otherwise(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    for _ in range(20):
        with pytest.raises(ValueError), queue.sub().receive(timeout=0):
            raise ValueError("bad")
    assert [(count, reason) for _, _, count, reason in letters(queue)] == [(20, "ValueError: bad")]


def test_without_a_limit_nothing_dies(queue: Queue) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=None)})
    queue.fill(1)
    for _ in range(50):
        queue.take().nack()
    assert queue.take().delivery_count == 51
    assert queue.figures().dead == 0


def test_a_dead_letter_holds_nothing_back(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(3)
    queue.take("a").reject("no")
    rest(queue.sub("a"))
    rest(queue.sub("b"))
    assert queue.retained() == []
    assert letters(queue) == [(1, b"x", 1, "no")]


@pytest.mark.needs("requeues_in_place")
def test_requeue_one_some_and_all(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2", b"3", b"4", b"5")
    for message in queue.sub().get_many(5, timeout=0):
        message.reject("no")
    dead = queue.control.dead_letters("a")
    assert dead.requeue(2) == 1
    assert dead.requeue([4, 99]) == 1
    again = queue.sub().get_many(5, timeout=0)
    assert ids_of(again) == [2, 4]
    assert [(message.data, message.delivery_count, message.last_error) for message in again] == [
        (b"2", 1, "no"),
        (b"4", 1, "no"),
    ]
    assert dead.requeue() == 3
    assert dead.requeue() == 0
    assert rest(queue.sub()) == [b"1", b"3", b"5"]
    for message in again:
        message.ack()
    assert queue.lag() == (0, 0, 0)
    assert queue.retained() == []


@pytest.mark.needs("requeues_in_place")
def test_a_requeued_message_has_its_full_number_of_deliveries(queue: Queue) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=2)})
    queue.send(b"1", headers={"h": "v"}, topic="t")
    for _ in range(2):
        queue.take().nack(reason="bad")
    for _ in range(2):
        assert queue.control.dead_letters("a").requeue() == 1
        for count in (1, 2):
            message = queue.take()
            assert (message.delivery_count, message.data, message.topic) == (count, b"1", "t")
            assert dict(message.headers) == {"h": "v"}
            message.nack(reason="again")
        assert letters(queue) == [(1, b"1", 2, "again")]


@pytest.mark.needs("requeues_in_place")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_requeued_message_is_seen_though_the_queue_has_let_it_go(queue: Queue, size: int) -> None:
    queue.deploy()
    queue.send(b"x" * size)
    queue.take().reject("no")
    assert queue.retained() == []
    assert queue.control.dead_letters("a").requeue() == 1
    seen = queue.sub().peek()
    assert seen is not None
    assert (seen.id, seen.data, seen.size, seen.last_error) == (1, b"x" * size, size, "no")
    assert queue.take().data == seen.data


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("end", ["ack", "nack", "delay", "reject", "id", "purge", "seek", "view", "top"])
def test_a_requeued_message_behaves_like_any_other(queue: Queue, end: str) -> None:
    queue.deploy()
    queue.send(b"payload")
    queue.take().reject("no")
    queue.send(b"newer")
    assert queue.control.dead_letters("a").requeue() == 1
    assert queue.lag() == (2, 0, 0)
    sub = queue.sub()
    if end == "id":
        assert sub.ack(1) == 1
    elif end == "purge":
        assert queue.control.purge("a") == 2
    elif end == "seek":
        sub.seek("latest")
    elif end == "view":
        with sub.receive_view(timeout=0) as view:
            assert view is not None
            assert bytes(view) == b"payload"
    elif end == "top":
        with sub.receive_to_top(timeout=0) as data:
            assert data == b"newer"
        assert queue.lag() == (0, 0, 0)
    else:
        message = queue.take()
        assert (message.id, message.data) == (1, b"payload")
        if end == "ack":
            message.ack()
        elif end == "nack":
            message.nack()
            queue.take().ack()
        elif end == "delay":
            message.nack(delay=10)
            assert queue.lag() == (1, 0, 1)
            queue.clock.go(11)
            queue.take().ack()
        else:
            message.reject("again")
            assert letters(queue) == [(1, b"payload", 1, "again")]
    assert sum(queue.lag()) == (0 if end in ("purge", "seek", "top") else 1)
    rest(sub)
    assert queue.retained() == []


@pytest.mark.needs("requeues_in_place")
def test_requeued_messages_come_before_newer_ones(queue: Queue) -> None:
    queue.deploy()
    queue.fill(4)
    first, second = queue.sub().get_many(2, timeout=0)
    second.reject("no")
    first.reject("no")
    queue.control.dead_letters("a").requeue()
    assert ids_of(queue.sub().get_many(9, timeout=0)) == [1, 2, 3, 4]


def test_discard_one_some_and_all(queue: Queue) -> None:
    queue.deploy()
    queue.fill(5)
    for message in queue.sub().get_many(5, timeout=0):
        message.reject("no")
    dead = queue.control.dead_letters("a")
    assert dead.discard(2) == 1
    assert dead.discard([2, 4, 99]) == 1
    assert [letter.id for letter in dead] == [1, 3, 5]
    assert dead.discard() == 3
    assert dead.discard() == 0
    assert list(dead) == []
    assert queue.figures().dead == 0


def test_a_thousand_dead_letters_are_listed_in_order(queue: Queue) -> None:
    queue.deploy()
    queue.pub.send_many([b"x"] * 1000)
    for message in queue.sub().get_many(1000, timeout=0):
        message.reject("no")
    dead = queue.control.dead_letters("a")
    assert [letter.id for letter in dead] == list(range(1, 1001))
    assert dead.subscriber == "a"
    assert dead.requeue(range(500)) == 499
    assert [letter.id for letter in dead] == list(range(500, 1001))


@pytest.mark.needs("requeues_in_place")
def test_a_seek_back_brings_a_dead_message_a_second_time(queue: Queue) -> None:
    queue.deploy(retention=Retention.LOG)
    queue.fill(2)
    queue.take().reject("no")
    queue.sub().seek("first")
    assert queue.lag() == (2, 0, 0)
    assert queue.figures().dead == 1
    held = queue.take()
    assert held.id == 1
    assert queue.control.dead_letters("a").requeue() == 0
    held.reject("once more")
    assert letters(queue) == [(1, b"x", 1, "once more")]
    queue.sub().seek("first")
    assert queue.control.dead_letters("a").requeue() == 1
    assert queue.lag() == (2, 0, 0)


@pytest.mark.needs("turned_clock")
def test_limits_spare_the_dead(queue: Queue) -> None:
    queue.deploy(max_messages=2, message_timeout=60)
    queue.fill(1)
    queue.take().reject("no")
    queue.fill(9)
    queue.clock.go(3600)
    queue.control.prune_dangling_messages()
    assert letters(queue) == [(1, b"x", 1, "no")]


def test_the_dead_go_with_their_subscriber(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(1)
    queue.take().reject("no")
    queue.control.remove_subscriber("a")
    queue.control.add_subscriber("a")
    assert letters(queue) == []
    with pytest.raises(UnknownSubscriberError, match="'a', 'b'"):
        queue.control.dead_letters("typo")


def test_a_reason_must_be_text(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take()
    for wrong in (None, 5, b"bytes"):
        with pytest.raises(MessageError, match="reason"):
            message.reject(wrong)  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="reason"):
        message.nack(reason=5)  # type: ignore[arg-type]
    assert queue.lag() == (0, 1, 0)
    message.reject("x" * 100_000 + "\ud800")
    ((_, _, _, reason),) = letters(queue)
    assert reason == "x" * len(reason)


@pytest.mark.parametrize("reason", ["half \ud800 of a pair", "nul \0 and line\nbreaks", ""], ids=ascii)
def test_any_text_is_a_reason(queue: Queue, reason: str) -> None:
    queue.deploy()
    queue.fill(1)
    queue.take().nack(reason=reason)
    message = queue.take()
    assert message.last_error == reason.encode("utf-8", "backslashreplace").decode()
    message.reject(reason)
    assert queue.figures().dead == 1


def test_what_cannot_be_decoded_dies_by_the_rule(queue: Queue) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=3)})
    queue.send(b"1", b"nonsense", b"3")
    sub = queue.env.new_subscriber("a", deserializer=lambda data: int(data))
    assert rest(sub) == [1, 3]
    ((message_id, data, count, reason),) = letters(queue)
    assert (message_id, data, count) == (2, b"nonsense", 3)
    assert reason.startswith("ValueError: invalid literal")


def test_a_dead_message_that_others_still_need_comes_back(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(1)
    queue.take().reject("not now")
    assert queue.control.dead_letters("a").requeue() == 1
    assert queue.take().data == b"x"
    assert queue.take("b").data == b"x"
