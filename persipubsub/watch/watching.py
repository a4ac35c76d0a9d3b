"""Looks at many queues at once; one that does not answer holds up no other."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from persipubsub.errors import PersipubsubError, QueueBusyError, QueueNotFoundError
from persipubsub.watch.sampling import HISTORY, QueueView, Reading, State, Track
from persipubsub.watch.source import Source

#: Letting go of a queue takes at most so many seconds, with a server that may not answer any more.
_PATIENCE = 2.0


class _Reader:
    """Reads one queue in a thread of its own, which ends with the process whatever it waits for."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._asked = threading.Event()
        self._closed = False
        self._since: float | None = None
        self.answered = threading.Event()
        self.reading: Reading | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {source.name}", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Ask for a reading, unless the last one is still on its way."""
        if self._since is None:
            self._since = self._clock()
            self.reading = None
            self.answered.clear()
            self._asked.set()

    def answer(self) -> Reading:
        """Return the reading that was asked for, or that there is none yet."""
        reading = self.reading
        if reading is not None:
            self._since = None
            return reading
        now = self._clock()
        waited = now - (now if self._since is None else self._since)
        return Reading(at=now, state=State.BUSY, problem=f"no answer for {waited:.0f} s")

    def close(self) -> None:
        self._closed = True
        self._asked.set()

    def wait_closed(self) -> None:
        """Wait until the queue is let go of, unless an answer is on its way."""
        if self._since is None or self.answered.is_set():
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._closed:
                self._source.close()
                return
            self.reading = self._read()
            self.answered.set()

    def _read(self) -> Reading:
        try:
            statistics = self._source.read()
        except QueueNotFoundError:
            return Reading(at=self._clock(), state=State.GONE, problem="nothing is deployed here")
        except QueueBusyError as error:
            return Reading(at=self._clock(), state=State.BUSY, problem=str(error))
        except (PersipubsubError, OSError) as error:
            return Reading(at=self._clock(), state=State.FAILING, problem=str(error))
        return Reading(at=self._clock(), statistics=statistics, free_bytes=self._source.free_bytes())


class Watch:
    """Several queues, looked at together; to be used by one thread at a time."""

    def __init__(
        self, sources: Iterable[Source], history: int = HISTORY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Look at nothing yet.

        :param history: number of looks that are remembered
        :param clock: seconds, on a clock that nobody sets
        """
        self.sources = {source.name: source for source in sources}
        self._readers = {name: _Reader(source, clock) for name, source in self.sources.items()}
        self._tracks = {name: Track(name, source.location, history) for name, source in self.sources.items()}
        # Of its own: whoever waits for a queue in the threads of asyncio does not hold up the next look.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="watch")

    def sample(self, patience: float = 1.0) -> list[QueueView]:
        """Look at all queues; those that do not answer within ``patience`` seconds are busy."""
        deadline = time.monotonic() + patience
        for reader in self._readers.values():
            reader.ask()
        for reader in self._readers.values():
            reader.answered.wait(max(0.0, deadline - time.monotonic()))
        return [self._tracks[name].add(reader.answer()) for name, reader in self._readers.items()]

    async def look(self, interval: float) -> list[QueueView]:
        """Look at all queues without blocking the event loop; patience goes with the ``interval`` of looks."""
        patience = min(max(interval, 0.2), 2.0)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.sample, patience)

    def close(self) -> None:
        """Let go of the queues; readers that still wait for an answer do so when they have it."""
        self._executor.shutdown(wait=False)
        for reader in self._readers.values():
            reader.close()
        for reader in self._readers.values():
            reader.wait_closed()
