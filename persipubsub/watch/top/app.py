"""``persipubsub top``: a live table of queues and subscribers, and what is inside a queue."""

import asyncio
import contextlib
from typing import ClassVar, cast

from textual import events, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from persipubsub.watch.sampling import QueueView, State
from persipubsub.watch.top.detail import QueueScreen
from persipubsub.watch.top.rows import columns, facts, rows
from persipubsub.watch.top.table import LiveTable
from persipubsub.watch.watching import Watch


class QueueTable(LiveTable):
    """The table of queues; Enter opens the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Open")]


class Overview(Screen[None]):
    """All queues and their subscribers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "app.pause", "Pause"),
        Binding("s", "sort", "Sort"),
        Binding("q", "app.quit", "Quit"),
    ]
    CSS = """
    #title { height: 1; background: $primary; color: $text; padding: 0 1; }
    #facts { height: auto; max-height: 3; padding: 0 1; background: $surface; }
    LiveTable { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    _SORTINGS = ("name", "lag", "rate in", "dead")

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._views: list[QueueView] = []
        self._sorting = 0

    def compose(self) -> ComposeResult:
        """Put a title above the table, and facts about the queue under the cursor below."""
        yield Static(id="title", markup=False)
        yield QueueTable(id="queues")
        yield Static(id="facts", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def show(self, views: list[QueueView], note: str) -> None:
        """Show what the last looks gave."""
        self._views = self._sorted(views)
        subscribers = sum(len(view.subscribers) for view in views)
        troubled = sum(view.state is not State.OK for view in views)
        trouble = f", {troubled} not readable" if troubled else ""
        self.query_one("#title", Static).update(
            f"persipubsub top   {len(views)} queues, {subscribers} subscribers{trouble}   "
            f"by {self._SORTINGS[self._sorting]}   {note}"
        )
        self._fill()

    def _sorted(self, views: list[QueueView]) -> list[QueueView]:
        """Return the queues in the order that was asked for; those that are equal stay as they were given."""
        match self._SORTINGS[self._sorting]:
            case "lag":
                return sorted(views, key=lambda view: -view.lag)
            case "rate in":
                return sorted(views, key=lambda view: -(view.rate_in or 0.0))
            case "dead":
                return sorted(views, key=lambda view: -view.total("dead"))
        return views

    def _fill(self) -> None:
        table = self.query_one(LiveTable)
        shown = columns(self.size.width)
        table.set_columns(shown)
        table.show([(row.key, row.cells) for row in rows(self._views, shown)])
        self._tell_facts()

    def _tell_facts(self) -> None:
        name = self._queue()
        view = next((view for view in self._views if view.name == name), None)
        self.query_one("#facts", Static).update(facts(view) if view is not None else "There are no queues to show.")

    def _queue(self) -> str | None:
        selected = self.query_one(LiveTable).selected
        return None if selected is None else selected.partition("\n")[0]

    @property
    def _program(self) -> "TopApp":
        return cast("TopApp", self.app)

    def on_resize(self, event: events.Resize) -> None:
        """Fit the columns to the terminal."""
        self._fill()

    def on_data_table_row_highlighted(self) -> None:
        """Tell about the queue that the cursor has come to."""
        self._tell_facts()

    def on_data_table_row_selected(self) -> None:
        """Show what is inside the queue under the cursor."""
        name = self._queue()
        view = next((view for view in self._views if view.name == name), None)
        if view is not None:
            self._program.push_screen(QueueScreen(view, self._program.queues.sources[view.name]))

    def action_sort(self) -> None:
        """Sort by the next of the figures."""
        self._sorting = (self._sorting + 1) % len(self._SORTINGS)
        self._program.refresh_views()


class Sampled(Message):
    """All queues were looked at."""

    def __init__(self, views: list[QueueView]) -> None:
        """Carry what was found."""
        super().__init__()
        self.views = views


class TopApp(App[None]):
    """The program."""

    TITLE = "persipubsub top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", "Quit", show=False, priority=True)]

    def __init__(self, queues: Watch, interval: float = 1.0) -> None:
        """Watch ``queues``.

        :param interval: seconds between two looks
        """
        super().__init__()
        self.queues = queues
        self._interval = interval
        self._views: list[QueueView] = []
        self._paused = False

    def on_mount(self) -> None:
        """Start to look."""
        self.push_screen(Overview())
        self._look()

    @work
    async def _look(self) -> None:
        """Look again and again, beside everything else."""
        while True:
            if not self._paused:
                self.post_message(Sampled(await self.queues.look(self._interval)))
            await asyncio.sleep(self._interval)

    def on_sampled(self, event: Sampled) -> None:
        """Show what was found, wherever it is shown."""
        self._views = event.views
        self.refresh_views()

    def refresh_views(self) -> None:
        """Show what is known."""
        note = "paused" if self._paused else f"every {self._interval:g} s"
        for screen in self.screen_stack:
            # A screen that is being taken down has lost its widgets already.
            with contextlib.suppress(NoMatches):
                if isinstance(screen, Overview) and screen.is_mounted:
                    screen.show(self._views, note)
                elif isinstance(screen, QueueScreen) and screen.is_mounted:
                    screen.show(self._views)

    def action_pause(self) -> None:
        """Stop to look, or go on."""
        self._paused = not self._paused
        self.refresh_views()
