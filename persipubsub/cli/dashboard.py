"""``persipubsub dashboard``."""

import sys
from typing import Annotated

import typer

from persipubsub.cli.extras import needing
from persipubsub.cli.finding import find_queues
from persipubsub.cli.options import ConfigOption, IntervalOption, LocationsArgument, QueuesOption

NAME = "dashboard"
HELP = """Watch queues live in a browser.

Serves one page on this machine alone, which shows rates, lag and latency over time, owners, messages and
dead letters. It changes nothing unless --allow-changes is given. With --host it can be reached from
elsewhere; then browsers need the token that is printed. Without a queue, all of the deployment file are shown.

\b
Example: persipubsub dashboard ./queues --port 8600
"""


def command(
    paths: LocationsArgument = None,
    config: ConfigOption = None,
    queue: QueuesOption = None,
    interval: IntervalOption = 1.0,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8600,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="PERSIPUBSUB_TOKEN",
            metavar="TOKEN",
            help="What browsers must show; better given by the variable, which others do not see.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name of this server, as of a proxy before it; may be repeated."),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Let browsers requeue and discard dead letters.")
    ] = False,
) -> None:
    """Serve the page until Ctrl-C."""
    with needing("dashboard", "starlette", "uvicorn"):
        from persipubsub.watch.dashboard.server import DashboardServer
    from persipubsub.watch.source import Source
    from persipubsub.watch.watching import Watch

    found = find_queues(paths or [], config, queue or [])
    queues = Watch([Source(name, location) for name, location in found.items()])
    try:
        server = DashboardServer(
            queues,
            interval,
            host=host,
            port=port,
            token=token,
            allow_changes=allow_changes,
            names=allow_host or [],
        )
        with server:
            sys.stdout.write(f"The dashboard is at {server.url_to_open} (Ctrl-C ends it)\n")
            sys.stdout.flush()
            server.run()
    finally:
        queues.close()
