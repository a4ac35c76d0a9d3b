"""Byte locks, the owners that they keep alive, and how their kernel calls look on each system."""

import ctypes
import errno
import fcntl
import importlib.util
import os
import pathlib
import secrets
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from persipubsub.engine.local import create_local, locks, open_local, owners
from persipubsub.engine.local.format import OwnerRecord
from persipubsub.engine.local.locks import ByteLocks
from persipubsub.engine.local.owners import Owners
from persipubsub.errors import OpenError
from persipubsub.limits import Settings
from tests.unit.failing import failing


class _Linux(ctypes.Structure):
    _fields_ = (
        ("l_type", ctypes.c_short),
        ("l_whence", ctypes.c_short),
        ("l_start", ctypes.c_int64),
        ("l_len", ctypes.c_int64),
        ("l_pid", ctypes.c_int32),
    )


class _Darwin(ctypes.Structure):
    _fields_ = (
        ("l_start", ctypes.c_int64),
        ("l_len", ctypes.c_int64),
        ("l_pid", ctypes.c_int32),
        ("l_type", ctypes.c_short),
        ("l_whence", ctypes.c_short),
    )


@pytest.mark.parametrize(("platform", "structure"), [("linux", _Linux), ("darwin", _Darwin)])
def test_the_question_who_has_a_lock_is_packed_as_the_system_has_it(
    monkeypatch: pytest.MonkeyPatch, platform: str, structure: type[Any]
) -> None:
    spec = importlib.util.spec_from_file_location("locks_elsewhere", locks.__file__)
    assert spec is not None
    assert spec.loader is not None
    there = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "platform", platform)
    spec.loader.exec_module(there)
    packed = there._query(locks.OWNERS + 7)
    assert len(packed) == ctypes.sizeof(structure)
    asked = structure.from_buffer_copy(packed)
    assert (asked.l_start, asked.l_len, asked.l_pid) == (locks.OWNERS + 7, 1, 0)
    assert (asked.l_type, asked.l_whence) == (fcntl.F_WRLCK, os.SEEK_SET)
    asked.l_type, asked.l_pid = fcntl.F_UNLCK, 12345
    assert there._answer(bytes(asked)) == (fcntl.F_UNLCK, 12345)


@pytest.fixture
def byte_locks(tmp_path: pathlib.Path) -> Iterator[ByteLocks]:
    byte_locks = ByteLocks(os.open(tmp_path / "locks", os.O_RDWR | os.O_CREAT))
    yield byte_locks
    byte_locks.close()


def test_who_has_let_go_meanwhile_is_called_another_process(byte_locks: ByteLocks) -> None:
    assert byte_locks.holder(5) is None
    assert byte_locks.name_holder(5) == "another process"


def test_locks_that_are_closed_twice_close_nothing_else(byte_locks: ByteLocks) -> None:
    byte_locks.close()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    byte_locks.close()
    os.close(descriptor)


def test_a_filesystem_without_locks_is_named(queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_local(queue_path, Settings(), {})
    before = os.listdir("/dev/fd")
    with (
        failing(monkeypatch, "lockf", errno.ENOLCK, of=fcntl),
        pytest.raises(OpenError, match=r"cannot be opened: .*No locks available"),
    ):
        open_local(queue_path)
    assert os.listdir("/dev/fd") == before
    open_local(queue_path).close()


# -- owners ------------------------------------------------------------------------------------------


def test_no_two_owners_have_one_number(byte_locks: ByteLocks, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([4, 4, 4, 8, 4])
    monkeypatch.setattr(secrets, "randbelow", lambda below: next(numbers))
    mine = Owners(byte_locks)
    assert [mine.new(), mine.new()] == [5, 9]
    mine.end(5)
    mine.end(5)
    assert [mine.is_alive(5), mine.is_alive(9), mine.is_mine(9)] == [False, True, True]
    assert mine.new() == 5


def test_a_process_is_watched_until_its_end() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        record = OwnerRecord(child.pid, owners.pid_namespace(), 0, "cat")
        descriptor = owners.watch(record)
        assert descriptor is not None
        assert not select.select([descriptor], [], [], 0)[0]
        assert child.stdin is not None
        child.stdin.close()
        assert select.select([descriptor], [], [], 100)[0]
        os.close(descriptor)
    assert owners.watch(record) is None, "it is dead already"


def test_where_there_are_no_namespaces_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pid could be that of another process; then one looks now and then."""
    with failing(monkeypatch, "stat", errno.ENOENT, lambda path, *_: str(path).startswith("/proc")):
        record = owners.this_process(0)
        assert (record.pid, record.pid_namespace) == (os.getpid(), 0)
        assert not owners.is_elsewhere(record)
        assert owners.watch(record) is None
    assert owners.is_elsewhere(record)
    assert owners.watch(record) is None
