"""``persipubsub export``."""

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import typer

from persipubsub import units
from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue, open_control, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption

NAME = "export"
HELP = """Write a queue as JSON Lines.

Messages with headers, topics and times, then how far each subscriber is, what it holds, and its dead
letters. Payloads that are no text are base64. The queue may be in use. The last line says {"is":"end"}.

\b
Example: persipubsub export ./queues/frames --output frames.jsonl
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    file: Annotated[
        pathlib.Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="New file, written wholly or not at all; else to stdout."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --output: print the figures as JSON.")] = False,
) -> None:
    """Export a queue."""
    if as_json and file is None:
        raise typer.BadParameter("What goes to stdout is JSON anyway; --json is for --output.")
    directory = find_queue(path, config, queue)
    with open_control(directory) as control, _stream(file) as stream:
        total = control.statistics().messages
        with progress.working(f"exporting {shown(directory)}", total) as report:
            number = control.export(stream, report)
    if file is not None and as_json:
        output.print_json({"file": str(file), "messages": number, "bytes": file.stat().st_size})
    elif file is not None:
        typer.echo(f"{file}: {number} messages, {units.size(file.stat().st_size)}")


@contextlib.contextmanager
def _stream(file: pathlib.Path | None) -> Iterator[BinaryIO]:
    from persipubsub.engine.local.files import sync_folder

    if file is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    if os.path.lexists(file):
        raise typer.BadParameter(f"{file} is there already; it was left untouched.")
    descriptor, temporary = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}-")
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
        os.link(temporary, file)
    finally:
        os.unlink(temporary)
    sync_folder(file.absolute().parent)
