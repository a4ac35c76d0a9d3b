"""``persipubsub doctor``."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.text import Text

from persipubsub import config as deployment
from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_config, find_queue, has_config, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption

if TYPE_CHECKING:
    from persipubsub import care

NAME = "doctor"
HELP = """Look at this machine, and at queues, for what needs care.

Versions, limits, the kind of filesystem, disk space, what an fsync costs here; in a queue: its map, readers,
owners that died, dead letters. Without a queue, all queues of the deployment file are looked at, if there is
one. Exit status 1 says that something needs care.

\b
Example: persipubsub doctor ./queues/frames
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Examine."""
    from persipubsub import care

    rows: list[tuple[str | None, care.Symptom]] = []
    with progress.working("looking"):
        for name, place in _places(path, config, queue).items():
            known = [symptom for _, symptom in rows]
            # What is true of the machine is said once.
            rows += [(name, symptom) for symptom in care.examine(place) if not _is_same(symptom, known)]
    if as_json:
        output.print_json({"symptoms": [{"queue": name, **msgspec.to_builtins(symptom)} for name, symptom in rows]})
    else:
        table = output.table("", "what", "seen")
        several = len({name for name, _ in rows}) > 1
        for name, symptom in rows:
            what = f"{name}: {symptom.topic}" if several and name else symptom.topic
            mark = Text("care", "bold yellow") if symptom.needs_care else Text("ok", "green")
            table.add_row(mark, Text(what), Text(symptom.finding))
            if symptom.advice is not None:
                table.add_row("", "", Text(f"-> {symptom.advice}", "yellow"))
        output.console().print(table)
    if any(symptom.needs_care for _, symptom in rows):
        raise typer.Exit(1)


def _is_same(symptom: care.Symptom, known: list[care.Symptom]) -> bool:
    return symptom.topic in ("versions", "open files", "process ids") and symptom in known


def _places(
    path: pathlib.Path | None, config: pathlib.Path | None, queue: str | None
) -> dict[str | None, pathlib.Path | None]:
    """Return the queues to look at by the names to show; one without a path is the machine alone."""
    if path is not None or queue is not None:
        found = find_queue(path, config, queue)
        return {queue or shown(found): found}
    if config is None and not has_config():
        return {None: None}
    loaded = deployment.load(find_config(config))
    return {name: one.path for name, one in loaded.queues.items()} or {None: None}
