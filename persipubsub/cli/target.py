"""The options and arguments by which commands take a queue, and what finds it."""

import pathlib
from typing import Annotated

import typer

from persipubsub.cli import completion
from persipubsub.cli.finding import find_config, find_queue, has_config, only, open_control, split

__all__ = [
    "ConfigOption",
    "PathArgument",
    "QueueOption",
    "SubscriberOption",
    "find_config",
    "find_queue",
    "has_config",
    "only",
    "open_control",
    "split",
]

ConfigOption = Annotated[
    pathlib.Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Deployment file in which to look up --queue."),
]
QueueOption = Annotated[
    str | None,
    typer.Option(
        "--queue",
        "-q",
        metavar="NAME",
        help="Name of the queue, instead of its directory.",
        autocompletion=completion.queue_names,
    ),
]
SubscriberOption = Annotated[
    str,
    typer.Option(
        "--subscriber",
        "-s",
        metavar="IDENTIFIER",
        help="Identifier of the subscriber.",
        autocompletion=completion.subscriber_names,
    ),
]
PathArgument = Annotated[
    pathlib.Path | None, typer.Argument(metavar="PATH", help="Directory of the queue.", show_default=False)
]
