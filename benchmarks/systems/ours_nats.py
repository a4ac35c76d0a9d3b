"""persipubsub over JetStream: the same classes and servers as the bare client, to tell what they add."""

from collections.abc import Sequence

import persipubsub
from benchmarks.systems.base import STORE, Can, Connection, Role
from benchmarks.systems.jetstream import JetStream
from benchmarks.systems.ours import OurConnection


class OursNats(JetStream):
    """Our classes, and a server that syncs its files now and then, or always."""

    role = Role.REMOTE
    can = STORE | Can.WAIT | Can.FAN_OUT | Can.LOOP | Can.RELAY

    def __init__(self, always: bool) -> None:
        """Have the server sync every message, or every two minutes, which is its default."""
        super().__init__(always)
        self.name = "ours-nats-always" if always else "ours-nats"

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        with persipubsub.Environment(self.url(place)) as environment:
            environment.new_control(set(subscribers), durability=persipubsub.Durability.PROCESS)

    def connect(self, place: str) -> Connection:
        return OurConnection(self.url(place))

    def discard(self, place: str) -> None:
        from persipubsub.engine.opening import JetStreamOpener

        JetStreamOpener(self.url(place)).delete(force=True)

    def url(self, place: str) -> str:
        """Return the address of a queue, which the driver of the bare client writes as port/queue."""
        return f"nats://127.0.0.1:{place}"
