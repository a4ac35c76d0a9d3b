"""``persipubsub prune``."""

import typer

from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue, open_control
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption

NAME = "prune"
HELP = """Drop messages that nobody needs any more.

That is what no subscriber has yet to handle, and what is older than the message timeout.

\b
Example: persipubsub prune ./queues/frames
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Prune dangling messages."""
    with open_control(find_queue(path, config, queue)) as control, progress.working("pruning"):
        number = control.prune_dangling_messages()
    if as_json:
        output.print_json({"dropped": number})
    else:
        typer.echo(f"dropped {number} messages")
