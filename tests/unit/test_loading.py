"""A queue made of records: whatever they are, it is a sound one or none."""

import pathlib
from collections.abc import Iterable, Iterator

import pytest

from persipubsub.engine.base import Engine
from persipubsub.engine.local import load_local, open_local
from persipubsub.engine.records import (
    DeadRecord,
    EndRecord,
    HoldRecord,
    MessageRecord,
    QueueRecord,
    Record,
    StateRecord,
    SubscriberRecord,
)
from persipubsub.errors import MessageError, PersipubsubError, QueueDamagedError
from persipubsub.limits import Durability, Settings, SubscriberSettings

SETTINGS = Settings(durability=Durability.COMMIT)


def message(message_id: int, sent_ns: int = 1000) -> MessageRecord:
    return MessageRecord(id=message_id, sent_ns=sent_ns, text=f"{message_id}")


def subscriber(position: int, ahead: Iterable[int] = ()) -> SubscriberRecord:
    return SubscriberRecord(identifier="a", position=position, settings=SubscriberSettings(), ahead=list(ahead))


def dead(message_id: int) -> DeadRecord:
    return DeadRecord(message=message(message_id), died_ns=2000, count=3, reason="broken")


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield tmp_path / "queue"
    assert [entry.name for entry in tmp_path.iterdir()] in ([], ["queue"])


def loaded(path: pathlib.Path, *records: Record) -> Engine:
    assert load_local(path, SETTINGS, records, None)
    return open_local(path)


def delivered(engine: Engine) -> list[int]:
    return [delivery.id for delivery in engine.take("a", 100, None)]


@pytest.mark.parametrize(
    ("records", "error", "said"),
    [
        ([message(1, 1000), message(2, 999), StateRecord(next_id=3)], MessageError, "2 was sent before the one before"),
        ([message(2), message(1), StateRecord(next_id=3)], MessageError, "Message 1 is out of order, after 2"),
        ([message(2**63), StateRecord(next_id=3)], MessageError, "out of order, after 0"),
        ([StateRecord(next_id=3), subscriber(1), message(1)], MessageError, "Message 1 is out of order"),
        ([StateRecord(next_id=3), HoldRecord(id=1)], MessageError, "comes before any subscriber"),
        ([StateRecord(next_id=3), EndRecord(), message(1)], MessageError, "After the end comes .* MessageRecord"),
        ([message(1)], MessageError, "The end is missing"),
        (
            [StateRecord(next_id=3), subscriber(1), dead(1), dead(1)],
            QueueDamagedError,
            r"do not make a sound queue: .*nothing was created",
        ),
    ],
)
def test_records_that_make_no_queue(
    path: pathlib.Path, records: list[Record], error: type[PersipubsubError], said: str
) -> None:
    with pytest.raises(error, match=said):
        load_local(path, SETTINGS, [*records, EndRecord()] if len(records) > 1 else records, None)
    assert not path.exists()


def test_what_is_said_of_the_queue_is_passed_over(path: pathlib.Path) -> None:
    told = QueueRecord(version=1, identity="of another", settings=Settings(lock_timeout=77.0))
    engine = loaded(path, told, message(3), StateRecord(next_id=7), subscriber(1), EndRecord())
    assert engine.settings().lock_timeout == SETTINGS.lock_timeout
    assert engine.statistics().identity != "of another"
    assert delivered(engine) == [3]
    assert engine.check() == []
    engine.close()


@pytest.mark.parametrize(("position", "stands"), [(0, 1), (1, 1), (99, 5)])
def test_a_position_and_what_is_settled_ahead_of_it(path: pathlib.Path, position: int, stands: int) -> None:
    """What makes no sense of it is left out."""
    ahead = [2, 2, 99, 0]
    engine = loaded(
        path,
        *[message(number) for number in range(1, 5)],
        StateRecord(next_id=5),
        subscriber(position, ahead),
        EndRecord(),
    )
    (figures,) = engine.statistics().subscribers
    assert figures.position == stands
    assert engine.check() == []
    assert delivered(engine) == ([1, 3, 4] if stands == 1 else [])
    engine.close()


def test_a_hold_of_what_waits_at_its_place_is_left_out(path: pathlib.Path) -> None:
    engine = loaded(
        path,
        *[message(number) for number in range(1, 5)],
        StateRecord(next_id=5),
        subscriber(3),
        HoldRecord(id=2, count=1),
        HoldRecord(id=4, count=7),
        HoldRecord(id=77, count=7),
        EndRecord(),
    )
    assert [(each.id, each.delivery_count) for each in engine.take("a", 100, None)] == [(2, 2), (3, 1), (4, 1)]
    assert engine.check() == []
    engine.close()
