"""Does dangerous work in other processes: one that dies or hangs is a finding, and the next one goes on."""

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, Self

from persipubsub.engine.local import opening  # noqa: F401 - loaded before the processes are forked
from tests.process.support import BOUND, measure_no_more

_FORK = multiprocessing.get_context("fork")


class DiedError(Exception):
    """The process died of a signal, or ended on its own, while it worked."""


class HungError(Exception):
    """The work did not come to an end."""


class Hand:
    """One process that does one thing after another."""

    def __init__(self, prepare: Callable[[], None] = lambda: None, bound: float = BOUND) -> None:
        """Call ``prepare`` first of all in each new process; nothing may take longer than ``bound`` seconds."""
        self._prepare = prepare
        self._bound = bound
        self._process: Any = None
        self._pipe: Any = None

    def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``work`` returns in the process.

        :raise DiedError: the process died
        :raise HungError: it took too long
        """
        if self._process is None:
            self._start()
        self._pipe.send((work, arguments))
        if not self._pipe.poll(self._bound):
            self.end()
            raise HungError(f"{work.__name__} takes longer than {self._bound:g} s")
        try:
            result, error = self._pipe.recv()
        except EOFError:
            self._process.join(BOUND)
            code = self._process.exitcode
            self.end()
            raise DiedError(signal.Signals(-code).name if code and code < 0 else f"exit {code}") from None
        if error is not None:
            raise error
        return result

    def _start(self) -> None:
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=self._serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def _serve(self, pipe: Any) -> None:
        self._pipe.close()
        measure_no_more()
        # What an abort prints on its way out would be noise.
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        self._prepare()
        while True:
            try:
                work, arguments = pipe.recv()
            except EOFError:
                os._exit(0)
            answer: tuple[Any, Exception | None]
            try:
                answer = work(*arguments), None
            except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
                answer = None, error
            pipe.send(answer)

    def __enter__(self) -> Self:
        """Give it for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.end()

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join(BOUND)
            self._pipe.close()
            self._process = None
