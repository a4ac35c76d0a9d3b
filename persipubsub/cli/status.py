"""``persipubsub status``."""

import pathlib
import threading
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from persipubsub import config as deployment
from persipubsub import units
from persipubsub.cli import output
from persipubsub.cli.finding import find_config, find_queue, open_control, shown
from persipubsub.cli.options import ConfigOption, PathArgument, QueueOption
from persipubsub.engine.figures import Statistics, SubscriberStatistics
from persipubsub.engine.opening import opener_for
from persipubsub.errors import QueueNotFoundError
from persipubsub.watch.sampling import QueueView, Reading, State, Track

NAME = "status"
HELP = """Show queues, and how far subscribers are.

Without a queue, show all queues of the deployment file.

\b
Example: persipubsub status ./queues/frames --watch
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: output.JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it with rates, again and again until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks, with --watch.")] = 1.0,
) -> None:
    """Show statistics of queues."""
    paths = _paths(path, config, queue)
    if not watch:
        figures = _look(paths)
        if as_json:
            output.print_json(_as_json(paths, figures))
        else:
            output.console().print(_render(paths, figures))
        return
    pause = threading.Event()
    tracks = {name: Track(name, str(path), 2) for name, path in paths.items()}
    figures = _look(paths)
    if as_json:
        while True:
            output.print_json(_as_json(paths, figures, _rates(tracks, figures)))
            pause.wait(interval)
            figures = _look(paths)
    console = output.console()
    first = _render(paths, figures, _rates(tracks, figures))
    with Live(first, console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            pause.wait(interval)
            figures = _look(paths)
            live.update(_render(paths, figures, _rates(tracks, figures)), refresh=True)


def _rates(tracks: dict[str, Track], figures: dict[str, Statistics]) -> dict[str, QueueView]:
    """Return what follows from this look and the one before."""
    now = time.monotonic()
    return {
        name: track.add(
            Reading(at=now, statistics=figures[name]) if name in figures else Reading(at=now, state=State.GONE)
        )
        for name, track in tracks.items()
    }


def _paths(path: pathlib.Path | None, config: pathlib.Path | None, queue: str | None) -> dict[str, pathlib.Path]:
    """Return the directories to look at, by the names to show."""
    if path is not None or queue is not None:
        found = find_queue(path, config, queue)
        return {queue or shown(found): found}
    loaded = deployment.load(find_config(config))
    return {name: queue_config.path for name, queue_config in loaded.queues.items()}


def _look(paths: dict[str, pathlib.Path]) -> dict[str, Statistics]:
    """Return the statistics of the queues; with several, those that are not deployed are left out."""
    result = {}
    for name, path in paths.items():
        try:
            with open_control(path) as control:
                result[name] = control.statistics()
        except QueueNotFoundError:
            if len(paths) == 1:
                raise
    return result


def _as_json(
    paths: dict[str, pathlib.Path], figures: dict[str, Statistics], views: dict[str, QueueView] | None = None
) -> dict[str, Any]:
    queues: dict[str, Any] = {}
    for name, path in paths.items():
        queues[name] = {"path": opener_for(path).location, "deployed": name in figures}
        if name in figures:
            queues[name].update(msgspec.to_builtins(figures[name]))
            for row, subscriber in zip(queues[name]["subscribers"], figures[name].subscribers, strict=True):
                row["lag"] = subscriber.lag
            if views is not None:
                queues[name]["rate_in"] = views[name].rate_in
                for row, view in zip(queues[name]["subscribers"], views[name].subscribers, strict=True):
                    row["rate_out"] = view.rate_out
    return {"queues": queues}


def _render(
    paths: dict[str, pathlib.Path], figures: dict[str, Statistics], views: dict[str, QueueView] | None = None
) -> RenderableType:
    parts: list[RenderableType] = []
    for name in paths:
        if name not in figures:
            parts += [Text.assemble((name, "bold"), " is not deployed"), Text()]
            continue
        parts += [*_render_queue(name, figures[name], None if views is None else views[name]), Text()]
    return Group(*parts[:-1]) if parts else Text("There are no queues in this file.")


def _render_queue(name: str, statistics: Statistics, view: QueueView | None) -> list[RenderableType]:
    facts = [
        f"{statistics.messages} messages",
        f"{units.size(statistics.payload_bytes)} of payload in {units.size(statistics.file_bytes)}",
        f"{statistics.published} published",
    ]
    if view is not None:
        facts.append(f"{units.rate(view.rate_in)}/s in")
    if statistics.oldest_age is not None:
        facts.append(f"oldest {units.duration(statistics.oldest_age)}")
    for count, what in (
        (statistics.deduplicated, "deduplicated"),
        (statistics.unrouted, "unrouted"),
        (statistics.pruned_overflow, "pruned by overflow"),
        (statistics.pruned_timeout, "pruned by timeout"),
    ):
        if count:
            facts.append(f"{count} {what}")
    heading = Text.assemble((name, "bold"), "  ", ", ".join(facts))
    if not statistics.subscribers:
        return [heading, Text("  no subscribers")]
    table = output.table(
        "subscriber",
        *([] if view is None else ["#out/s"]),
        "#lag",
        "#waiting",
        "#leased",
        "#delayed",
        "#dead",
        "#settled",
        "#again",
        "#lost",
        "taken by",
    )
    rates = [] if view is None else [one.rate_out for one in view.subscribers]
    for number, subscriber in enumerate(statistics.subscribers):
        owners = ", ".join(
            f"{owner.command} ({owner.pid}{' elsewhere' if owner.elsewhere else ''}): {owner.leased}"
            for owner in subscriber.owners or ()
        )
        table.add_row(
            Text(subscriber.identifier + (" (paused)" if subscriber.paused else "")),
            *([] if view is None else [units.rate(rates[number])]),
            str(subscriber.lag),
            str(subscriber.waiting),
            str(subscriber.leased),
            str(subscriber.delayed),
            Text(str(subscriber.dead), "red" if subscriber.dead else ""),
            str(subscriber.settled),
            str(subscriber.redelivered),
            Text(_losses(subscriber), "red" if subscriber.lost else ""),
            Text(owners or "-"),
        )
    return [heading, table]


def _losses(subscriber: SubscriberStatistics) -> str:
    """Return how many messages never reached a subscriber; a dash if the engine cannot know."""
    if subscriber.lost is None or subscriber.expired is None:
        return "-"
    return str(subscriber.lost + subscriber.expired)
