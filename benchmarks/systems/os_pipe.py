"""os.pipe, a channel that keeps nothing: what waking another process costs at least."""

import os
import select
import struct
from collections.abc import Sequence

from benchmarks.systems.base import CHANNEL, Connection, Handle, Receiver, Role, Sender, Survives, System

LENGTH = struct.Struct(">I")


class PipeSender(Sender):
    """Writes to a pipe, each message with its length before it."""

    def __init__(self, descriptor: int) -> None:
        """Write to ``descriptor``."""
        self._descriptor = descriptor

    def send(self, data: bytes) -> None:
        os.write(self._descriptor, LENGTH.pack(len(data)) + data)


class PipeReceiver(Receiver):
    """Reads from a pipe."""

    def __init__(self, descriptor: int) -> None:
        """Read from ``descriptor``."""
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def take_each(self, handle: Handle, timeout: float) -> None:
        while self._poll.poll(timeout * 1000):
            data = os.read(self._descriptor, LENGTH.unpack(os.read(self._descriptor, LENGTH.size))[0])
            if not data or not handle(data):
                return


class PipeConnection(Connection):
    """Both ends."""

    def __init__(self, place: str) -> None:
        """Take the descriptors from ``place``."""
        self._reading, self._writing = map(int, place.split(","))

    def sender(self) -> Sender:
        return PipeSender(self._writing)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return PipeReceiver(self._reading)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


class OsPipe(System):
    """A pipe that the measured processes inherit."""

    name = "os-pipe"
    role = Role.REFERENCE
    survives = Survives.NOTHING
    can = CHANNEL
    inherited = True

    def place(self, address: str, number: int) -> str:
        return ",".join(map(str, os.pipe()))

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)

    def connect(self, place: str) -> Connection:
        return PipeConnection(place)

    def discard(self, place: str) -> None:
        for descriptor in map(int, place.split(",")):
            os.close(descriptor)
