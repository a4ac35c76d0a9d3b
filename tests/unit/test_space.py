"""Disk space that is reserved ahead, also where the system has no call for it."""

import os
import pathlib

import pytest

from persipubsub import Durability, Environment, StorageFullError


@pytest.mark.parametrize("durability", list(Durability))
def test_without_posix_fallocate(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=durability, map_size=1 << 20)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        kept = [bytes((number,)) * 300_000 for number in range(30)]
        for data in kept:
            publisher.send(data)
            publisher.send(b"in between")
        reserved = os.stat(tmp_path / "queue" / "data.mdb").st_blocks * 512
        assert reserved > sum(map(len, kept))
        for data in kept:
            assert subscriber.get(timeout=0).data == data  # type: ignore[union-attr]
            assert subscriber.get(timeout=0).data == b"in between"  # type: ignore[union-attr]
        assert control.check() == []


def test_full_without_posix_fallocate(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        publisher.send(b"before")
        monkeypatch.setattr(os, "pwrite", full)
        mebibyte = bytes(1 << 20)
        with pytest.raises(StorageFullError):  # noqa: PT012 - what was reserved before is used up first
            for _ in range(100):
                publisher.send(mebibyte)
        with subscriber.receive(timeout=0) as data:
            assert data == b"before"
