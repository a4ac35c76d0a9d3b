"""Read transactions, and views, which last while the user's code runs: where they fail, and how they end."""

import pathlib
import pickle
from typing import Any

import lmdb
import pytest

from persipubsub.engine.local import open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.messages import Entry
from persipubsub.errors import (
    QueueBusyError,
    QueueDamagedError,
    StorageError,
)
from tests.process.support import BOUND
from tests.unit.engines import open_and_look


class Failing:
    """Makes a read transaction fail so often."""

    def __init__(self, engine: LocalEngine, patch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
        self.left = times
        begin = engine._store.begin_reading

        def begin_or_fail() -> Any:
            if self.left:
                self.left -= 1
                raise error
            return begin()

        patch.setattr(engine._store, "begin_reading", begin_or_fail)


def test_a_reader_follows_a_map_that_has_grown(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    error = lmdb.MapResizedError("mdb_txn_begin")
    failing = Failing(engine, monkeypatch, error, 3)
    assert engine.bounds() == (1, 2)
    assert failing.left == 0
    failing.left = 100
    with pytest.raises(QueueBusyError, match="another process keeps growing the map; try again"):
        engine.bounds()
    assert failing.left == 0
    assert engine.put([Entry(b"", 0)]) == [2]  # nobody is left in the gate


@pytest.mark.parametrize("dead", [0, 1])
def test_places_of_readers_are_all_taken(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    class Swept:
        def __init__(self, env: Any) -> None:
            self._env = env

        def __getattr__(self, name: str) -> Any:
            return getattr(self._env, name)

        def reader_check(self) -> int:
            return dead

    with monkeypatch.context() as patch:
        Failing(engine, patch, lmdb.ReadersFullError("mdb_txn_begin"), 1)
        patch.setattr(engine._store, "env", Swept(engine._store.env))
        if dead:
            assert engine.bounds() == (1, 2)
        else:
            with pytest.raises(QueueBusyError, match="too many processes and threads read at once"):
                engine.bounds()
    assert engine.bounds() == (1, 2)


def test_what_else_fails_in_a_read_is_told(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Failing(engine, patch, lmdb.CorruptedError("mdb_txn_begin"), 1)
        with pytest.raises(QueueDamagedError, match="mdb_txn_begin"):
            engine.bounds()
    for error in (lmdb.CorruptedError("mdb_get"), IndexError("out of range")):
        with pytest.raises(QueueDamagedError, match=f"{error}"), engine._store.read():
            raise error
    assert engine.bounds() == (1, 2)


def test_an_environment_that_lmdb_gave_up_is_used_no_more(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_local(path)
    Failing(engine, monkeypatch, lmdb.PanicError("mdb_txn_begin"), 1)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"the disk failed .*close the queue and open it again"):
            engine.bounds()
    engine.close()
    open_and_look(path)


def test_an_interrupt_at_the_end_of_a_read_leaves_nobody_in_the_gate(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the map could never grow again, nor the process fork."""
    store = engine._store
    for what in ("read", "view"):
        whole = type(store.gate).go_back if what == "read" else type(store.reader)._end
        where = type(store.gate) if what == "read" else type(store.reader)

        def interrupted(*arguments: Any, what: str = what, where: Any = where, whole: Any = whole) -> None:
            monkeypatch.setattr(where, "go_back" if what == "read" else "_end", whole)
            raise KeyboardInterrupt

        monkeypatch.setattr(where, "go_back" if what == "read" else "_end", interrupted)
        with pytest.raises(KeyboardInterrupt), store.read() if what == "read" else store.view():
            pass
        alone: list[bool] = []
        with store.gate.alone(BOUND) as granted:
            alone.append(granted)
        assert alone == [True]
        assert not store.reader._views


def test_a_view_in_use_is_kept_in_a_forked_child(engine: LocalEngine) -> None:
    """What a child inherits it can let go of once nothing made of it is left; the parent's transaction goes on."""
    (delivery,) = engine.take("sub", 1, None)
    found: list[bool] = []
    reader = engine._store.reader
    with engine.view("sub", delivery) as data:
        array = pickle.PickleBuffer(data)
        (view,) = reader._views
        txn = view.txn
        found.append(reader.abandon())
        assert bytes(array) == b"stored"
        array.release()
        found.append(reader.abandon())
        assert found == [False, True]
        with pytest.raises(ValueError, match="released"):
            bytes(data)
        assert txn is not None
        txn.abort()
    engine.settle("sub", [delivery.receipt])
