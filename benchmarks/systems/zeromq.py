"""ZeroMQ, a channel that keeps nothing: PUSH and PULL over a socket in the file system."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.base import CHANNEL, Connection, Handle, Receiver, Role, Sender, Survives, System


class ZeroSender(Sender):
    """A PUSH socket."""

    def __init__(self, socket: Any) -> None:
        """Push into ``socket``."""
        self._socket = socket

    def send(self, data: bytes) -> None:
        self._socket.send(data)


class ZeroReceiver(Receiver):
    """A PULL socket."""

    def __init__(self, socket: Any) -> None:
        """Pull from ``socket``."""
        self._socket = socket

    def take_each(self, handle: Handle, timeout: float) -> None:
        while self._socket.poll(timeout * 1000):
            if not handle(self._socket.recv()):
                return


class ZeroConnection(Connection):
    """A context."""

    def __init__(self, place: str) -> None:
        """Remember where to meet."""
        self._zmq = importlib.import_module("zmq")
        self._address = f"ipc://{place}/socket"
        self._context = self._zmq.Context()

    def sender(self) -> Sender:
        socket = self._context.socket(self._zmq.PUSH)
        socket.connect(self._address)
        return ZeroSender(socket)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        socket = self._context.socket(self._zmq.PULL)
        socket.bind(self._address)
        return ZeroReceiver(socket)

    def close(self) -> None:
        self._context.destroy(linger=10_000)


class ZeroMQ(System):
    """A pair of sockets."""

    name = "zeromq"
    role = Role.REFERENCE
    survives = Survives.NOTHING
    can = CHANNEL
    packages = ("pyzmq",)

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        Path(place).mkdir(parents=True)

    def connect(self, place: str) -> Connection:
        return ZeroConnection(place)
