"""Commits of one process: interrupted, failing, and done once more where that helps."""

import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import lmdb
import pytest

from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.jobs import Job
from persipubsub.engine.local.mapped import Mapped
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.local.writing import Writer
from persipubsub.engine.messages import Entry
from persipubsub.errors import (
    MessageError,
    PersipubsubError,
    QueueDamagedError,
    StorageFullError,
)
from persipubsub.limits import Durability
from tests.process.support import BOUND, wait_until
from tests.unit.engines import created, opened, send, stored


@pytest.fixture(params=[Durability.COMMIT, Durability.PROCESS], ids=["commit", "process"])
def engine(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    with opened(created(tmp_path / "queue", durability=request.param, lock_timeout=0.2)) as engine:
        yield engine
        assert not engine._store.writer._jobs
        assert not engine._store.writer.turn.lock.locked()


def failing_once(patch: pytest.MonkeyPatch, where: type, name: str, error: BaseException, after: bool = False) -> None:
    """Let a method raise once, before it does what it does or after it."""
    whole: Callable[..., Any] = getattr(where, name)

    def fail(*arguments: Any, **options: Any) -> Any:
        patch.setattr(where, name, whole)
        if after:
            whole(*arguments, **options)
        raise error

    patch.setattr(where, name, fail)


# -- failures of LMDB -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        lmdb.MapFullError("mdb_put"),
        lmdb.MapResizedError("mdb_txn_begin"),
        lmdb.DbsFullError("mdb_dbi_open"),
        lmdb.BadDbiError("mdb_put"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_can_be_mended_is_done_once_more(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch, error: lmdb.Error
) -> None:
    send(engine, b"before")
    failing_once(monkeypatch, Work, "finish", error)
    assert send(engine, b"sent") == 2
    # The same holds for a transaction that is never committed.
    tries: list[int] = []

    def look(work: Work) -> int:
        tries.append(work.number)
        if len(tries) == 1:
            raise error
        return work.state.messages

    assert store.writer.rehearse(look) == 2
    assert len(tries) == 2
    assert stored(engine) == [b"before", b"sent"]


@pytest.mark.parametrize("error", [lmdb.MapFullError, lmdb.BadDbiError], ids=lambda kind: kind.__name__)
def test_what_mending_does_not_help_is_raised(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, error: type[lmdb.Error]
) -> None:
    attempts: list[int] = []

    def fail(work: Work) -> bool:
        attempts.append(work.number)
        raise error("again")

    with monkeypatch.context() as patch:
        patch.setattr(Work, "finish", fail)
        patch.setattr(Mapped, "grow_map", lambda *_: None)
        with pytest.raises(PersipubsubError, match="again"):
            send(engine, b"never")
    assert len(attempts) == (65 if error is lmdb.MapFullError else 2)
    assert stored(engine) == []
    assert send(engine, b"afterwards") == 1


def test_pages_of_dead_readers_are_enough(engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Swept:
        """The environment, which finds that one reader is dead."""

        def __init__(self, env: lmdb.Environment) -> None:
            self._env = env

        def __getattr__(self, name: str) -> Any:
            return getattr(self._env, name)

        def reader_check(self) -> int:
            return 1

    grown: list[int] = []
    failing_once(monkeypatch, Work, "finish", lmdb.MapFullError("mdb_put"))
    with monkeypatch.context() as patch:
        patch.setattr(Mapped, "grow_map", lambda _, payload: grown.append(payload))
        patch.setattr(store, "env", Swept(store.env))
        assert send(engine, b"sent") == 1
    assert grown == []


def test_a_damaged_record_is_told_and_nothing_written(engine: LocalEngine, store: Store) -> None:
    def misread(work: Work) -> None:
        work.state.messages += 1
        raise IndexError("out of range")

    for attempt in (store.write, store.writer.rehearse):
        with pytest.raises(QueueDamagedError, match=r"record cannot be read .*persipubsub check"):
            attempt(misread)
    with pytest.raises(QueueDamagedError, match="record cannot be read"):
        store.writer.write_alone(lambda work, alone: misread(work))


def test_a_damaged_state_is_told_to_all_who_write(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.recent = None
    with monkeypatch.context() as patch:
        patch.setattr("persipubsub.engine.local.format.decode_state", lambda record: bytes(record)[9999])
        outcomes = engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]])
    assert [type(outcome) for outcome in outcomes] == [QueueDamagedError, QueueDamagedError]
    assert stored(engine) == []


def test_where_not_all_have_room_some_have(engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small message is stored although the disk has no room for the large one that came at the same time."""

    def reserve(store: Store, payload: int, makes_room: bool) -> None:
        if payload > 1000:
            raise StorageFullError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.space), "covers", lambda *_: False)
        patch.setattr(Store, "has_room", lambda *_: False)
        patch.setattr(Store, "reserve", reserve)
        outcomes = engine.put_each([[Entry(b"small", 5)], [Entry(bytes(5000), 5000)], [Entry(b"too", 3)]])
    assert outcomes[0] == [1]
    assert type(outcomes[1]) is StorageFullError
    assert outcomes[2] == [2]
    assert stored(engine) == [b"small", b"too"]


@pytest.mark.parametrize("kind", [StorageFullError, OSError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", [1, 2])
def test_what_is_committed_stands_whatever_fails_behind(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, kind: type[OSError], number: int
) -> None:
    sent = [b"%d" % each for each in range(number)]
    failing_once(monkeypatch, Writer, "_tell", kind(28, "no room to wake anybody"))
    assert engine.put_each([[Entry(data, 1)] for data in sent]) == [[each + 1] for each in range(number)]
    assert stored(engine) == sent


def test_only_who_is_alone_is_told_so_and_its_error_is_raised(engine: LocalEngine, store: Store) -> None:
    done: list[str] = []

    def refuse(work: Work, alone: bool) -> None:
        assert alone
        work.state.messages += 1
        raise MessageError("refused")

    with pytest.raises(MessageError, match="refused"):
        store.writer.write_alone(refuse, lambda: done.append("then"))
    assert done == []
    assert engine.statistics().messages == 0


# -- interrupts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupt_around_the_commit(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """What was taken, and never reached the caller, is given back; what was sent stands if it was committed."""
    send(engine, b"first")

    class Noted:
        """What follows the commit, interrupted once."""

        due = True

        def __get__(self, store: Store, kind: object) -> object:
            return store.__dict__["recent"]

        def __set__(self, store: Store, work: Work | None) -> None:
            store.__dict__["recent"] = work
            if work is not None and self.due:
                self.due = False
                raise KeyboardInterrupt

    def interrupt_next() -> None:
        if after:
            monkeypatch.setattr(Store, "recent", Noted(), raising=False)
        else:
            failing_once(monkeypatch, Work, "finish", KeyboardInterrupt())

    interrupt_next()
    with pytest.raises(KeyboardInterrupt):
        engine.take("sub", 1, None)
    (figures,) = engine.statistics().subscribers
    assert (figures.leased, figures.waiting, figures.settled) == (0, 1, 0)
    interrupt_next()
    with pytest.raises(KeyboardInterrupt):
        send(engine, b"second")
    assert stored(engine) == ([b"first", b"second"] if after else [b"first"])


def test_an_interrupt_of_a_batch_lets_go_of_all(
    engine: LocalEngine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_carry", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]])
    assert not writer._jobs
    assert engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]]) == [[1], [2]]


def test_an_interrupt_of_who_leads_is_not_the_others_affair(
    engine: LocalEngine, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(send(engine, b"of the thread")))
    carry = Writer._carry

    def wait_and_be_interrupted(writer: Writer, jobs: list[Job[Any]]) -> None:
        monkeypatch.setattr(Writer, "_carry", carry)
        thread.start()
        wait_until(lambda: writer._jobs, "the other waits")
        jobs.append(writer._jobs.popleft())
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "_carry", wait_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        send(engine, b"never")
    thread.join(BOUND)
    assert ids == [1]
    assert stored(engine) == [b"of the thread"]


def test_an_interrupt_while_another_thread_carries_the_take_undoes_it(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who waits is interrupted in the middle of the commit, so it gives back what the commit gave it."""
    send(engine, b"taken")
    entered, go_on = threading.Event(), threading.Event()
    finish = Work.finish

    def finish_late(work: Work) -> bool:
        monkeypatch.setattr(Work, "finish", finish)
        entered.set()
        go_on.wait(BOUND)
        return finish(work)

    def wait_and_be_interrupted(writer: Writer, job: Job[Any]) -> None:
        if threading.current_thread() is threading.main_thread():
            entered.wait(BOUND)
            go_on.set()
            raise KeyboardInterrupt
        return wait_for(writer, job)

    wait_for = Writer._wait_for
    monkeypatch.setattr(Work, "finish", finish_late)
    monkeypatch.setattr(Writer, "_wait_for", wait_and_be_interrupted)
    lead = Writer._lead
    begun = threading.Event()

    def lead_late(writer: Writer) -> None:
        begun.set()
        wait_until(lambda: len(writer._jobs) == 2, "the other waits")
        lead(writer)

    monkeypatch.setattr(Writer, "_lead", lead_late)
    thread = threading.Thread(target=send, args=(engine, b"of the thread"))
    thread.start()
    begun.wait(BOUND)
    monkeypatch.setattr(Writer, "_lead", lead)
    with pytest.raises(KeyboardInterrupt):
        engine.take("sub", 1, None)
    thread.join(BOUND)
    (figures,) = engine.statistics().subscribers
    assert (figures.leased, figures.waiting) == (0, 2)
    (delivery,) = engine.take("sub", 1, None)
    assert delivery.data == b"taken"
