"""The options and arguments by which commands take a queue."""

import pathlib
from typing import Annotated

import typer

from persipubsub.cli import completion

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
LocationsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH]...", help="Directories of queues, or a directory of them.", show_default=False),
]
QueuesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        "-q",
        metavar="NAME",
        help="Name of a queue in the deployment file; may be repeated.",
        autocompletion=completion.queue_names,
    ),
]
IntervalOption = Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Time between two looks.")]
