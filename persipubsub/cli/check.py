"""``persipubsub check``."""

import pathlib
from typing import Annotated

import msgspec
import typer

from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_queue, open_control, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption
from persipubsub.engine.opening import LocalOpener, opener_for

NAME = "check"
HELP = """Verify everything that is stored in a queue.

Exit status 1 says that something is wrong. With --repair what can be read is saved into a new queue: the
damaged one stays as it is, and nobody may have it open. Exit status 1 then says that something was lost.

\b
Example: persipubsub check ./queues/frames --repair ./queues/frames-saved
"""

_MOST_SHOWN = 20


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    repair: Annotated[
        pathlib.Path | None,
        typer.Option("--repair", metavar="NEW", help="Save what can be read into a new queue there."),
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Check a queue."""
    from persipubsub import care

    directory = find_queue(path, config, queue)
    if repair is not None:
        _repair(directory, repair, as_json)
        return
    with progress.working(f"checking {shown(directory)}"):
        if isinstance(opener_for(directory), LocalOpener):
            findings = care.check_apart(directory)
        else:
            with open_control(directory) as control:
                findings = control.check()
    if as_json:
        output.print_json({"findings": [msgspec.to_builtins(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.where}: {finding.what}")
        if not findings:
            typer.echo("all is well")
    if findings:
        raise typer.Exit(1)


def _repair(damaged: pathlib.Path, target: pathlib.Path, as_json: bool) -> None:
    from persipubsub import care

    with progress.working(f"saving {damaged}"):
        report = care.salvage(damaged, target)
    if as_json:
        output.print_json({"path": str(target), "complete": report.complete, **msgspec.to_builtins(report)})
    else:
        for what in (*report.damages, *report.notes)[:_MOST_SHOWN]:
            typer.echo(what)
        more = len(report.damages) + len(report.notes) - _MOST_SHOWN
        if more > 0:
            typer.echo(f"and {more} more")
        typer.echo(
            f"{target}: saved {report.messages} messages, {report.dead_letters} dead letters, "
            f"{len(report.subscribers)} subscribers; lost {report.lost} messages"
            + (f" ({_ids(report.lost_ids)})" if report.lost_ids else "")
        )
    if not report.complete:
        raise typer.Exit(1)


def _ids(ids: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ids[:_MOST_SHOWN]))
    return f"ids {shown}" + (", ..." if len(ids) > _MOST_SHOWN else "")
