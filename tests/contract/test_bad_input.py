"""What callers and the world get wrong: one clear error of our own, and nothing is changed."""

import array
from collections.abc import Callable
from typing import Any

import pytest

from persipubsub import (
    ClosedError,
    Draft,
    Environment,
    IdentifierError,
    MessageError,
    MessageTooLargeError,
    MessageTypeError,
    PersipubsubError,
    QueueNotFoundError,
    SettingsError,
)
from tests.contract.support import Queue, rest


@pytest.mark.parametrize(
    "payload", ["text", None, 5, 1.5, [b"x"], {"a": 1}, object(), (1, 2)], ids=lambda value: type(value).__name__
)
def test_a_message_that_is_not_bytes_like(queue: Queue, payload: object) -> None:
    queue.deploy()
    for call in (
        lambda: queue.pub.send(payload),
        lambda: queue.pub.send(Draft(payload)),
        lambda: queue.pub.send_many([b"good", payload]),
    ):
        with pytest.raises(MessageTypeError, match=type(payload).__name__):
            call()
    with pytest.raises(MessageError, match="send_many"):
        queue.pub.send_many(b"one message")
    assert queue.statistics().published == 0


def test_buffers_of_other_shapes_are_bytes_like(queue: Queue) -> None:
    queue.deploy()
    numbers = array.array("d", [1.0, 2.0])
    queue.send(numbers, memoryview(b"123456").cast("B", (2, 3)))  # type: ignore[arg-type]
    assert rest(queue.sub()) == [numbers.tobytes(), b"123456"]
    with pytest.raises(MessageTypeError, match="gaps"):
        queue.pub.send(memoryview(b"123456")[::2])


@pytest.mark.parametrize(
    "headers",
    [
        5,
        "text",
        [("a", "b")],
        {"": "empty"},
        {1: "a"},
        {b"k": "a"},
        {"a": 1},
        {"a": None},
        {"a": "\ud800"},
        {"\ud800": "a"},
    ],
    ids=ascii,
)
def test_headers_that_cannot_be_kept(queue: Queue, headers: Any) -> None:
    queue.deploy()
    with pytest.raises(MessageError, match="header"):
        queue.pub.send(b"x", headers=headers)
    assert queue.statistics().published == 0


@pytest.mark.needs("any_size")
def test_headers_are_bounded(queue: Queue) -> None:
    queue.deploy()
    with pytest.raises(MessageTooLargeError, match="'large'"):
        queue.pub.send(b"x", headers={"large": "x" * 65_536})
    headers = {"large": b"x" * 65_500}
    queue.pub.send(b"x", headers=headers)
    queue.pub.send(b"y", headers={})
    assert [dict(message.headers) for message in queue.sub().get_many(2, timeout=0)] == [headers, {}]


def test_a_message_that_is_too_large(queue: Queue) -> None:
    queue.deploy(max_message_bytes=10)
    queue.send(b"x" * 10)
    for call in (
        lambda: queue.pub.send(b"x" * 11),
        lambda: queue.pub.send_many([b"good", bytearray(11)]),
        lambda: queue.pub.send(memoryview(bytes(16)).cast("Q")),
    ):
        with pytest.raises(MessageTooLargeError, match="max_message_bytes"):
            call()
    assert queue.retained() == [1]


@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan"), "5", True, [1]])
def test_a_timeout_that_makes_no_sense(queue: Queue, timeout: Any) -> None:
    queue.deploy()
    queue.fill(1)
    sub = queue.sub()
    calls: list[Callable[[], object]] = [
        lambda: sub.receive(timeout=timeout),
        lambda: sub.receive_message(timeout=timeout),
        lambda: sub.receive_many(1, timeout=timeout),
        lambda: sub.receive_view(timeout=timeout),
        lambda: sub.receive_to_top(timeout=timeout),
        lambda: sub.get(timeout=timeout),
        lambda: sub.get_many(1, timeout=timeout),
        lambda: sub.pop(timeout=timeout),
        lambda: sub.messages(timeout=timeout),
        lambda: queue.pub.send(b"x", timeout=timeout),
        lambda: queue.pub.send_many([b"x"], timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match="timeout"):
            call()
    assert queue.lag() == (1, 0, 0)


@pytest.mark.parametrize("count", [0, -1, 1.5, "3", None, True])
def test_a_number_of_messages_that_makes_no_sense(queue: Queue, count: Any) -> None:
    queue.deploy()
    queue.fill(1)
    sub = queue.sub()
    for call in (
        lambda: sub.receive_many(count, timeout=0),
        lambda: sub.get_many(count, timeout=0),
    ):
        with pytest.raises(SettingsError, match="max_messages"):
            call()
    with pytest.raises(SettingsError, match="batch"):
        sub.messages(batch=count)
    assert queue.lag() == (1, 0, 0)


@pytest.mark.parametrize("ids", ["1", -1, 2**64, 1.5, True, None, ["1"], [1, -1]], ids=repr)
def test_ids_that_are_none(queue: Queue, ids: Any) -> None:
    queue.deploy()
    queue.fill(2)
    with pytest.raises(MessageError, match="id of a message"):
        queue.sub().ack(ids)
    assert queue.lag() == (2, 0, 0)


def test_serializers_that_fail(queue: Queue) -> None:
    queue.deploy()
    with pytest.raises(MessageTypeError, match=r"serializer.*str"):
        queue.env.new_publisher(serializer=str).send(b"x")  # type: ignore[arg-type]

    def broken(value: object) -> bytes:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError):
        queue.env.new_publisher(serializer=broken).send_many([b"1", b"2"])
    assert queue.statistics().published == 0


def test_nothing_is_deployed(queue: Queue) -> None:
    for call in (
        queue.env.open_control,
        queue.env.new_publisher,
        lambda: queue.env.new_subscriber("a"),
        queue.env.browse,
    ):
        with pytest.raises(QueueNotFoundError, match="new_control"):
            call()
    queue.deploy()


@pytest.mark.parametrize(
    "identifiers", ["text", b"bytes", 5, ["good", ""], ["good", 5], {"good": "no settings"}], ids=repr
)
def test_a_deployment_of_nonsense_creates_nothing(queue: Queue, identifiers: Any) -> None:
    with pytest.raises((IdentifierError, SettingsError)):
        queue.env.new_control(identifiers)
    with pytest.raises(SettingsError):
        queue.deploy(max_messages=0)
    with pytest.raises(QueueNotFoundError):
        queue.env.open_control()
    queue.deploy()


def test_everything_that_is_closed_refuses(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    env = queue.join()
    pub, sub, control = env.new_publisher(), env.new_subscriber("a"), env.open_control()
    dead = control.dead_letters("a")
    closed_pub, closed_sub, closed_control = env.new_publisher(), env.new_subscriber("a"), env.open_control()
    for handle in (closed_pub, closed_sub, closed_control):
        with handle:
            pass
        handle.close()
        assert handle.closed
    calls: list[Callable[[], object]] = [
        lambda: closed_pub.send(b"x"),
        lambda: closed_pub.send_many([]),
        lambda: closed_sub.get(timeout=0),
        lambda: closed_sub.messages(),
        lambda: closed_sub.ack(1),
        lambda: closed_sub.peek(),
        lambda: closed_sub.receive(timeout=0).__enter__(),
        lambda: closed_control.settings,
        lambda: closed_control.statistics(),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    env.close()
    calls = [
        lambda: pub.send(b"x"),
        lambda: sub.get(timeout=0),
        lambda: sub.pop(timeout=0),
        lambda: sub.seek("first"),
        lambda: control.subscriber_ids,
        lambda: dead.requeue(),
        lambda: list(dead),
        lambda: list(env.browse()),
        env.new_publisher,
        env.new_control,
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    assert queue.lag() == (1, 0, 0)
    assert env.closed


@pytest.mark.parametrize("path", ["", "a\0b", None, 5, b"bytes", "amqp://host/queue"], ids=repr)
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(PersipubsubError):
        Environment(path)
