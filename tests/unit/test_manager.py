"""Many named queues under one directory."""

import pathlib
from typing import Any

import pytest

import persipubsub
from persipubsub import QueueManager


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> QueueManager:
    return QueueManager(tmp_path / "root")


def test_names(manager: QueueManager) -> None:
    assert manager.names() == []
    for name in ("b", "a", "ü x"):
        manager.create(name, subscriber_ids={"sub"}).close()
    (manager.root / "folder").mkdir()
    (manager.root / "file").touch()
    (manager.root / ".hidden").mkdir()
    assert manager.names() == ["a", "b", "ü x"]
    assert manager.exists("a")
    assert not manager.exists("folder")


def test_creating_and_opening(manager: QueueManager) -> None:
    with pytest.raises(persipubsub.QueueNotFoundError):
        manager.open("a")
    with manager.create("a", subscriber_ids={"sub"}) as env:
        env.new_publisher().send(b"1")
    with manager.open("a") as env, env.new_subscriber("sub").receive(timeout=0) as msg:
        assert msg == b"1"
    manager.create("a").close()
    with pytest.raises(persipubsub.SettingsMismatchError):
        manager.create("a", subscriber_ids={"other"})


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "a\0b", "x" * 256, 5, None])
def test_what_is_no_name(manager: QueueManager, name: Any) -> None:
    for call in (manager.exists, manager.create, manager.open, manager.delete):
        with pytest.raises(persipubsub.IdentifierError):
            call(name)
    assert not manager.root.exists()


def test_deleting(manager: QueueManager) -> None:
    assert not manager.delete("a")
    manager.create("a", subscriber_ids={"sub"}).close()
    assert manager.delete("a")
    assert manager.names() == []
    (manager.root / "folder").mkdir()
    with pytest.raises(persipubsub.NotAQueueError):
        manager.delete("folder")
    assert (manager.root / "folder").exists()


def test_deleting_what_is_open(manager: QueueManager) -> None:
    with manager.create("a", subscriber_ids={"sub"}) as env:
        pub = env.new_publisher()
        pub.send(b"1")
        with pytest.raises(persipubsub.QueueBusyError):
            manager.delete("a")
        pub.send(b"2")
        assert manager.delete("a", force=True)
        with pytest.raises(persipubsub.QueueReplacedError):
            pub.send(b"3")
