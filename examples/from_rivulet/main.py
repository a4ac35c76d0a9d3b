"""Do with persipubsub what a program does with rivulet: channels that each client reads from where it stands."""

import tempfile
from collections.abc import Mapping
from typing import Any

from persipubsub import Environment, QueueManager, Retention
from persipubsub.serializers import json_dumps, json_loads

Channels = Mapping[str, Environment]


def open_channels(manager: QueueManager, *channels: str) -> dict[str, Environment]:
    """Open channels, each a queue that keeps what was read; those that do not exist are created."""
    return {channel: manager.create(channel, retention=Retention.LOG) for channel in channels}


def write(channels: Channels, channel: str, data: Any, client: str) -> int:
    """Write to a channel; return the sequence id: 1, 2, 3 and so on in each channel."""
    return channels[channel].new_publisher(serializer=json_dumps).send(data, headers={"src": client})


def subscribe(channels: Channels, client: str) -> None:
    """Subscribe to channels: a client that is known stays where it is, a new one gets what comes next."""
    for env in channels.values():
        env.open_control().add_subscriber(client, start="latest")


def read(channels: Channels, client: str, limit: int = 512) -> dict[str, list[tuple[int, Any]]]:
    """Read what is new in the channels; a client that dies before it acknowledges gets it again."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for channel, env in channels.items():
        subscriber = env.new_subscriber(client, json_loads)
        messages = subscriber.get_many(limit, timeout=0)
        if messages:
            found[channel] = [(message.id, message.data) for message in messages]
            subscriber.ack([message.id for message in messages])
    return found


def main() -> None:
    """Let two clients talk in two channels."""
    with tempfile.TemporaryDirectory() as root:
        manager = QueueManager(root)
        channels = open_channels(manager, "news", "sport")  # rivulet: ann = connect(url, "ann", ["news", "sport"])
        subscribe(channels, "ann")
        write(channels, "news", "rain", "bob")  # rivulet: bob.write("news", "rain")
        write(channels, "news", "sun", "bob")
        write(channels, "sport", "3:1", "bob")
        print("ann reads:", read(channels, "ann"))  # rivulet: ann.read()
        print("and again:", read(channels, "ann"))
        for env in channels.values():
            env.close()

        # After a restart each client goes on from where it stood.
        channels = open_channels(manager, "news", "sport")
        subscribe(channels, "ann")
        write(channels, "news", "snow", "bob")
        print("restarted:", read(channels, "ann"))
        channels["news"].new_subscriber("ann").seek(2)  # the sequence id from which to replay
        print("from id 2:", read(channels, "ann"))
        channels["news"].new_subscriber("ann").seek("first")  # rivulet: subscribe("news", IndexPolicy.EARLIEST)
        print("replayed: ", read(channels, "ann", limit=2))

        for env in channels.values():
            env.open_control().remove_subscriber("ann")  # rivulet: ann.unsubscribe(["news", "sport"])
            env.close()
        manager.delete("sport")
        print("channels: ", manager.names())


if __name__ == "__main__":
    main()
