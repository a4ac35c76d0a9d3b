"""Event loops for tests, and coroutines that are cancelled wherever they wait."""

import asyncio
import functools
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec

from persipubsub import aio
from persipubsub.engine.figures import SubscriberStatistics
from tests.process.support import BOUND, wait_until

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in an event loop of its own, for a bounded time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(BOUND):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that somebody else brings about."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, "the condition never came"
        await asyncio.sleep(0.001)


async def is_waiting(*tasks: "asyncio.Task[Any]") -> None:
    """Wait until somebody of these waits at the line of a subscriber or publisher."""
    await eventually(lambda: any("_readable" in str(_innermost(task)) for task in tasks))


def _innermost(task: "asyncio.Task[Any]") -> list[str]:
    names: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        names.append(getattr(awaited, "__qualname__", ""))
        awaited = getattr(awaited, "cr_await", None)
    return names


async def figures(control: aio.Control, identifier: str = "a") -> SubscriberStatistics:
    """Return what is known about a subscriber."""
    return next(each for each in (await control.statistics()).subscribers if each.identifier == identifier)


async def nothing_leased(control: aio.Control) -> SubscriberStatistics:
    """Wait until what came too late for a cancelled task was undone; return what is known about its subscriber."""
    while True:
        seen = await figures(control)
        if not seen.leased:
            return seen
        await asyncio.sleep(0.001)


# -- cancelling at every suspension --------------------------------------------------------------------


def wait_for_thread(environment: aio.Environment) -> None:
    """Block, the event loop too, until the environment's thread has nothing to do."""
    wait_until(lambda: not environment._shared.thread._jobs, "the thread has nothing to do")


class Cancelling:
    """Drives a coroutine and cancels its task at one of its suspensions.

    ``how`` is the moment: ``"before"`` the awaited work was begun or while it is going on, ``"between"``:
    it is done, but the loop does not know, ``"after"``: the result is there, but not yet with the
    coroutine, ``"twice"``: as before, and again at the next suspension.
    """

    def __init__(self, environment: aio.Environment, number: int, how: str) -> None:
        self._environment = environment
        self._numbers = {number, number + 1} if how == "twice" else {number}
        self._how = how
        self.suspensions = 0

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Drive the coroutine to its end."""
        return await self._steps(coroutine)

    @types.coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = functools.partial(coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            step = functools.partial(coroutine.send, None)
            self.suspensions += 1
            chosen = self.suspensions in self._numbers
            if chosen and self._how == "between":
                wait_for_thread(self._environment)
            if chosen and self._how != "after":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                step = functools.partial(coroutine.throw, error)
            else:
                if chosen and self._how == "after":
                    step = functools.partial(coroutine.throw, asyncio.CancelledError())
