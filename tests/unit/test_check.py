"""Each contradiction in what is stored is found and named, and nothing is said of a sound queue."""

import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from persipubsub.engine.local import create_local, format, open_local
from persipubsub.engine.local.check import CHECKSUM
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.format import (
    DUE,
    ENDING,
    HOLDERS,
    LEASED,
    OWN_DATA,
    POSITIONS,
    READY,
    REQUEUED,
)
from persipubsub.engine.local.format import pack_id as key
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, HighWaterMark, Settings, SubscriberSettings

HOUR = 3600 * 10**9
Found = list[tuple[str, str]]

A = "subscriber 'a'"
_AHEAD = "message {} was taken ahead of the position, which is beyond it"
_SETTLED = "message {} was settled ahead of the position, which is beyond it"


def filled(path: pathlib.Path) -> LocalEngine:
    """Open a new queue with records of every kind: limits have taken the messages 1 to 20, "a" has all kinds of holds.

    It has leased 21 and 42, the newest, which stands ahead of its position.
    """
    settings = Settings(durability=Durability.PROCESS, map_size=1 << 20, high_water_mark=HighWaterMark(max_messages=40))
    create_local(path, settings, {"a": SubscriberSettings(), "b": SubscriberSettings()})
    engine = open_local(path)
    for number in range(1, 43):
        engine.put([Entry(b"payload %2d" % number, 10, deduplication_id=b"id" if number == 42 else None)])
    receipts = {delivery.id: delivery.receipt for delivery in engine.take("a", 5, HOUR)}
    assert sorted(receipts) == [21, 22, 23, 24, 25]
    engine.give_back("a", [receipts[22]])
    engine.give_back("a", [receipts[23]], delay_ns=HOUR)
    engine.reject("a", [receipts[24], receipts[25]], "broken")
    engine.requeue_dead("a", [25])
    engine.settle_ids("a", [40])
    newest = engine.take_newest("a", HOUR)
    assert newest is not None
    assert newest.id == 42
    engine.purge("b")
    assert [message.id for message in engine.browse(0, 100)] == [21, 22, 23, *range(26, 43)]
    assert engine.check() == []
    return engine


class Hand:
    """Writes records of an open queue past everything that keeps them in step."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.file = engine._store.path / "data.mdb"
        self._store = engine._store

    def db(self, name: str) -> Any:
        short = {"a": b"queue/a", "b": b"queue/b"}
        return self._store.handles[short.get(name) or name.encode() + b"_db"]

    def _txn(self, *, write: bool) -> Any:
        return self._store.env.begin(write=write)

    def get(self, name: str, at: bytes) -> bytes:
        with self._txn(write=False) as txn:
            return bytes(txn.get(at, db=self.db(name)))

    def records(self) -> dict[str, list[tuple[bytes, bytes]]]:
        names = ["a", "b", *(name.decode().removesuffix("_db") for name in format.FIXED_DBS)]
        with self._txn(write=False) as txn:
            return {name: list(txn.cursor(db=self.db(name))) for name in names}

    def put_back(self, records: dict[str, list[tuple[bytes, bytes]]]) -> None:
        with self._store.writer.locked(), self._txn(write=True) as txn:
            for name, pairs in records.items():
                txn.drop(self.db(name), delete=False)
                for at, value in pairs:
                    txn.put(at, value, db=self.db(name))

    def put(self, name: str, at: bytes, value: bytes = b"") -> None:
        with self._store.writer.locked(), self._txn(write=True) as txn:
            txn.put(at, value, db=self.db(name))

    def delete(self, name: str, at: bytes) -> None:
        with self._store.writer.locked(), self._txn(write=True) as txn:
            assert txn.delete(at, db=self.db(name))

    def state(self, **changes: Any) -> None:
        """Add to numbers of the state; anything else is put in its place."""
        self._change("queue", format.KEY_STATE, format.State, changes)

    def subscriber(self, **changes: Any) -> None:
        self._change("subscriber", b"a", format.Subscriber, changes)

    def entry(self, kind: bytes, message_id: int) -> bytes:
        """Return the entry of a message in an index of "a"."""
        with self._txn(write=False) as txn, txn.cursor(db=self.db("a")) as cursor:
            assert cursor.set_range(kind)
            (found,) = [
                entry for entry in cursor.iternext(values=False) if entry == kind + entry[1:9] + key(message_id)
            ]
        return bytes(found)

    def _change(self, name: str, at: bytes, kind: type[Any], changes: dict[str, Any]) -> None:
        record = msgspec.msgpack.decode(self.get(name, at), type=kind)
        for field, value in changes.items():
            setattr(record, field, getattr(record, field) + value if type(value) is int else value)
        self.put(name, at, format.encode(record))

    def message(self, message_id: int, sent_ns: int = 2**62, data: bytes = b"payload xx") -> None:
        self.put("data", key(message_id), data)
        meta = format.pack_meta(message_id, format.payload_digest(data), format.Meta(sent_ns))
        self.put("meta", key(message_id), meta)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    engine = filled(tmp_path_factory.mktemp("shared") / "queue")
    yield engine
    engine.close()


@pytest.fixture
def hand(shared: LocalEngine) -> Iterator[Hand]:
    hand = Hand(shared)
    before = hand.records()
    yield hand
    hand.put_back(before)
    assert shared.check() == []


@pytest.fixture
def alone(tmp_path: pathlib.Path) -> Iterator[Hand]:
    """Give a queue whose file may be spoilt."""
    engine = filled(tmp_path / "queue")
    yield Hand(engine)
    engine.close()


def _spoil_no_metadata(hand: Hand) -> Found:
    hand.delete("meta", key(31))
    return [("message 31", "it has no metadata"), ("ids", "from 26 on, ids are missing that no limit took")]


def _spoil_no_payload(hand: Hand) -> Found:
    hand.delete("data", key(31))
    hand.state(messages=-1, payload_bytes=-10)
    return [("message 31", "it has no payload")]


def _spoil_beyond_the_next_id(hand: Hand) -> Found:
    hand.message(50)
    hand.state(messages=1, payload_bytes=10)
    return [
        ("message 50", "its id lies beyond the next one, 43"),
        ("state", "the last message was sent later than it says"),
        ("ids", "from 26 on, ids are missing that no limit took"),
    ]


def _spoil_overwritten(hand: Hand) -> Found:
    hand.put("data", key(31), b"payload 13")
    return [("message 31", CHECKSUM)]


def _spoil_metadata_cut_off(hand: Hand) -> Found:
    hand.put("meta", key(31), b"short")
    return [("message 31", CHECKSUM)]


def _spoil_sent_before_its_predecessor(hand: Hand) -> Found:
    hand.message(31, sent_ns=1)
    return [("message 31", "it was sent before the one before it")]


def _spoil_messages_miscounted(hand: Hand) -> Found:
    hand.state(messages=1, payload_bytes=1)
    return [
        ("state", "it counts 21 messages, there are 20"),
        ("state", "it counts 201 bytes of payload, there are 200"),
    ]


def _spoil_sent_later_than_the_state_says(hand: Hand) -> Found:
    hand.state(last_sent_ns=-1)
    return [("state", "the last message was sent later than it says")]


def _spoil_deletions_out_of_order(hand: Hand) -> Found:
    hand.state(doomed=((5, 10), (7, 9)))
    return [("state", "the range of deletions from 7 to 9 is out of order")]


def _spoil_before_the_first_block(hand: Hand) -> Found:
    hand.state(front=1)
    return [("state", "message 21 lies before the block 1")]


def _spoil_block_of_nothing(hand: Hand) -> Found:
    hand.put("block", key(5), key(3) + key(30))
    return [("block 5", "it counts messages that are not there")]


# -- subscribers -------------------------------------------------------------------------------------


def _spoil_position_beyond_the_next_id(hand: Hand) -> Found:
    hand.subscriber(position=74)
    hand.delete("pending", POSITIONS + key(26))
    hand.put("pending", POSITIONS + key(100), key(1))
    hand.state(low=17)
    return [(A, "its position 100 lies beyond the next id 43"), (A, _AHEAD.format(42)), (A, _SETTLED.format(40))]


def _spoil_held_twice(hand: Hand) -> Found:
    hand.put("a", READY + key(21), hand.get("a", LEASED + key(21)))
    hand.put("pending", HOLDERS + key(21), key(2))
    hand.subscriber(ready=1)
    return [(A, "message 21 is held twice")]


def _spoil_requeued_without_its_payload(hand: Hand) -> Found:
    hand.delete("a", OWN_DATA + key(25))
    return [(A, "requeued message 25 has no payload"), (A, "it counts 2 payloads, there are 1")]


def _spoil_requeued_without_its_metadata(hand: Hand) -> Found:
    hand.delete("a", REQUEUED + key(25))
    return [(A, "requeued message 25 has no payload"), (A, "it counts 1 payloads, there are 2")]


def _spoil_ahead_of_a_position_beyond_it(hand: Hand) -> Found:
    hand.subscriber(position=17)
    hand.delete("pending", POSITIONS + key(26))
    hand.put("pending", POSITIONS + key(43), key(2))
    hand.state(low=17)
    return [(A, _AHEAD.format(42)), (A, _SETTLED.format(40))]


def _spoil_held_before_the_position_came(hand: Hand) -> Found:
    hand.put("a", READY + key(35), hand.get("a", READY + key(22)))
    hand.put("pending", HOLDERS + key(35), key(1))
    hand.subscriber(ready=1)
    return [(A, "message 35 is held, but the position is not beyond it")]


def _spoil_no_entry_in_the_index_of_ends(hand: Hand) -> Found:
    hand.delete("a", hand.entry(ENDING, 21))
    return [(A, "message 21 is missing in the index E"), (A, "it counts 2 ending, there are 1")]


def _spoil_no_entry_in_the_index_of_what_is_due(hand: Hand) -> Found:
    hand.delete("a", hand.entry(DUE, 23))
    return [(A, "message 23 is missing in the index D"), (A, "it counts 1 due, there are 0")]


def _spoil_an_entry_too_many_in_each_index(hand: Hand) -> Found:
    hand.put("a", DUE + key(1) + key(30))
    hand.put("a", ENDING + key(1) + key(30))
    return [(A, "it counts 1 due, there are 2"), (A, "it counts 2 ending, there are 3")]


def _spoil_everything_miscounted(hand: Hand) -> Found:
    hand.subscriber(leased=1, ready=2, delayed=3, bounded=4, top=5, ahead=6, dead=7)
    counts = {
        "leased": (3, 2),
        "ready": (4, 2),
        "delayed": (4, 1),
        "bounded": (6, 2),
        "taken ahead": (6, 1),
        "settled ahead": (7, 1),
        "dead": (8, 1),
        "payloads": (9, 2),
    }
    return [(A, f"it counts {said} {name}, there are {there}") for name, (said, there) in counts.items()]


def _spoil_name_overwritten(hand: Hand) -> Found:
    hand.put("subscriber", b"c\0", hand.get("subscriber", b"a"))
    why = "The identifier 'c\\x00' has control characters; use printable ones."
    return [("subscriber 'c\\x00'", f"its record was overwritten: {why}")]


def _spoil_no_sub_database(hand: Hand) -> Found:
    hand.put("subscriber", b"c", hand.get("subscriber", b"a"))
    return [("subscriber 'c'", "its sub-database is not there")]


# -- what is counted for all ---------------------------------------------------------------------------


def _spoil_positions_miscounted(hand: Hand) -> Found:
    hand.put("pending", POSITIONS + key(26), key(2))
    return [("pending counts", "the positions differ from the subscribers' records: [(26, 1), (26, 2)]")]


def _spoil_holders_miscounted(hand: Hand) -> Found:
    hand.delete("pending", HOLDERS + key(22))
    return [("pending counts", "the holders differ from the subscribers' records: [(22, 1)]")]


def _spoil_subscribers_miscounted(hand: Hand) -> Found:
    hand.state(subscribers=1)
    return [("state", "it counts 3 subscribers, there are 2")]


def _spoil_lowest_position_wrong(hand: Hand) -> Found:
    hand.state(low=-1)
    return [("state", "the lowest position is 26, not 25")]


def _spoil_left_behind(hand: Hand) -> Found:
    hand.delete("a", READY + key(22))
    hand.delete("pending", HOLDERS + key(22))
    hand.subscriber(ready=-1)
    return [("message 22", "nobody needs it, but it was not deleted")]


def _spoil_pruned_but_there(hand: Hand) -> Found:
    hand.put("gone", key(30), format.encode(format.Gone(32, format.OVERFLOW, 0)))
    hand.state(gone=1)
    return [
        ("pruned ranges", "message 30 was pruned, but it is there"),
        ("ids", "from 26 on, ids are missing that no limit took"),
    ]


def _spoil_pruned_ranges_out_of_order(hand: Hand) -> Found:
    for start, end in ((5, 10), (7, 9)):
        hand.put("gone", key(start), format.encode(format.Gone(end, format.TIMEOUT, 0)))
    hand.state(gone=2)
    return [("pruned ranges", "the range from 7 to 9 is out of order")]


def _spoil_pruned_ranges_miscounted(hand: Hand) -> Found:
    hand.state(gone=3)
    return [("state", "it counts 3 pruned ranges, there are 0")]


def _spoil_deduplication_on_one_side(hand: Hand) -> Found:
    hand.put("deduplication", format.SEEN + b"other", key(41) + key(1))
    return [("deduplication", "1 entries stand on one side only")]


@pytest.mark.parametrize("spoil", [spoil for name, spoil in list(vars().items()) if name.startswith("_spoil_")])
def test_a_contradiction_is_found(hand: Hand, spoil: Callable[[Hand], Found]) -> None:
    expected = spoil(hand)
    assert [(finding.where, finding.what) for finding in hand.engine.check()] == expected


def test_a_record_that_cannot_be_read_is_found(hand: Hand) -> None:
    hand.put("subscriber", b"a", b"nonsense")
    (finding,) = hand.engine.check()
    assert finding.where == "records"
    assert re.search("a record cannot be read.*restore a backup", finding.what)


# -- trees that lead astray ----------------------------------------------------------------------------


def overwrite(hand: Hand, old: bytes, new: bytes) -> list[int]:
    """Put other bytes in the place of some in the data file; return the pages that had them."""
    content = hand.file.read_bytes()
    found = [match.start() for match in re.finditer(re.escape(old), content)]
    with open(hand.file, "r+b") as stream:
        for at in found:
            stream.seek(at)
            stream.write(new)
    return [at // 4096 for at in found]


def test_a_message_that_its_id_does_not_lead_to_is_found(alone: Hand) -> None:
    sent = alone.get("meta", key(31))[:8]
    assert overwrite(alone, key(31) + b"payload 31", key(5) + b"payload 31")
    assert overwrite(alone, key(31) + sent, key(5) + sent)
    assert ("message 5", "it is not where its id leads to") in [(one.where, one.what) for one in alone.engine.check()]


def test_a_tree_out_of_order_is_found_and_ends(alone: Hand) -> None:
    """Where the last id of a page and the first of the next are too low, a search arrives behind its aim."""
    alone.engine.put([Entry(b"large %2d" % number + bytes(1000), 1008) for number in range(43, 60)])
    pages = {number: overwrite(alone, *2 * (key(number) + b"large %2d" % number,)) for number in range(43, 60)}
    last = next(number for number in range(50, 59) if pages[number] != pages[number + 1])
    for number in (last, last + 1):
        overwrite(alone, key(number) + b"large %2d" % number, key(number - 49) + b"large %2d" % number)
    alone.put("gone", key(last), format.encode(format.Gone(60, format.OVERFLOW, 0)))
    finding = alone.engine.check()[-1]
    assert finding.where == "queue"
    assert re.search(rf"message {last - 48} is not where its id leads to. Restore .*or save the rest", finding.what)
