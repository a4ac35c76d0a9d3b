"""``persipubsub prune``."""

import typer

from persipubsub.cli.target import ConfigOption, PathArgument, QueueOption, find_queue, open_control

NAME = "prune"
HELP = """Drop messages that nobody needs any more.

That is what no subscriber has yet to handle, and what is older than the message timeout.

\b
Example: persipubsub prune ./queues/frames
"""


def command(path: PathArgument = None, config: ConfigOption = None, queue: QueueOption = None) -> None:
    """Prune dangling messages."""
    with open_control(find_queue(path, config, queue)) as control:
        typer.echo(f"dropped {control.prune_dangling_messages()} messages")
