"""``persipubsub relay``."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from persipubsub.cli import relaying
from persipubsub.errors import PersipubsubError
from persipubsub.relay import Relay

NAME = "relay"
HELP = """Forward all messages of one queue to another, until SIGTERM or Ctrl-C.

SOURCE and TARGET are directories of queues, or URLs of queues on NATS (nats://host:port/queue). Each message
arrives once and in order; what cannot be forwarded now waits in SOURCE. Links that are down and servers that
restart are waited for; a relay that was killed goes on where it was. The batch in hand is finished at the end.

\b
Example: persipubsub relay /var/lib/gateway/readings nats://centre:4222/readings --name uplink
"""


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The queue to take from.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The queue to send to.")],
    name: Annotated[
        str | None,
        typer.Option(help="Of the relay, and of its subscriber relay/NAME in SOURCE; else the identity of TARGET."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Deploy, with default settings, what is not there.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Messages in one transaction at most.")] = 500,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time for the batch in hand to arrive at the stop.")
    ] = 30.0,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing waits any more.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON, a line every few seconds and one at the end.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve figures to Prometheus at this port of 127.0.0.1; 0: any."),
    ] = None,
) -> None:
    """Forward messages."""
    relay = Relay(source, target, name=name, batch=batch, create=create, grace=grace)
    with _serving(relay, metrics_port), relaying.reporting(relay, as_json=as_json):
        relay.run(drain=drain)


@contextlib.contextmanager
def _serving(relay: Relay, port: int | None) -> Iterator[None]:
    """Serve the figures meanwhile, if they are wanted."""
    if port is None:
        yield
        return
    # Here, because the command does without this extra otherwise.
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from persipubsub.relay.metrics import RelayCollector
    except ModuleNotFoundError as error:
        raise PersipubsubError(
            f"--metrics-port needs {error.name}; install it with: pip install 'persipubsub[metrics]'"
        ) from None
    registry = CollectorRegistry()
    registry.register(RelayCollector(relay))
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise PersipubsubError(
            f"Nothing can be served at 127.0.0.1, port {port}: {error.strerror}. Choose another --metrics-port."
        ) from None
    sys.stderr.write(f"persipubsub: figures of the relay at http://127.0.0.1:{server.server_port}/metrics\n")
    sys.stderr.flush()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
