"""``persipubsub tail``."""

import sys
from typing import Annotated

import typer

from persipubsub.cli import output
from persipubsub.cli.finding import find_queue, open_control
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption
from persipubsub.cli.position import parse_position
from persipubsub.environment import Environment

NAME = "tail"
HELP = """Show messages without taking them.

No subscriber is needed and no trace is left. Shows the last ten messages, or --count from --start on.

\b
Example: persipubsub tail ./queues/frames --start first --follow --json
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="POSITION", help="'first', 'latest', an id, or a time such as 2030-01-31T12:00."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Show at most so many.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object with id, headers and data for each.")
    ] = False,
) -> None:
    """Browse messages."""
    directory = find_queue(path, config, queue)
    with open_control(directory) as control, Environment(directory) as environment:
        if start is None:
            bounds = control.statistics()
            last = bounds.last_id or 0
            first = max(bounds.first_id or 0, last - (count or 10) + 1)
            messages = environment.browse(first, limit=None if follow else count, follow=follow)
        else:
            messages = environment.browse(parse_position(start), limit=count, follow=follow)
        for message in messages:
            if as_json:
                output.print_json(output.message_json(message, message.data))
            else:
                sys.stdout.flush()
                sys.stdout.buffer.write(message.data + b"\n")
                sys.stdout.flush()
