"""One sampler for all browsers: each look is encoded once, and who is slow skips looks instead of piling them up."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from persipubsub.watch.sampling import QueueView
from persipubsub.watch.watching import Watch

#: Seconds without news after which a sign of life is sent.
HEARTBEAT = 15.0
#: Milliseconds that a browser waits before it connects again.
_RETRY = 2000

_encode = msgspec.json.Encoder().encode


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def latest(view: QueueView) -> QueueView:
    """Return a view without its histories, which the browser has already."""
    subscribers = tuple(
        msgspec.structs.replace(subscriber, lag_history=[], rate_history=[], late_history=[])
        for subscriber in view.subscribers
    )
    return msgspec.structs.replace(view, times=[], rate_history=[], subscribers=subscribers)


class Hub:
    """Looks at the queues again and again and tells all who listen; belongs to one event loop."""

    def __init__(self, queues: Watch, interval: float, heartbeat: float = HEARTBEAT) -> None:
        """Look at ``queues`` every ``interval`` seconds."""
        self.queues = queues
        self.interval = interval
        self.listeners = 0
        self._heartbeat = heartbeat
        self._views: list[QueueView] = []
        self._news = b""
        self._number = 0
        self._changed = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Look until cancelled; with the looks, the streams end, so that nobody takes old news for new."""
        try:
            while True:
                self._views = await self.queues.look(self.interval)
                self._news = _event("sample", _encode([latest(view) for view in self._views]))
                self._number += 1
                self._tell()
                await asyncio.sleep(self.interval)
        finally:
            self.close()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Give everything that is known, then what is new, as server-sent events."""
        self.listeners += 1
        try:
            yield b"retry: %d\n\n" % _RETRY
            told = 0
            while not self._closed:
                if self._number > told:
                    news = self._news if told else _event("state", _encode(self._views))
                    told = self._number
                    yield news
                    continue
                try:
                    await asyncio.wait_for(self._changed.wait(), self._heartbeat)
                except TimeoutError:
                    yield _event("heartbeat", b"{}")
        finally:
            self.listeners -= 1
