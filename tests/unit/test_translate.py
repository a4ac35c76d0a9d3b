"""Every error of LMDB has a meaning of ours."""

import errno
import inspect

import lmdb
import pytest

from persipubsub import errors
from persipubsub.engine.local.translate import MEANINGS, translate

KINDS = sorted(
    {
        kind
        for _, kind in inspect.getmembers(lmdb, inspect.isclass)
        if issubclass(kind, lmdb.Error) and kind is not lmdb.Error
    },
    key=lambda kind: kind.__name__,
)


def test_there_are_errors_to_be_mapped() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_mapped(kind: type[lmdb.Error]) -> None:
    assert kind in MEANINGS, f"lmdb.{kind.__name__} would reach the user as an unexplained StorageError"


@pytest.mark.parametrize("kind", [*KINDS, lmdb.Error])
def test_a_translation_names_the_queue_and_the_cause(kind: type[lmdb.Error]) -> None:
    found = translate(kind("the very cause"), "/queues/frames")
    assert isinstance(found, errors.PersipubsubError)
    assert type(found).__module__ == "persipubsub.errors"
    assert "/queues/frames" in str(found)
    assert "the very cause" in str(found)
    assert str(found).endswith(".")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, errors.StorageFullError),
        (errno.EDQUOT, errors.StorageFullError),
        (errno.EFBIG, errors.StorageFullError),
        (errno.EACCES, errors.QueuePermissionError),
        (errno.EPERM, errors.QueuePermissionError),
        (errno.EROFS, errors.StorageError),
        (errno.ENOMEM, errors.StorageError),
        (errno.EIO, errors.StorageError),
        (0, errors.StorageError),
    ],
)
def test_errors_of_the_operating_system_are_told_apart(code: int, expected: type[Exception]) -> None:
    coded: type[lmdb.Error] = type("CodedError", (lmdb.Error,), {"code": code})
    assert type(translate(coded("mdb_txn_commit: failed"), "q")) is expected


def test_a_lack_of_memory_is_named() -> None:
    coded: type[lmdb.Error] = type("CodedError", (lmdb.Error,), {"code": errno.ENOMEM})
    assert "no memory or address space left (mdb_env_open)" in str(translate(coded("mdb_env_open"), "q"))


def test_a_real_error_is_translated(tmp_path: object) -> None:
    with pytest.raises(lmdb.Error) as caught:
        lmdb.open(f"{tmp_path}/nowhere/at/all", create=False)
    assert isinstance(translate(caught.value, tmp_path), errors.StorageError)
