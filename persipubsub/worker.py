"""Workers: handlers that compete for messages in threads, retry what failed, and stop gracefully."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from persipubsub.arguments import lease_ns_of, reason_of
from persipubsub.errors import ClosedError, LeaseLostError, SubscriberError
from persipubsub.message import Message
from persipubsub.retrying import SIGNALS, Backoff, check_worker
from persipubsub.stopping import Stop, stopped_by
from persipubsub.subscriber import Subscriber

logger = logging.getLogger("persipubsub")

T = TypeVar("T")
Handler = Callable[[Message[T]], object]


class _StopError(Exception):
    """Ends a wait for messages."""


class Worker(Generic[T]):
    """Hands the messages of a subscriber to a handler, in several threads, until it is stopped.

    A handler that returns has its message acknowledged, with what it staged; one that raises gives it
    back for later: after exponentially longer delays, until the subscriber's ``max_deliveries`` make it
    a dead letter. A handler may settle the message itself, too. Each settlement is one transaction.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     def handle(message):
    ...         print(message.data)
    ...         worker.stop()
    ...     worker = Worker(handle, env.new_subscriber("worker"))
    ...     worker.run()
    b'frame'
    1

    :param handler: called with each :class:`~persipubsub.Message`, in ``concurrency`` threads at once
    :param concurrency: number of threads
    :param backoff: how long a message waits that failed
    :param lease: seconds that a handler may have a message; ``None``: what the subscriber has
    :param grace: seconds that handlers get to finish after the stop; then their messages are given back
    :param signals: that stop it, if it runs in the main thread
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
        self._handler = handler
        self._holder = subscriber._holder
        self._concurrency = concurrency
        self._backoff = backoff or Backoff()
        self._lease_ns = lease_ns_of(lease)
        self._grace = grace
        self._stopping = False
        self._running = False
        self._handled = 0
        #: Protects what the threads change together.
        self._guard = threading.Lock()
        self._in_hand: dict[int, Message[T]] = {}
        self._failure: BaseException | None = None
        self._stop = Stop()

    def run(self) -> int:
        """Handle messages until ``stop`` or a signal; return how many were handled well.

        Blocks. What was in hand is finished by then, or given back.

        :raise SubscriberError: it runs already
        :raise PersipubsubError: messages cannot be taken any more
        """
        with self._guard:
            if self._running:
                raise SubscriberError("This worker runs already; make another one.")
            self._running = True
        threads = [
            threading.Thread(target=self._work, name=f"persipubsub-worker-{number}", daemon=True)
            for number in range(self._concurrency)
        ]
        # To the very end: a second signal must not break off what the first one lets finish.
        with stopped_by(self._signals, self.stop):
            try:
                for thread in threads:
                    thread.start()
                self._stop.wait()
            finally:
                self._stopping = True
                self._finish([thread for thread in threads if thread.ident is not None])
        if self._failure is not None:
            raise self._failure
        return self._handled

    def stop(self) -> None:
        """Take no more messages, and let ``run`` return; from any thread, or a signal handler."""
        self._stopping = True
        self._stop.ask()

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the handlers, for as long as they may take, and give back what is still in hand."""
        deadline = time.monotonic() + self._grace
        self._holder.wake()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._guard:
            late, self._in_hand = list(self._in_hand.values()), {}
        for message in late:
            logger.warning("Message %d is given back: its handler did not end in time.", message.id)
            self._holder.give_back_quietly((message,), None)
        with self._guard:
            self._running = False

    # -- in the threads -----------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stopping:
                for message in self._holder.take(1, None, self._lease_ns, before=self._check_going_on):
                    self._handle(message)
        except _StopError:
            pass
        except BaseException as error:  # noqa: BLE001 - run raises it
            self._failure = self._failure or error
            self.stop()

    def _check_going_on(self) -> None:
        if self._stopping:
            raise _StopError

    def _handle(self, message: Message[T]) -> None:
        with self._guard:
            self._in_hand[message.id] = message
        try:
            self._handler(message)
            message.ack()
            with self._guard:
                self._handled += 1
        except (LeaseLostError, ClosedError) as error:
            logger.warning("Message %d was handled, but not acknowledged: %s", message.id, error)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            self._retry(message, error)
        except BaseException as error:
            self._holder.give_back_quietly((message,), error)
            raise
        finally:
            with self._guard:
                self._in_hand.pop(message.id, None)

    def _retry(self, message: Message[T], error: Exception) -> None:
        delay = self._backoff.delay(message.delivery_count)
        logger.warning("The handler failed on message %d: %s", message.id, reason_of(error), exc_info=error)
        try:
            message.nack(delay, reason_of(error))
        except (LeaseLostError, ClosedError):
            # Somebody else has it by now.
            pass


def run(handler: Handler[T], subscriber: Subscriber[T], concurrency: int = 1, **options: Any) -> int:
    """Hand messages to ``handler`` until SIGTERM or SIGINT; return how many were handled well.

    Blocks. The arguments are those of :class:`Worker`, whose ``stop`` ends it from the program itself.

    >>> import os, signal, persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     def handle(message):
    ...         print(message.data)
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...     run(handle, env.new_subscriber("worker"))
    b'frame'
    1

    :param handler: called with each message
    :param subscriber: whose messages they are
    :param concurrency: number of threads
    :param options: ``backoff``, ``lease``, ``grace`` and ``signals`` of :class:`Worker`
    :raise SettingsError: an argument makes no sense
    :raise PersipubsubError: messages cannot be taken any more
    """
    return Worker(handler, subscriber, concurrency, **options).run()
