"""``persipubsub backup``."""

import pathlib
import time
from typing import Annotated

import typer

from persipubsub import units
from persipubsub.cli import output, progress
from persipubsub.cli.finding import only, open_control, shown, split
from persipubsub.cli.options import ConfigOption, QueueOption

NAME = "backup"
HELP = """Copy a queue that is in use into a new folder.

The copy is what one moment of the queue was. It is verified as `check` does before it appears under its
name. What is at TARGET already is left alone. Make a queue of a backup with `restore`.

\b
Example: persipubsub backup ./queues/frames /backups/frames-2030-01-31
"""


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH TARGET", help="Directory of the queue; new folder.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Back a queue up."""
    path, rest = split(arguments, config, queue, paths=True)
    target = pathlib.Path(only(rest, "the folder of the backup"))
    start = time.monotonic()
    with open_control(path) as control, progress.working(f"backing up {shown(path)}"):
        size = control.backup(target)
    seconds = time.monotonic() - start
    if as_json:
        output.print_json({"backup": str(target), "bytes": size, "seconds": round(seconds, 3)})
    else:
        typer.echo(f"{target}: {units.size(size)}, verified, in {units.duration(seconds)}")
