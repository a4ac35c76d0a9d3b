"""``persipubsub clear``."""

import sys
from typing import Annotated

import typer

from persipubsub.cli.target import ConfigOption, PathArgument, QueueOption, find_queue, open_control

NAME = "clear"
HELP = """Drop all messages and subscribers of a queue.

With --subscriber, drop what waits for this one. Asks before it does so.

\b
Example: persipubsub clear ./queues/frames --subscriber archive --yes
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    subscriber: Annotated[
        str | None, typer.Option("--subscriber", "-s", metavar="IDENTIFIER", help="Drop only what waits for this one.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Clear a queue."""
    directory = find_queue(path, config, queue)
    with open_control(directory) as control:
        what = "all subscribers and messages" if subscriber is None else f"what waits for {subscriber!r}"
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter(f"This drops {what} of {directory}; confirm it with --yes.")
            if not typer.confirm(f"Drop {what} of {directory}?", err=True):
                raise typer.Exit(1)
        if subscriber is None:
            control.clear_all_subscribers()
            typer.echo(f"dropped {what}")
        else:
            typer.echo(f"dropped {control.purge(subscriber)} messages of {subscriber!r}")
