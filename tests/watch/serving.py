"""A dashboard on a free port, served by a thread."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persipubsub import QueueManager
from persipubsub.watch.dashboard.server import DashboardServer
from persipubsub.watch.source import Source
from persipubsub.watch.watching import Watch
from tests.process.support import BOUND


@contextlib.contextmanager
def serving(root: Path, *others: Source, **options: Any) -> Iterator[DashboardServer]:
    """Serve the queues under a directory."""
    watch = Watch([*(Source(name, root / name) for name in QueueManager(root).names()), *others])
    with DashboardServer(watch, options.pop("interval", 0.1), **options) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(BOUND)
            watch.close()
            assert not thread.is_alive(), "the server stops"


class Answer:
    """What a server answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    server: DashboardServer,
    path: str,
    method: str = "GET",
    body: Any = None,
    host: str | None = None,
    **headers: str,
) -> Answer:
    """Send a request; underscores in the names of headers stand for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if host is not None:
        sent["host"] = host
    data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    with contextlib.closing(connection):
        connection.request(method, path, data, sent)
        return Answer(connection.getresponse())
