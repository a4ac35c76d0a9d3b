"""An open queue whose disk, files or forks make trouble: the error says what to do, and nothing is lost."""

import errno
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import lmdb
import msgspec
import pytest

from persipubsub import Durability, Environment
from persipubsub.engine.clock import Clock
from persipubsub.engine.local import create_local, format, open_local, opening, store
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.store import Store
from persipubsub.engine.messages import Entry
from persipubsub.errors import (
    ClosedError,
    FormatVersionError,
    NotAQueueError,
    PersipubsubError,
    QueueBusyError,
    QueueDamagedError,
    StorageError,
    StorageFailedError,
    StorageFullError,
)
from persipubsub.limits import DEFAULT_LOCK_TIMEOUT, Settings, SubscriberSettings
from tests.faults.shim import Call, Refusal, Shim
from tests.process.support import BOUND
from tests.unit.failing import Failing, with_code


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "queue"
    create_local(folder, Settings(map_size=1 << 22), {"a": SubscriberSettings()})
    return folder


@pytest.fixture
def engine(path: pathlib.Path) -> Iterator[LocalEngine]:
    engine = open_local(path)
    put(engine, b"1")
    yield engine
    engine.close()


def put(engine: LocalEngine, data: bytes) -> int:
    return engine.put([Entry(data, len(data))])[0]


def there(path: pathlib.Path) -> list[bytes]:
    """Return what a sound queue has."""
    engine = open_local(path)
    assert engine.check() == []
    found = [bytes(message.data) for message in engine.browse(0, 100)]
    engine.close()
    return found


# -- what it is --------------------------------------------------------------------------------------


def rewrite(path: pathlib.Path, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(path), max_dbs=20) as env, env.begin(write=True) as txn:
        queue = env.open_db(format.QUEUE_DB, txn, create=False)
        if value is None:
            assert txn.delete(key, db=queue)
        else:
            txn.put(key, value, db=queue)


@pytest.mark.parametrize(
    ("mark", "kind", "said"),
    [
        (["persipubsub", 99], FormatVersionError, "has format 99.*upgrade persipubsub; the queue was left untouched"),
        (["other", 1], NotAQueueError, "not a queue of persipubsub; left untouched"),
        ("nonsense", NotAQueueError, "not a queue of persipubsub; left untouched"),
        (None, NotAQueueError, "not a queue of persipubsub; left untouched"),
    ],
)
def test_what_is_no_queue_of_ours_is_refused(
    path: pathlib.Path, mark: object, kind: type[PersipubsubError], said: str
) -> None:
    rewrite(path, format.KEY_FORMAT, None if mark is None else msgspec.msgpack.encode(mark))
    before = os.listdir("/dev/fd")
    with pytest.raises(kind, match=said):
        open_local(path)
    assert os.listdir("/dev/fd") == before
    rewrite(path, format.KEY_FORMAT, msgspec.msgpack.encode([format.MAGIC, format.FORMAT_VERSION]))
    assert there(path) == []


def test_another_environment_with_the_files_of_a_queue_is_refused(path: pathlib.Path) -> None:
    (path / "data.mdb").unlink()
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(NotAQueueError, match="not a queue of persipubsub; left untouched"):
        open_local(path)
    with lmdb.open(str(path)) as env, env.begin() as txn:
        assert list(txn.cursor()) == [(b"key", b"value")]


def test_a_setting_that_an_older_deployment_lacks_has_its_default(path: pathlib.Path) -> None:
    rewrite(path, format.SETTING_PREFIX + b"lock_timeout", None)
    engine = open_local(path)
    assert engine.settings().lock_timeout == DEFAULT_LOCK_TIMEOUT == engine._store.lock_timeout
    engine.close()


def test_a_damaged_environment_is_named(engine: LocalEngine) -> None:
    opened = engine._store
    opened.env = Failing(opened.env, "open_db", lmdb.CorruptedError("page"))  # type: ignore[assignment]
    with pytest.raises(QueueDamagedError, match="run `persipubsub check` and restore a backup"):
        opened.identify()


# -- a store that could not be opened, or is closed --------------------------------------------------


def test_who_is_not_let_in_opens_nothing(path: pathlib.Path) -> None:
    def refuse(_: Store) -> None:
        raise QueueBusyError("somebody keeps it for himself")

    before = os.listdir("/dev/fd")
    with pytest.raises(QueueBusyError):
        Store(path, Durability.FULL, None, Clock(), refuse)
    assert os.listdir("/dev/fd") == before
    assert there(path) == []


def test_what_lmdb_cannot_create_is_not_there(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "lmdb", Failing(lmdb, "open", with_code(lmdb.MemoryError("mmap"), errno.ENOMEM)))
        with pytest.raises(StorageError, match="no memory or address space left"):
            create_local(tmp_path / "queue", Settings(), {})
    assert os.listdir(tmp_path) == []
    assert create_local(tmp_path / "queue", Settings(), {})


def test_a_queue_is_not_closed_within_a_view_but_after_it(path: pathlib.Path) -> None:
    env = Environment(path)
    publisher = env.new_publisher()
    publisher.send(b"1")
    block = env.new_subscriber("a").receive_view(timeout=0)
    data = block.__enter__()
    for _ in range(2):
        with pytest.raises(
            QueueBusyError, match=r"cannot be closed inside a receive_view block.*leave the block first"
        ):
            env.close()
        assert bytes(data or b"") == b"1"
    with pytest.raises(ClosedError):
        publisher.send(b"2")
    with pytest.raises(ClosedError):
        block.__exit__(None, None, None)
    assert opening._stores
    env.close()
    env.close()
    assert not opening._stores
    engine = open_local(path)
    (again,) = engine.take("a", 1, None)
    assert (again.data, again.delivery_count) == (b"1", 2)
    engine.close()


def test_a_store_that_was_closed_is_used_no_more(engine: LocalEngine) -> None:
    other = open_local(engine._store.path)
    other.close()
    engine.close()
    for act in (lambda: put(engine, b"2"), lambda: engine.browse(0, 9)):
        with pytest.raises(ClosedError, match="was closed by this process"):
            act()
    engine._store.close()
    assert there(engine._store.path) == [b"1"]


# -- a disk that fails -------------------------------------------------------------------------------


def used_no_more(engine: LocalEngine) -> None:
    for act in (lambda: put(engine, b"never"), lambda: engine.browse(0, 9), engine.statistics):
        with pytest.raises(StorageFailedError, match="Look after the disk, then close the queue and open it again"):
            act()


def test_a_durability_that_cannot_be_synced(engine: LocalEngine) -> None:
    opened = engine._store
    opened.env = Failing(opened.env, "sync", with_code(lmdb.Error("sync"), errno.EIO))  # type: ignore[assignment]
    with pytest.raises(StorageFailedError, match="disk failed"):
        engine.configure(engine.settings().changed(durability=Durability.COMMIT))
    used_no_more(engine)
    assert (opened.path / "boot").read_text().startswith("failed: ")
    engine.close()
    assert there(opened.path) == [b"1"]


@pytest.mark.parametrize(
    ("error", "backed", "kind"),
    [
        (with_code(lmdb.Error("pwrite"), errno.EIO), True, StorageFailedError),
        (with_code(lmdb.Error("pwrite"), errno.EIO), False, StorageFullError),
        (with_code(lmdb.Error("pwrite"), errno.ENOSPC), True, StorageFullError),
        (lmdb.PanicError("given up"), True, StorageFailedError),
    ],
)
def test_a_write_that_failed(
    engine: LocalEngine, error: lmdb.Error, backed: bool, kind: type[PersipubsubError]
) -> None:
    """Where the disk had no room to reserve, LMDB calls a write of which it took only a part an error of the disk."""
    opened = engine._store
    opened.space.is_backed = backed
    opened.env = Failing(opened.env, "begin", error)  # type: ignore[assignment]
    with pytest.raises(kind):
        put(engine, b"2")
    if kind is StorageFailedError:
        used_no_more(engine)
        assert str(error) in str(opened.fail(lmdb.Error("another one"))), "what came first is told"
    else:
        assert put(engine, b"2") == 2


class MetaPages:
    """Lets the next writes of LMDB to its meta pages fail for lack of room: then it gives up the environment."""

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, call: Call) -> Refusal | None:
        if not self.left or not call.from_lmdb or call.name not in ("write", "pwrite") or call.offset >= 8192:
            return None
        self.left -= 1
        return Refusal(errno.ENOSPC)


def test_an_environment_that_lmdb_has_given_up_is_opened_anew(engine: LocalEngine) -> None:
    pages = MetaPages()
    with Shim(pages).installed():
        for number in (2, 3):
            pages.left = 1
            with pytest.raises(StorageFullError, match="nothing was stored: make room and try again"):
                put(engine, b"never")
            assert not pages.left
            assert put(engine, b"%d" % number) == number
        (taken,) = engine.take("a", 1, None)
        with engine.view("a", taken) as data:
            pages.left = 1
            with pytest.raises(StorageFailedError, match="close the queue and open it again"):
                put(engine, b"never")
            assert bytes(data) == b"1"
        used_no_more(engine)
    engine.close()
    assert there(engine._store.path) == [b"1", b"2", b"3"]


# -- forks -------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FORK_PATIENCE", 0.05)
    monkeypatch.setattr(opening, "FORK_PATIENCE", 0.05)


def fork() -> int:
    """Fork a child that ends at once; return its exit status."""
    pid = os.fork()
    if not pid:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.usefixtures("impatient")
def test_a_fork_takes_nothing_away_from_who_writes_or_reads_on(engine: LocalEngine) -> None:
    opened = engine._store
    busy, go_on = threading.Event(), threading.Event()

    def write_and_read() -> None:
        with opened.writer.turn, opened.gate:
            busy.set()
            go_on.wait(BOUND)

    thread = threading.Thread(target=write_and_read)
    thread.start()
    assert busy.wait(BOUND)
    assert fork() == 7
    assert opened.writer.turn.lock.locked()
    with opened.gate.alone(0) as granted:
        assert not granted
    go_on.set()
    thread.join()
    assert put(engine, b"2") == 2
    with opened.gate.alone(0) as granted:
        assert granted


@pytest.mark.usefixtures("impatient")
def test_a_signal_handler_may_fork_in_the_middle_of_a_call(engine: LocalEngine) -> None:
    """The turn to write stays with the call that it interrupts, also if there was a fork before."""
    assert fork() == 7
    forked: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: forked.append(fork()))
    try:

        def interrupted(work: Any) -> None:
            signal.raise_signal(signal.SIGUSR1)
            assert engine._store.writer.turn.lock.locked()

        engine._store.write(interrupted)
        with opening._guard:  # as while it opens another queue
            signal.raise_signal(signal.SIGUSR1)
            assert opening._guard.locked()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert forked == [7, 7]
    assert put(engine, b"2") == 2
    assert not opening._guard.locked()
