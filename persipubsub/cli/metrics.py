"""``persipubsub metrics``."""

import pathlib
import sys
import threading
from typing import Annotated

import typer

from persipubsub import config as deployment
from persipubsub.cli.extras import needing
from persipubsub.cli.finding import find_config, shown
from persipubsub.cli.options import ConfigOption, QueueOption
from persipubsub.errors import PersipubsubError

NAME = "metrics"
HELP = """Serve figures of queues to Prometheus.

They are at http://127.0.0.1:9394/metrics until Ctrl-C, for all queues of the deployment file or those at
PATHS; queues may be deployed later. Figures are read when they are asked for. There is no password: on
another address than the loopback one, everybody who reaches it can read them (figures and names, never
messages).

\b
Example: persipubsub metrics --config queues.json --port 9394
"""


def command(
    paths: Annotated[
        list[pathlib.Path] | None, typer.Argument(metavar="PATHS", help="Directories of queues.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 9394,
    address: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds within which a queue must answer.")] = 5.0,
) -> None:
    """Serve metrics."""
    # Here, because other commands do without this extra.
    with needing("metrics", "prometheus_client"):
        from prometheus_client import CollectorRegistry, start_http_server

        from persipubsub.metrics import QueueCollector
    found = _queues(paths, config, queue)
    registry = CollectorRegistry()
    registry.register(QueueCollector(found, timeout))
    try:
        server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise PersipubsubError(
            f"Nothing can be served at {address}, port {port}: {error.strerror}. Choose another --port or --address."
        ) from None
    sys.stderr.write(f"persipubsub: {len(found)} queues at http://{address}:{server.server_port}/metrics\n")
    sys.stderr.flush()
    threading.Event().wait()


def _queues(
    paths: list[pathlib.Path] | None, config: pathlib.Path | None, queue: str | None
) -> dict[str, pathlib.Path]:
    """Return the directories to look at, by the names to show."""
    if paths:
        if config is not None or queue is not None:
            raise typer.BadParameter("Give either directories of queues, or --config and --queue, not both.")
        return {shown(path): path for path in paths}
    loaded = deployment.load(find_config(config))
    names = loaded.queues if queue is None else [queue]
    return {name: deployment.queue_path(loaded, name) for name in names}
