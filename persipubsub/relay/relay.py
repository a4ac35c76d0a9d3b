"""The relay as others see it: how it is made, runs, stops, and what it tells."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from persipubsub.arguments import check_count
from persipubsub.errors import SettingsError
from persipubsub.names import encode_name
from persipubsub.relay.endpoint import Endpoint, Queue
from persipubsub.relay.events import Log
from persipubsub.relay.forwarder import Forwarder
from persipubsub.relay.source import Source
from persipubsub.relay.status import RelayStatus
from persipubsub.relay.target import Target
from persipubsub.retained.positions import Position, check_position
from persipubsub.retrying import SIGNALS, Backoff, check_worker
from persipubsub.stopping import Stop, stopped_by

_BACKOFF: Final = Backoff(first=0.1, longest=30.0)


class Relay:
    """Moves all messages of one queue to another, in order and each once, until it is stopped.

    What is in the source waits there, in a subscriber of its own, until the target has stored it. So a link that
    is down, a server that restarts, or a relay that is killed costs time and no message; and what the target has
    stored already is not stored again. ``docs/relay.rst`` says how, and where that ends.

    One relay of a name runs at a time; a second one stands by, and goes on when the first one is gone. Safe to
    use from any thread. Constructing it opens nothing.

    :param source: an open Environment, or where the queue is: a path, ``"memory:name"`` or ``"nats://host/name"``
    :param target: likewise; the two are different queues
    :param name: of the relay, one for each pair of source and target; by default the identity of the target
    :param start: where a new relay begins: ``"first"``, with all that is retained, ``"latest"``, an id or a moment
    :param batch: messages in one transaction at most; fewer if they are large
    :param create: deploy, with default settings, a queue that does not exist
    :param backoff: how long to wait after failures
    :param grace: seconds that the batch in hand gets to arrive after the stop
    :param signals: that stop it, if it runs in the main thread
    """

    def __init__(
        self,
        source: Queue,
        target: Queue,
        *,
        name: str | None = None,
        start: Position = "first",
        batch: int = 500,
        create: bool = False,
        backoff: Backoff | None = None,
        grace: float = 30.0,
        signals: Sequence[int] = SIGNALS,
    ) -> None:
        """Open nothing yet.

        :raise SettingsError: an argument makes no sense
        :raise IdentifierError: the name cannot be used
        :raise PositionError: ``start`` means nothing
        :raise OpenError: a queue is neither a path nor a location that an engine knows
        """
        self._signals = check_worker(1, grace, signals)
        if name is not None:
            encode_name(name, "name of a relay")
        self._source = Source(Endpoint(source, create), check_position(start), check_count("batch", batch))
        self._target = Target(Endpoint(target, create))
        log = Log(self._source.endpoint.location, self._target.endpoint.location)
        self._forwarder = Forwarder(self._source, self._target, name, backoff or _BACKOFF, log)
        self._log = log
        self._grace = grace
        self._failure: BaseException | None = None
        #: Protects the start and the end of a run.
        self._guard = threading.Lock()
        self._running = False
        #: Whether the thread of the last run hangs in a call that does not return.
        self._lingering = False
        self._stop = Stop()

    # -- from outside -------------------------------------------------------------------------

    def status(self) -> RelayStatus:
        """Return the figures of this moment; reads no queue."""
        return self._forwarder.tally.snapshot(
            self._forwarder.name, self._source.endpoint.location, self._target.endpoint.location
        )

    def prepare(self) -> None:
        """Look for both queues, and add the relay's subscriber to the source: from now on messages wait for it.

        ``run`` does so by itself.

        :raise OpenError: a queue cannot be opened
        :raise SettingsError: source and target are the same queue
        :raise SettingsMismatchError: the subscriber exists, but would give messages up
        """
        with self._exclusively():
            try:
                self._forwarder.connect()
            finally:
                self._forwarder.close()

    def run(self, drain: bool = False) -> int:
        """Forward until ``stop`` or a signal; return how many messages the target has stored.

        Blocks. Failures are logged and overcome: it tries again, after growing delays. A batch in hand is
        finished first.

        :param drain: end as soon as nothing waits
        :raise QueueNotFoundError: source or target is not deployed, from the start
        :raise OpenError: one of them cannot be used: something else, another format, a missing right
        :raise SettingsError: source and target are the same queue, or the relay runs already
        :raise SettingsMismatchError: the relay's subscriber exists, but would give messages up
        """
        with self._exclusively():
            before = self._forwarder.tally.forwarded
            self._failure = None
            thread = threading.Thread(target=self._work, args=(drain,), name="persipubsub-relay", daemon=True)
            with stopped_by(self._signals, self.stop):
                try:
                    thread.start()
                    self._stop.wait()
                finally:
                    self._finish(thread)
            if self._failure is not None:
                raise self._failure
            return self._forwarder.tally.forwarded - before

    def stop(self) -> None:
        """Let ``run`` finish the batch in hand and return; from any thread, or a signal handler."""
        self._stop.ask()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        with self._guard:
            if self._running:
                raise SettingsError("This relay runs already; make another one, or stop it first.")
            self._running = True
        try:
            yield
        finally:
            self._running = self._lingering

    def _finish(self, thread: threading.Thread) -> None:
        """Wait for the thread, for as long as it may take."""
        self._forwarder.stopped.set()
        self._source.wake()
        if thread.ident is not None:
            thread.join(self._grace)
        self._lingering = thread.is_alive()
        if self._lingering:
            self._log.hangs(self._grace)
            return
        self._stop.forget()
        self._forwarder.stopped.clear()

    def _work(self, drain: bool) -> None:
        """Do the work of the thread."""
        try:
            self._forwarder.work(drain)
        except BaseException as error:  # noqa: BLE001 - run raises it
            self._failure = error
        finally:
            self.stop()
