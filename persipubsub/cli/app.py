"""All subcommands under one roof, and one line on stderr for whatever goes wrong."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from persipubsub.cli import (
    backup,
    bench,
    check,
    clear,
    compact,
    dashboard,
    dead_letters,
    delete,
    demo,
    deploy,
    doctor,
    exporting,
    importing,
    metrics,
    prune,
    receive,
    relay,
    restore,
    seek,
    send,
    status,
    subscribers,
    tail,
    top,
    work,
)
from persipubsub.errors import PersipubsubError, QueueError

OK, ANSWER_IS_NO, WRONG, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

#: What Typer raises for a wrong command line; its name has moved between versions, its place has not.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="persipubsub",
    help="""Look at queues, deploy them, and send and receive messages.

    A queue is given by its directory, or by its name with --queue; then its directory is looked up in
    the deployment file given by --config, else by the variable PERSIPUBSUB_CONFIG, else in
    ./persipubsub.json. If a file found so has only one queue, it need not be named: `persipubsub send hello`
    sends to it. Of several words the first is the queue, and so is a word with a slash, as ./frames.

    Exit status: 0; 1 when the answer is no; 2 for wrong use, a bad configuration or a missing queue.
    """,
    epilog="Start with: persipubsub demo",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def show_help(context: typer.Context) -> None:
    """Show the help when no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG)


_DAILY = (deploy, status, send, receive, work, relay, tail, seek, prune, clear, delete)
_WATCHING = (top, dashboard, metrics)
_CARE = (check, doctor, backup, restore, compact, exporting, importing)
for _command in (*_DAILY, *_WATCHING, *_CARE, bench, demo):
    app.command(_command.NAME, help=_command.HELP)(_command.command)
app.add_typer(subscribers.app, name="subscribers")
app.add_typer(dead_letters.app, name="dead-letters")


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit status; errors are one line on stderr."""
    try:
        status_code = app(args=list(arguments), prog_name="persipubsub", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _nobody_reads()
    except SystemExit as error:
        # Typer makes this of a broken pipe.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return _nobody_reads()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except _UsageError as error:
        # Where no option is to blame, the prefix says nothing.
        return _fail(error.format_message().removeprefix("Invalid value: "))
    except QueueError as error:
        return _fail(str(error), ANSWER_IS_NO)
    except (PersipubsubError, OSError) as error:
        return _fail(str(error))
    return status_code if isinstance(status_code, int) else OK


def _nobody_reads() -> int:
    """Let what Python still has to flush at its exit go nowhere, instead of being complained about."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return BROKEN_PIPE


def _fail(message: str, status_code: int = WRONG) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"persipubsub: error: {line}\n")
    return status_code
