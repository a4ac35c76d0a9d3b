"""``persipubsub receive``."""

import contextlib
import os
import pathlib
import sys
import tempfile
from typing import Annotated

import typer

from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption, SubscriberOption
from persipubsub.environment import Environment
from persipubsub.message import Message

NAME = "receive"
HELP = """Receive messages, write them, and acknowledge them.

They go to the standard output, one line each, or with --folder into files, named by the ids. Exit
status 1 says that nothing (or less than --count) came in time.

\b
Example: persipubsub receive ./queues/frames --subscriber archive --count 10 --folder ./received
"""


def command(
    subscriber: SubscriberOption,
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Receive so many; default 1, with --follow no limit.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Receive all that is there, and wait for no more.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C; --timeout bounds each wait.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait at most so long for each; default 60.")
    ] = None,
    folder: Annotated[
        pathlib.Path | None, typer.Option(metavar="FOLDER", help="Write each message into a file of its own.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object with id, headers and data for each message.")
    ] = False,
) -> None:
    """Receive messages."""
    if everything and (follow or timeout is not None):
        raise typer.BadParameter("--all waits for nothing; leave out --follow and --timeout.")
    wanted = count if count is not None or everything or follow else 1
    patience: float | None = 0 if everything else timeout
    if patience is None and not follow:
        patience = 60.0
    directory = find_queue(path, config, queue)
    received = 0
    with (
        Environment(directory) as environment,
        environment.new_subscriber(subscriber) as receiver,
        progress.working("receiving", wanted, beside=True) as report,
    ):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        while wanted is None or received < wanted:
            with receiver.receive_message(timeout=patience) as message:
                if message is None:
                    break
                _write(message, folder, as_json)
            received += 1
            report(received)
    if not received or (count is not None and received < count):
        raise typer.Exit(1)


def _write(message: Message[bytes], folder: pathlib.Path | None, as_json: bool) -> None:
    """Write a message so that it is safe to acknowledge it."""
    if folder is not None:
        target = folder / f"{message.id:020}"
        _write_file(target, message.data)
        if not as_json:
            sys.stdout.write(f"{target}\n")
    elif not as_json:
        sys.stdout.flush()
        sys.stdout.buffer.write(message.data + b"\n")
    if as_json:
        document = output.message_json(
            message,
            message.data,
            delivery_count=message.delivery_count,
            last_error=message.last_error,
            missed=message.missed,
        )
        if folder is not None:
            document = {name: value for name, value in document.items() if name not in ("data", "base64")}
            document["file"] = str(target)
        output.print_json(document)
    sys.stdout.flush()


def _write_file(target: pathlib.Path, data: bytes) -> None:
    """Write a file wholly or not at all, durably: its message is acknowledged next."""
    from persipubsub.engine.local.files import sync_folder

    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)
