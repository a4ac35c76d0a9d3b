"""What stands in the table of queues and subscribers; knows nothing of the terminal but its width."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from persipubsub.units import count, duration, rate, size, spark
from persipubsub.watch.sampling import QueueView, State, SubscriberView


class Column(NamedTuple):
    """A column: its heading, and characters of width, with the space that divides it from the one before."""

    heading: str
    width: int


_TREND = 8
_NARROW = (
    Column("IN/S", 6),
    Column("OUT/S", 6),
    Column("LAG", 6),
    Column("TREND", 1 + _TREND),
    Column("OLDEST", 8),
    Column("LEASED", 7),
    Column("DELAY", 6),
    Column("DEAD", 6),
    Column("PRUNED", 7),
)
_DISK = (Column("ON DISK", 10), Column("FREE", 10))
#: Width that the scroll bar takes.
_MARGIN = 1
_WIDEST_NAME = 48


class Row(NamedTuple):
    """A row: the queue and the subscriber it is about (``None``: the queue itself), and its cells."""

    queue: str
    subscriber: str | None
    cells: tuple[Text, ...]

    @property
    def key(self) -> str:
        """Return what tells it from all others; no name has a line break."""
        return self.queue if self.subscriber is None else f"{self.queue}\n{self.subscriber}"


STYLES = {State.OK: "", State.GONE: "red", State.BUSY: "yellow", State.FAILING: "red"}


def columns(width: int) -> list[Column]:
    """Return the columns for a terminal of ``width`` characters: 80 are enough, more show more."""
    rest = [*_NARROW]
    if width >= 18 + sum(column.width for column in (*_NARROW, *_DISK)) + _MARGIN:
        rest += _DISK
    room = width - sum(column.width for column in rest) - _MARGIN
    return [Column("QUEUE, SUBSCRIBER", max(12, min(room, _WIDEST_NAME))), *rest]


def rows(views: Sequence[QueueView], shown: Sequence[Column]) -> list[Row]:
    """Return the rows: each queue, and below it its subscribers."""
    found = []
    for view in views:
        found.append(Row(view.name, None, _fit(_queue(view), shown)))
        for subscriber in view.subscribers:
            found.append(Row(view.name, subscriber.identifier, _fit(_subscriber(subscriber, view.state), shown)))
    return found


def _queue(view: QueueView) -> list[Text]:
    style = STYLES[view.state]
    name = Text(view.name, f"bold {style}")
    if not view.known:
        return [name, *(Text("") for _ in range(3)), Text(view.state.value, style)]
    quiet = "" if view.state is State.OK else "dim"
    trend = Text(spark(view.lag_history, _TREND), "cyan") if view.state is State.OK else Text(view.state.value, style)
    return [
        name,
        Text(rate(view.rate_in), quiet),
        Text(rate(view.rate_out), quiet),
        Text(count(view.lag), quiet),
        trend,
        Text(duration(view.oldest_age), quiet),
        Text(count(view.total("leased")), quiet),
        Text(count(view.total("delayed")), quiet),
        _alarming(view.total("dead")),
        _alarming(view.pruned),
        Text(size(view.file_bytes), quiet),
        Text("-" if view.free_bytes is None else size(view.free_bytes), quiet),
    ]


def _subscriber(subscriber: SubscriberView, state: State) -> list[Text]:
    quiet = "" if state is State.OK else "dim"
    name = Text("  " + subscriber.identifier, quiet)
    if subscriber.paused:
        name.append(" paused", "yellow")
    return [
        name,
        Text(""),
        Text(rate(subscriber.rate_out), quiet),
        Text(count(subscriber.lag), quiet),
        Text(spark(subscriber.lag_history, _TREND), quiet or "cyan"),
        Text(duration(subscriber.late), quiet),
        Text(count(subscriber.leased), quiet),
        Text(count(subscriber.delayed), quiet),
        _alarming(subscriber.dead),
        _alarming(subscriber.lost),
    ]


def _alarming(number: int | None) -> Text:
    return Text(count(number), "bold red" if number else "")


def _fit(cells: list[Text], shown: Sequence[Column]) -> tuple[Text, ...]:
    """Return as many cells as there are columns, each as wide as its column; all but the name stand to the right."""
    fitted = []
    for number, column in enumerate(shown):
        cell = cells[number].copy() if number < len(cells) else Text("")
        if number:
            cell.truncate(column.width - 1)
            cell.align("right", column.width)
        else:
            cell.truncate(column.width, overflow="ellipsis")
        fitted.append(cell)
    return tuple(fitted)


def facts(view: QueueView) -> Text:
    """Return what does not fit into the row of a queue, for the lines below the table."""
    text = Text(no_wrap=False)
    text.append(view.name, "bold")
    text.append(f"  {view.location}\n", "dim")
    if view.state is not State.OK:
        text.append(f"{view.state.value}: {view.problem}  ", f"bold {STYLES[view.state]}")
    if view.known:
        disk = "" if view.free_bytes is None else f", {size(view.free_bytes)} free"
        text.append(
            f"{view.messages} messages, {size(view.payload_bytes)} of payload; {size(view.file_bytes)} on disk{disk}; "
            f"{view.published} published"
        )
        for number, what in ((view.unrouted, "unrouted"), (view.deduplicated, "deduplicated")):
            if number:
                text.append(f", {number} {what}")
    return text
