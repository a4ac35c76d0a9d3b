"""Queues for tests at the local engine, and what is done with them again and again."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings


def created(path: pathlib.Path, **settings: Any) -> pathlib.Path:
    """Create a queue with the subscriber ``sub``, unless told otherwise of durability ``process``; return its path."""
    create_local(path, Settings(**{"durability": Durability.PROCESS, **settings}), {"sub": SubscriberSettings()})
    return path


@contextmanager
def opened(path: pathlib.Path) -> Iterator[LocalEngine]:
    """Open a queue, which is sound when it is closed."""
    engine = open_local(path)
    yield engine
    assert engine.check() == []
    engine.close()


def with_a_message(path: pathlib.Path) -> pathlib.Path:
    """Create a queue with one message, that nobody has open."""
    with opened(created(path)) as engine:
        send(engine, b"stored")
    return path


def open_and_look(path: pathlib.Path) -> None:
    """Open such a queue: what was stored is there."""
    with opened(path) as engine:
        assert stored(engine) == [b"stored"]


def send(engine: LocalEngine, data: bytes) -> int:
    """Publish a message."""
    (message_id,) = engine.put([Entry(data, len(data))])
    return message_id


def stored(engine: LocalEngine) -> list[bytes]:
    """Return the payloads that are retained."""
    return [message.data for message in engine.browse(1, 100)]
