"""What is held, when it is given back late, ahead of its turn, or after a limit took it."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from persipubsub.engine.local import create_local, format, open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.take import PASSED
from persipubsub.engine.messages import Delivery, Entry
from persipubsub.errors import LeaseLostError, QueueBusyError
from persipubsub.limits import Durability, HighWaterMark, Settings, Strategy, SubscriberSettings
from tests.contract.support import SECOND, FakeClock

LEASE = 10 * SECOND
LARGE = bytes(2_000_000)


@pytest.fixture
def engine(tmp_path: pathlib.Path, clock: FakeClock) -> Iterator[LocalEngine]:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"sub": SubscriberSettings(max_deliveries=3)})
    engine = open_local(path)
    yield engine
    assert engine.check() == []
    engine.close()


def send(engine: LocalEngine, *payloads: bytes) -> list[int]:
    return engine.put([Entry(data, len(data)) for data in payloads])


def limit(engine: LocalEngine, most: int | None, strategy: Strategy = Strategy.PRUNE_FIRST) -> None:
    engine.configure(
        Settings(durability=Durability.PROCESS, high_water_mark=HighWaterMark(max_messages=most), strategy=strategy)
    )


def take(engine: LocalEngine, most: int = 1, lease_ns: int | None = None) -> list[Delivery]:
    return engine.take("sub", most, lease_ns)


def figures(engine: LocalEngine) -> Any:
    (found,) = engine.statistics().subscribers
    return found


def test_a_limit_that_another_process_has_raised_is_read_anew(engine: LocalEngine) -> None:
    """What this process knows of the settings may be older than they are."""
    engine._store.largest_known = 1
    assert send(engine, b"longer", b"than that") == [1, 2]
    assert engine._store.largest_known == engine.settings().max_message_bytes


# -- given back -----------------------------------------------------------------------------------------------


def test_a_redelivery_that_nobody_saw_does_not_count(engine: LocalEngine) -> None:
    send(engine, b"1")
    (first,) = take(engine)
    engine.give_back("sub", [first.receipt])
    (second,) = take(engine)
    assert (second.delivery_count, figures(engine).redelivered) == (2, 1)
    engine.give_back("sub", [second.receipt], undelivered=True)
    assert (figures(engine).deliveries, figures(engine).redelivered) == (1, 0)
    (third,) = take(engine)
    assert (third.delivery_count, third.first_received_ns) == (2, first.first_received_ns)


def test_the_newest_is_given_back_to_wait_for_a_while(engine: LocalEngine, clock: FakeClock) -> None:
    send(engine, b"1", b"2", b"3")
    newest = engine.take_newest("sub", None)
    assert newest is not None
    engine.give_back("sub", [newest.receipt], delay_ns=10 * SECOND)
    assert [delivery.id for delivery in take(engine, 9)] == [1, 2]
    clock.go(11)
    assert [(delivery.id, delivery.delivery_count) for delivery in take(engine, 9)] == [(3, 2)]


def test_settling_up_to_the_newest_leaves_what_is_newer(engine: LocalEngine) -> None:
    send(engine, b"1", b"2", b"3")
    third = engine.take_newest("sub", None)
    assert third is not None
    send(engine, b"4")
    fourth = engine.take_newest("sub", None)
    assert fourth is not None
    engine.give_back("sub", [fourth.receipt])
    engine.settle_to_top("sub", third.receipt)
    assert (figures(engine).settled, figures(engine).lag) == (3, 1)
    assert [delivery.id for delivery in take(engine, 9)] == [4]


def test_settling_up_to_the_newest_leaves_what_is_held_below(engine: LocalEngine) -> None:
    send(engine, b"1", b"2")
    (first,) = take(engine)
    newest = engine.take_newest("sub", None)
    assert newest is not None
    assert figures(engine).last_settled_ns is None
    engine.settle_to_top("sub", newest.receipt)
    assert (figures(engine).settled, figures(engine).leased) == (1, 1)
    assert figures(engine).last_settled_ns == engine._store.clock.wall_ns()
    engine.settle("sub", [first.receipt])
    assert figures(engine).lag == 0


def test_what_nobody_saw_may_be_gone_already(engine: LocalEngine) -> None:
    send(engine, b"1", b"2")
    first, second = take(engine, 2)
    assert engine.settle_ids("sub", [first.id]) == 1
    engine.give_back("sub", [first.receipt, second.receipt], undelivered=True)
    assert [(each.id, each.delivery_count) for each in take(engine, 9)] == [(2, 1)]


# -- leases that ended ----------------------------------------------------------------------------------------


@pytest.fixture
def ended(engine: LocalEngine, clock: FakeClock) -> Delivery:
    """Return a take whose lease has ended, and that nobody has taken over yet."""
    send(engine, b"1", b"2")
    _, second = take(engine, 2, LEASE)
    clock.go(11)
    (again,) = take(engine)  # which looks for ended leases
    assert again.id == 1
    engine.settle("sub", [again.receipt])
    return second


def test_it_may_be_given_back(engine: LocalEngine, ended: Delivery) -> None:
    engine.give_back("sub", [ended.receipt], reason="too late")
    (again,) = take(engine)
    assert (again.id, again.delivery_count, again.last_error) == (2, 2, "too late")


def test_it_may_be_rejected(engine: LocalEngine, ended: Delivery) -> None:
    engine.reject("sub", [ended.receipt], "no good")
    assert take(engine) == []
    (dead,) = engine.dead_letters("sub")
    assert (dead.id, dead.reason) == (2, "no good")


def test_it_may_be_extended(engine: LocalEngine, ended: Delivery, clock: FakeClock) -> None:
    engine.extend("sub", ended.receipt, LEASE)
    clock.go(9)
    assert take(engine) == []
    engine.settle("sub", [ended.receipt])
    assert figures(engine).lag == 0


def test_it_is_the_next_ones_once_that_has_it(engine: LocalEngine, ended: Delivery) -> None:
    (again,) = take(engine)
    late: list[Callable[[], object]] = [
        lambda: engine.reject("sub", [ended.receipt], "no good"),
        lambda: engine.give_back("sub", [ended.receipt]),
        lambda: engine.settle("sub", [ended.receipt]),
    ]
    for act in late:
        with pytest.raises(LeaseLostError, match="Message 2 of subscriber 'sub'"):
            act()
    engine.settle("sub", [again.receipt])


def test_an_extension_changes_nothing_where_it_has_no_end(engine: LocalEngine, clock: FakeClock) -> None:
    send(engine, b"1")
    (delivery,) = take(engine)
    engine.extend("sub", delivery.receipt, 1)
    clock.go(1000)
    assert take(engine) == []
    engine.settle("sub", [delivery.receipt])


# -- after a limit took it ------------------------------------------------------------------------------------


def test_the_newest_that_a_limit_took(engine: LocalEngine) -> None:
    send(engine, b"1", b"2", b"3")
    newest = engine.take_newest("sub", None)
    assert newest is not None
    limit(engine, 3, Strategy.PRUNE_LAST)
    send(engine, b"4")
    assert [message.id for message in engine.browse(1, 9)] == [1, 4]
    engine.return_to_top("sub", newest.receipt)
    assert figures(engine).leased == 0
    assert (figures(engine).lost, figures(engine).lag) == (2, 2)
    assert [delivery.id for delivery in take(engine, 9)] == [1, 4]


def test_an_extension_of_what_a_limit_took(engine: LocalEngine) -> None:
    send(engine, b"1", b"2")
    (delivery,) = take(engine, 1, LEASE)
    limit(engine, 2)
    send(engine, b"3")
    engine.extend("sub", delivery.receipt, LEASE)  # nothing is left to hold
    engine.settle("sub", [delivery.receipt])
    assert (figures(engine).lost, figures(engine).settled) == (1, 0)


def test_a_large_message_that_a_limit_takes_while_it_is_read(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken in one transaction and is read in the next: in between everything may happen."""
    for act in (lambda: take(engine), lambda: [engine.pop("sub")], lambda: [engine.take_newest("sub", None)]):
        limit(engine, None)
        send(engine, LARGE, b"in between")
        complete = type(engine._taker)._complete

        def complete_late(taker: Any, *arguments: Any, complete: Any = complete, **options: Any) -> bool:
            monkeypatch.setattr(type(taker), "_complete", complete)
            limit(engine, 2)
            send(engine, b"last")
            done: bool = complete(taker, *arguments, **options)
            return done

        monkeypatch.setattr(type(engine._taker), "_complete", complete_late)
        found = act()
        assert [delivery.data for delivery in found if delivery is not None] in ([b"in between"], [b"last"])
        engine.purge("sub")
        for delivery in found:
            assert delivery is not None
            engine.settle_ids("sub", [delivery.id])


def test_a_view_of_what_a_limit_took(engine: LocalEngine) -> None:
    send(engine, b"1", b"2")
    (delivery,) = engine.take("sub", 1, None, with_data=False)
    limit(engine, 2)
    send(engine, b"3")
    with pytest.raises(LeaseLostError, match="Message 1 is gone: a limit of queue"), engine.view("sub", delivery):
        pass
    engine.settle("sub", [delivery.receipt])


# -- reading what is large ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_failure_while_a_large_message_is_read_gives_it_back(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    engine.configure_subscriber("sub", SubscriberSettings())
    send(engine, LARGE)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(engine._taker), "_read_large", fail)
        for act in (lambda: take(engine), lambda: engine.pop("sub"), lambda: engine.take_newest("sub", None)):
            with pytest.raises(error):
                act()
            assert (figures(engine).leased, figures(engine).settled) == (0, 0)
    popped = engine.pop("sub")
    assert popped is not None
    assert popped.data == LARGE


@pytest.mark.parametrize("large", [False, True])
def test_a_damaged_message_is_a_dead_letter_and_the_next_is_taken(engine: LocalEngine, large: bool) -> None:
    data = LARGE if large else b"small"
    acts: dict[str, Callable[[], Delivery | None]] = {
        "take": lambda: take(engine)[0],
        "pop": lambda: engine.pop("sub"),
        "newest": lambda: engine.take_newest("sub", None),
    }
    for name, act in acts.items():
        first, second = send(engine, data, data)
        damaged, sound = (second, first) if name == "newest" else (first, second)

        def damage(work: Any, at: int = damaged) -> None:
            work.txn.put(format.pack_id(at), b"?" + data[1:], db=work.data)
            work.touched = True

        engine._store.write(damage)
        found = act()
        assert found is not None
        assert (found.id, found.data) == (sound, data)
        (dead,) = engine.dead_letters("sub")
        assert (dead.id, dead.reason) == (damaged, "damaged: the message does not agree with its checksum")
        engine.discard_dead("sub", None)
        engine.settle_ids("sub", [found.id])


def test_what_is_popped_lies_behind_much_that_is_not_wanted(engine: LocalEngine) -> None:
    """One transaction passes so much and not more."""
    engine.configure_subscriber("sub", SubscriberSettings(topic_filter="wanted"))
    acts: list[Callable[[], Delivery | None]] = [lambda: take(engine)[0], lambda: engine.pop("sub")]
    for act in acts:
        send(engine, *[b"not wanted"] * (2 * PASSED + 1))
        engine.put([Entry(b"wanted", 6, topic="wanted")])
        found = act()
        assert found is not None
        assert found.data == b"wanted"
        engine.settle_ids("sub", [found.id])
        assert figures(engine).lag == 0


def test_a_view_that_a_forked_child_inherits_is_not_its_own(engine: LocalEngine) -> None:
    send(engine, b"1")
    (delivery,) = engine.take("sub", 1, None, with_data=False)
    with engine._store.view() as view:
        txn = view.txn
        assert engine._store.reader.abandon()  # as the child does
        with pytest.raises(LeaseLostError, match="Message 1 belongs to the parent process"):
            engine._taker._stored(view, "sub", delivery)
        assert txn is not None
        txn.abort()
    engine.settle("sub", [delivery.receipt])


# -- interrupts -----------------------------------------------------------------------------------------------


def test_an_interrupt_behind_a_take_gives_it_back(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message was taken, but what came with it never reached the caller."""
    send(engine, b"1", b"2")
    (first,) = take(engine)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(engine._taker._batches), "done", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.take("sub", 1, None, settle=[first.receipt])
    assert (figures(engine).leased, figures(engine).settled, figures(engine).waiting) == (0, 1, 1)
    (second,) = take(engine)
    assert second.id == 2


def test_what_cannot_be_given_back_is_given_back_at_the_end(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A finalizer has nobody to raise to."""
    send(engine, b"1")
    other = open_local(engine._store.path)
    (delivery,) = other.take("sub", 1, None)

    def fail(*_: object, **__: object) -> None:
        raise QueueBusyError("somebody else writes")

    with monkeypatch.context() as patch:
        patch.setattr(engine._store, "write", fail)
        other._taker.release("sub", [delivery.receipt])
    assert "messages could not be given back yet: somebody else writes" in caplog.text
    assert take(engine) == []
    other.close()
    (again,) = take(engine)
    assert again.id == 1


def test_an_owner_leaves_once(engine: LocalEngine) -> None:
    send(engine, b"1")
    other = open_local(engine._store.path)
    (delivery,) = other.take("sub", 1, None)
    other.close()
    assert not other._taker.leave()
    (again,) = take(engine)
    assert again.id == 1
    other._taker.release("sub", [delivery.receipt])  # nothing is its own any more
    assert figures(engine).leased == 1
