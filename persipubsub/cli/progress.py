"""Showing that something long is under way: on a terminal, and on stderr alone, so that a script reads the result."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from persipubsub.cli import output


@contextlib.contextmanager
def working(
    what: str, total: int | None = None, *, beside: bool = False, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many messages are done; it shows nothing when stderr is no terminal.

    :param beside: the command prints while it works; where that goes to a terminal, it is progress enough
    :param hidden: show nothing
    """
    console = output.console(stderr=True)
    if hidden or not console.is_terminal or (beside and sys.stdout.isatty()):
        yield lambda done: None
        return
    columns = [BarColumn(), MofNCompleteColumn()] if total else [TextColumn("{task.fields[done]}")]
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # What others print meanwhile goes where it is sent to.
        redirect_stdout=False,
    ) as progress:
        task = progress.add_task(what, total=total, done="")
        yield lambda done: progress.update(task, completed=done, done=f"{done:,} messages")
