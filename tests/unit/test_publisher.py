"""What a publisher accepts, refuses and returns."""

import array
import math
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import persipubsub
from persipubsub import Draft, Environment, HighWaterMark, Strategy, serializers


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment("memory:") as environment:
        environment.new_control(subscriber_ids={"sub"})
        yield environment


def data_of(env: Environment) -> list[bytes]:
    return [message.data for message in env.browse()]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"", b""),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"every")[1:3], b"ve"),
        (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
        (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
        (array.array("d"), b""),
    ],
)
def test_any_contiguous_buffer_is_a_message(env: Environment, sent: Any, stored: bytes) -> None:
    env.new_publisher().send(sent)
    assert data_of(env) == [stored]


def test_the_buffer_may_be_changed_afterwards(env: Environment) -> None:
    buffer = bytearray(b"one")
    env.new_publisher().send(buffer)
    buffer[:] = b"two"
    assert data_of(env) == [b"one"]


@pytest.mark.parametrize("sent", ["text", 5, None, {"a": 1}, [b"x"], memoryview(b"abcdef")[::2]])
def test_what_is_not_bytes_is_refused(env: Environment, sent: Any) -> None:
    with pytest.raises(persipubsub.MessageTypeError) as raised:
        env.new_publisher().send(sent)
    assert isinstance(raised.value, TypeError)
    assert "bytes" in str(raised.value)
    with pytest.raises(persipubsub.MessageTypeError):
        env.new_publisher().send_many([b"good", sent])
    assert data_of(env) == []


def test_a_str_is_told_how_to_encode(env: Environment) -> None:
    with pytest.raises(persipubsub.MessageTypeError, match="encode"):
        env.new_publisher().send("text")


def test_more_seconds_than_a_float_can_hold_are_for_ever(env: Environment) -> None:
    for seconds in (10**400, 1e308):
        env.new_publisher().send(b"x", expires_in=seconds, timeout=seconds)
        message = env.new_subscriber("sub").get(timeout=seconds)
        assert message is not None
        message.ack()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": True},
        {"delay": "1"},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": math.inf},
        {"headers": {"": "x"}},
        {"headers": {"key": 1}},
        {"headers": {1: "x"}},
        {"headers": ["key"]},
        {"headers": {"key": "\ud800"}},
        {"headers": {"key": "x" * 65536}},
        {"deduplication_id": ""},
        {"deduplication_id": b"x" * 256},
        {"deduplication_id": 7},
        {"topic": ""},
        {"topic": "a..b"},
        {"topic": "a.*"},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": True},
    ],
)
def test_options_that_make_no_sense_are_refused(env: Environment, options: dict[str, Any]) -> None:
    pub = env.new_publisher()
    with pytest.raises((persipubsub.MessageError, persipubsub.IdentifierError, persipubsub.SettingsError)) as raised:
        pub.send(b"x", **options)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(type(raised.value)):
        pub.send_many([b"x"], **options)
    assert data_of(env) == []


def test_a_wrong_header_is_named(env: Environment) -> None:
    with pytest.raises(persipubsub.MessageError, match="'camera'"):
        env.new_publisher().send(b"x", headers={"camera": 1.5})  # type: ignore[dict-item]


def test_headers_and_topic_arrive(env: Environment) -> None:
    env.new_publisher().send(b"x", headers={"text": "é", "raw": b"\xff"}, topic="camera.left")
    message = env.new_subscriber("sub").get(timeout=0)
    assert message is not None
    assert message.headers == {"text": "é", "raw": b"\xff"}
    assert message.topic == "camera.left"


def test_send_many_returns_a_range(env: Environment) -> None:
    pub = env.new_publisher()
    first = pub.send(b"0")
    assert pub.send_many([b"1", b"2"]) == range(first + 1, first + 3)
    assert pub.send_many(iter([b"3"])) == range(first + 3, first + 4)
    assert pub.send_many([]) == range(0)


def test_send_many_refuses_a_single_message(env: Environment) -> None:
    with pytest.raises(persipubsub.MessageError, match="send"):
        env.new_publisher().send_many(b"abc")


def test_a_draft_takes_what_it_leaves_out_from_the_call(env: Environment) -> None:
    env.new_publisher().send_many([b"plain", Draft(b"own", topic="own")], topic="call", headers={"a": "b"})
    assert [(message.topic, message.headers) for message in env.browse()] == [
        ("call", {"a": "b"}),
        ("own", {"a": "b"}),
    ]


def test_send_takes_a_draft(env: Environment) -> None:
    env.new_publisher().send(Draft(b"x", topic="t"))
    assert [message.topic for message in env.browse()] == ["t"]


def test_deduplication_returns_the_first_id(env: Environment) -> None:
    pub = env.new_publisher()
    first = pub.send(b"a", deduplication_id="one")
    second = pub.send(b"b")
    assert pub.send(b"a again", deduplication_id=b"one") == first
    ids = pub.send_many([Draft(b"a", deduplication_id="one"), b"c"])
    assert ids == [first, second + 1]
    assert data_of(env) == [b"a", b"b", b"c"]


def test_one_deduplication_id_is_not_for_many(env: Environment) -> None:
    with pytest.raises(persipubsub.MessageError, match="Draft"):
        env.new_publisher().send_many([b"a", b"b"], deduplication_id="one")
    assert data_of(env) == []


def test_autosync_keeps_what_was_committed(env: Environment) -> None:
    env.open_control().configure(high_water_mark=HighWaterMark(max_messages=2), strategy=Strategy.REJECT)
    with pytest.raises(persipubsub.QueueFullError):
        env.new_publisher(autosync=True).send_many([b"1", b"2", b"3"])
    assert data_of(env) == [b"1", b"2"]


def test_a_batch_is_all_or_nothing(env: Environment) -> None:
    env.open_control().configure(high_water_mark=HighWaterMark(max_messages=2), strategy=Strategy.REJECT)
    pub = env.new_publisher()
    pub.send(b"1")
    with pytest.raises(persipubsub.QueueFullError):
        pub.send_many([b"2", b"3"])
    assert data_of(env) == [b"1"]


def test_serializers(env: Environment) -> None:
    env.new_publisher(serializer=serializers.json_dumps).send_many([{"a": 1}, Draft([1, 2])])
    assert data_of(env) == [b'{"a":1}', b"[1,2]"]


def test_a_serializer_that_returns_no_bytes_is_named(env: Environment) -> None:
    def bad_serializer(value: Any) -> Any:
        return str(value)

    with pytest.raises(persipubsub.MessageTypeError, match="bad_serializer"):
        env.new_publisher(serializer=bad_serializer).send(1)
    assert data_of(env) == []


def test_a_block_queue_waits_for_room(env: Environment) -> None:
    control = env.open_control()
    control.configure(high_water_mark=HighWaterMark(max_messages=1), strategy=Strategy.BLOCK)
    pub = env.new_publisher()
    pub.send(b"1")
    for timeout in (0, 0.01):
        with pytest.raises(persipubsub.QueueFullError):
            pub.send(b"2", timeout=timeout)
    thread = threading.Thread(target=lambda: pub.send(b"2", timeout=60))
    thread.start()
    with env.new_subscriber("sub").receive(timeout=60) as msg:
        assert msg == b"1"
    thread.join(60)
    assert data_of(env) == [b"2"]


def test_too_large_for_ever_does_not_wait(env: Environment) -> None:
    control = env.open_control()
    control.configure(high_water_mark=HighWaterMark(max_messages=1), strategy=Strategy.BLOCK, max_message_bytes=3)
    pub = env.new_publisher()
    with pytest.raises(persipubsub.MessageTooLargeError):
        pub.send(b"four")
    with pytest.raises((persipubsub.MessageTooLargeError, persipubsub.QueueFullError)):
        pub.send_many([b"1", b"2"])


def test_closing_ends_the_wait_for_room(env: Environment) -> None:
    env.open_control().configure(high_water_mark=HighWaterMark(max_messages=1), strategy=Strategy.BLOCK)
    pub = env.new_publisher()
    pub.send(b"1")
    raised: list[Exception] = []

    def wait() -> None:
        try:
            pub.send(b"2")
        except persipubsub.PersipubsubError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pub.close()
    thread.join(60)
    assert [type(error) for error in raised] == [persipubsub.ClosedError]


def test_closed(env: Environment) -> None:
    with env.new_publisher() as pub:
        pub.send(b"0")
    pub.close()
    assert pub.closed
    with pytest.raises(persipubsub.ClosedError):
        pub.send(b"x")
    with pytest.raises(persipubsub.ClosedError):
        pub.send_many([])


def test_pickling() -> None:
    with Environment("memory:pickled-publisher") as env:
        env.new_control(subscriber_ids={"sub"})
        pub = env.new_publisher(autosync=True, serializer=serializers.json_dumps)
        copy = pickle.loads(pickle.dumps(pub))
        assert copy.autosync
        copy.send([1])
        assert data_of(env) == [b"[1]"]
