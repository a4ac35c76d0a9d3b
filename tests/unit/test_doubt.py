"""What casts doubt on the files of a queue, and what does not; and that opening it copes with either."""

import errno
import os
import pathlib
import threading
import time
from typing import Any

import pytest

from persipubsub.engine.local import delete_local, doubt, files, locks, open_local, opening
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.locks import ByteLocks
from persipubsub.errors import (
    NotAQueueError,
    OpenError,
    QueueBusyError,
    QueueDamagedError,
    QueueNotFoundError,
    QueuePermissionError,
    StorageError,
)
from tests.process.support import BOUND, eventually
from tests.unit.engines import open_and_look
from tests.unit.failing import failing

# -- notes ----------------------------------------------------------------------------------------------------


def test_a_queue_that_was_open_in_a_power_cut_is_looked_at(
    path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path / files.BOOT).write_text("another boot of this machine")
    assert doubt.unsynced(path) == "it was open with durability 'process' when the machine stopped"
    open_and_look(path)
    (record,) = caplog.records
    assert "checked, for it was open with durability 'process' when the machine stopped: it is" in record.getMessage()
    assert not (path / files.BOOT).exists()
    assert doubt.unsynced(path) is None


def test_without_boot_ids_the_start_of_the_machine_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"wall": 1_700_000_000.0, "boot": 1_000.0}

    def unknown(path: pathlib.Path) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(pathlib.Path, "read_text", unknown)
    monkeypatch.setattr(time, "time", lambda: clocks["wall"])
    monkeypatch.setattr(time, "clock_gettime", lambda _: clocks["boot"])
    first = doubt._boot_id()
    clocks = {"wall": 1_700_050_000.0, "boot": 51_000.0}  # later
    assert doubt._boot_id() == first
    clocks = {"wall": 1_700_050_100.0, "boot": 5.0}  # started anew
    assert doubt._boot_id() != first


def test_a_seal_that_cannot_be_read_is_no_seal(path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    (path / files.SEAL).write_text("no numbers at all")
    open_and_look(path)
    assert "changed or copied while nobody had it open" in caplog.text


def test_a_seal_that_cannot_be_written_costs_a_look(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(monkeypatch, "write_small", errno.ENOSPC, of=files):
        doubt.seal(path)
        (path / files.SEAL).unlink()
        doubt.seal(path)
    open_and_look(path)
    assert "is sound" in caplog.text


def test_a_note_that_cannot_be_taken_away_costs_a_look(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_local(path)
    with failing(monkeypatch, "unlink", errno.EROFS, of=pathlib.Path):
        engine.close()
    assert (path / files.BOOT).exists()
    open_and_look(path)


def test_a_failure_that_the_disk_does_not_even_note_is_known_here(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(monkeypatch, "write_durably", errno.EIO, of=files):
        doubt.note_failure(path, "mdb_txn_commit: Input/output error")
    assert not (path / files.BOOT).exists()
    open_and_look(path)
    assert "was checked, for mdb_txn_commit: Input/output error: it is sound" in caplog.text
    caplog.clear()
    doubt.forget(path)
    open_and_look(path)
    assert caplog.text == ""


@pytest.mark.parametrize("name", [files.BOOT, files.SEAL])
def test_what_is_no_file_is_no_note(path: pathlib.Path, name: str) -> None:
    """A FIFO that nobody writes to would hang whoever reads it."""
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    writer = os.open(path / name, os.O_RDWR)
    with pytest.raises(NotAQueueError, match=rf"{name} is no file.*remove it"):
        open_local(path)
    assert doubt.unsynced(path) is None  # a salvage goes on, whatever that is
    os.close(writer)
    (path / name).unlink()
    open_and_look(path)


def test_a_damaged_queue_in_doubt_is_not_opened(path: pathlib.Path) -> None:
    (path / files.SEAL).unlink()
    _, end, _ = files.extent(path / files.DATA)
    with open(path / files.DATA, "r+b") as stream:
        stream.seek(2 * 4096)
        whole = stream.read(end - 2 * 4096)
        stream.seek(2 * 4096)
        stream.write(bytes(len(whole)))
        stream.flush()
        with pytest.raises(QueueDamagedError, match=r"is damaged; its data file was changed or copied.*check --repair"):
            open_local(path)
        stream.seek(2 * 4096)
        stream.write(whole)
    open_and_look(path)


def test_records_that_contradict_each_other_are_no_queue(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_local(path)

    def miscount(work: Any) -> None:
        work.state.messages += 1

    engine._store.write(miscount)
    engine.close()
    (path / files.SEAL).unlink()
    with pytest.raises(QueueDamagedError, match=r"is damaged; its data file was changed.*findings"):
        open_local(path)
    assert opening._stores == {}


def test_a_disk_that_fails_again(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / files.SEAL).unlink()
    with (
        failing(monkeypatch, "fsync", errno.EIO),
        pytest.raises(StorageError, match=r"the disk fails .*replace it, or restore a backup"),
    ):
        open_local(path)
    open_and_look(path)


# -- opening and closing --------------------------------------------------------------------------------------


def test_too_many_open_files_are_told(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        failing(monkeypatch, "inspect", errno.EMFILE, of=files),
        pytest.raises(OpenError, match="cannot be opened: Too many open files; close some, or raise the limit"),
    ):
        open_local(path)
    open_and_look(path)


def test_a_queue_that_somebody_keeps_for_himself(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits as long as a change of the durability or a compaction takes, and says then who it is."""
    shared = ByteLocks.try_shared
    tries: list[int] = []

    def kept(byte_locks: ByteLocks, offset: int) -> bool:
        if offset == locks.USERS:
            tries.append(offset)
            return len(tries) > 3 and shared(byte_locks, offset)
        return shared(byte_locks, offset)

    monkeypatch.setattr(ByteLocks, "try_shared", kept)
    open_and_look(path)
    assert len(tries) == 4
    tries.clear()
    monkeypatch.setattr(opening, "_OPENING_TIMEOUT", 0.0)
    with pytest.raises(QueueBusyError, match=r"another process keeps it for itself .*compacts the file.*try again"):
        open_local(path)
    assert opening._stores == {}


def test_a_queue_is_not_closed_under_a_view(path: pathlib.Path) -> None:
    engine = open_local(path)
    engine._store.lock_timeout = 0.01
    (delivery,) = engine.take("sub", 1, None)
    with engine.view("sub", delivery) as data:
        with pytest.raises(QueueBusyError, match="cannot be closed inside a receive_view block"):
            opening._release(files.identity(path), engine._store)
        assert bytes(data) == b"stored"
        # It is as open as before, and nobody may change its files.
        assert opening._stores[files.identity(path)] is engine._store
        assert engine._store.users == 1
    engine.settle("sub", [delivery.receipt])
    engine.close()
    assert opening._stores == {}


def test_a_queue_that_cannot_be_deleted(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        for force in (False, True):
            with pytest.raises(QueuePermissionError, match=r"cannot be deleted: .*Permission denied"):
                delete_local(path, force=force)
    open_and_look(path)
    assert delete_local(path, force=False)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_queue_that_is_open_here_is_deleted_by_force_only(path: pathlib.Path, engine: LocalEngine) -> None:
    with pytest.raises(QueueBusyError, match=f"process {os.getpid()} has it open. Close it there, or force"):
        delete_local(path, force=False)
    assert [message.data for message in engine.browse(1, 10)] == [b"stored"]
    # Its locks are still those of a user: another process would see them.
    assert engine._store.locks.try_shared(locks.USERS)


def test_nobody_opens_a_queue_that_is_being_deleted(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on the file keeps other processes away, but not the threads of this one."""
    destroy = opening._destroy
    ended: list[object] = []

    def open_it() -> None:
        try:
            ended.append(open_local(path))
        except QueueNotFoundError as error:
            ended.append(error)

    thread = threading.Thread(target=open_it)

    def destroy_late(path: pathlib.Path) -> None:
        thread.start()
        assert not eventually(lambda: opening._stores, 0.2)
        destroy(path)

    monkeypatch.setattr(opening, "_destroy", destroy_late)
    assert delete_local(path, force=False)
    thread.join(BOUND)
    (error,) = ended
    assert isinstance(error, QueueNotFoundError)
    assert opening._stores == {}
