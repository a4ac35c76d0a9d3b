"""What a system under measurement is: one small interface, one driver a file.

A :class:`System` is described in the process that runs the benchmarks and used in the processes that
are measured; nothing but its name and the place of its queue goes from one to the other.
"""

import abc
import contextlib
import enum
import importlib.metadata
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.errors import BenchmarkError

Handle = Callable[[bytes], bool]
"""Is handed a message; returns whether to go on."""
HandleMany = Callable[[Sequence[bytes]], bool]
"""Is handed messages; returns whether to go on."""


class Survives(enum.Enum):
    """What a message survives once its send has returned: the class in which a system is compared."""

    PROCESS = "P"
    """kill -9 of every process that uses the queue."""
    POWER = "S"
    """Power loss, too."""
    NOTHING = "-"
    """Nothing: a channel, shown for reference."""


class Role(enum.Enum):
    """What a system is to the reader of the figures."""

    OURS = "ours"
    FLOOR = "floor"
    PEER = "peer"
    REFERENCE = "reference"
    REMOTE = "remote"
    """Ours, but on a server: compared with its bare client, and with the local queue."""


class Can(enum.Flag):
    """What a system can do, of what a workload may need."""

    QUEUE = enum.auto()
    """Keep what is sent until somebody takes it."""
    PROCESSES = enum.auto()
    """Serve a sender and a receiver in two processes."""
    WAIT = enum.auto()
    """Block a receiver until a message comes, without the caller polling."""
    COMPETE = enum.auto()
    """Let several receivers share the messages of one subscriber."""
    FAN_OUT = enum.auto()
    """Give every message to each of several subscribers, and store it once."""
    LARGE = enum.auto()
    """Carry messages of 10 MiB."""
    LOOP = enum.auto()
    """Acknowledge a message together with taking the next."""
    VIEW = enum.auto()
    """Hand over a message without copying it."""
    THREADS = enum.auto()
    """Send from several threads of one process."""
    TASKS = enum.auto()
    """Send from several tasks of one event loop."""
    LIMITS = enum.auto()
    """Prune at a limit of messages."""
    RELAY = enum.auto()
    """Be a queue of ours, to which a relay moves messages."""


CHANNEL = Can.PROCESSES | Can.WAIT
STORE = Can.QUEUE | Can.PROCESSES | Can.COMPETE | Can.LARGE


class Sender(abc.ABC):
    """Sends to a queue, from one thread."""

    @abc.abstractmethod
    def send(self, data: bytes) -> None:
        """Send a message; once this returns it is as safe as the class of the system says."""

    def send_each(self, stream: Iterable[bytes]) -> None:
        """Send the messages of ``stream`` one at a time."""
        for data in stream:
            self.send(data)

    def send_many(self, batch: Sequence[bytes]) -> None:
        """Send messages in the quickest way the system has for several."""
        self.send_each(batch)


class Receiver(abc.ABC):
    """Takes the messages of one subscriber, from one thread."""

    @abc.abstractmethod
    def take_each(self, handle: Handle, timeout: float) -> None:
        """Take a message, hand it over, acknowledge it; again until ``handle`` says no or none comes for ``timeout``.

        :param timeout: seconds
        """

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        """Do the same with up to ``most`` messages at a time, in the quickest way the system has."""
        self.take_each(lambda data: handle([data]), timeout)

    def loop_each(self, handle: Handle, timeout: float) -> None:
        """Take messages one at a time, acknowledging each together with taking the next."""
        raise NotImplementedError

    def view_each(self, handle: Callable[[memoryview], bool], timeout: float) -> None:
        """Take messages one at a time without copying them."""
        raise NotImplementedError


class Connection(abc.ABC):
    """A queue as one process has it open."""

    @abc.abstractmethod
    def sender(self) -> Sender:
        """Return a sender of its own for the calling thread."""

    @abc.abstractmethod
    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        """Return a receiver for the calling thread; ``competing``: others take from the same subscriber."""

    def send_at_once(self, streams: Sequence[Iterable[bytes]]) -> None:
        """Send several streams concurrently: here a thread for each, each message on its own."""
        errors: list[BaseException] = []

        def send(stream: Iterable[bytes]) -> None:
            try:
                self.sender().send_each(stream)
            except Exception as error:  # noqa: BLE001  it is raised again below
                errors.append(error)

        threads = [threading.Thread(target=send, args=(stream,)) for stream in streams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    @abc.abstractmethod
    def close(self) -> None:
        """Close it."""


class System(abc.ABC):
    """A way to send messages."""

    name: str
    role: Role
    survives: Survives
    can: Can
    #: The name of the durability of ours that a floor stands for, or that ours has.
    durability: str | None = None
    #: What a reader of the figures has to know.
    note: str = ""
    #: Packages that the driver needs.
    packages: ClassVar[tuple[str, ...]] = ()
    #: Whether the queue goes to the measured processes by inheritance; then it is deployed in the parent.
    inherited: ClassVar[bool] = False

    def missing(self) -> str | None:
        """Say what has to be installed before this system can be measured; ``None`` if nothing is missing."""
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return f"the package {package} is not installed (pip install {package})"
        return None

    def versions(self) -> dict[str, str]:
        """Return the versions of what is measured."""
        return {package: importlib.metadata.version(package) for package in self.packages}

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[str]:
        """Run whatever server is needed; give its address, or the folder if there is none."""
        yield str(folder)

    def place(self, address: str, number: int) -> str:
        """Return where the queue with that number is to be."""
        return str(Path(address) / f"{self.name}-{number}")

    @abc.abstractmethod
    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        """Make a queue at ``place``."""

    def url(self, place: str) -> str:
        """Return how one of our own Environments names the queue at ``place``."""
        return place

    @abc.abstractmethod
    def connect(self, place: str) -> Connection:
        """Open the queue at ``place``."""

    def discard(self, place: str) -> None:
        """Remove the queue at ``place`` with all that is in it."""
        path = Path(place)
        if path.is_dir():
            shutil.rmtree(path)

    def without_limits(self, max_messages: int | None) -> None:
        """Refuse a limit, in the name of a system that has none.

        :raise BenchmarkError: a limit is asked for
        """
        if max_messages is not None:
            raise BenchmarkError(f"{self.name} has no limit on the number of messages; leave it out of this workload.")
