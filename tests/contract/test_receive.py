"""Every form of receiving and every way to leave it."""

import asyncio
import decimal
import gc
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from persipubsub import ClosedError, LeaseLostError, Message, Subscriber, SubscriberError, SubscriberSettings
from tests.contract.support import Queue, ids_of, rest

Sub = Subscriber[bytes]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


EXITS: list[BaseException] = [
    ValueError("too dark"),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    StopIteration(),
    MemoryError(),
    RecursionError(),
    asyncio.CancelledError(),
    AssertionError(),
    OSError(28, "no space"),
    UnprintableError(),
    ExceptionGroup("several", [ValueError()]),
    BaseExceptionGroup("several", [KeyboardInterrupt()]),
]

BLOCKS: dict[str, Callable[[Sub], Any]] = {
    "receive": lambda sub: sub.receive(timeout=0),
    "receive_message": lambda sub: sub.receive_message(timeout=0),
    "receive_many": lambda sub: sub.receive_many(2, timeout=0),
    "receive_view": lambda sub: sub.receive_view(timeout=0),
    "receive_to_top": lambda sub: sub.receive_to_top(timeout=0),
    "messages": lambda sub: FirstOfLoop(sub),
}


class FirstOfLoop:
    """The body of a loop, as a block."""

    def __init__(self, sub: Sub) -> None:
        self._loop = sub.messages(timeout=0)

    def __enter__(self) -> Message[bytes] | None:
        return next(self._loop, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.__exit__(kind, error, traceback)


by_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())


@by_block
@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_an_exception_gives_the_message_back_at_once(
    queue: Queue, block: Callable[[Sub], Any], error: BaseException
) -> None:
    queue.deploy()
    queue.send(b"1", b"2")
    sub = queue.sub()
    seen: list[object] = []
    with pytest.raises(type(error)) as caught, block(sub) as given:  # noqa: PT012 - what the block gave matters
        seen.append(given)
        raise error
    assert caught.value is error
    assert len(seen) == 1
    assert seen[0] is not None
    assert queue.lag() == (2, 0, 0)
    assert queue.figures().settled == 0
    if block is not BLOCKS["receive_to_top"]:
        assert queue.take().id == 1


@pytest.mark.parametrize("name", ["receive", "receive_message", "receive_many", "receive_view"])
def test_leaving_by_break_and_return_acknowledges(queue: Queue, name: str) -> None:
    queue.deploy()
    queue.send(b"1", b"2", b"3", b"4")
    sub = queue.sub()

    def handle() -> bool:
        with BLOCKS[name](sub):
            return True

    for _ in range(1):
        with BLOCKS[name](sub):
            break
    assert handle()
    left = 0 if name == "receive_many" else 2
    assert queue.lag() == (left, 0, 0)
    assert len(queue.retained()) == left


@by_block
def test_nothing_at_the_timeout_acknowledges_nothing(queue: Queue, block: Callable[[Sub], Any]) -> None:
    queue.deploy()
    sub = queue.sub()
    with block(sub) as given:
        assert not given
        assert given is None or given == []
        queue.send(b"it comes during the block")
    assert queue.lag() == (1, 0, 0)


@pytest.mark.needs("exclusive_newest")
@by_block
def test_a_block_that_is_lost_acknowledges_nothing(queue: Queue, block: Callable[[Sub], Any]) -> None:
    queue.deploy()
    queue.send(b"1")
    sub = queue.sub()
    entered = block(sub)
    entered.__enter__()
    assert queue.lag() == (0, 1, 0)
    del entered
    gc.collect()
    assert sub.peek() is not None  # the engine is used, so what finalizers left is done
    assert queue.lag() == (1, 0, 0)


def test_a_block_can_be_entered_once_at_a_time(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1")
    block = queue.sub().receive(timeout=0)
    with block, pytest.raises(SubscriberError), block:
        raise AssertionError("never entered")
    assert queue.retained() == []


def test_the_exception_travels_with_the_message(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1")
    with pytest.raises(ValueError), queue.sub().receive(timeout=0):
        raise ValueError("too dark")
    message = queue.take()
    assert message.last_error == "ValueError: too dark"
    assert message.delivery_count == 2
    message.nack(reason="still too dark")
    assert queue.take().last_error == "still too dark"


def test_many_are_settled_together(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2", b"3")
    with queue.sub().receive_many(2, timeout=0) as payloads:
        assert payloads == [b"1", b"2"]
        assert queue.lag() == (1, 2, 0)
    assert queue.lag() == (1, 0, 0)


def test_a_view_shows_the_payload_without_a_copy(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"", b"x" * 200_000)
    sub = queue.sub()
    with sub.receive_view(timeout=0) as view:
        assert view is not None
        assert bytes(view) == b""
    with sub.receive_view(timeout=0) as view:
        assert view is not None
        assert view.readonly
        assert view == b"x" * 200_000
        queue.send(b"written while the view is open")
        rest(queue.sub())
    with pytest.raises(ValueError):
        view[0]
    with sub.receive_view(timeout=0) as view:
        assert view is None


# -- the newest --------------------------------------------------------------------------------------


@pytest.mark.needs("exclusive_newest")
def test_the_newest_settles_all_before_it_for_one_subscriber(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.send(b"1", b"2", b"3")
    with queue.sub("a").receive_to_top(timeout=0) as data:
        assert data == b"3"
        assert queue.lag("a") == (2, 1, 0)
    assert queue.lag("a") == (0, 0, 0)
    assert queue.figures("a").settled == 3
    assert rest(queue.sub("b")) == [b"1", b"2", b"3"]
    with queue.sub("a").receive_to_top(timeout=0) as data:
        assert data is None


def test_the_newest_leaves_what_others_hold(queue: Queue) -> None:
    queue.deploy()
    queue.fill(4)
    first = queue.take()
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data is not None
    assert queue.retained() == [1]
    assert queue.lag() == (0, 1, 0)
    first.ack()
    assert queue.retained() == []


def test_the_newest_given_back_leaves_all_as_it_was(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    before = queue.figures()
    with pytest.raises(ValueError), queue.sub().receive_to_top(timeout=0):
        raise ValueError
    after = queue.figures()
    assert (after.position, after.waiting, after.deliveries, after.redelivered) == (before.position, 3, 0, 0)
    message = queue.take()
    assert (message.id, message.delivery_count, message.last_error) == (1, 1, None)


def test_what_arrives_during_the_block_is_not_settled(queue: Queue) -> None:
    queue.deploy()
    queue.fill(2)
    with queue.sub().receive_to_top(timeout=0):
        queue.send(b"newer")
    assert rest(queue.sub()) == [b"newer"]


@pytest.mark.needs("exclusive_newest")
def test_others_go_on_while_the_newest_is_held(queue: Queue) -> None:
    queue.deploy()
    queue.fill(4)
    with queue.sub().receive_to_top(timeout=0):
        others = queue.sub().get_many(10, timeout=0)
        assert ids_of(others) == [1, 2, 3]
    assert queue.lag() == (0, 3, 0)


def test_the_newest_may_be_one_that_was_given_back(queue: Queue) -> None:
    queue.deploy()
    queue.fill(2)
    messages = queue.sub().get_many(2, timeout=0)
    for message in messages:
        message.nack()
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"x"
    assert queue.lag() == (0, 0, 0)


# -- by hand -----------------------------------------------------------------------------------------


def test_get_and_get_many(queue: Queue) -> None:
    queue.deploy()
    queue.fill(4)
    sub = queue.sub()
    one = sub.get(timeout=0)
    assert one is not None
    assert ids_of(sub.get_many(2, timeout=0)) == [2, 3]
    assert ids_of(sub.get_many(9, timeout=0)) == [4]
    assert sub.get_many(9, timeout=0) == []
    assert sub.get(timeout=0) is None
    assert queue.lag() == (0, 4, 0)


def test_pop_takes_and_settles_at_once(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2")
    popped = queue.sub().pop(timeout=0)
    assert popped is not None
    assert (popped.data, popped.delivery_count) == (b"1", 1)
    popped.ack()  # has no effect
    popped.nack()
    assert queue.lag() == (1, 0, 0)
    assert queue.figures().settled == 1
    rest(queue.sub())
    assert queue.sub().pop(timeout=0) is None


def test_peek_leaves_no_trace(queue: Queue) -> None:
    queue.deploy()
    sub = queue.sub()
    assert sub.peek() is None
    queue.send(b"1", b"2", topic="t", headers={"h": b"v"})
    before = queue.figures()
    seen = sub.peek()
    assert seen is not None
    assert (seen.id, seen.data, seen.topic, dict(seen.headers), seen.delivery_count) == (1, b"1", "t", {"h": b"v"}, 0)
    assert queue.figures() == before
    with pytest.raises(LeaseLostError):
        seen.ack()
    queue.take().nack(reason="why")
    again = sub.peek()
    assert again is not None
    assert (again.id, again.delivery_count, again.last_error) == (1, 1, "why")


@pytest.mark.needs("turned_clock")
def test_a_message_knows_everything_about_itself(queue: Queue) -> None:
    queue.deploy()
    sent = queue.clock.wall
    queue.send(b"12345", headers={"camera": "left", "raw": b"\xff"}, topic="camera.left")
    queue.clock.go(2)
    message = queue.take()
    assert (message.id, message.data, message.size, message.topic) == (1, b"12345", 5, "camera.left")
    assert dict(message.headers) == {"camera": "left", "raw": b"\xff"}
    assert message.sent.timestamp() * 10**9 == pytest.approx(sent, abs=2000)
    assert message.sent.utcoffset() is not None
    assert (message.first_received - message.sent).total_seconds() == 2
    assert (message.delivery_count, message.last_error, message.subscriber, message.missed) == (1, None, "a", 0)
    queue.clock.go(3)
    first = message.first_received
    message.nack()
    again = queue.take()
    assert (again.first_received, again.delivery_count) == (first, 2)


@pytest.mark.needs("turned_clock")
def test_what_a_loop_never_handed_over_was_never_received(queue: Queue) -> None:
    queue.deploy()
    queue.fill(2)
    with queue.sub().messages(timeout=0) as messages:
        for message in messages:
            message.ack()
            break
    queue.clock.go(5)
    message = queue.take()
    assert message.delivery_count == 1
    assert (message.first_received - message.sent).total_seconds() == 5


def test_a_second_settlement_of_the_same_message_does_nothing(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take()
    message.ack()
    message.ack()
    message.nack()
    message.reject("no")
    assert queue.lag() == (0, 0, 0)
    assert (queue.figures().settled, queue.figures().dead) == (1, 0)


def _waiting(queue: Queue) -> None:
    return None


def _leased_by_another(queue: Queue) -> Message[bytes]:
    message = queue.join().new_subscriber("a").get(timeout=0)
    assert message is not None
    return message


def _given_back(queue: Queue) -> None:
    queue.take().nack()


def _delayed(queue: Queue) -> None:
    queue.take().nack(delay=60)


def _dropped_lease(queue: Queue) -> Message[bytes]:
    message = queue.take(lease=1)
    queue.clock.go(2)
    return message


@pytest.mark.needs("tells_holders")
@pytest.mark.parametrize("state", [_waiting, _leased_by_another, _given_back, _delayed, _dropped_lease])
def test_ack_by_id_settles_in_every_state(queue: Queue, state: Callable[[Queue], Message[bytes] | None]) -> None:
    queue.deploy(["a", "b"])
    queue.send(b"1", b"2")
    held = state(queue)
    assert queue.sub().ack(1) == 1
    assert queue.sub().ack([1]) == 0
    if held is not None:
        with pytest.raises(LeaseLostError, match="1"):
            held.ack()
    assert queue.figures().settled == 1
    assert rest(queue.sub()) == [b"2"]
    assert queue.retained() == [1, 2]
    rest(queue.sub("b"))
    assert queue.retained() == []


@pytest.mark.needs("exact_counters")
def test_ack_by_ids_ahead_of_the_position(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2", b"3", b"4", b"5")
    sub = queue.sub()
    assert sub.ack([4, 2, 2, 99]) == 2
    assert queue.lag() == (3, 0, 0)
    assert sub.ack([]) == 0
    assert sub.ack(iter([1])) == 1  # the position passes 2 as well
    assert queue.figures().position == 3
    assert queue.retained() == [3, 4, 5]
    assert rest(sub) == [b"3", b"5"]
    assert queue.figures().settled == 5
    assert queue.retained() == []


def test_ack_of_a_dead_letter_is_no_settlement(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    queue.take().reject("no")
    assert queue.sub().ack(1) == 0
    assert queue.figures().dead == 1


# -- loops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_asking_for_the_next_acknowledges_the_last(queue: Queue, batch: int) -> None:
    queue.deploy()
    payloads = [b"%d" % number for number in range(10)]
    queue.pub.send_many(payloads)
    assert [message.data for message in queue.sub().messages(batch=batch, timeout=0)] == payloads
    figures = queue.figures()
    assert (figures.settled, figures.deliveries, figures.lag) == (10, 10, 0)
    assert queue.retained() == []


@pytest.mark.parametrize("exit_by", ["close", "break in with", "del", "exception in with", "close of the subscriber"])
def test_leaving_a_loop_gives_back_the_current_and_the_rest(queue: Queue, exit_by: str) -> None:
    queue.deploy()
    queue.fill(6)
    sub = queue.sub()
    loop = sub.messages(batch=5, timeout=0)
    if exit_by == "break in with":
        with loop:
            for message in loop:
                if message.id == 3:
                    break
    elif exit_by == "exception in with":
        with pytest.raises(decimal.InvalidOperation), loop:  # noqa: PT012
            for message in loop:
                if message.id == 3:
                    raise decimal.InvalidOperation("why")
    else:
        assert [next(loop).id for _ in range(3)] == [1, 2, 3]
        if exit_by == "close":
            loop.close()
            loop.close()
        elif exit_by == "del":
            del loop
            gc.collect()
        else:
            sub.close()
    counts = {message.id: message.delivery_count for message in queue.sub().get_many(10, timeout=0)}
    assert counts == {3: 2, 4: 1, 5: 1, 6: 1}
    assert queue.figures().settled == 2


def test_a_closed_loop_refuses(queue: Queue) -> None:
    queue.deploy()
    loop = queue.sub().messages(timeout=0)
    loop.close()
    with pytest.raises(ClosedError):
        next(loop)


@pytest.mark.needs("exact_counters")
def test_settling_by_hand_in_a_loop(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    seen = []
    with queue.sub().messages(timeout=0) as loop:
        for message in loop:
            seen.append((message.id, message.delivery_count))
            if message.id == 1 and message.delivery_count == 1:
                message.nack()
            elif message.id == 2:
                message.reject("no")
    assert sorted(seen) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    assert (queue.figures().settled, queue.figures().dead, queue.figures().lag) == (2, 1, 0)


@pytest.mark.needs("exact_counters")
def test_what_was_never_handed_over_was_never_delivered(queue: Queue) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=1)})
    queue.fill(4)
    for _ in range(3):
        with queue.sub().messages(batch=4, timeout=0):
            pass
    with queue.sub().messages(batch=4, timeout=0) as loop:
        next(loop)
    figures = queue.figures()
    assert (figures.dead, figures.waiting, figures.deliveries) == (1, 3, 1)
    assert [letter.id for letter in queue.control.dead_letters("a")] == [1]


def test_a_loop_in_a_generator_that_is_closed(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)

    def payloads() -> Any:
        with queue.sub().messages(timeout=0) as loop:
            for message in loop:
                yield message.data

    generator = payloads()
    next(generator)
    next(generator)
    generator.close()
    assert queue.figures().settled == 1
    assert ids_of(queue.sub().get_many(5, timeout=0)) == [2, 3]


# -- the end -----------------------------------------------------------------------------------------


def test_closing_a_subscriber_gives_back_what_it_took(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    one, other = queue.sub(), queue.sub()
    taken = one.get_many(2, timeout=0)
    assert ids_of(other.get_many(1, timeout=0)) == [3]
    one.close()
    one.close()
    assert queue.lag() == (2, 1, 0)
    assert ids_of(other.get_many(5, timeout=0)) == [1, 2]
    with pytest.raises(LeaseLostError):
        taken[0].ack()
    with pytest.raises(ClosedError):
        one.get(timeout=0)


def test_closing_an_environment_gives_back_what_its_owner_took(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    other = queue.join()
    taken = other.new_subscriber("a").get_many(2, timeout=0)
    mine = queue.take()
    other.close()
    other.close()
    assert queue.lag() == (2, 1, 0)
    with pytest.raises(ClosedError):
        taken[0].ack()
    mine.ack()
    assert ids_of(queue.sub().get_many(5, timeout=0)) == [1, 2]
