"""``persipubsub seek``."""

from typing import Annotated

import typer

from persipubsub.cli import output
from persipubsub.cli.finding import only, split
from persipubsub.cli.options import ConfigOption, QueueOption, SubscriberOption
from persipubsub.cli.position import parse_position
from persipubsub.environment import Environment

NAME = "seek"
HELP = """Move a subscriber, to replay or to skip.

POSITION is 'first' (the oldest retained), 'latest' (only what comes next), an id, or a time; or --back
says how many messages to go back. Messages that somebody holds for the subscriber are dropped from it.

\b
Example: persipubsub seek ./queues/frames --subscriber archive 2030-01-31T12:00
"""


def command(
    subscriber: SubscriberOption,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH POSITION", help="Directory of the queue; position.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    back: Annotated[int | None, typer.Option(min=1, metavar="N", help="Go back N messages.")] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Move a subscriber."""
    path, rest = split(arguments, config, queue, alone=back is None)
    if back is not None and rest:
        raise typer.BadParameter("Give either a position or --back, not both.")
    position = None if back is not None else parse_position(only(rest, "a position, or --back"))
    with Environment(path) as environment, environment.new_subscriber(subscriber) as receiver:
        if position is None:
            receiver.seek(back=back)
        else:
            receiver.seek(position)
        with environment.open_control() as control:
            (now,) = (one for one in control.statistics().subscribers if one.identifier == subscriber)
    if as_json:
        output.print_json({"subscriber": subscriber, "position": now.position, "waiting": now.waiting})
    else:
        typer.echo(f"{subscriber}: {now.waiting} messages wait from id {now.position} on")
