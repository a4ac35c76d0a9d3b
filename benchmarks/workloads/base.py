"""What a workload is: one idea, its figures, and how they are measured with one system."""

import abc
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.child import Answer, Task
from benchmarks.processes import Crew, Worker, start
from benchmarks.systems.base import Can, System

T = TypeVar("T")


class Size(enum.Enum):
    """How long measurements are."""

    FULL = "full"
    QUICK = "quick"
    """A look."""
    TINY = "tiny"
    """Enough to see that they work."""


class Figure(msgspec.Struct, frozen=True):
    """One number that a workload finds out about a system.

    ``key`` is ``workload.figure``; ``higher``: more is better.
    """

    key: str
    title: str
    unit: str
    higher: bool = True


class Bench:
    """Measures one system at one place, in processes of its own.

    :param system: what is measured
    :param address: where it keeps its queues, or the address of its server
    :param size: how long measurements are
    :param source: the folder with the package under comparison
    :param number: makes the names of queues unique
    """

    def __init__(
        self, system: System, address: str, size: Size, source: Path | None = None, number: Callable[[], int] = int
    ) -> None:
        """Prepare."""
        self.system = system
        self.size = size
        self._address = address
        self._source = source
        self._number = number
        self._limit = {Size.FULL: 900.0, Size.QUICK: 120.0, Size.TINY: 60.0}[size]

    def pick(self, full: T, quick: T, tiny: T) -> T:
        """Return what fits the size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self.size]

    def queue(self, subscribers: Sequence[str] = ("a",), max_messages: int | None = None) -> "Queue":
        """Return a place for a new queue; the first process that starts there deploys it."""
        return Queue(self, self.system.place(self._address, self._number()), list(subscribers), max_messages)

    def worker(self, queue: "Queue", part: Callable[..., Answer], deploy: bool, arguments: dict[str, Any]) -> Worker:
        """Start a process that plays ``part``."""
        inherited = self.system.inherited
        if inherited and deploy:
            self.system.deploy(queue.place, queue.subscribers, queue.max_messages)
        task = Task(
            part=f"{part.__module__}:{part.__qualname__}",
            system=self.system.name,
            place=queue.place,
            arguments=arguments,
            deploy=deploy and not inherited,
            subscribers=queue.subscribers,
            max_messages=queue.max_messages,
        )
        return Worker(task, self._limit, self._source, inherited)

    def alone(self, part: Callable[..., Answer], subscribers: Sequence[str] = ("a",), **arguments: Any) -> Answer:
        """Return what one process answers that has a new queue for itself."""
        with self.queue(subscribers) as queue:
            worker = queue.start(part, **arguments)
            start([worker])
            return worker.answer()


class Queue:
    """A queue of one measurement; it is discarded at the end of the block."""

    def __init__(self, bench: Bench, place: str, subscribers: list[str], max_messages: int | None) -> None:
        """Remember."""
        self._bench = bench
        self.place = place
        self.subscribers = subscribers
        self.max_messages = max_messages
        self._crew = Crew()
        self._deployed = False

    def start(self, part: Callable[..., Answer], **arguments: Any) -> Worker:
        """Start a process that plays ``part`` with this queue; the first one deploys it."""
        worker = self._bench.worker(self, part, not self._deployed, arguments)
        self._deployed = True
        return self._crew.add(worker)

    def __enter__(self) -> "Queue":
        self._crew.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._crew.__exit__(*details)
        if self._deployed:
            self._bench.system.discard(self.place)


class Workload(abc.ABC):
    """One idea."""

    name: str
    title: str
    #: One or two sentences: what is measured.
    about: str
    figures: tuple[Figure, ...]
    #: What a system has to be able to.
    needs: Can
    #: How many rounds are enough, where one takes long.
    most_rounds: int = 1_000

    def skips(self, system: System) -> str | None:
        """Say why ``system`` has no part in this; ``None`` if it has."""
        lacking = self.needs & ~system.can
        if lacking:
            names = [str(flag.name).lower().replace("_", "-") for flag in lacking]
            return f"cannot {', '.join(names)}"
        return None

    @abc.abstractmethod
    def measure(self, bench: Bench) -> dict[str, float]:
        """Measure a system once; return its figures by their keys."""
