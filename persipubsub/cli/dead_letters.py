"""``persipubsub dead-letters``: list, requeue, discard."""

from typing import Annotated, Any

import typer
from rich.text import Text

from persipubsub.cli import output
from persipubsub.cli.finding import find_queue, open_control, split
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption, SubscriberOption

app = typer.Typer(
    help="""List, requeue, discard undeliverable messages.

    \b
    Example: persipubsub dead-letters requeue ./queues/frames --subscriber archive --all
    """,
    rich_markup_mode=None,
)

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH ID", help="Directory of the queue; ids of messages.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters of the subscriber.")]


@app.command("list")
def list_command(
    subscriber: SubscriberOption,
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object with everything for each.")] = False,
) -> None:
    """List the dead letters of a subscriber.

    Example: persipubsub dead-letters list ./queues/frames --subscriber archive
    """
    with open_control(find_queue(path, config, queue)) as control:
        table = output.table("#id", "died", "#deliveries", "reason", "data")
        for letter in control.dead_letters(subscriber):
            if as_json:
                details = {
                    "died": letter.died.isoformat(),
                    "delivery_count": letter.delivery_count,
                    "reason": letter.reason,
                }
                output.print_json(output.message_json(letter, letter.data, **details))
            else:
                table.add_row(
                    str(letter.id),
                    letter.died.isoformat(sep=" ", timespec="seconds"),
                    str(letter.delivery_count),
                    Text(letter.reason),
                    Text(ascii(letter.data[:40])[2:-1] + ("…" if len(letter.data) > 40 else "")),
                )
    if not as_json:
        output.console().print(table)


@app.command("requeue")
def requeue_command(
    subscriber: SubscriberOption,
    arguments: IdsArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    everything: AllOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Deliver dead letters again, their count at zero; exit status 1 if there were none.

    Example: persipubsub dead-letters requeue ./queues/frames --subscriber archive 17 18
    """
    _settle("requeue", subscriber, arguments, config, queue, everything, as_json)


@app.command("discard")
def discard_command(
    subscriber: SubscriberOption,
    arguments: IdsArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    everything: AllOption = False,
    as_json: output.JsonOption = False,
) -> None:
    """Forget dead letters; exit status 1 if there were none.

    Example: persipubsub dead-letters discard ./queues/frames --subscriber archive --all
    """
    _settle("discard", subscriber, arguments, config, queue, everything, as_json)


def _settle(
    what: str, subscriber: str, arguments: list[str] | None, config: Any, queue: str | None, all_: bool, as_json: bool
) -> None:
    path, rest = split(arguments, config, queue, alone=not all_)
    if bool(rest) == all_:
        raise typer.BadParameter("Give either ids or --all.")
    if not all(text.isascii() and text.isdigit() and len(text) < 21 for text in rest):
        raise typer.BadParameter(f"Ids are whole numbers, but these are: {' '.join(rest)}.")
    ids = None if all_ else [int(text) for text in rest]
    with open_control(path) as control:
        letters = control.dead_letters(subscriber)
        number = letters.requeue(ids) if what == "requeue" else letters.discard(ids)
    if as_json:
        output.print_json({"messages": number})
    else:
        typer.echo(f"{what}{'d' if what == 'requeue' else 'ed'} {number} messages")
    if not number:
        raise typer.Exit(1)
