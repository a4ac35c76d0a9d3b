"""What becomes of messages where something fails between the engine and the caller."""

import _thread
import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import persipubsub
from persipubsub import (
    ClosedError,
    Environment,
    LeaseLostError,
    Message,
    StorageError,
    SubscriberStatistics,
    UnsupportedByEngineError,
)
from persipubsub.delivery import iteration
from persipubsub.delivery.iteration import Messages
from persipubsub.delivery.settling import Settler
from persipubsub.engine import forking
from persipubsub.engine.memory.engine import MemoryEngine
from persipubsub.engine.messages import Delivery

_NUMBERS = itertools.count()
Sub = persipubsub.Subscriber[bytes]


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment(f"memory:delivery-{next(_NUMBERS)}") as environment:
        environment.new_control(subscriber_ids={"sub"})
        yield environment
        assert environment.open_control().check() == []


@pytest.fixture
def sub(env: Environment) -> Sub:
    env.new_publisher().send_many([b"1", b"2", b"3"])
    return env.new_subscriber("sub")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread be had: what finalizers leave is done by the next operation."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)


def figures(env: Environment) -> SubscriberStatistics:
    (found,) = env.open_control().statistics().subscribers
    return found


def counts(env: Environment) -> tuple[int, int, int, int]:
    """Return how many are settled, leased, waiting, and how many deliveries there were."""
    found = figures(env)
    return found.settled, found.leased, found.waiting, found.deliveries


def fail_once(patch: pytest.MonkeyPatch, where: type, name: str, error: BaseException) -> None:
    whole: Callable[..., Any] = getattr(where, name)

    def fail(*_: Any, **__: Any) -> Any:
        patch.setattr(where, name, whole)
        raise error

    patch.setattr(where, name, fail)


def take(sub: Sub) -> Message[bytes]:
    message = sub.get(timeout=0)
    assert message is not None
    return message


# -- settling ---------------------------------------------------------------------------------------------------


def test_all_of_a_batch_are_settled_one_by_one_after_all(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sub.receive_many(2, timeout=0) as found:
        fail_once(monkeypatch, MemoryEngine, "settle", LeaseLostError("one of them"))
        assert found == [b"1", b"2"]
    assert counts(env) == (2, 0, 1, 2)


def test_what_cannot_be_given_back_is_logged_and_hides_nothing(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_once(monkeypatch, MemoryEngine, "give_back", StorageError(5, "the disk failed"))
    with pytest.raises(LookupError, match="of the block"), sub.receive(timeout=0):
        raise LookupError("of the block")
    assert "Giving messages back to 'sub' failed." in caplog.text
    assert "the disk failed" in caplog.text


def test_what_the_parent_took_a_child_does_not_settle(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = take(sub)
    with monkeypatch.context() as patch:
        patch.setattr(forking, "generation", forking.generation + 1)
        for act in (message.ack, message.nack, lambda: message.reject("no"), lambda: message.extend(1)):
            with pytest.raises(LeaseLostError, match="message 1 was taken before this process was forked"):
                act()
    message.ack()
    assert counts(env) == (1, 0, 2, 1)


def test_a_closed_subscriber_may_be_closed_after_its_environment(env: Environment, sub: Sub) -> None:
    with Environment(env.location) as another:
        sub = another.new_subscriber("sub")
        take(sub)
        another._connection.close()
        sub._holder.close()
        with pytest.raises(ClosedError):
            sub.get(timeout=0)
    assert counts(env)[:3] == (0, 0, 3)


# -- taking -----------------------------------------------------------------------------------------------------


def test_pop_with_a_deserializer_finds_nothing(env: Environment) -> None:
    sub = env.new_subscriber("sub", deserializer=bytes.decode)
    assert sub.pop(timeout=0) is None
    env.new_publisher().send(b"text")
    popped = sub.pop(timeout=0)
    assert popped is not None
    assert popped.data == "text"
    assert counts(env) == (1, 0, 0, 1)


def test_what_cannot_be_decoded_and_is_gone_meanwhile_is_passed(env: Environment, sub: Sub) -> None:
    def decode(data: bytes) -> str:
        if data == b"1":
            assert sub.ack([1]) == 1
            raise ValueError("no text")
        return data.decode()

    other = env.new_subscriber("sub", deserializer=decode)
    with other.receive(timeout=0) as data:
        assert data == "2"
    assert counts(env) == (2, 0, 1, 2)


def test_without_descriptors_one_is_told_how_to_wait(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = env._connection.engine()
    capabilities = msgspec.structs.replace(engine.capabilities, file_descriptor=False)
    monkeypatch.setattr(type(engine), "capabilities", capabilities)
    with pytest.raises(UnsupportedByEngineError, match=r"has no file descriptors; wait with receive\(timeout="):
        sub.fileno()


# -- blocks -----------------------------------------------------------------------------------------------------


def test_a_view_that_cannot_be_had_gives_back(env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, MemoryEngine, "view", LeaseLostError("a limit took it"))
    with pytest.raises(LeaseLostError, match="a limit took it"), sub.receive_view(timeout=0):
        pass
    assert counts(env)[:3] == (0, 0, 3)
    again = take(sub)
    assert (again.id, again.last_error) == (1, "LeaseLostError: a limit took it")


def test_a_view_that_cannot_be_ended_is_not_acknowledged(env: Environment, sub: Sub) -> None:
    """An interrupt in its end comes before the acknowledgement."""
    block = sub.receive_view(timeout=0)

    class Interrupted:
        def __exit__(self, *_: object) -> None:
            raise KeyboardInterrupt

    view = block.__enter__()
    assert view is not None
    assert bytes(view) == b"1"
    assert block._view is not None
    block._view.__exit__(None, None, None)
    block._view = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        block.__exit__(None, None, None)
    assert counts(env)[:3] == (0, 0, 3)


@pytest.mark.parametrize("there", [True, False])
def test_a_view_that_never_reached_its_block_is_undelivered(env: Environment, sub: Sub, there: bool) -> None:
    """So a coroutine gives it back that was cancelled while a thread entered the block."""
    if not there:
        env.open_control().purge("sub")
    block = sub.receive_view(timeout=0)
    assert (block.__enter__() is not None) is there
    block.retreat()
    assert counts(env) == ((0, 0, 3, 0) if there else (3, 0, 0, 0))
    block.retreat()


@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("newest", [False, True])
def test_a_block_that_is_lost_gives_back(env: Environment, sub: Sub, newest: bool) -> None:
    block = sub.receive_to_top(timeout=0) if newest else sub.receive(timeout=0)
    assert block.__enter__() == (b"3" if newest else b"1")
    del block
    gc.collect()
    assert counts(env)[:3] == (0, 0, 3)


@pytest.mark.usefixtures("no_threads")
def test_a_subscriber_that_is_lost_gives_back(env: Environment, sub: Sub) -> None:
    other = env.new_subscriber("sub")
    assert [message.data for message in other.get_many(2, timeout=0)] == [b"1", b"2"]
    other.fileno()
    del other
    gc.collect()
    assert counts(env)[:3] == (0, 0, 3)


# -- the loop ---------------------------------------------------------------------------------------------------


def loop_over(sub: Sub, batch: int = 3) -> Messages[bytes]:
    found = sub.messages(batch=batch, timeout=0)
    assert next(found).data == b"1"
    return found


def test_what_is_handled_is_acknowledged_after_a_while(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only with the next batch, which may be far away."""
    monkeypatch.setattr(iteration, "_FLUSH_AFTER", -1.0)
    with loop_over(sub) as messages:
        assert next(messages).data == b"2"
        assert counts(env)[:2] == (1, 2)
        third = messages._advance_within_batch()
        assert third is not None
        assert third.data == b"3"
        # Now it is the second's turn, which takes a transaction.
        assert messages._advance_within_batch() is None
        assert counts(env)[:2] == (1, 2)


@pytest.mark.parametrize("within", [False, True])
def test_what_was_lost_before_its_turn_is_passed(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    handed = MemoryEngine.handed

    def lose_the_second(engine: MemoryEngine, identifier: str, delivery: Delivery) -> None:
        if delivery.id == 2:
            raise LeaseLostError("its lease ended")
        handed(engine, identifier, delivery)

    with sub.messages(batch=3, timeout=0) as messages:
        assert next(messages).data == b"1"
        monkeypatch.setattr(MemoryEngine, "handed", lose_the_second)
        third = messages._advance_within_batch() if within else next(messages)
        assert third is not None
        assert third.data == b"3"
        sub.ack([2])  # as who has it now does
        assert next(messages, None) is None
    assert counts(env)[:3] == (3, 0, 0)


def test_a_loop_that_is_closed_while_it_takes_gives_back(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = sub.messages(batch=3, timeout=0)
    taking = MemoryEngine.take

    def close_and_take(*arguments: Any, **options: Any) -> Any:
        messages.close()
        return taking(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryEngine, "take", close_and_take)
        with pytest.raises(ClosedError, match="loop over the messages of 'sub' was closed; start a new one"):
            next(messages)
    assert counts(env) == (0, 0, 3, 0)
    messages._rest()
    with pytest.raises(ClosedError):
        next(messages)


def test_what_is_lost_while_the_next_is_taken_is_told(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_over(sub, batch=1) as messages:
        fail_once(monkeypatch, MemoryEngine, "take", LeaseLostError("taken over"))
        with pytest.raises(LeaseLostError, match="taken over"):
            next(messages)
        assert counts(env)[:3] == (1, 0, 2)  # it was still held, and is settled by itself
        assert next(messages).data == b"2"


def test_a_take_that_fails_leaves_what_is_handled_to_the_next(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_over(sub, batch=1) as messages:
        fail_once(monkeypatch, MemoryEngine, "take", StorageError(5, "the disk failed"))
        with pytest.raises(StorageError, match="the disk failed"):
            next(messages)
        assert counts(env)[:3] == (0, 1, 2)
        assert next(messages).data == b"2"
        assert counts(env)[:3] == (1, 1, 1)


def test_an_interrupt_behind_the_next_take_gives_it_back(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loop_over(sub, batch=1) as messages:
        fail_once(monkeypatch, Settler, "mark_settled", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            next(messages)
        assert counts(env)[:3] == (1, 0, 2)
        assert next(messages).data == b"2"


def test_the_error_of_a_loop_is_not_hidden_by_that_of_its_end(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (LookupError("of the body"), None):
        messages = sub.messages(batch=1, timeout=0)
        next(messages)
        messages._note_finished()
        fail_once(monkeypatch, MemoryEngine, "settle", StorageError(5, "the disk failed"))
        if error is None:
            with pytest.raises(StorageError, match="the disk failed"):
                messages.__exit__(None, None, None)
        else:
            messages.__exit__(LookupError, error, None)
        assert counts(env)[:3] == (0, 0, 3)


@pytest.mark.usefixtures("no_threads")
def test_a_loop_that_is_lost(env: Environment, sub: Sub) -> None:
    """What came before the current one is handled; that one is given back, and what follows was never delivered."""
    messages = loop_over(sub)
    assert next(messages).data == b"2"
    del messages
    gc.collect()
    assert counts(env) == (1, 0, 2, 2)
    found = sub.get_many(9, timeout=0)
    assert [(each.data, each.delivery_count) for each in found] == [(b"2", 2), (b"3", 1)]


def test_a_loop_in_a_forked_child_leaves_all_to_the_parent(
    env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, going_on = loop_over(sub, batch=1), sub.messages(batch=2, timeout=0)
    assert next(going_on).data == b"2"
    before = counts(env)
    with monkeypatch.context() as patch:
        patch.setattr(forking, "generation", forking.generation + 1)
        closed._rest()
        closed.close()
        going_on._check_open()
        assert not going_on._ready
        assert going_on._current is None
    assert counts(env) == before


def test_a_forked_child_begins_anew(env: Environment, sub: Sub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither wakes those who wait in the parent, nor gives back what the parent holds."""

    class OfTheParent:
        def wake(self) -> None:
            raise AssertionError("woken by the child")

    engine, holder = env._connection.engine(), sub._holder
    take(sub)
    before = counts(env)
    for act in (holder.engine, holder.wake, holder.close):
        holder._watcher = None
        sub.fileno()
        holder._room._waiters.add(OfTheParent())  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(forking, "generation", forking.generation + 1)
            patch.setattr(type(env._connection), "engine", lambda _: engine)
            act()
            if act == holder.engine:
                assert not holder._held
                assert holder._watcher is None
                holder._generation -= 1
        if act == holder.wake:
            assert holder._room._waiters == set()
    assert holder.closed
    assert counts(env) == before
