"""Receiving in all its forms: what is acknowledged, what is given back, and when."""

import asyncio
import contextlib
import datetime
import gc
import math
import pickle
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import persipubsub
from persipubsub import Environment, HighWaterMark, Retention, Strategy, serializers


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment("memory:") as environment:
        environment.new_control(subscriber_ids={"sub"})
        yield environment
        for subscriber in environment.open_control().statistics().subscribers:
            assert subscriber.leased == sum(owner.leased for owner in subscriber.owners or ())
        assert environment.open_control().check() == []


@pytest.fixture
def pub(env: Environment) -> persipubsub.Publisher:
    return env.new_publisher()


@pytest.fixture
def sub(env: Environment) -> persipubsub.Subscriber[bytes]:
    return env.new_subscriber("sub")


Sub = persipubsub.Subscriber[bytes]
Pub = persipubsub.Publisher


def figures(env: Environment) -> persipubsub.SubscriberStatistics:
    (subscriber,) = env.open_control().statistics().subscribers
    return subscriber


def rest(sub: persipubsub.Subscriber[Any]) -> list[Any]:
    """Take and settle what is left."""
    with sub.receive_many(1000, timeout=0) as found:
        return list(found)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


EXITS = [
    ValueError("too dark"),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    StopIteration(),
    MemoryError(),
    RecursionError(),
    asyncio.CancelledError(),
    AssertionError(),
    UnprintableError(),
    ExceptionGroup("several", [ValueError()]),
    BaseExceptionGroup("several", [KeyboardInterrupt()]),
]

BLOCKS: dict[str, Callable[[Sub], Any]] = {
    "receive": lambda sub: sub.receive(timeout=0),
    "receive_message": lambda sub: sub.receive_message(timeout=0),
    "receive_many": lambda sub: sub.receive_many(1, timeout=0),
    "receive_view": lambda sub: sub.receive_view(timeout=0),
    "receive_to_top": lambda sub: sub.receive_to_top(timeout=0),
}


@pytest.mark.parametrize("form", BLOCKS)
@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_an_exception_in_a_block_gives_back(pub: Pub, sub: Sub, form: str, error: BaseException) -> None:
    pub.send(b"1")
    with pytest.raises(type(error)) as raised, BLOCKS[form](sub):
        raise error
    assert raised.value is error
    assert rest(sub) == [b"1"]


@pytest.mark.parametrize("form", BLOCKS)
def test_a_clean_exit_acknowledges(env: Environment, pub: Pub, sub: Sub, form: str) -> None:
    pub.send(b"1")
    with BLOCKS[form](sub):
        assert figures(env).leased == 1
    for _ in range(1):
        pub.send(b"2")
        with BLOCKS[form](sub):
            break
    assert figures(env).lag == 0


@pytest.mark.parametrize("form", BLOCKS)
def test_nothing_at_the_timeout_acknowledges_nothing(pub: Pub, sub: Sub, form: str) -> None:
    with BLOCKS[form](sub) as nothing:
        assert nothing is None or nothing == []
        pub.send(b"came meanwhile")
    assert rest(sub) == [b"came meanwhile"]


@pytest.mark.parametrize("form", BLOCKS)
def test_a_block_that_is_lost_acknowledges_nothing(pub: Pub, sub: Sub, form: str) -> None:
    pub.send(b"1")
    block = BLOCKS[form](sub)
    block.__enter__()
    if form == "receive_view":
        # The view is of the engine, which ends it when it is lost.
        block._view = None
    del block
    gc.collect()
    assert rest(sub) == [b"1"]


def test_the_reason_travels(pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    with pytest.raises(ValueError, match="too dark"), sub.receive(timeout=0):
        raise ValueError("too dark")
    message = sub.get(timeout=0)
    assert message is not None
    assert (message.last_error, message.delivery_count) == ("ValueError: too dark", 2)
    message.nack(reason="not now")
    message = sub.get(timeout=0)
    assert message is not None
    assert message.last_error == "not now"
    message.ack()


def test_settling_by_hand_in_a_block(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2"])
    with sub.receive_message(timeout=0) as message:
        assert message is not None
        message.reject("not wanted")
    with sub.receive_many(2, timeout=0) as found:
        assert found == [b"2"]
    assert [(letter.data, letter.reason) for letter in env.open_control().dead_letters("sub")] == [(b"1", "not wanted")]
    assert figures(env).lag == 0


def test_a_block_is_entered_once(pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    block = sub.receive(timeout=0)
    with block, pytest.raises(persipubsub.SubscriberError):
        block.__enter__()
    assert rest(sub) == []


def test_an_acknowledgement_that_fails_gives_back(env: Environment, pub: Pub, sub: Sub) -> None:
    env.open_control().configure(high_water_mark=HighWaterMark(max_messages=2), strategy=Strategy.REJECT)
    pub.send_many([b"1", b"2"])
    with pytest.raises(persipubsub.QueueFullError), sub.receive_message(timeout=0) as message:  # noqa: PT012 - the block is what is tested
        assert message is not None
        message.send(b"out 1")
        message.send(b"out 2")
    again = sub.get(timeout=0)
    assert again is not None
    assert again.data == b"1"
    assert str(again.last_error).startswith("QueueFullError")


def test_what_is_staged_is_published_by_the_acknowledgement(pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    message = sub.get(timeout=0)
    assert message is not None
    buffer = bytearray(b"dropped")
    message.send(buffer)
    message.nack()
    message = sub.get(timeout=0)
    assert message is not None
    buffer[:] = b"kept..."
    message.send(buffer, topic="step.two")
    buffer[:] = b"changed"
    assert sub.get(timeout=0) is None
    message.ack()
    with pytest.raises(persipubsub.MessageError, match="settled"):
        message.send(b"late")
    staged = sub.get(timeout=0)
    assert staged is not None
    assert (staged.data, staged.topic) == (b"kept...", "step.two")
    staged.ack()
    assert rest(sub) == []


def test_staged_in_batches_and_loops(pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2"])
    for message in sub.messages(timeout=0):
        if len(message.data) < 3:
            message.send(message.data + b" out")
    assert rest(sub) == []


def test_the_payload_and_what_is_known_of_it(env: Environment, pub: Pub, sub: Sub) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=1)
    first = pub.send(b"")
    message = sub.get(timeout=0)
    assert message is not None
    assert (message.id, message.data, message.size) == (first, b"", 0)
    assert (message.headers, message.topic, message.subscriber) == ({}, None, "sub")
    assert (message.delivery_count, message.last_error, message.missed) == (1, None, 0)
    assert before <= message.sent <= message.first_received
    assert "held" in repr(message)
    message.ack()
    message.ack()
    message.nack()
    message.reject("too late")
    assert "settled" in repr(message)
    assert (figures(env).lag, figures(env).dead) == (0, 0)


def test_get_many(pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    found = sub.get_many(2, timeout=0)
    assert [message.data for message in found] == [b"1", b"2"]
    found[1].ack()
    found[0].nack()
    assert rest(sub) == [b"1", b"3"]
    assert sub.get_many(2, timeout=0) == []


def test_nack_with_delay(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    message = sub.get(timeout=0)
    assert message is not None
    for wrong in (-1, math.nan, "1", True):
        with pytest.raises(persipubsub.MessageError):
            message.nack(delay=wrong)  # type: ignore[arg-type]
    message.nack(delay=1)
    assert figures(env).delayed == 1
    with sub.receive(timeout=60) as msg:
        assert msg == b"1"


def test_pop_and_peek(env: Environment, pub: Pub, sub: Sub) -> None:
    assert sub.pop(timeout=0) is None
    assert sub.peek() is None
    pub.send(b"1")
    seen = sub.peek()
    assert seen is not None
    assert seen.data == b"1"
    with pytest.raises(persipubsub.LeaseLostError, match="looked at"):
        seen.ack()
    popped = sub.pop(timeout=0)
    assert popped is not None
    assert popped.data == b"1"
    popped.ack()
    assert figures(env).lag == 0


def test_ack_by_ids(env: Environment, pub: Pub, sub: Sub) -> None:
    ids = list(pub.send_many([b"1", b"2", b"3"]))
    held = sub.get(timeout=0)
    assert held is not None
    assert sub.ack([*ids[:2], 10**6]) == 2
    assert sub.ack(ids[2]) == 1
    assert sub.ack([]) == 0
    with pytest.raises(persipubsub.LeaseLostError):
        held.ack()
    for wrong in ("1", -1, True, [1.5]):
        with pytest.raises(persipubsub.MessageError):
            sub.ack(wrong)  # type: ignore[arg-type]
    assert figures(env).lag == 0


def test_a_lease_taken_over(env: Environment, pub: Pub) -> None:
    first, second = env.new_subscriber("sub"), env.new_subscriber("sub")
    pub.send_many([b"1", b"2"])
    early = first.get_many(2, timeout=0, lease=0.01)
    late = second.get(timeout=60)
    assert late is not None
    assert late.id == early[0].id
    with pytest.raises(persipubsub.LeaseLostError):
        early[0].ack()
    with pytest.raises(persipubsub.LeaseLostError):
        early[0].extend(5)
    early[1].ack()
    late.ack()
    assert figures(env).lag == 0


def test_a_batch_with_one_lost_settles_the_others(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    with pytest.raises(persipubsub.LeaseLostError, match=r"2"), sub.receive_many(3, timeout=0) as found:  # noqa: PT012 - the block is what is tested
        assert len(found) == 3
        sub.ack(2)
    assert figures(env).lag == 0


def test_extend(pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    message = sub.get(timeout=0, lease=600)
    assert message is not None
    message.extend(1200)
    for wrong in (0, -1, None, math.nan):
        with pytest.raises(persipubsub.SettingsError):
            message.extend(wrong)  # type: ignore[arg-type]
    message.ack()
    with pytest.raises(persipubsub.LeaseLostError):
        message.extend(1)


@pytest.mark.parametrize("wrong", [-1, -0.1, math.nan, "1", True, b""])
def test_wrong_timeouts(sub: Sub, wrong: Any) -> None:
    for call in (sub.receive, sub.receive_message, sub.receive_view, sub.receive_to_top, sub.get, sub.pop):
        with pytest.raises(persipubsub.SettingsError, match="timeout"):
            call(timeout=wrong)
    for many in (sub.receive_many, sub.get_many, sub.messages):
        with pytest.raises(persipubsub.SettingsError, match="timeout"):
            many(1, timeout=wrong)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, "1", True])
def test_wrong_leases_and_counts(sub: Sub, wrong: Any) -> None:
    with pytest.raises(persipubsub.SettingsError, match="lease"):
        sub.receive(lease=wrong)
    with pytest.raises(persipubsub.SettingsError):
        sub.get_many(wrong, timeout=0)
    with pytest.raises(persipubsub.SettingsError):
        sub.messages(batch=wrong)


def test_receive_to_top(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    with pytest.raises(ValueError, match="x"), sub.receive_to_top(timeout=0) as msg:  # noqa: PT012 - the block is what is tested
        assert msg == b"3"
        raise ValueError("x")
    held = sub.get(timeout=0)
    assert held is not None
    assert held.data == b"1"
    with sub.receive_to_top(timeout=0) as msg:
        assert msg == b"3"
    assert figures(env).lag == 1
    held.ack()
    assert figures(env).lag == 0


def test_receive_view(pub: Pub, sub: Sub) -> None:
    pub.send(b"frame")
    with sub.receive_view(timeout=0) as view:
        assert isinstance(view, memoryview)
        assert view.readonly
        assert bytes(view) == b"frame"
    assert rest(sub) == []


def test_a_waiting_call_is_woken(pub: Pub, sub: Sub) -> None:
    found: list[bytes | None] = []

    def wait() -> None:
        with sub.receive(timeout=60) as msg:
            found.append(msg)

    thread = threading.Thread(target=wait)
    thread.start()
    pub.send(b"1")
    thread.join(60)
    assert found == [b"1"]


@pytest.mark.parametrize("closing", ["subscriber", "environment"])
def test_closing_ends_the_waits(env: Environment, closing: str) -> None:
    with Environment("memory:waits") as other:
        other.new_control(subscriber_ids={"sub"})
        sub = other.new_subscriber("sub")
        raised: list[Exception] = []

        def wait() -> None:
            try:
                sub.get(timeout=None)
            except persipubsub.PersipubsubError as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        (sub if closing == "subscriber" else other).close()
        thread.join(60)
        assert [type(error) for error in raised] == [persipubsub.ClosedError]


def test_closing_gives_back(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2"])
    held = sub.get(timeout=0)
    assert held is not None
    sub.close()
    sub.close()
    assert sub.closed
    with pytest.raises(persipubsub.LeaseLostError):
        held.ack()
    with pytest.raises(persipubsub.ClosedError):
        sub.get(timeout=0)
    assert rest(env.new_subscriber("sub")) == [b"1", b"2"]


def test_losing_a_subscriber_with_its_messages_gives_back(env: Environment, pub: Pub) -> None:
    pub.send(b"1")
    held = env.new_subscriber("sub").get(timeout=0)
    gc.collect()
    assert rest(env.new_subscriber("sub")) == []
    assert held is not None
    del held
    gc.collect()
    assert rest(env.new_subscriber("sub")) == [b"1"]


# -- the loop -------------------------------------------------------------------------------------


def test_the_loop_acknowledges(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3", b"4", b"5"])
    assert [message.data for message in sub.messages(batch=2, timeout=0)] == [b"1", b"2", b"3", b"4", b"5"]
    assert figures(env).lag == 0


def test_break_gives_back_the_current_and_the_rest(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    for message in sub.messages(timeout=0):
        if message.data == b"2":
            del message
            break
    gc.collect()
    found = sub.get_many(10, timeout=0)
    assert [(message.data, message.delivery_count) for message in found] == [(b"2", 2), (b"3", 1)]


def test_a_with_block_tells_the_reason(pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2"])
    with pytest.raises(ValueError, match="x"), sub.messages(timeout=0) as loop:  # noqa: PT012 - the block is what is tested
        for _ in loop:
            raise ValueError("x")
    with pytest.raises(persipubsub.ClosedError):
        next(loop)
    found = sub.get_many(10, timeout=0)
    assert [(message.last_error, message.delivery_count) for message in found] == [("ValueError: x", 2), (None, 1)]


def test_closing_the_subscriber_keeps_what_was_handled(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    loop = sub.messages(timeout=0)
    next(loop)
    next(loop)
    sub.close()
    assert rest(env.new_subscriber("sub")) == [b"2", b"3"]


def test_settling_by_hand_in_a_loop(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    for message in sub.messages(timeout=0):
        if message.data == b"1":
            message.ack()
        elif message.data == b"2":
            message.reject("no")
    assert (figures(env).lag, figures(env).dead) == (0, 1)


def test_the_loop_tells_of_lost_messages_and_goes_on(env: Environment, pub: Pub, sub: Sub) -> None:
    pub.send_many([b"1", b"2", b"3"])
    with sub.messages(batch=2, timeout=0) as loop:
        first, _ = next(loop), next(loop)
        env.new_subscriber("sub").ack(first.id)
        with pytest.raises(persipubsub.LeaseLostError):
            next(loop)
        assert [message.data for message in loop] == [b"3"]
    assert figures(env).lag == 0


def test_closing_from_another_thread(env: Environment, sub: Sub) -> None:
    loop = sub.messages()
    raised: list[Exception] = []

    def wait() -> None:
        try:
            next(loop)
        except persipubsub.PersipubsubError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    sub.close()
    thread.join(60)
    assert [type(error) for error in raised] == [persipubsub.ClosedError]


# -- deserializers --------------------------------------------------------------------------------


JsonSub = persipubsub.Subscriber[Any]


def first_of_block(sub: JsonSub) -> Any:
    with sub.receive(timeout=0) as msg:
        return msg


def first_of_loop(sub: JsonSub) -> Any:
    with sub.messages(timeout=0) as loop:
        return next(message.data for message in list(loop))


def first_of_get(sub: JsonSub) -> Any:
    message = sub.get(timeout=0)
    assert message is not None
    message.ack()
    return message.data


def first_of_pop(sub: JsonSub) -> Any:
    message = sub.pop(timeout=0)
    assert message is not None
    return message.data


def first_of_top(sub: JsonSub) -> Any:
    with sub.receive_to_top(timeout=0) as msg:
        return msg


@pytest.mark.parametrize("take", [first_of_block, first_of_loop, first_of_get, first_of_pop])
def test_what_cannot_be_decoded_becomes_a_dead_letter(
    env: Environment, pub: Pub, take: Callable[[JsonSub], Any]
) -> None:
    control = env.open_control()
    control.configure_subscriber("sub", max_deliveries=3)
    pub.send_many([b"{", b'{"a": 1}'])
    assert take(env.new_subscriber("sub", deserializer=serializers.json_loads)) == {"a": 1}
    assert figures(env).lag == 0
    (letter,) = control.dead_letters("sub")
    assert (letter.data, letter.delivery_count) == (b"{", 3)
    assert letter.reason.startswith("DecodeError: ")


def test_the_newest_that_can_be_decoded(env: Environment, pub: Pub) -> None:
    env.open_control().configure_subscriber("sub", max_deliveries=3)
    pub.send_many([b"1", b"{"])
    assert first_of_top(env.new_subscriber("sub", deserializer=serializers.json_loads)) == 1
    assert (figures(env).lag, figures(env).dead) == (0, 1)


def test_what_cannot_be_decoded_and_never_dies_does_not_block(env: Environment, pub: Pub) -> None:
    env.open_control().configure_subscriber("sub", max_deliveries=None)
    sub = env.new_subscriber("sub", deserializer=serializers.json_loads)
    pub.send_many([b"{", b"1"])
    with sub.receive(timeout=0) as msg:
        assert msg == 1
    assert (figures(env).delayed, figures(env).dead) == (1, 0)


def test_an_interrupted_deserializer_gives_back(env: Environment, pub: Pub, sub: Sub) -> None:
    def interrupted(data: bytes) -> None:
        raise KeyboardInterrupt

    pub.send_many([b"1", b"2"])
    broken = env.new_subscriber("sub", deserializer=interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.get_many(2, timeout=0)
    assert rest(sub) == [b"1", b"2"]


# -- the position ---------------------------------------------------------------------------------


def test_seek(env: Environment, pub: Pub, sub: Sub) -> None:
    env.open_control().configure(retention=Retention.LOG)
    ids = list(pub.send_many([b"1", b"2", b"3"]))
    assert rest(sub) == [b"1", b"2", b"3"]
    sub.seek("first")
    assert rest(sub) == [b"1", b"2", b"3"]
    sub.seek(ids[2])
    assert rest(sub) == [b"3"]
    sub.seek(back=2)
    assert rest(sub) == [b"2", b"3"]
    sub.seek(datetime.datetime.fromtimestamp(0, datetime.UTC))
    sub.seek("latest")
    assert rest(sub) == []
    sub.seek(datetime.datetime.fromtimestamp(0, datetime.UTC))
    held = sub.get(timeout=0)
    sub.seek("first")
    assert rest(sub) == [b"1", b"2", b"3"]
    assert held is not None
    with pytest.raises(persipubsub.LeaseLostError):
        held.ack()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"position": "first", "back": 1},
        {"position": "middle"},
        {"position": -1},
        {"position": True},
        {"position": 1.5},
        {"position": 10**9},
        {"position": datetime.datetime(2024, 1, 1)},  # noqa: DTZ001
        {"back": -1},
        {"back": True},
    ],
)
def test_seek_to_nowhere(pub: Pub, sub: Sub, arguments: dict[str, Any]) -> None:
    pub.send(b"1")
    with pytest.raises(persipubsub.PositionError):
        sub.seek(**arguments)
    assert rest(sub) == [b"1"]


# -- elsewhere ------------------------------------------------------------------------------------


def readable(sub: Sub, timeout: float) -> bool:
    return bool(select.select([sub], [], [], timeout)[0])


def test_fileno(pub: Pub, sub: Sub) -> None:
    pub.send(b"1")
    assert readable(sub, 60)
    assert rest(sub) == [b"1"]
    assert readable(sub, 0)
    assert rest(sub) == []
    assert not readable(sub, 0)
    pub.send_many([b"2", b"3"])
    assert readable(sub, 60)
    with sub.receive(timeout=0) as msg:
        assert msg == b"2"
    assert readable(sub, 60)
    assert rest(sub) == [b"3"]
    assert sub.fileno() == sub.fileno()


def test_pickling() -> None:
    with Environment("memory:pickled-subscriber") as env:
        env.new_control(subscriber_ids={"sub"})
        sub = env.new_subscriber("sub", deserializer=serializers.json_loads)
        copy = pickle.loads(pickle.dumps(sub))
        assert copy.identifier == "sub"
        env.new_publisher().send(b"[1]")
        with contextlib.closing(copy), copy.receive(timeout=0) as msg:
            assert msg == [1]
