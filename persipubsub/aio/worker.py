"""Workers for asyncio: handlers that compete for messages in tasks, retry what failed, and stop gracefully."""

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from persipubsub.aio.handle import leave
from persipubsub.aio.message import Message
from persipubsub.aio.subscriber import Subscriber
from persipubsub.arguments import lease_ns_of, reason_of
from persipubsub.errors import ClosedError, LeaseLostError, SubscriberError
from persipubsub.retrying import SIGNALS, Backoff, check_worker

logger = logging.getLogger("persipubsub")

T = TypeVar("T")
Handler = Callable[[Message[T]], Awaitable[object]]


class Worker(Generic[T]):
    """Hands the messages of a subscriber to a coroutine function, in several tasks, until it is stopped.

    Messages are acknowledged, retried and given up as by :class:`persipubsub.Worker`. Cancelling ``run``
    cancels the handlers and gives their messages back at once; ``stop`` lets them finish.

    :param handler: awaited with each :class:`~persipubsub.aio.Message`, in ``concurrency`` tasks at once
    :param concurrency: number of tasks
    :param backoff: how long a message waits that failed
    :param lease: seconds that a handler may have a message; ``None``: what the subscriber has
    :param grace: seconds that handlers get to finish after the stop; then they are cancelled
    :param signals: that stop it, if it runs in the main thread; empty where a server handles them itself
    """

    def __init__(
        self,
        handler: Handler[T],
        subscriber: Subscriber[T],
        concurrency: int = 1,
        *,
        backoff: Backoff | None = None,
        lease: float | None = None,
        grace: float = 30.0,
        signals: Sequence[int] = SIGNALS,
    ) -> None:
        """Start nothing yet.

        :raise SettingsError: an argument makes no sense
        """
        self._signals = check_worker(concurrency, grace, signals)
        lease_ns_of(lease)
        self._handler = handler
        self._subscriber = subscriber
        self._concurrency = concurrency
        self._backoff = backoff or Backoff()
        self._lease = lease
        self._grace = grace
        self._stopping = asyncio.Event()
        self._running = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._handled = 0

    async def run(self) -> int:
        """Handle messages until ``stop`` or a signal; return how many were handled well.

        :raise SubscriberError: it runs already
        :raise PersipubsubError: messages cannot be taken any more
        """
        if self._running:
            raise SubscriberError("This worker runs already; make another one.")
        self._running = True
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        stop: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        signals = self._listen()
        try:
            # A task ends before the stop only when it fails.
            await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            for task in list(self._waiting):
                task.cancel()
            await asyncio.wait(tasks, timeout=self._grace)
        finally:
            for task in (*tasks, stop):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._running = False
            for number in signals:
                asyncio.get_running_loop().remove_signal_handler(number)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self._handled

    def stop(self) -> None:
        """Take no more messages, and let ``run`` return; from the event loop."""
        self._stopping.set()

    def _listen(self) -> Sequence[signal.Signals]:
        """Let signals stop it; return those that do."""
        if threading.current_thread() is not threading.main_thread():
            return ()
        for number in self._signals:
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        # Who starts workers may have blocked them until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
        return self._signals

    async def _work(self) -> None:
        while not self._stopping.is_set():
            message = await self._next()
            if message is not None:
                await self._handle(message)

    async def _next(self) -> Message[T] | None:
        task = asyncio.current_task()
        if task is not None:
            self._waiting.add(task)
        try:
            return await self._subscriber.get(None, lease=self._lease)
        finally:
            if task is not None:
                self._waiting.discard(task)

    async def _handle(self, message: Message[T]) -> None:
        try:
            await self._handler(message)
            await message.ack()
            self._handled += 1
        except (LeaseLostError, ClosedError) as error:
            logger.warning("Message %d was handled, but not acknowledged: %s", message.id, error)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            await self._retry(message, error)
        except BaseException as error:
            holder = self._subscriber._holder
            give_back = functools.partial(holder.give_back_quietly, (message,), error)
            await leave(self._subscriber._thread, give_back, type(error))
            raise

    async def _retry(self, message: Message[T], error: Exception) -> None:
        delay = self._backoff.delay(message.delivery_count)
        logger.warning("The handler failed on message %d: %s", message.id, reason_of(error), exc_info=error)
        try:
            await message.nack(delay, reason_of(error))
        except (LeaseLostError, ClosedError):
            # Somebody else has it by now.
            pass


async def run(handler: Handler[T], subscriber: Subscriber[T], concurrency: int = 1, **options: Any) -> int:
    """Hand messages to ``handler`` until SIGTERM or SIGINT; return how many were handled well.

    The arguments are those of :class:`Worker`, whose ``stop`` ends it from the program itself.

    :raise SettingsError: an argument makes no sense
    :raise PersipubsubError: messages cannot be taken any more
    """
    return await Worker(handler, subscriber, concurrency, **options).run()
