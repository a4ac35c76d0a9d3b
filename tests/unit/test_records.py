"""Records that damage has made senseless, in a queue that is open: nobody hangs or crashes, and ``check`` tells."""

import pathlib
import random
from collections.abc import Callable, Iterator

import lmdb
import pytest

from persipubsub.engine.local import format, look, open_local, prune, removal, take
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.work import Work, read_settings, settings_records
from persipubsub.engine.messages import Entry
from persipubsub.errors import QueueDamagedError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy
from tests.unit.engines import created

Change = Callable[[Work], None]
MARK = HighWaterMark(max_messages=3)


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    engine = open_local(created(tmp_path / "queue"))
    yield engine
    engine.close()


def send(engine: LocalEngine, *payloads: bytes) -> list[int]:
    return engine.put([Entry(data, len(data)) for data in payloads])


def change(engine: LocalEngine, how: Change) -> None:
    """Write past all rules."""

    def write(work: Work) -> None:
        how(work)
        work.touched = True

    engine._store.write(write)
    engine._store.recent = None


def found(engine: LocalEngine) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in engine.check()]


def delivered(engine: LocalEngine) -> list[bytes]:
    return [delivery.data for delivery in engine.take("sub", 99, None)]


# -- of messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", [b"", b"?" * 7, b"\xff" * 60], ids=["empty", "short", "noise"])
@pytest.mark.parametrize("again", [False, True], ids=["first delivery", "redelivery"])
def test_metadata_that_cannot_be_read_is_a_dead_letter(engine: LocalEngine, meta: bytes, again: bool) -> None:
    send(engine, b"damaged", b"sound")
    if again:
        (delivery,) = engine.take("sub", 1, None)
        engine.give_back("sub", [delivery.receipt])

    def damage(work: Work) -> None:
        work.txn.put(format.pack_id(1), meta, db=work.meta)

    change(engine, damage)
    assert found(engine) != []
    assert delivered(engine) == [b"sound"]
    (figures,) = engine.statistics().subscribers
    assert (figures.dead, figures.lag) == (1, 1)


def test_a_message_that_is_found_and_not_found_is_told(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged tree may lead to a key in one way and not in another: nobody shall look for it for ever."""

    class Misled:
        """Finds whatever it is asked for."""

        def __init__(self, *_: object) -> None:
            self.id = 0

        def at(self, message_id: int) -> bool:
            self.id = message_id
            return True

    send(engine, b"1", b"2")

    def damage(work: Work) -> None:
        work.txn.delete(format.pack_id(1), db=work.meta)

    change(engine, damage)
    with monkeypatch.context() as patch:
        patch.setattr(take, "Messages", Misled)
        with pytest.raises(QueueDamagedError):
            delivered(engine)
    assert found(engine) != []


# -- of the queue ---------------------------------------------------------------------------------------------


def test_without_a_state_nothing_is_written(engine: LocalEngine) -> None:
    change(engine, lambda work: None)
    with engine._store.writer.locked():
        txn = engine._store.begin_writing()
        txn.delete(format.KEY_STATE, db=engine._store.handles[format.QUEUE_DB])
        txn.commit()
    for act in (lambda: send(engine, b"1"), lambda: delivered(engine), engine.statistics):
        with pytest.raises(QueueDamagedError, match="has no state record; restore it from a backup"):
            act()


@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_a_count_of_messages_that_are_not_there(engine: LocalEngine, strategy: Strategy) -> None:
    """There is nothing to prune, and so the message is stored."""
    engine.configure(Settings(durability=Durability.PROCESS, high_water_mark=MARK, strategy=strategy))

    def miscount(work: Work) -> None:
        work.state.messages = 3

    change(engine, miscount)
    assert send(engine, b"stored") == [1]
    assert delivered(engine) == [b"stored"]
    assert any("messages" in finding for finding in found(engine))


def test_a_count_of_gone_ones_that_are_not_there(engine: LocalEngine) -> None:
    def miscount(work: Work) -> None:
        work.state.gone = 2

    change(engine, miscount)
    send(engine, b"1", b"2")
    for _ in range(2):
        (delivery,) = engine.take("sub", 1, None)
        engine.settle("sub", [delivery.receipt])
    assert [message.id for message in engine.browse(1, 9)] == []
    assert found(engine) != []


def test_settings_are_read_whatever_stands_around_them(tmp_path: pathlib.Path) -> None:
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True, buffers=True) as txn:
        queue = env.open_db(None, txn)
        assert read_settings(txn, queue) == Settings()
        txn.put(b"before", b"")
        assert read_settings(txn, queue) == Settings()
        wanted = Settings(lock_timeout=7.0, retention=Retention.LOG)
        for key, value in settings_records(wanted).items():
            txn.put(key, value)
        txn.put(format.SETTING_PREFIX + b"of a newer version", format.encode(1))
        assert read_settings(txn, queue) == wanted
        txn.put(b"state", b"")
        assert read_settings(txn, queue) == wanted


# -- of subscribers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [format.DUE, format.ENDING])
def test_an_index_that_leads_nowhere(engine: LocalEngine, kind: bytes) -> None:
    send(engine, b"1", b"2")
    if kind == format.DUE:
        engine.put([Entry(b"delayed", 7, delay_ns=3600 * 10**9)])
        assert len(engine.take("sub", 1, None)) == 1
    else:
        assert len(engine.take("sub", 1, 3600 * 10**9)) == 1

    def damage(work: Work) -> None:
        key = kind + format.pack_id(1) + format.pack_id(77)
        work.txn.put(key, b"", db=work.handle(format.subscriber_db(b"sub")))

    if kind == format.DUE:
        assert delivered(engine) == [b"2"]  # and the third is set aside
    change(engine, damage)
    assert delivered(engine) == ([] if kind == format.DUE else [b"2"])
    assert found(engine) != []


def test_other_records_are_no_positions(engine: LocalEngine) -> None:
    send(engine, b"1", b"2")

    def lowest(work: Work) -> int:
        prune.move_position(work, 1, None)
        work.txn.put(b"z" + format.pack_id(1), b"", db=work.pending)
        return prune.lowest_position(work)

    assert engine._store.writer.rehearse(lowest) == 3


# -- ranges that limits took ----------------------------------------------------------------------------------


def test_each_message_keeps_the_first_cause_of_its_end(engine: LocalEngine) -> None:
    """Whatever the order in which limits take ranges, as often as one likes: compared with a list of all ids."""
    source = random.Random(7)

    def compare(work: Work) -> None:
        causes: dict[int, int] = {}
        for _ in range(400):
            start = source.randrange(1, 60)
            end = start + source.randrange(1, 12)
            cause = source.choice((format.OVERFLOW, format.TIMEOUT))
            prune._record_run(work, start, end, cause)
            for message_id in range(start, end):
                causes.setdefault(message_id, cause)
            low = source.randrange(1, 60)
            high = low + source.randrange(1, 30)
            pieces = prune.gone_between(work, low, high)
            told = {each: gone.cause for first, gone in pieces for each in range(first, gone.end)}
            assert told == {each: cause for each, cause in causes.items() if low <= each < high}
            assert work.state.gone == work.txn.stat(work.gone)["entries"]
            if source.random() < 0.1:
                work.txn.drop(work.gone, delete=False)
                work.state.gone = 0
                causes.clear()

    engine._store.writer.rehearse(compare)


# -- what is deleted bit by bit -------------------------------------------------------------------------------


def test_sends_delete_what_a_log_has_kept(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the one who changed the retention died in the middle of it."""
    log = Settings(durability=Durability.PROCESS, retention=Retention.LOG)
    engine.configure(log)
    send(engine, *[b"x"] * 3000)
    engine.purge("sub")
    with monkeypatch.context() as patch:
        patch.setattr(prune, "sweep_all", lambda store: None)
        engine.configure(Settings(durability=Durability.PROCESS))
    assert engine.statistics().messages == 3000
    sends = 0
    while engine.statistics().messages > sends:
        send(engine, b"new")
        sends += 1
        assert sends < 100
    assert [message.data for message in engine.browse(1, 200)] == [b"new"] * sends
    assert found(engine) == []


def test_leftovers_are_looked_for_among_subscribers_only(engine: LocalEngine) -> None:
    """A database whose name follows theirs is none of them."""
    path = engine._store.path

    def leave(work: Work) -> None:
        for name in (b"queue/left", b"zzz"):
            work.handle(name, create=True)

    change(engine, leave)
    engine._store.writer.write_alone(removal.delete_leftovers)
    with engine._store.read() as txn:
        names = {bytes(key) for key, _ in txn.cursor()}
    assert b"zzz" in names
    assert b"queue/left" not in names
    assert b"queue/sub" in names
    assert path.exists()


def test_leftovers_where_there_are_no_subscribers(engine: LocalEngine) -> None:
    engine.remove_subscriber("sub")

    def leave(work: Work) -> None:
        work.handle(b"any", create=True)

    change(engine, leave)
    engine._store.writer.write_alone(removal.delete_leftovers)
    with engine._store.read() as txn:
        assert b"any" in {bytes(key) for key, _ in txn.cursor()}


def test_a_subscriber_that_comes_while_one_looks(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out of the figures of who holds what, until the next look."""
    send(engine, b"held by the dead")
    other = open_local(engine._store.path)
    assert len(other.take("sub", 1, None)) == 1
    engine._store.owners.end(other._taker.owner())
    with monkeypatch.context() as patch:
        patch.setattr(look, "subscriber_dbs", lambda store: [])
        assert engine.vitals().stale_leases == {}
    assert engine.vitals().stale_leases == {"sub": 1}
    other.close()
