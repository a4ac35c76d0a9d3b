"""What a process of ``persipubsub work`` does: ``python -m persipubsub.cli.working``."""

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from persipubsub import aio
from persipubsub.cli.supervision import when_alone
from persipubsub.environment import Environment
from persipubsub.errors import ConfigError, PersipubsubError
from persipubsub.worker import Worker


class Task(msgspec.Struct, frozen=True):
    """What a process needs to know.

    :param path: directory of the queue
    :param subscriber: whose messages are handled
    :param handler: ``module:function``
    :param concurrency: threads, or tasks of a coroutine function
    :param grace: seconds that handlers get to finish
    """

    path: str
    subscriber: str
    handler: str
    concurrency: int
    grace: float


def find_handler(name: str) -> Callable[..., Any]:
    """Import the function that ``module:function`` names; modules of the working directory are found, too.

    :raise ConfigError: there is no such function
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"The handler is given as module:function, not as {name!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"The module of the handler {name!r} cannot be imported: {error}.") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f"The module {module_name!r} has no function {attribute!r}.")
    handler: Callable[..., Any] = found
    return handler


def work(task: Task, line: int) -> None:
    """Handle messages until a signal, or until the supervisor is gone."""
    handler = find_handler(task.handler)
    if _is_asynchronous(handler):
        asyncio.run(_work_in_tasks(task, handler, line))
        return
    with Environment(task.path) as environment, environment.new_subscriber(task.subscriber) as subscriber:
        worker = Worker(handler, subscriber, task.concurrency, grace=task.grace)
        threading.Thread(target=when_alone, args=(line, worker.stop), daemon=True).start()
        worker.run()


def _is_asynchronous(handler: Any) -> bool:
    """Tell whether it is to be awaited: a coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(handler.__call__)


async def _work_in_tasks(task: Task, handler: Callable[..., Any], line: int) -> None:
    async with aio.Environment(task.path) as environment:
        subscriber = await environment.new_subscriber(task.subscriber)
        worker = aio.Worker(handler, subscriber, task.concurrency, grace=task.grace)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(worker.stop)

        threading.Thread(target=when_alone, args=(line, stop), daemon=True).start()
        await worker.run()


def main(arguments: list[str]) -> int:
    """Do the task; return the exit status."""
    logging.basicConfig(format=f"%(asctime)s [{os.getpid()}] %(levelname)s %(name)s: %(message)s")
    try:
        work(msgspec.json.decode(arguments[0], type=Task), int(arguments[1]))
    except PersipubsubError as error:
        sys.stderr.write(f"persipubsub: error: worker {os.getpid()}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
