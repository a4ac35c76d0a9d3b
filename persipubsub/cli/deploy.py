"""``persipubsub deploy``."""

import pathlib
from typing import Annotated

import typer
from rich.markup import escape

from persipubsub import config as deployment
from persipubsub.cli import output, progress
from persipubsub.cli.finding import find_config
from persipubsub.cli.options import ConfigOption
from persipubsub.deployment import Action, Plan

NAME = "deploy"
HELP = """Create and change queues as a file says.

Deploying again changes nothing. Nothing is ever deleted without --prune. With --dry-run, exit
status 1 says that there is something to do.

\b
Example: persipubsub deploy queues.json --dry-run
"""

_STYLES = {Action.CREATE: "green", Action.CHANGE: "yellow", Action.REMOVE: "red", Action.WOULD_REMOVE: "dim"}


def command(
    file: Annotated[
        pathlib.Path | None,
        typer.Argument(metavar="FILE", help="Deployment file; else PERSIPUBSUB_CONFIG, else ./persipubsub.json."),
    ] = None,
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove subscribers and queues (directly under the root) that are not listed."),
    ] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Deploy a file."""
    if file is not None and config is not None:
        raise typer.BadParameter("Give the deployment file once, as FILE or with --config.")
    loaded = deployment.load(find_config(file or config))
    with progress.working(f"{'comparing with' if dry_run else 'deploying'} {loaded.file}"):
        plan = deployment.deploy(loaded, dry_run=dry_run, prune=prune)
    if as_json:
        output.print_json({"root": str(loaded.root), "dry_run": dry_run, "rows": [row.as_dict() for row in plan.rows]})
    else:
        _print(plan)
    if dry_run and plan.differs:
        raise typer.Exit(1)


def _print(plan: Plan) -> None:
    table = output.table("action", "what", "details")
    for row in plan.rows:
        what = f"queue {row.queue}" if row.subscriber is None else f"  subscriber {row.subscriber}"
        table.add_row(
            f"[{_STYLES[row.action]}]{row.action.value}" if row.action in _STYLES else row.action.value,
            escape(what),
            escape("; ".join(row.details)),
        )
    console = output.console()
    if plan.rows:
        console.print(table)
    else:
        console.print("There are no queues in this file.")
