"""Serves the dashboard until it is told to stop."""

import secrets
import socket
from collections.abc import Sequence
from typing import Self

import uvicorn

from persipubsub.errors import SettingsError
from persipubsub.watch.dashboard.app import Dashboard
from persipubsub.watch.dashboard.hub import Hub
from persipubsub.watch.dashboard.security import Access, is_loopback
from persipubsub.watch.watching import Watch

#: Names that this machine has for itself.
_OWN_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")
_ANY = ("0.0.0.0", "::", "")
#: Seconds that requests get to finish at the stop.
_GRACE = 3
#: More connections than these are told to come back later.
_MOST_CONNECTIONS = 200


class _Uvicorn(uvicorn.Server):
    """Ends the streams before it waits for the connections to end."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)


class DashboardServer:
    """A dashboard on an address; it listens from the beginning and answers while ``run`` runs.

    :param host: address to listen on; elsewhere than on the loopback device a token is needed
    :param port: 0 means any that is free
    :param token: what browsers must show; if it is needed and not given, one is made
    :param allow_changes: let browsers requeue and discard dead letters
    :param names: further names that this server goes by, such as that of a proxy before it
    """

    def __init__(
        self,
        queues: Watch,
        interval: float = 1.0,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        allow_changes: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        """Listen.

        :raise SettingsError: the token is too short, or the address cannot be listened on
        """
        open_to_others = not is_loopback(host)
        #: A token that was made, and that nobody knows yet.
        self.made_token = secrets.token_urlsafe(32) if open_to_others and token is None else None
        self._socket = _listen(host, port)
        self._host = socket.gethostname() if host in _ANY else host
        self.port: int = self._socket.getsockname()[1]
        try:
            access = Access(token or self.made_token, allow_changes, self.port)
        except SettingsError:
            self._socket.close()
            raise
        hosts = {*_OWN_NAMES, *names}
        if open_to_others:
            hosts |= {host, socket.gethostname(), socket.getfqdn()} - {*_ANY}
        self.hub = Hub(queues, interval)
        dashboard = Dashboard(self.hub, access, sorted(hosts))
        config = uvicorn.Config(
            dashboard.app,
            access_log=False,
            http="h11",
            lifespan="on",
            limit_concurrency=_MOST_CONNECTIONS,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            ws="none",
        )
        self._server = _Uvicorn(config, self.hub)

    @property
    def url(self) -> str:
        """Return the address of the page, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @property
    def url_to_open(self) -> str:
        """Return the address that lets a browser in; a token that was given is not repeated."""
        return self.url if self.made_token is None else f"{self.url}?token={self.made_token}"

    def run(self) -> None:
        """Serve until ``stop``, SIGTERM or SIGINT; blocks."""
        self._server.run([self._socket])

    def stop(self) -> None:
        """Let ``run`` come to its end; from any thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Stop to listen; closing twice has no effect."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise SettingsError(
            f"The dashboard cannot listen on {host} port {port}: {error.strerror or error}. "
            "Choose others with --host and --port (0: any that is free)."
        ) from error
