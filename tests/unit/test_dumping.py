"""What is exported of a queue that changes meanwhile, or is damaged; and what is shown of its dead letters."""

import pathlib
from collections.abc import Callable, Iterator

import pytest

from persipubsub.engine.local import create_local, format, look, open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.format import OWN_DATA, REQUEUED, pack_id
from persipubsub.engine.local.store import Store
from persipubsub.engine.messages import Entry
from persipubsub.engine.records import DeadRecord, EndRecord, HoldRecord, MessageRecord, Record, SubscriberRecord
from persipubsub.errors import QueueDamagedError
from persipubsub.limits import Durability, Settings, SubscriberSettings


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    """Give a queue in which message 1 was requeued, 2 and 3 are dead letters, and 4 and 5 wait."""
    settings = Settings(durability=Durability.PROCESS, map_size=1 << 20)
    create_local(tmp_path / "queue", settings, {"a": SubscriberSettings()})
    engine = open_local(tmp_path / "queue")
    engine.put([Entry(b"%d" % number, 1, topic="t", headers=b"\x81\xa1h\xa1v") for number in range(1, 6)])
    engine.reject("a", [delivery.receipt for delivery in engine.take("a", 3, None)], "broken")
    engine.requeue_dead("a", [1])
    yield engine
    engine.close()


def export(engine: LocalEngine) -> list[Record]:
    records: list[Record] = []
    assert engine.export(0, 100, records.append) is None
    return records


def of(kind: type[Record], records: list[Record]) -> list[Record]:
    return [record for record in records if isinstance(record, kind)]


def change(engine: LocalEngine, name: bytes, key: bytes, value: bytes | None) -> None:
    """Write a record past everything, or delete it."""
    with engine._store.writer.locked(), engine._store.env.begin(write=True) as txn:
        if value is None:
            assert txn.delete(key, db=engine._store.handles[name])
        else:
            txn.put(key, value, db=engine._store.handles[name])


def test_a_subscriber_that_comes_meanwhile_is_left_out(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = look.subscriber_dbs

    def and_then_one_comes(store: Store) -> list[bytes]:
        names = real(store)
        engine.add_subscriber("b", SubscriberSettings(), "latest")
        return names

    monkeypatch.setattr(look, "subscriber_dbs", and_then_one_comes)
    records = export(engine)
    assert [record.identifier for record in of(SubscriberRecord, records)] == ["a"]  # type: ignore[union-attr]
    assert isinstance(records[-1], EndRecord)
    assert engine.check() == []


def test_an_ephemeral_subscriber_is_left_out(engine: LocalEngine) -> None:
    engine.add_subscriber("guest", SubscriberSettings(ephemeral=True), "first")
    assert engine.take("guest", 1, None)
    records = export(engine)
    assert [record.identifier for record in of(SubscriberRecord, records)] == ["a"]  # type: ignore[union-attr]
    assert [record.id for record in of(HoldRecord, records)] == [1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("key", "held", "dead"),
    [
        (REQUEUED + pack_id(1), [], [2, 3]),
        (OWN_DATA + pack_id(1), [], [2, 3]),
        (OWN_DATA + pack_id(2), [1], [3]),
    ],
)
def test_of_a_damaged_subscriber_the_rest_is_exported(
    engine: LocalEngine, key: bytes, held: list[int], dead: list[int]
) -> None:
    change(engine, b"queue/a", key, None)
    records = export(engine)
    assert [record.id for record in of(HoldRecord, records)] == held  # type: ignore[union-attr]
    assert [record.message.id for record in of(DeadRecord, records)] == dead  # type: ignore[union-attr]
    assert [record.id for record in of(MessageRecord, records)] == [4, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda engine: change(engine, format.META_DB, pack_id(4), None),
        lambda engine: change(engine, format.DATA_DB, pack_id(4), b"x"),
    ],
)
def test_a_damaged_message_is_not_exported(engine: LocalEngine, spoil: Callable[[LocalEngine], None]) -> None:
    spoil(engine)
    with pytest.raises(QueueDamagedError, match=r"Message 4 .*is damaged; save the rest with .*check --repair"):
        export(engine)


def test_a_dead_letter_whose_metadata_cannot_be_read_is_shown(engine: LocalEngine) -> None:
    """It may have died of just that."""
    change(engine, format.META_DB, pack_id(4), b"short")
    assert [delivery.id for delivery in engine.take("a", 9, None)] == [1, 5]
    shown = engine.dead_letters("a")
    assert [(letter.id, letter.data, letter.topic) for letter in shown] == [
        (2, b"2", "t"),
        (3, b"3", "t"),
        (4, b"4", None),
    ]
    assert shown[-1].headers == b""
    assert shown[-1].sent_ns == 0
    assert engine.discard_dead("a", [4]) == 1
    assert [letter.id for letter in engine.dead_letters("a")] == [2, 3]


def test_a_dead_letter_without_its_payload_is_shown_empty(engine: LocalEngine) -> None:
    change(engine, b"queue/a", OWN_DATA + pack_id(2), None)
    assert [(letter.id, letter.data) for letter in engine.dead_letters("a")] == [(2, b""), (3, b"3")]
