"""``persipubsub restore``."""

import pathlib
from typing import Annotated

import typer

from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue
from persipubsub.cli.options import ConfigOption, QueueOption

NAME = "restore"
HELP = """Make a queue of a backup.

The backup is verified first, and stays as it is. What is at PATH already is left alone. What somebody held
when the backup was made is delivered next. The new queue has an identity of its own, because it gives ids
again that the old one has given since; --keep-identity is for moving a queue that nobody uses any more.

\b
Example: persipubsub restore /backups/frames-2030-01-31 ./queues/frames
"""


def command(
    backup: Annotated[pathlib.Path, typer.Argument(metavar="BACKUP", help="Folder that `backup` wrote.")],
    path: Annotated[
        pathlib.Path | None, typer.Argument(metavar="PATH", help="Directory of the new queue.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    keep_identity: Annotated[bool, typer.Option("--keep-identity", help="It is the very same queue, moved.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Restore a backup."""
    from persipubsub import care

    target = find_queue(path, config, queue)
    with progress.working(f"restoring {backup}"):
        restored = care.restore(backup, target, keep_identity=keep_identity)
    if as_json:
        output.print_json({"path": str(restored)})
    else:
        typer.echo(f"{restored}: restored and verified")
