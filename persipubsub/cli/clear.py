"""``persipubsub clear``."""

from typing import Annotated

import typer

from persipubsub.cli import asking, completion, output, progress
from persipubsub.cli.finding import find_queue, open_control, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption

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
        str | None,
        typer.Option(
            "--subscriber",
            "-s",
            metavar="IDENTIFIER",
            help="Drop only what waits for this one.",
            autocompletion=completion.subscriber_names,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Clear a queue."""
    directory = find_queue(path, config, queue)
    with open_control(directory) as control:
        what = "all subscribers and messages" if subscriber is None else f"what waits for {subscriber!r}"
        asking.confirm(f"drop {what} of {shown(directory)}", yes)
        with progress.working(f"clearing {shown(directory)}"):
            if subscriber is None:
                number = control.statistics().messages
                control.clear_all_subscribers()
            else:
                number = control.purge(subscriber)
        if subscriber is not None:
            what = f"{number} messages of {subscriber!r}"
    if as_json:
        output.print_json({"dropped": number})
    else:
        typer.echo(f"dropped {what}")
