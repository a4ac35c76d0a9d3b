"""Which queue a command is about: by its directory, or by its name in a deployment file."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Final

import typer

from persipubsub import config as deployment
from persipubsub.control import Control
from persipubsub.engine.opening import opener_for
from persipubsub.environment import Environment

CONFIG_VARIABLE: Final = "PERSIPUBSUB_CONFIG"
CONFIG_FILE: Final = "persipubsub.json"


def find_config(given: pathlib.Path | None) -> pathlib.Path:
    """Return the deployment file: the given one, that of the environment variable, or that of the working directory.

    :raise typer.BadParameter: there is none
    """
    if given is not None:
        return given
    variable = os.environ.get(CONFIG_VARIABLE)
    if variable:
        return pathlib.Path(variable)
    if pathlib.Path(CONFIG_FILE).exists():
        return pathlib.Path(CONFIG_FILE)
    raise typer.BadParameter(
        f"There is no {CONFIG_FILE} here; give a deployment file with --config or {CONFIG_VARIABLE}."
    )


def has_config() -> bool:
    """Tell whether there is a deployment file that nobody has to name."""
    return bool(os.environ.get(CONFIG_VARIABLE)) or pathlib.Path(CONFIG_FILE).exists()


def find_queue(path: pathlib.Path | None, config: pathlib.Path | None, queue: str | None) -> pathlib.Path:
    """Return the directory of the queue that the command line names in one of the two ways.

    Without a name it is the only queue of the deployment file.

    :raise typer.BadParameter: neither or both were used
    :raise ConfigError: the deployment file is wrong, or has no such queue
    """
    if path is not None:
        if queue is not None or config is not None:
            raise typer.BadParameter("Give either the directory of the queue, or --queue (with --config), not both.")
        return path
    if queue is None and config is None and not has_config():
        raise typer.BadParameter(
            f"Say which queue: its directory, or --queue NAME (with --config FILE); there is no {CONFIG_FILE} here."
        )
    loaded = deployment.load(find_config(config))
    if queue is None:
        if len(loaded.queues) != 1:
            names = ", ".join(loaded.queues) or "none"
            raise typer.BadParameter(f"Say which queue with --queue; {loaded.file} has: {names}.")
        queue = next(iter(loaded.queues))
    return deployment.queue_path(loaded, queue)


def split(
    arguments: list[str] | None, config: pathlib.Path | None, queue: str | None
) -> tuple[pathlib.Path, list[str]]:
    """Return the directory of the queue, and the arguments that follow it (all, with --queue or --config).

    :raise typer.BadParameter: no queue is named
    :raise ConfigError: the deployment file is wrong, or has no such queue
    """
    rest = list(arguments or [])
    path = None
    if queue is None and config is None and rest:
        path = pathlib.Path(rest.pop(0))
    return find_queue(path, config, queue), rest


def only(rest: list[str], what: str) -> str:
    """Return the one argument in ``rest``.

    :raise typer.BadParameter: it is missing, or there are more
    """
    if len(rest) != 1:
        given = " ".join(rest) or "nothing"
        raise typer.BadParameter(f"Give {what} (one argument after the queue), not: {given}.")
    return rest[0]


@contextlib.contextmanager
def open_control(path: pathlib.Path) -> Iterator[Control]:
    """Open the control of a queue that is deployed; unlike ``new_control`` alone, never create one.

    :raise QueueNotFoundError: nothing is deployed there
    :raise OpenError: it cannot be opened
    """
    opener_for(path).open().close()
    with Environment(path) as environment, environment.new_control() as control:
        yield control
