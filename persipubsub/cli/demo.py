"""``persipubsub demo``."""

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from persipubsub import units
from persipubsub.cli import output
from persipubsub.demo import job
from persipubsub.demo.verdict import Verdict

NAME = "demo"
HELP = """Stream files between processes, and kill one.

Two publishers send every file of FOLDER (else: the sources of Python's standard library) to three
subscribers: 'archive', 'index', and 'workers', two processes that share the work. One worker is killed
(kill -9) with a message in its hands, and another takes its place. In the end the SHA-256 of every file
at every subscriber is compared with the original. Exit status 1 says that something is missing.

\b
Example: persipubsub demo ~/Documents
"""

#: Seconds between two lines of progress when the output is no terminal.
_LINE_EVERY = 2.0


def command(
    folder: Annotated[
        pathlib.Path | None,
        typer.Argument(metavar="FOLDER", help="Folder whose files are sent.", show_default=False),
    ] = None,
    directory: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FOLDER", help="Empty folder to work in, and to keep; else a temporary one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run the demo."""
    # Progress goes where the result does not: a script reads the result alone.
    console = output.console(stderr=as_json)
    with _directory(directory) as where, _reporting(console) as report:
        verdict = job.run(folder, where, report)
    if as_json:
        output.print_json(_as_json(verdict))
    else:
        _print(console, verdict, directory)
    if not verdict.passed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _directory(given: pathlib.Path | None) -> Iterator[pathlib.Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="persipubsub-demo-") as temporary:
        yield pathlib.Path(temporary)


@contextlib.contextmanager
def _reporting(console: Console) -> Iterator[Callable[[job.Progress], None]]:
    """Give the function that shows progress: bars on a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        ) as progress:
            yield _Bars(progress)
    else:
        yield _Lines(console)


class _Bars:
    """One bar for what is sent, and one for each subscriber."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks = {name: progress.add_task(name, total=None, note="") for name in ("sent", *job.READERS)}

    def __call__(self, state: job.Progress) -> None:
        for name, done in {"sent": state.sent, **state.received}.items():
            note = f"worker {state.killed} killed" if name == "workers" and state.killed else ""
            self._progress.update(self._tasks[name], total=state.files, completed=done, note=note)


class _Lines:
    """A line at the kill, and one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._killed = False

    def __call__(self, state: job.Progress) -> None:
        if state.killed and not self._killed:
            self._killed = True
            self._console.print(f"killed worker {state.killed} (SIGKILL) with a message in its hands")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY
            received = ", ".join(f"{name} {count}" for name, count in state.received.items())
            self._console.print(f"sent {state.sent} of {state.files}; received: {received}")


def _print(console: Console, verdict: Verdict, directory: pathlib.Path | None) -> None:
    table = output.table("subscriber", "#received", "#deliveries", "#redelivered", "#lost")
    for name, subscriber in verdict.subscribers.items():
        lost = len(subscriber.missing) + len(subscriber.altered)
        table.add_row(
            name,
            str(subscriber.received),
            str(subscriber.deliveries),
            str(subscriber.redelivered),
            f"[red]{lost}" if lost else "0",
        )
    console.print(table)
    for name, subscriber in verdict.subscribers.items():
        for what, paths in (("never arrived", subscriber.missing), ("differs from the original", subscriber.altered)):
            for path in paths[:10]:
                console.print(escape(f"{name}: {path!a} {what}"), style="red", soft_wrap=True)
            if len(paths) > 10:
                console.print(f"{name}: {len(paths) - 10} more {what}", style="red", soft_wrap=True)
    for problem in verdict.problems:
        console.print(escape(problem), style="red", soft_wrap=True)
    console.print(
        f"sent {verdict.sent}, received {verdict.received}, redelivered {verdict.redelivered}, lost {verdict.lost}, "
        f"{verdict.rate:,.0f} messages/s ({verdict.seconds:.1f} s, {units.size(verdict.payload_bytes)} of files)",
        soft_wrap=True,
    )
    if verdict.passed:
        console.print(
            "Every file arrived at every subscriber, with the SHA-256 of the original.", style="green", soft_wrap=True
        )
    if directory is not None:
        console.print(escape(f"Look at the queue with: persipubsub status --config {directory}/persipubsub.json"))


def _as_json(verdict: Verdict) -> dict[str, object]:
    return {
        "passed": verdict.passed,
        "files": verdict.files,
        "sent": verdict.sent,
        "received": verdict.received,
        "redelivered": verdict.redelivered,
        "lost": verdict.lost,
        "rate": round(verdict.rate, 1),
        "seconds": round(verdict.seconds, 3),
        "problems": list(verdict.problems),
        "subscribers": {
            name: {
                "received": subscriber.received,
                "deliveries": subscriber.deliveries,
                "redelivered": subscriber.redelivered,
                "missing": [ascii(path)[1:-1] for path in subscriber.missing],
                "altered": [ascii(path)[1:-1] for path in subscriber.altered],
            }
            for name, subscriber in verdict.subscribers.items()
        },
    }
