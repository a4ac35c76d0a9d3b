"""Who waits by a descriptor finds out what no bell of another tells."""

import pathlib
import select

from persipubsub.engine.local import create_local, open_local
from persipubsub.limits import Durability, Settings, SubscriberSettings
from tests.process.support import BOUND


def test_the_descriptor_of_a_removed_subscriber_is_readable(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(path)
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    waiter.arm()
    engine.remove_subscriber("a")
    waiter.arm()
    assert select.select([descriptor], [], [], BOUND)[0]
    waiter.close()
    engine.close()
