"""``persipubsub import``."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import msgspec
import typer

from persipubsub.cli import output, progress
from persipubsub.cli.finding import shown, split
from persipubsub.cli.options import ConfigOption, QueueOption

NAME = "import"
HELP = """Make a queue of an export, or send its messages.

Without --append there must be no queue yet: all of it is made, or nothing; messages keep their ids and
times, subscribers their places. With --append messages are sent anew to all subscribers of a queue, up to
500 at once, wholly or not at all; when it was interrupted, the same command goes on where it ended, within
the deduplication window of the queue.

\b
Example: persipubsub import ./queues/frames frames.jsonl
"""


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH FILE", help="Directory of the queue; export, else stdin.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    append: Annotated[bool, typer.Option("--append", help="Send the messages to a queue that is deployed.")] = False,
    subscriber: Annotated[
        list[str] | None,
        typer.Option(
            "--subscriber",
            "-s",
            metavar="IDENTIFIER",
            help="Instead of the subscribers in the export: this one, which gets all messages; may be repeated.",
        ),
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Import messages."""
    from persipubsub import care
    from persipubsub.environment import Environment

    path, rest = split(arguments, config, queue, paths=True)
    if len(rest) > 1:
        raise typer.BadParameter(f"Give one file after the queue, not: {' '.join(rest)}.")
    if append and subscriber:
        raise typer.BadParameter("--subscriber is for a new queue; with --append all subscribers get the messages.")
    with _stream(rest) as stream, progress.working(f"importing into {shown(path)}") as report:
        if append:
            with Environment(path) as environment:
                done = care.import_messages(stream, environment, progress=report)
        else:
            done = care.import_queue(stream, path, subscribers=subscriber or None, progress=report)
    if as_json:
        output.print_json({"path": shown(path), **msgspec.to_builtins(done)})
    else:
        besides = [f"{number} {what}" for number, what in ((done.known, "known"), (done.expired, "expired")) if number]
        typer.echo(f"{shown(path)}: {done.messages} messages" + (f" ({', '.join(besides)})" if besides else ""))


@contextlib.contextmanager
def _stream(rest: list[str]) -> Iterator[BinaryIO]:
    if not rest or rest == ["-"]:
        yield sys.stdin.buffer
    else:
        with pathlib.Path(rest[0]).open("rb") as stream:
            yield stream
