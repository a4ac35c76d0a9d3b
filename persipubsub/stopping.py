"""How what runs in threads is told to stop: by a call from any thread, or by a signal."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType


class Stop:
    """A request to stop. It is a pipe, because a signal handler may not touch any lock."""

    def __init__(self) -> None:
        """Ask for nothing yet."""
        self._asked, self._asker = os.pipe()
        os.set_blocking(self._asked, False)
        os.set_blocking(self._asker, False)

    def ask(self) -> None:
        """Ask to stop; never blocks. From any thread, or a signal handler."""
        with contextlib.suppress(BlockingIOError):  # it was asked often enough
            os.write(self._asker, b"\1")

    def wait(self) -> None:
        """Block until it is asked; return at once if it was."""
        poll = select.poll()
        poll.register(self._asked, select.POLLIN)
        poll.poll()

    def forget(self) -> None:
        """Ask for nothing any more."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._asked, 64):
                pass

    def __del__(self) -> None:
        for name in ("_asked", "_asker"):
            if hasattr(self, name):
                os.close(getattr(self, name))


@contextlib.contextmanager
def stopped_by(signals: Sequence[signal.Signals], stop: Callable[[], None]) -> Iterator[None]:
    """Let signals call ``stop`` in this block, if this is the main thread; also those that came while blocked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in signals}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
