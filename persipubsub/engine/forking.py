"""Notices that this process is a forked child, where everything that was open belongs to the parent."""

import os
import threading
from collections.abc import Callable
from types import TracebackType

#: How many forks lie between the process that imported this module and this one. What was opened in
#: another generation must not be used, not even to close it.
generation = 0

_callbacks: list[Callable[[], None]] = []
_guard = threading.Lock()


def on_fork_child(callback: Callable[[], None]) -> None:
    """Call ``callback`` in every child that is forked from now on; it must not wait and not raise."""
    _callbacks.append(callback)


def _after_fork_in_child() -> None:
    global generation, _guard
    generation += 1
    # A thread that the fork left behind may have held it.
    _guard = threading.Lock()
    for callback in _callbacks:
        callback()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Lock:
    """A reentrant lock that is free again in a forked child, whoever held it in the parent."""

    __slots__ = ("_generation", "_lock")

    def __init__(self) -> None:
        """Start free."""
        self._generation = generation
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if self._generation != generation:
            with _guard:
                if self._generation != generation:
                    self._lock = threading.RLock()
                    self._generation = generation
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
