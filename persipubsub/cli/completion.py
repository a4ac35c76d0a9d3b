"""What the shell proposes: names of queues from the deployment file, subscribers from the queue itself."""

import os
import pathlib
import shlex
from typing import Any

import typer

from persipubsub import config as deployment
from persipubsub.cli.finding import find_config, find_queue, open_control
from persipubsub.engine.opening import LocalOpener
from persipubsub.errors import PersipubsubError


def queue_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose the queues of the deployment file; nothing if there is none, or it is wrong."""
    try:
        names = deployment.load(find_config(_path(context.params.get("config")))).queues
    except (PersipubsubError, OSError, typer.BadParameter):
        return []
    return [name for name in names if name.startswith(incomplete)]


def subscriber_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose the subscribers of the queue that the command line names so far; nothing if it cannot be opened."""
    given: dict[str, Any] = context.params
    config, queue = _path(given.get("config")), given.get("queue")
    try:
        path = None if config or queue else _queue_on_the_line()
        with open_control(find_queue(path, config, queue)) as control:
            names = sorted(control.subscriber_ids)
    except (PersipubsubError, OSError, typer.BadParameter):
        return []
    return [name for name in names if name.startswith(incomplete)]


def _queue_on_the_line() -> pathlib.Path | None:
    """Return the first word that is the directory of a queue: what stands before an unfinished option is not parsed."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation that is not closed yet
        words = line.split()
    return next((pathlib.Path(word) for word in words[1:] if LocalOpener(pathlib.Path(word)).exists()), None)


def _path(value: Any) -> pathlib.Path | None:
    return None if value is None else pathlib.Path(value)
