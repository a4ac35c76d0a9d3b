"""``persipubsub delete``."""

from typing import Annotated

import typer

from persipubsub.cli import asking, output, progress
from persipubsub.cli.finding import find_queue, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption
from persipubsub.engine.opening import JetStreamOpener, LocalOpener, opener_for
from persipubsub.engine.refusals import not_found
from persipubsub.errors import UnsupportedByEngineError

NAME = "delete"
HELP = """Delete a queue with everything in it.

Asks before it does so. Exit status 1 says that somebody has it open; --force deletes it all the same, and
whoever has it open gets QueueReplacedError. A server of NATS does not tell who has a queue open: there it
takes --force. Queues that a deployment file does not list any more are deleted by `deploy --prune`, too, but
only directories directly under its root.

\b
Example: persipubsub delete ./queues/frames --yes
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    force: Annotated[bool, typer.Option("--force", help="Even if somebody has it open.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Delete a queue."""
    location = find_queue(path, config, queue)
    opener = opener_for(location)
    if not isinstance(opener, (LocalOpener, JetStreamOpener)):
        raise UnsupportedByEngineError(f"{opener.location} cannot be deleted: it goes with its process.")
    # It need not be usable: a damaged queue can be deleted, too.
    if not opener.exists():
        raise not_found(opener.location)
    asking.confirm(f"delete {shown(location)} with everything in it", yes)
    with progress.working(f"deleting {shown(location)}"):
        if not opener.delete(force):
            raise not_found(opener.location)
    if as_json:
        output.print_json({"deleted": opener.location})
    else:
        typer.echo(f"deleted {shown(location)}")
