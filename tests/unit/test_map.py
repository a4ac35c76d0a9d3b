"""With a writable map LMDB cuts the file to the length of the map: no map may be smaller than the file."""

import os
import pathlib

import pytest

from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "queue"
    settings = Settings(durability=Durability.PROCESS, map_size=MIB)
    create_local(folder, settings, {"a": SubscriberSettings()})
    return folder


def lengthened(path: pathlib.Path) -> pathlib.Path:
    """Make the file longer, as another process does that grows its map, and return it."""
    file = path / "data.mdb"
    os.truncate(file, 8 * MIB)
    return file


def test_following_does_not_cut_the_file(path: pathlib.Path) -> None:
    engine = open_local(path)
    file = lengthened(path)
    with engine._store.writer.locked():
        engine._store.follow_map()
    assert (file.stat().st_size, engine._store.env.info()["map_size"]) == (8 * MIB, 8 * MIB)
    engine.put([Entry(bytes(4 * MIB), 4 * MIB)])
    assert engine.check() == []
    engine.close()


def test_growing_does_not_cut_the_file(path: pathlib.Path) -> None:
    engine = open_local(path)
    file = lengthened(path)
    engine.put([Entry(bytes(2 * MIB), 2 * MIB)])
    assert file.stat().st_size > 8 * MIB
    assert engine.check() == []
    engine.close()


def test_opening_does_not_cut_the_file(path: pathlib.Path) -> None:
    open_local(path).close()
    file = lengthened(path)
    engine = open_local(path)
    assert (file.stat().st_size, engine._store.env.info()["map_size"]) == (8 * MIB, 8 * MIB)
    engine.close()
