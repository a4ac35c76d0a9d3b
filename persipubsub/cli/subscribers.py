"""``persipubsub subscribers``: list, add, remove, pause, resume."""

import pathlib
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from persipubsub.cli import output
from persipubsub.cli.finding import find_queue, only, open_control, split
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption
from persipubsub.cli.position import parse_position

app = typer.Typer(
    help="""List, add, remove, pause, resume subscribers.

    \b
    Example: persipubsub subscribers add ./queues/frames archive --start first
    """,
    rich_markup_mode=None,
)

IdentifierArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH IDENTIFIER", help="Directory of the queue; subscriber.", show_default=False),
]


@app.command("list")
def list_command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """List the subscribers and their settings.

    Example: persipubsub subscribers list ./queues/frames
    """
    with open_control(find_queue(path, config, queue)) as control:
        settings = control.subscribers
        paused = {subscriber.identifier: subscriber.paused for subscriber in control.statistics().subscribers}
    rows: dict[str, dict[str, Any]] = {
        identifier: {**msgspec.to_builtins(own), "paused": paused.get(identifier, False)}
        for identifier, own in sorted(settings.items())
    }
    if as_json:
        output.print_json(rows)
        return
    table = output.table("subscriber", "lease", "max deliveries", "topic filter", "state")
    for identifier, row in rows.items():
        state = [name for name in ("paused", "ephemeral") if row[name]]
        table.add_row(
            Text(identifier),
            "while its owner lives" if row["lease"] is None else f"{row['lease']:g} s",
            "no limit" if row["max_deliveries"] is None else str(row["max_deliveries"]),
            Text(row["topic_filter"] or "-"),
            ", ".join(state) or "-",
        )
    output.console().print(table)


@app.command("add")
def add_command(
    arguments: IdentifierArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    start: Annotated[str, typer.Option(metavar="POSITION", help="'first', 'latest', an id, or a time.")] = "latest",
    lease: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long a message may be held; else while its owner lives."),
    ] = None,
    max_deliveries: Annotated[
        int | None, typer.Option(min=0, help="Deliveries after which a message is dead, 20 if not given; 0: no limit.")
    ] = None,
    topic_filter: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Such as 'camera.*' or 'camera.>'.")
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Add a subscriber; adding it again with the same settings changes nothing.

    Example: persipubsub subscribers add ./queues/frames archive --start first
    """
    path, rest = split(arguments, config, queue)
    identifier = only(rest, "the identifier of the subscriber")
    position = parse_position(start)
    given: dict[str, Any] = {}
    if lease is not None:
        given["lease"] = lease
    if max_deliveries is not None:
        given["max_deliveries"] = max_deliveries or None
    if topic_filter is not None:
        given["topic_filter"] = topic_filter
    with open_control(path) as control:
        existed = identifier in control.subscriber_ids
        control.add_subscriber(identifier, position, **given)
    _tell(identifier, as_json, "was there already" if existed else "added", added=not existed)


@app.command("remove")
def remove_command(
    arguments: IdentifierArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Remove a subscriber with everything that waits for it; exit status 1 if there was none.

    Example: persipubsub subscribers remove ./queues/frames archive
    """
    path, rest = split(arguments, config, queue)
    identifier = only(rest, "the identifier of the subscriber")
    with open_control(path) as control:
        existed = control.remove_subscriber(identifier)
    _tell(identifier, as_json, "removed" if existed else "there is no such subscriber", removed=existed)
    if not existed:
        raise typer.Exit(1)


@app.command("pause")
def pause_command(
    arguments: IdentifierArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Stop deliveries to a subscriber; its messages wait.

    Example: persipubsub subscribers pause ./queues/frames archive
    """
    path, rest = split(arguments, config, queue)
    _pause(path, only(rest, "the identifier of the subscriber"), as_json, paused=True)


@app.command("resume")
def resume_command(
    arguments: IdentifierArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Go on with deliveries to a paused subscriber.

    Example: persipubsub subscribers resume ./queues/frames archive
    """
    path, rest = split(arguments, config, queue)
    _pause(path, only(rest, "the identifier of the subscriber"), as_json, paused=False)


def _pause(path: pathlib.Path, identifier: str, as_json: bool, *, paused: bool) -> None:
    with open_control(path) as control:
        if paused:
            control.pause_subscriber(identifier)
        else:
            control.resume_subscriber(identifier)
    _tell(identifier, as_json, "paused" if paused else "goes on", paused=paused)


def _tell(identifier: str, as_json: bool, done: str, **result: bool) -> None:
    if as_json:
        output.print_json({"subscriber": identifier, **result})
    else:
        typer.echo(f"{identifier}: {done}")
