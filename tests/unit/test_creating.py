"""A queue is put in place wholly or not at all, and what is in the way is named."""

import errno
import os
import pathlib
import time
from collections.abc import Callable

import pytest

from persipubsub.engine.local import create_local, creating, delete_local, open_local
from persipubsub.errors import NotAQueueError, OpenError, PersipubsubError, QueuePermissionError, StorageFullError
from persipubsub.limits import Settings, SubscriberSettings
from tests.unit.failing import failing

SUBSCRIBERS = {"a": SubscriberSettings()}


@pytest.mark.parametrize(
    ("call", "number", "kind", "said"),
    [
        ("mkdir", errno.EACCES, QueuePermissionError, "cannot be created: .*Permission denied"),
        ("mkdir", errno.EROFS, QueuePermissionError, "cannot be created: .*Read-only"),
        ("open", errno.EMFILE, OpenError, "cannot be created: Too many open files; close some, or raise the limit"),
        ("write", errno.ENOSPC, StorageFullError, "disk is full.* was not created; make room"),
        ("posix_fallocate", errno.ENOSPC, StorageFullError, "disk is full, no queue was created"),
        ("rename", errno.EIO, OpenError, "cannot be created: .*Input/output error"),
        ("rename", errno.EROFS, QueuePermissionError, "cannot be created: .*Read-only"),
    ],
)
def test_what_could_not_be_made_leaves_nothing(
    queue_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[PersipubsubError],
    said: str,
) -> None:
    def is_asked(*arguments: object) -> bool:
        return call != "open" or bool(int(str(arguments[1])) & os.O_CREAT)  # what is there can be removed

    before = os.listdir("/dev/fd")
    with failing(monkeypatch, call, number, is_asked), pytest.raises(kind, match=said):
        create_local(queue_path, Settings(), SUBSCRIBERS)
    assert os.listdir(queue_path.parent) == []
    assert os.listdir("/dev/fd") == before
    assert create_local(queue_path, Settings(), SUBSCRIBERS)
    engine = open_local(queue_path)
    assert list(engine.subscribers()) == ["a"]
    engine.close()


def test_of_two_who_create_at_once_one_is_faster(queue_path: pathlib.Path) -> None:
    def build(folder: pathlib.Path) -> None:
        assert create_local(queue_path, Settings(), {"other": SubscriberSettings()})
        (folder / "file").touch()

    assert not creating.place(queue_path, build)
    assert os.listdir(queue_path.parent) == [queue_path.name]
    engine = open_local(queue_path)
    assert list(engine.subscribers()) == ["other"]
    engine.close()


def test_what_comes_there_meanwhile_is_left_alone(queue_path: pathlib.Path) -> None:
    def build(folder: pathlib.Path) -> None:
        queue_path.mkdir()
        (queue_path / "thesis").touch()
        (folder / "file").touch()

    with pytest.raises(NotAQueueError, match="a folder with other things in it"):
        creating.place(queue_path, build)
    assert os.listdir(queue_path) == ["thesis"]
    assert os.listdir(queue_path.parent) == [queue_path.name]


@pytest.mark.parametrize(
    ("call", "said"),
    [("lstat", "cannot be reached: Permission denied"), ("listdir", "cannot be read: Permission denied")],
)
def test_what_may_not_be_looked_at_is_no_place_for_a_queue(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str, said: str
) -> None:
    queue_path.mkdir()

    def is_asked(path: object, *_: object) -> bool:
        return str(path) == str(queue_path)

    acts: list[Callable[[], bool]] = [
        lambda: create_local(queue_path, Settings(), {}),
        lambda: delete_local(queue_path, force=True),
    ]
    for act in acts:
        with (
            failing(monkeypatch, call, errno.EACCES, is_asked),
            # The way to list a folder that newer versions of Python go.
            failing(monkeypatch, "scandir" if call == "listdir" else call, errno.EACCES, is_asked),
            pytest.raises(QueuePermissionError, match=said),
        ):
            act()
    assert os.listdir(queue_path) == []


def test_only_what_a_killed_deployment_has_left_is_removed(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, long_ago = queue_path.parent, time.time() - 4000
    names = [f".queue.{number}.new" for number in range(5)]
    for name in names[:4]:
        (folder / name).mkdir()
        (folder / name / "data.mdb").touch()
    (folder / names[4]).touch()
    for name in (names[0], names[1], names[4]):
        os.utime(folder / name, (long_ago, long_ago))
    # The second is being removed by somebody else at this moment.
    with failing(monkeypatch, "lstat", errno.ENOENT, lambda path, *_: path.name == names[1]):
        assert create_local(queue_path, Settings(), {})
    assert sorted(os.listdir(folder)) == [*names[1:], "queue"]
    delete_local(queue_path, force=True)
    monkeypatch.setattr(os, "geteuid", lambda: 65_534)  # what is there is another user's
    assert create_local(queue_path, Settings(), {})
    assert sorted(os.listdir(folder)) == [*names[1:], "queue"]
