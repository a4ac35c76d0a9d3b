"""Which queue a command is about: by its directory, or by its name in a deployment file."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Final

import typer

from persipubsub import config as deployment
from persipubsub.control import Control
from persipubsub.engine.opening import LocalOpener, opener_for
from persipubsub.environment import Environment
from persipubsub.manager import QueueManager
from persipubsub.paths import absolute

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


def find_queues(
    locations: Sequence[str], config: pathlib.Path | None, names: Sequence[str]
) -> dict[str, str | pathlib.Path]:
    """Return where the queues are that a command looks at together, by the names to show.

    They are given by their directories (or one above them), or by names in a deployment file; without
    either, they are all of the deployment file.

    :raise typer.BadParameter: both ways were used
    :raise ConfigError: the deployment file is wrong, or has no such queue
    """
    if not locations:
        loaded = deployment.load(find_config(config))
        return {name: deployment.queue_path(loaded, name) for name in names or loaded.queues}
    if names or config is not None:
        raise typer.BadParameter("Give either directories of queues, or --queue (with --config), not both.")
    found: dict[str, str | pathlib.Path] = {}
    for text in locations:
        opener = opener_for(text)
        if not isinstance(opener, LocalOpener):
            found[opener.location] = text
            continue
        inside = QueueManager(text).names()
        for place in [pathlib.Path(text, name) for name in inside] or [pathlib.Path(text)]:
            name = absolute(place).name
            found[str(place) if name in found else name] = place
    return found


def split(
    arguments: list[str] | None,
    config: pathlib.Path | None,
    queue: str | None,
    *,
    alone: bool = True,
    paths: bool = False,
) -> tuple[pathlib.Path, list[str]]:
    """Return the directory of the queue, and the arguments that follow it.

    With ``--queue`` or ``--config`` all words are arguments; else the first one is the queue. Only where a deployment
    file is found, a word that stands alone and has no slash is the argument, and the queue the only one of the file.

    :param alone: a word alone can be an argument
    :param paths: the argument is a path itself: a slash in it means nothing
    :raise typer.BadParameter: no queue is named, or the first word could be either
    :raise ConfigError: the deployment file is wrong, or has no such queue
    """
    rest = list(arguments or [])
    if not rest or queue is not None or config is not None:
        return find_queue(None, config, queue), rest
    if not alone or len(rest) > 1 or not has_config() or (not paths and _is_location(rest[0])):
        return find_queue(pathlib.Path(rest.pop(0)), None, None), rest
    if not paths and os.path.isdir(rest[0]):
        raise typer.BadParameter(
            f"{rest[0]!r} is a directory here: write ./{rest[0]} for the queue in it, or name the queue with --queue."
        )
    return find_queue(None, None, None), rest


def _is_location(word: str) -> bool:
    return "/" in word or word in (".", "..")


def only(rest: list[str], what: str) -> str:
    """Return the one argument in ``rest``.

    :raise typer.BadParameter: it is missing, or there are more
    """
    if len(rest) != 1:
        given = " ".join(rest) or "nothing"
        raise typer.BadParameter(f"Give {what} (one word after the queue), not: {given}.")
    return rest[0]


def shown(path: pathlib.Path) -> str:
    """Return a queue as it may be shown: a directory as it was given, a URL without its secrets."""
    opener = opener_for(path)
    return str(path) if isinstance(opener, LocalOpener) else opener.location


@contextlib.contextmanager
def open_control(path: pathlib.Path) -> Iterator[Control]:
    """Open the control of a queue that is deployed; nothing is created.

    :raise QueueNotFoundError: nothing is deployed there
    :raise OpenError: it cannot be opened
    """
    with Environment(path) as environment, environment.open_control() as control:
        yield control
