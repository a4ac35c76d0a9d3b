"""Names that lead elsewhere are noticed although the folder's time of change may be coarse."""

import errno
import os
import pathlib
import time
import types

import pytest

from persipubsub import Environment, QueuePermissionError, QueueReplacedError
from persipubsub.engine.local import files, naming, store
from persipubsub.engine.local.naming import Names
from tests.unit.failing import failing


class Coarse:
    """What ``os.fstat`` tells on a filesystem whose times are whole seconds."""

    def __init__(self, descriptor: int) -> None:
        self.st_ctime_ns = os.fstat(descriptor).st_ctime_ns // 10**9 * 10**9
        self.st_mode = os.fstat(descriptor).st_mode


def names_in(folder: pathlib.Path) -> Names:
    for name in (files.DATA, files.LMDB_LOCK):
        (folder / name).touch()
    names = Names(folder)
    names.learn()
    return names


@pytest.mark.parametrize("coarse", [False, True])
def test_a_change_right_after_another_is_noticed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, coarse: bool
) -> None:
    if coarse:
        monkeypatch.setattr(naming, "os", types.SimpleNamespace(**{**vars(os), "fstat": Coarse}))
    names = names_in(tmp_path)
    names.look(time.monotonic())
    assert names.changed == -1, "a change that may have the same time would not be seen"
    (tmp_path / files.LMDB_LOCK).unlink()
    with pytest.raises(QueueReplacedError, match="deleted or exchanged"):
        names.look(time.monotonic())
    names.close()


def test_a_folder_that_rests_is_not_looked_into_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_in(tmp_path)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**10)
    names.look(time.monotonic())
    assert names.changed == os.fstat(names.folder).st_ctime_ns
    names.close()
    names.close()


def test_a_folder_that_may_not_be_searched_any_more(queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GLANCE", -1.0)  # one looks each time
    with Environment(queue_path) as env:
        env.new_control({"a"})
        publisher = env.new_publisher()
        publisher.send(b"1")
        with (
            failing(monkeypatch, "stat", errno.EACCES, lambda path, *_: path == queue_path / files.DATA),
            pytest.raises(QueuePermissionError, match=r"uid \d+.*mode 0700.*Nothing was changed; give the right back"),
        ):
            publisher.send(b"2")
        assert publisher.send(b"2") == 2
