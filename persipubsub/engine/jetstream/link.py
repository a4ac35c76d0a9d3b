"""One connection to NATS, and the thread on which its event loop runs.

The engine's operations are called from any thread and wait for coroutines on that loop. The thread never keeps the
process from ending. A forked child does not have it: what it inherited is kept, unused, until it ends.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js import errors as js_errors

from persipubsub.engine import forking
from persipubsub.engine.jetstream.files import check_credentials, tls_context
from persipubsub.engine.jetstream.location import Location
from persipubsub.engine.jetstream.translate import DISABLED, is_passing, translate
from persipubsub.errors import ClosedError, OpenError, QueuePermissionError, UnreachableError, UnsupportedByEngineError

logger = logging.getLogger("persipubsub")

#: Seconds for one attempt; then it is made again, so long as the patience lasts.
ATTEMPT: Final = 2.0
#: Seconds in which a server must be found when a queue is opened.
_CONNECT: Final = 3.0
#: Seconds between two attempts.
RETRY: Final = 0.05
#: Atomic batches and messages with an end of their own came together with this version.
_OLDEST: Final = (2, 12)

T = TypeVar("T")

_alive: "set[Link]" = set()
#: What the parent of a forked child had open. Collecting it would close things under the parent's event loop.
_inherited: "list[Link]" = []


class Link:
    """A connection that comes back by itself; ``run`` may be called from any thread."""

    def __init__(self, location: Location, patience: float = 30.0) -> None:
        """Connect.

        :param patience: seconds that an operation waits for a server that is away
        :raise UnreachableError: no server answers
        :raise QueuePermissionError: the server does not let this user in
        """
        self.location = location
        self.patience = patience
        self.client: Client = Client()
        #: Called on the loop when the connection is back, for what may have been missed meanwhile.
        self.on_return: Callable[[], None] = lambda: None
        self._refused: asyncio.Future[None] | None = None
        self._closed = False
        self._last_error: Exception | None = None
        #: When the server last forbade something, on the clock of the loop, and what.
        self._denied: tuple[float, Exception] | None = None
        self._loop = asyncio.new_event_loop()
        self._up = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="persipubsub-nats", daemon=True)
        self._thread.start()
        _alive.add(self)
        try:
            self.run(self._connect())
        except BaseException:
            self.close()
            raise
        self.js: JetStreamContext = self.client.jetstream(timeout=ATTEMPT)

    @property
    def where(self) -> str:
        """Return the URL without secrets."""
        return self.location.shown

    @property
    def server_id(self) -> str:
        """Return the id of the server that we are connected to."""
        return str(self.client._server_info.get("server_id", ""))

    # -- from other threads -------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and wait for its result; errors of NATS come out as ours."""
        if self._closed:
            work.close()
            raise ClosedError("The queue was closed by this program; open it again.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise translate(error, self.where) from error
        except BaseException:
            future.cancel()
            raise

    def soon(self, function: Callable[[], object]) -> None:
        """Call ``function`` on the loop, without waiting for it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End the connection and the thread."""
        if self._closed:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(ATTEMPT)
        self._closed = True
        _alive.discard(self)
        self.soon(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(ATTEMPT)

    # -- on the loop --------------------------------------------------------------------------

    async def tell(self, log: Callable[[], object]) -> None:
        """Log something in another thread: a handler may use the queue, for which it needs this loop."""
        await self._loop.run_in_executor(None, log)

    def start(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
        """Begin ``work`` and wait for nothing."""
        return self._loop.create_task(work)

    async def request(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, deadline: float | None = None
    ) -> Msg:
        """Send a request until it is answered; it may so arrive more than once.

        :param deadline: on the clock of the loop
        :raise NoRespondersError: nobody listens there
        """
        return await self.insist(
            lambda seconds: self.client.request(subject, payload, timeout=seconds, headers=headers), deadline
        )

    async def manage(self, call: Callable[[JetStreamContext], Awaitable[T]], deadline: float | None = None) -> T:
        """Call JetStream's API until it answers."""
        return await self.insist(lambda _: call(self.js), deadline, alone=True)

    async def insist(
        self, attempt: Callable[[float], Awaitable[T]], deadline: float | None = None, *, alone: bool = False
    ) -> T:
        """Attempt again while that may help and the patience lasts.

        :param alone: that nobody answers is a reason to attempt again, too
        """
        now = self._loop.time
        if deadline is None:
            deadline = now() + self.patience
        while True:
            await self._until_up(deadline)
            began = now()
            try:
                return await attempt(max(0.05, min(ATTEMPT, deadline - now())))
            except nats.errors.ConnectionClosedError as error:
                raise ClosedError("The queue was closed by this program; open it again.") from error
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if not is_passing(error) or (isinstance(error, nats.errors.NoRespondersError) and not alone):
                    raise
                self._check_allowed(began)
                if now() + RETRY >= deadline:
                    raise translate(error, self.where) from error
                await asyncio.sleep(RETRY)

    async def flush(self) -> None:
        """Wait until the server has got everything that was sent."""
        await self.client.flush(timeout=int(ATTEMPT))

    async def _until_up(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._up.wait()
        except TimeoutError:
            raise UnreachableError(
                f"The connection to {self.where} is lost ({self._last_error or 'no reason known'}) and did not come "
                f"back within {self.patience:g} seconds. Check that the server runs; it is tried on."
            ) from self._last_error

    async def _connect(self) -> None:
        where = self.location
        check_credentials(where)
        self._refused = self._loop.create_future()
        connecting = self._loop.create_task(
            self.client.connect(
                servers=list(where.servers),
                name=f"persipubsub-{os.getpid()}",
                user=where.user,
                password=where.password,
                token=where.token,
                user_credentials=where.credentials,
                tls=tls_context(where),
                connect_timeout=2,
                # The client sleeps so long between attempts; it takes fractions, whatever its types say.
                reconnect_time_wait=cast(int, RETRY),
                max_reconnect_attempts=-1,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=64 * 1024**2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                reconnected_cb=self._on_reconnect,
                closed_cb=self._on_closed,
            )
        )
        try:
            await asyncio.wait({connecting, self._refused}, timeout=_CONNECT, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done() or not connecting.done():
                connecting.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await connecting
                raise self._unreachable()
            await connecting
        except ImportError as error:
            raise OpenError("Credentials need another package: pip install 'persipubsub[nats]'") from error
        except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
            raise translate(error, self.where) from error
        version = self.client.connected_server_version
        if (version.major, version.minor) < _OLDEST:
            raise UnsupportedByEngineError(
                f"The server of {self.where} is nats-server {version.major}.{version.minor}.{version.patch}; "
                f"{'.'.join(map(str, _OLDEST))} or newer is needed, for batches that are stored wholly or not at all."
            )
        await self._check_jetstream()
        self._up.set()

    async def _check_jetstream(self) -> None:
        began = self._loop.time()
        try:
            await self.client.jetstream(timeout=ATTEMPT).account_info()
        except js_errors.ServiceUnavailableError as error:
            if error.err_code is None or error.err_code in DISABLED:
                raise OpenError(
                    f"JetStream is not enabled for {self.where}. Start nats-server with -js, or ask for it."
                ) from error
        except (nats.errors.Error, TimeoutError):
            # A cluster that has no leader yet: the operations wait for it.
            self._check_allowed(began)

    def _check_allowed(self, since: float) -> None:
        """Raise what the server forbade: it tells of that apart from the request, which it never answers."""
        if self._denied is not None and self._denied[0] >= since:
            raise translate(self._denied[1], self.where)

    def _unreachable(self) -> OpenError:
        error = self._last_error
        if isinstance(error, ssl.SSLError):
            return OpenError(
                f"TLS with the server of {self.where} failed: {error}. Give the certificates of the authority that "
                "signed the server's with tls_ca=…, and this client's own with tls_cert=… and tls_key=… if it asks."
            )
        if error is not None and isinstance(found := translate(error, self.where), QueuePermissionError):
            return found
        if self._was_refused(error):
            return QueuePermissionError(
                f"The server of {self.where} refused this user and closed the connection. Check the user, the "
                "password, the token or the credentials file."
            )
        return UnreachableError(
            f"No server answers at {self.where} ({str(error or '') or 'timeout'}). Check the address, that nats-server "
            "runs with JetStream (nats-server -js), and that no firewall stands in between."
        )

    async def _leave(self) -> None:
        if self.client.is_connected:
            with contextlib.suppress(TimeoutError, nats.errors.Error):
                await self.client.flush(timeout=1)
        await self.client.close()

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        if "permissions violation" in str(error).lower():
            self._denied = self._loop.time(), error
        if isinstance(error, nats.errors.SlowConsumerError) or "slow consumer" in str(error).lower():
            await self.tell(
                lambda: logger.warning(
                    "The server of %s gave this process up as a slow consumer: it takes more messages than it reads. "
                    "Take smaller batches; what was on its way is delivered again.",
                    self.where,
                )
            )
        else:
            logger.debug("The connection to %s: %s", self.where, error)
        refused = isinstance(translate(error, self.where), QueuePermissionError) or isinstance(error, ssl.SSLError)
        if (refused or self._was_refused(error)) and self._refused is not None and not self._refused.done():
            self._refused.set_result(None)

    def _was_refused(self, error: Exception | None) -> bool:
        """Tell whether a server that asks for a login hung up: its word about that may get lost."""
        hung_up = isinstance(error, (ConnectionError, nats.errors.StaleConnectionError))
        asks = bool(self.client._server_info.get("auth_required"))
        return asks and hung_up and not isinstance(error, ConnectionRefusedError)

    async def _on_disconnect(self) -> None:
        if self._up.is_set():
            self._up.clear()
            if not self.client.is_closed and not self._closed:
                await self.tell(lambda: logger.warning("The connection to %s is lost; it is tried again.", self.where))

    async def _on_reconnect(self) -> None:
        self._up.set()
        self.on_return()
        await self.tell(lambda: logger.info("The connection to %s is back.", self.where))

    async def _on_closed(self) -> None:
        # Those who wait find out that it is closed.
        self._up.set()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        """Leave nothing to a loop that is closed, also where the server did not answer any more."""
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ATTEMPT)
        await asyncio.sleep(0)  # transports that were closed go now


def _after_fork_in_child() -> None:
    """Let go of the parent's connections without a word to the server."""
    null = -1
    for link in _alive:
        transport = getattr(getattr(link.client, "_transport", None), "_io_writer", None)
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            # So that the server sees it when the parent dies, whatever this child does.
            null = os.open(os.devnull, os.O_RDWR) if null < 0 else null
            os.dup2(null, sock.fileno())
    if null >= 0:
        os.close(null)
    _inherited.extend(_alive)
    _alive.clear()


forking.on_fork_child(_after_fork_in_child)
