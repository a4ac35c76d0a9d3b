"""``persipubsub compact``."""

import msgspec
import typer

from persipubsub import units
from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue, open_control, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption

NAME = "compact"
HELP = """Give the disk back what a queue does not use any more.

The data file is written anew and verified, and then takes the place of the old one in one step. Nobody else
may have the queue open (exit status 1), and the disk needs room for both files.

\b
Example: persipubsub compact ./queues/frames
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Compact a queue."""
    directory = find_queue(path, config, queue)
    with open_control(directory) as control, progress.working(f"compacting {shown(directory)}"):
        done = control.compact()
    if as_json:
        output.print_json(msgspec.to_builtins(done))
    else:
        typer.echo(f"{units.size(done.before)} -> {units.size(done.after)}")
