"""What is no good queue is refused before LMDB sees it; what could not be made durable is not left behind."""

import errno
import os
import pathlib
import re
import shutil
import stat
from collections.abc import Callable, Iterator

import pytest

from persipubsub import Durability
from persipubsub.engine.local import create_local, files, open_local, restore_local, verify_local
from persipubsub.errors import (
    NotAQueueError,
    OpenError,
    PersipubsubError,
    QueueDamagedError,
    QueueNotFoundError,
    QueuePermissionError,
)
from persipubsub.limits import Settings, SubscriberSettings
from tests.unit.failing import failing


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("pattern") / "queue"
    create_local(path, Settings(map_size=1 << 20), {"a": SubscriberSettings()})
    return path


@pytest.fixture
def queue(pattern: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a queue; nothing is left open by what is done with it."""
    before = os.listdir("/dev/fd")
    yield pathlib.Path(shutil.copytree(pattern, tmp_path / "queue"))
    assert os.listdir("/dev/fd") == before


def put(name: str, make: Callable[[pathlib.Path], object]) -> Callable[[pathlib.Path], None]:
    """Return what puts something in the place of a file of a queue."""

    def exchange(queue: pathlib.Path) -> None:
        path = queue / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        make(path)

    return exchange


def overwrite(at: int, data: bytes) -> Callable[[pathlib.Path], None]:
    def write(queue: pathlib.Path) -> None:
        with open(queue / "data.mdb", "r+b") as stream:
            stream.seek(at)
            stream.write(data)

    return write


def link(path: pathlib.Path) -> None:
    (path.parent.parent / "victim").touch()
    path.symlink_to(path.parent.parent / "victim")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (put("lock.mdb", link), NotAQueueError, "lock.mdb is a symbolic link.*remove it"),
        (put("locks", link), NotAQueueError, "locks is a symbolic link.*remove it"),
        (put("lock.mdb", pathlib.Path.mkdir), NotAQueueError, "lock.mdb is no file.*remove it"),
        (put("lock.mdb", os.mkfifo), NotAQueueError, "lock.mdb is no file.*remove it"),
        (put("bells", pathlib.Path.touch), NotAQueueError, "bells is no folder.*remove it"),
        (put("bells", link), NotAQueueError, "bells is a symbolic link.*remove it"),
        (put("posts", pathlib.Path.mkdir), NotAQueueError, "posts is missing.*left untouched"),
        (lambda queue: os.link(queue / "data.mdb", queue.parent / "other"), NotAQueueError, "hard link.*Make a copy"),
        (lambda queue: os.truncate(queue / "board", 100), QueueDamagedError, "board is truncated; restore"),
        (lambda queue: os.truncate(queue / "posts", 100), QueueDamagedError, "posts is truncated; restore"),
        (lambda queue: os.truncate(queue / "data.mdb", 0), QueueDamagedError, r"\(0 bytes\); restore"),
        (lambda queue: os.truncate(queue / "data.mdb", 100), QueueDamagedError, "does not start like an LMDB file"),
        (lambda queue: os.truncate(queue / "data.mdb", 4096), QueueDamagedError, "second page .* missing; restore"),
        (
            lambda queue: os.truncate(queue / "data.mdb", 3 * 4096),
            QueueDamagedError,
            "beyond EOF or truncated.*--repair",
        ),
        (overwrite(16, b"\0"), QueueDamagedError, "does not start like an LMDB file"),
        (overwrite(20, b"\7"), QueueDamagedError, "does not start like an LMDB file"),
        (overwrite(40, b"\1\2\3\4"), QueueDamagedError, "does not start like an LMDB file"),
        (overwrite(4096, bytes(200)), QueueDamagedError, "second page .* overwritten"),
        (overwrite(2 * 4096, b"\xff" * 400_000), QueueDamagedError, "changed or copied.*persipubsub check --repair"),
    ],
)
def test_what_was_spoilt_is_refused(
    queue: pathlib.Path, spoil: Callable[[pathlib.Path], object], kind: type[PersipubsubError], said: str
) -> None:
    spoil(queue)
    with pytest.raises(kind, match=said) as caught:
        open_local(queue)
    assert str(queue) in str(caught.value)


def test_a_planted_folder_is_no_file_of_a_queue(queue: pathlib.Path) -> None:
    with pytest.raises(NotAQueueError, match="neither a file nor a FIFO"):
        files.open_own(queue / "bells", os.O_RDONLY)


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("missing", QueueNotFoundError, "deploy it first, with new_control"),
        ("file", NotAQueueError, "is a file, a queue is a folder"),
        ("file/queue", NotAQueueError, "A part of the path .* is a file"),
        ("folder", QueueNotFoundError, "is empty: deploy a queue first"),
        ("x" * 300, OpenError, "cannot be a queue: .*File name too long"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: pathlib.Path, path: str, kind: type[PersipubsubError], said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match=said):
        open_local(tmp_path / path)


# -- rights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "data.mdb", "lock.mdb", "locks", "board", "posts"])
def test_a_right_that_is_missing_is_named(queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = os.access
    path = queue / name if name else queue

    def access(asked: pathlib.Path, mode: int, *, effective_ids: bool) -> bool:
        return asked != path and real(asked, mode, effective_ids=effective_ids)

    open_local(queue).close()
    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "supports_effective_ids", {access})
    with pytest.raises(QueuePermissionError, match=f"{re.escape(str(path))} cannot be used.*needs to read"):
        open_local(queue)


@pytest.mark.parametrize("name", ["data.mdb", "locks"])
def test_a_backup_that_may_not_be_read_is_not_restored(
    queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode, **_: path.name != name)
    for act in (verify_local, lambda path: restore_local(path, path.parent / "restored", keep_identity=False)):
        with pytest.raises(QueuePermissionError, match=rf"{name} cannot be read by this process \(uid"):
            act(queue)
    assert not (queue.parent / "restored").exists()


def test_a_folder_that_cannot_be_reached(queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        failing(monkeypatch, "stat", errno.EACCES, lambda path, *_: path == queue),
        pytest.raises(QueuePermissionError, match="cannot be reached: Permission denied"),
    ):
        open_local(queue)


# -- pages -------------------------------------------------------------------------------------------


def test_pages_are_verified_without_opening(queue: pathlib.Path) -> None:
    assert verify_local(queue) == []
    overwrite(2 * 4096, b"\xff" * 400_000)(queue)
    assert len(verify_local(queue)) > 1
    for page in (0, 4096):
        overwrite(page, bytes(200))(queue)
    (finding,) = verify_local(queue)
    assert "not an LMDB data file" in finding


# -- durably -----------------------------------------------------------------------------------------


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_folders_that_could_not_be_synced_are_not_left(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "deeper" / "queue"
    with failing(monkeypatch, "fsync", errno.EIO, is_folder), pytest.raises(OpenError, match="Input/output error"):
        create_local(path, Settings(), {})
    assert os.listdir(tmp_path) == []
    assert create_local(path, Settings(), {})
    open_local(path).close()


def test_a_queue_whose_name_could_not_be_synced_is_not_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever found it would believe that it outlives a power cut."""
    folder = tmp_path.stat().st_ino
    with (
        failing(monkeypatch, "fsync", errno.EIO, lambda descriptor: os.fstat(descriptor).st_ino == folder),
        pytest.raises(OpenError, match="Input/output error"),
    ):
        create_local(tmp_path / "queue", Settings(), {})
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.queue\.[0-9a-f]{16}\.failed", left.name)
    assert create_local(tmp_path / "queue", Settings(), {})


def test_a_note_that_could_not_be_synced_is_not_left(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {})
    with failing(monkeypatch, "fsync", errno.EIO, is_folder), pytest.raises(OpenError, match="Input/output error"):
        open_local(path)
    assert not (path / files.BOOT).exists()
    engine = open_local(path)
    assert (path / files.BOOT).exists()
    engine.close()
