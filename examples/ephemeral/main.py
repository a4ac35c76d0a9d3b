"""Ask and be answered through one queue; replies go to a subscriber that vanishes with its owner."""

import os
import tempfile
import threading
from pathlib import Path

from persipubsub import Durability, Environment, SubscriberSettings
from persipubsub.serializers import json_dumps, json_loads


def serve(path: Path, requests: int) -> None:
    """Answer so many requests; request and reply are settled and published in one transaction."""
    with Environment(path) as env, env.new_subscriber("server", json_loads).messages(timeout=30) as messages:
        for number, message in enumerate(messages, start=1):
            reply_to = message.headers.get("reply-to")
            if isinstance(reply_to, str):
                message.send(json_dumps(sum(message.data)), topic=reply_to)
            message.ack()
            if number == requests:
                return


class Client:
    """Sends requests and waits for the replies; what it reads them with is gone when the client is."""

    def __init__(self, path: Path, name: str) -> None:
        """Listen on a topic of its own."""
        self._topic = f"reply.{os.getpid()}.{name}"
        self._env = Environment(path)
        self._env.open_control().add_subscriber(self._topic, topic_filter=self._topic, ephemeral=True)
        self._replies = self._env.new_subscriber(self._topic, json_loads)
        self._requests = self._env.new_publisher(serializer=json_dumps)

    def ask(self, numbers: list[int]) -> object:
        """Ask for the sum of ``numbers`` and wait for it, at most 30 seconds."""
        self._requests.send(numbers, topic="sum", headers={"reply-to": self._topic})
        with self._replies.receive(timeout=30) as reply:
            return reply

    def close(self) -> None:
        """Leave, and the subscriber vanishes; a client that is killed leaves the same way."""
        self._env.close()


def main() -> None:
    """Run a server and two clients."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue"
        with Environment(path) as env:
            control = env.new_control({"server": SubscriberSettings(topic_filter="sum")}, durability=Durability.PROCESS)
            server = threading.Thread(target=serve, args=(path, 3))
            server.start()
            ann, bob = Client(path, "ann"), Client(path, "bob")
            print("subscribers:", len(control.subscriber_ids))
            print("ann:", ann.ask([1, 2, 3]))
            print("bob:", bob.ask([10, 20]))
            print("ann:", ann.ask([]))
            server.join()
            ann.close()
            bob.close()
            print("subscribers:", ", ".join(control.subscriber_ids))


if __name__ == "__main__":
    main()
