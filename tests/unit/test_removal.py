"""Subscribers that go leave nothing behind: not even the name of their part of the file."""

import pathlib

import lmdb

from persipubsub import Environment
from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings


def names(path: pathlib.Path) -> set[str]:
    """Return the sub-databases of subscribers, as they stand in the file."""
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=1) as env, env.begin() as txn:
        found = {bytes(key).decode() for key, _ in txn.cursor()}
    return {name for name in found if name.startswith("queue/")}


def test_an_ephemeral_subscriber_leaves_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        control = env.new_control({"a"})
        for number in range(3):
            with Environment(path) as client:
                client.open_control().add_subscriber(f"reply-{number}", ephemeral=True)
                env.new_publisher().send(b"x")
                assert client.new_subscriber(f"reply-{number}").get(timeout=0) is not None
        assert control.subscriber_ids == {"a"}
        assert control.check() == []
    assert names(path) == {"queue/a"}


def test_what_could_only_be_emptied_is_deleted_with_the_next(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        control = env.new_control({"a", "b", "c"})
        env.new_publisher().send(b"x")
        with env.new_subscriber("a").receive_view(timeout=0) as view:
            assert view is not None
            assert control.remove_subscriber("b")
        assert control.remove_subscriber("c")
        control.add_subscriber("d")
        env.new_publisher().send(b"y")
        assert env.new_subscriber("d").get(timeout=0) is not None
        assert control.check() == []
    assert names(path) == {"queue/a", "queue/d"}


def test_a_send_removes_what_a_dead_owner_left(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine, client = open_local(path), open_local(path)
    client.add_subscriber("reply", SubscriberSettings(ephemeral=True), "latest")
    engine.put([Entry(b"x", 1)])
    assert set(engine.subscribers()) == {"a", "reply"}
    client._store.owners.end(client._taker.owner())
    engine._store._last_second = 0  # it looks once a second
    engine.put([Entry(b"x", 1)])
    assert set(engine.subscribers()) == {"a"}
    client.close()
    engine.close()
