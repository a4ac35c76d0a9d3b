"""Showing that something long is under way: on a terminal, and on stderr alone, so that a script reads the result."""

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from persipubsub.cli import output


@contextlib.contextmanager
def working(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many messages are done; it shows nothing when stderr is no terminal."""
    console = output.console(stderr=True)
    if not console.is_terminal:
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
    ) as progress:
        task = progress.add_task(what, total=total, done="")
        yield lambda done: progress.update(task, completed=done, done=f"{done:,} messages")
