"""How far batches were handed over: each has a slot of the board as long as something of it is left."""

import pathlib
from types import SimpleNamespace
from typing import Any, cast

from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.local.batches import _MOST, Batches
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.taker import at_desk
from persipubsub.engine.messages import Delivery, Entry, Receipt
from persipubsub.limits import Durability, HighWaterMark, Settings, SubscriberSettings


class Slots:
    """The slots of a board."""

    def __init__(self, number: int) -> None:
        self.free = list(range(number))
        self.given_up: list[int] = []

    def claim(self) -> int | None:
        return self.free.pop(0) if self.free else None

    def give_up(self, slot: int) -> None:
        self.given_up.append(slot)


def made(slots: Slots) -> tuple[Batches, list[tuple[Any, ...]]]:
    """Return batches, and what they write to the board."""
    written: list[tuple[Any, ...]] = []
    board = SimpleNamespace(
        begin_batch=lambda *what: written.append(("begin", *what)), hand_over=lambda *what: written.append(what)
    )
    return Batches(cast(Store, SimpleNamespace(progress_slots=slots, board=board))), written


def taken(token: int, *ids: int) -> list[Delivery]:
    return [Delivery(number, token, b"", 0, b"", None, 0, 0, 1, None, 0, 0) for number in ids]


def test_a_slot_is_free_once_nothing_of_its_batch_is_left() -> None:
    slots = Slots(2)
    batches, written = made(slots)
    batches.start("a", batches.slot(), 7, taken(1, 10, 11))
    batches.handed("a", 1)
    batches.handed("a", 1)
    batches.handed("b", 1)
    assert written == [("begin", 0, 7, 1), (0, 1), (0, 2)]
    batches.done("a", [Receipt(10, 1), Receipt(11, 2)])
    assert batches.slot() == 1
    batches.done("a", [Receipt(11, 1)])
    assert batches.slot() == 0
    assert batches.slot() == -1


def test_a_slot_of_nothing_is_free_at_once() -> None:
    slots = Slots(1)
    batches, written = made(slots)
    batches.start("a", batches.slot(), 7, [])
    assert batches.slot() == 0
    batches.start("a", -1, 7, taken(1, 10))
    assert written == []


def test_who_leaves_gives_its_slots_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    first, other = open_local(path), open_local(path)
    first.put([Entry(b"x", 1)] * 2)
    assert len(first.take("a", 2, None, hand_over=False)) == 2
    taken_by = other._store.progress_slots
    assert taken_by.claim() == 1
    first.close()
    assert taken_by.claim() == 0
    assert at_desk(other._store, "a", lambda desk: desk.owners()) == []  # nor is anything left of the owner
    other.close()


def test_no_record_is_left_of_what_was_pruned_in_the_hands_of_a_loop(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    mark = HighWaterMark(max_messages=4)
    create_local(path, Settings(high_water_mark=mark, durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(path)
    engine.put([Entry(b"x", 1)] * 4)
    taken = engine.take("a", 4, None, hand_over=False)
    engine.put([Entry(b"x", 1)])
    engine.give_back("a", [delivery.receipt for delivery in taken], undelivered=True)
    kept = at_desk(engine._store, "a", lambda desk: (desk.record.leased, desk.record.ready, desk.record.lost))
    assert kept == (0, 2, 2)
    assert engine.check() == []
    engine.close()


def test_the_oldest_of_too_many_makes_room() -> None:
    slots = Slots(_MOST + 1)
    batches, written = made(slots)
    for token in range(_MOST):
        batches.start("a", batches.slot(), 7, taken(token, token))
    assert batches.slot() == 0
    batches.handed("a", 0)
    batches.handed("a", 1)
    assert written[-1] == (1, 1)
    batches.close()
    assert sorted(slots.given_up) == list(range(1, _MOST))
    assert len(slots.free) == 1
