"""Copies and other durabilities, and what may be in the way of them."""

import errno
import os
import pathlib
from collections.abc import Iterator

import lmdb
import pytest

from persipubsub import Durability
from persipubsub.engine.local import copying, create_local, open_local, restore_local, salvage_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.messages import Entry
from persipubsub.errors import PersipubsubError, QueueBusyError, SettingsMismatchError, StorageError, StorageFullError
from persipubsub.limits import Settings, SubscriberSettings
from tests.unit.failing import Failing, failing, with_code


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    """Give a queue with one message, which stays sound."""
    create_local(tmp_path / "queue", Settings(), {"a": SubscriberSettings()})
    engine = open_local(tmp_path / "queue")
    engine.put([Entry(b"1", 1)])
    yield engine
    assert engine.check() == []
    assert [message.data for message in engine.browse(0, 9)] == [b"1"]
    engine.close()


# -- backup ------------------------------------------------------------------------------------------


def test_a_map_that_grows_during_a_backup_is_followed(engine: LocalEngine, tmp_path: pathlib.Path) -> None:
    store = engine._store
    store.env = failed = Failing(store.env, "copyfd", lmdb.MapResizedError("grown"), 3)  # type: ignore[assignment]
    assert engine.backup(tmp_path / "backup") == (tmp_path / "backup" / "data.mdb").stat().st_size
    assert failed.left == 0
    backup = open_local(tmp_path / "backup")
    assert [message.data for message in backup.browse(0, 9)] == [b"1"]
    backup.close()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (lmdb.MapResizedError("grown"), QueueBusyError, "keeps growing the map.*try again"),
        (with_code(lmdb.Error("copy"), errno.ENOSPC), StorageFullError, "disk is full"),
        (with_code(lmdb.Error("copy"), errno.EIO), StorageError, "the storage failed"),
    ],
)
def test_nothing_is_left_of_a_backup_that_fails(
    engine: LocalEngine, tmp_path: pathlib.Path, error: lmdb.Error, kind: type[PersipubsubError], said: str
) -> None:
    store = engine._store
    store.env = Failing(store.env, "copyfd", error, 1000)  # type: ignore[assignment]
    with pytest.raises(kind, match=said):
        engine.backup(tmp_path / "backup")
    assert os.listdir(tmp_path) == ["queue"]


# -- restore -----------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_restored_queue_that_fails(
    engine: LocalEngine, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.backup(tmp_path / "backup")
    with monkeypatch.context() as patch:
        patch.setattr(copying, "lmdb", Failing(lmdb, "open", with_code(lmdb.MemoryError("mmap"), errno.ENOMEM)))
        with pytest.raises(StorageError, match="no memory or address space left"):
            restore_local(tmp_path / "backup", tmp_path / "restored", keep_identity=True)
    assert sorted(os.listdir(tmp_path)) == ["backup", "queue"]
    assert restore_local(tmp_path / "backup", tmp_path / "restored", keep_identity=True)


def test_a_damaged_queue_without_locks_is_saved(engine: LocalEngine, tmp_path: pathlib.Path) -> None:
    engine.backup(tmp_path / "backup")
    (tmp_path / "backup" / "locks").unlink()
    assert salvage_local(tmp_path / "backup", tmp_path / "saved").messages == 1


# -- compact -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, StorageFullError, "was not compacted, and not changed: the disk is full"),
        (errno.EACCES, StorageError, "was not compacted, and not changed: Permission denied"),
    ],
)
def test_a_compaction_that_cannot_write_changes_nothing(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PersipubsubError], said: str
) -> None:
    before = sorted(os.listdir(engine._store.path))
    with failing(monkeypatch, "mkdir", number), pytest.raises(kind, match=said):
        engine.compact()
    assert sorted(os.listdir(engine._store.path)) == before
    assert engine.compact().after > 0


def test_a_compaction_within_a_view_changes_nothing(engine: LocalEngine) -> None:
    (taken,) = engine.take("a", 1, None)
    with engine.view("a", taken) as data:
        with pytest.raises(QueueBusyError, match="cannot be compacted inside a receive_view block"):
            engine.compact()
        assert bytes(data) == b"1"


# -- other settings ----------------------------------------------------------------------------------


def test_a_map_size_is_decided_at_creation(engine: LocalEngine) -> None:
    before = engine.settings()
    with pytest.raises(SettingsMismatchError, match=r"started with the default .*decided when the queue is created"):
        engine.configure(before.changed(map_size=1 << 20, lock_timeout=1.0))
    assert engine.settings() == before


def test_a_durability_does_not_change_within_a_view(engine: LocalEngine) -> None:
    before = engine.settings()
    (taken,) = engine.take("a", 1, None)
    with engine.view("a", taken) as data:
        with pytest.raises(QueueBusyError, match="cannot change inside a receive_view block; nothing was changed"):
            engine.configure(before.changed(durability=Durability.COMMIT))
        assert bytes(data) == b"1"
    assert engine.settings() == before
    engine.configure(before.changed(durability=Durability.COMMIT))
    assert engine.settings().durability is Durability.COMMIT
