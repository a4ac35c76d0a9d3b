"""What is inside a queue: subscribers, their owners, the last messages, the dead letters."""

import asyncio
import contextlib
import datetime
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Static, TabbedContent, TabPane

from persipubsub.errors import PersipubsubError
from persipubsub.units import count, duration, rate, size, spark
from persipubsub.watch.preview import VIEWS, preview, summary
from persipubsub.watch.sampling import QueueView
from persipubsub.watch.source import Shown, Source
from persipubsub.watch.top.confirm import Confirm
from persipubsub.watch.top.rows import facts
from persipubsub.watch.top.table import LiveTable

TABS = ("subscribers", "owners", "messages", "dead")

_COLUMNS: dict[str, tuple[tuple[str, int], ...]] = {
    "subscribers": (
        ("SUBSCRIBER", 22), ("OUT/S", 7), ("LAG", 7), ("TREND", 13), ("LATE", 9), ("LEASED", 8), ("DEAD", 6),
        ("LOST", 6),
    ),
    "owners": (("SUBSCRIBER", 22), ("PID", 9), ("LEASED", 8), ("FOR", 10), ("  Where", 11), ("  Command", 200)),
    "messages": (("ID", 10), ("  Sent", 26), ("SIZE", 10), ("  Topic", 14), ("  Data", 200)),
    "dead": (("SUBSCRIBER", 16), ("ID", 10), ("  Died", 22), ("TIMES", 6), ("  Reason", 26), ("  Data", 200)),
}  # fmt: skip


class QueueScreen(Screen[None]):
    """One queue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back", key_display="esc"),
        Binding("1", "tab('subscribers')", "Tabs", key_display="1-4"),
        *(Binding(str(number), f"tab('{tab}')", show=False) for number, tab in enumerate(TABS[1:], 2)),
        Binding("space", "app.pause", "Pause"),
        Binding("v", "view", "View"),
        Binding("f5", "reload", "Reload", show=False),
        Binding("r", "settle('requeue', False)", "Requeue"),
        Binding("d", "settle('discard', False)", "Discard"),
        Binding("R", "settle('requeue', True)", "All", key_display="R"),
        Binding("D", "settle('discard', True)", "All", key_display="D"),
        Binding("q", "app.quit", "Quit"),
    ]
    CSS = """
    #facts { height: auto; max-height: 3; padding: 0 1; background: $surface; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    LiveTable { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; overflow-x: hidden; }
    #owners-table { overflow-x: auto; }
    .preview { height: 9; border-top: solid $primary; scrollbar-size-vertical: 1; }
    .note { height: auto; padding: 0 1; color: $warning; }
    """

    def __init__(self, view: QueueView, source: Source) -> None:
        """Show ``view`` at first."""
        super().__init__()
        self._view = view
        self._source = source
        self._format = 0
        self._shown: dict[str, dict[str, Shown]] = {"messages": {}, "dead": {}}
        self._seen: tuple[object, ...] | None = None

    def compose(self) -> ComposeResult:
        """Put facts above the four tables."""
        yield Static(id="facts", markup=False)
        with TabbedContent(id="tabs"):
            for number, (tab, title) in enumerate(
                zip(TABS, ("Subscribers", "Owners", "Messages", "Dead letters"), strict=True), 1
            ):
                with TabPane(f"{number} {title}", id=tab):
                    yield LiveTable(id=f"{tab}-table")
                    if tab in self._shown:
                        with VerticalScroll(classes="preview", can_focus=False):
                            yield Static(id=f"{tab}-preview", markup=False)
        yield Static(id="note", classes="note", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show what is known, and read the rest."""
        for tab, headings in _COLUMNS.items():
            self._table(tab).set_columns(headings)
        self._table("subscribers").focus()
        self._show_view()

    @property
    def tab(self) -> str:
        """Return which table is shown."""
        return self.query_one(TabbedContent).active

    def _table(self, tab: str) -> LiveTable:
        return self.query_one(f"#{tab}-table", LiveTable)

    # -- what every look brings ---------------------------------------------------------------

    def show(self, views: list[QueueView]) -> None:
        """Show the queue among ``views``; its messages and dead letters are read again if they changed."""
        self._view = next((view for view in views if view.name == self._view.name), self._view)
        self._show_view()

    def _show_view(self) -> None:
        view = self._view
        self.query_one("#facts", Static).update(facts(view))
        self._table("subscribers").show(
            [
                (
                    one.identifier,
                    _cells(
                        "subscribers",
                        one.identifier + (" (paused)" if one.paused else ""),
                        rate(one.rate_out),
                        count(one.lag),
                        spark(one.lag_history, 12),
                        duration(one.late),
                        count(one.leased),
                        Text(count(one.dead), "bold red" if one.dead else ""),
                        Text(count(one.lost), "bold red" if one.lost else ""),
                    ),
                )
                for one in view.subscribers
            ]
        )
        now = datetime.datetime.now(datetime.UTC).timestamp()
        self._table("owners").show(
            [
                (
                    f"{one.identifier}\n{number}",
                    _cells(
                        "owners",
                        one.identifier,
                        str(owner.pid),
                        count(owner.leased),
                        duration(max(0.0, now - owner.since_ns / 1e9)),
                        "  elsewhere" if owner.elsewhere else "  here",
                        "  " + summary(owner.command.encode()),
                    ),
                )
                for one in view.subscribers
                for number, owner in enumerate(one.owners or ())
            ]
        )
        changed = (
            view.identity,
            view.first_id,
            view.last_id,
            *((one.identifier, one.dead) for one in view.subscribers),
        )
        if changed != self._seen:
            self._seen = changed
            self._read()

    # -- what is read only when it changed ----------------------------------------------------

    @work(exclusive=True, group="read")
    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            messages = await loop.run_in_executor(None, self._source.last_messages)
            letters = await loop.run_in_executor(None, self._source.dead_letters)
        except (PersipubsubError, OSError) as error:
            self._note(str(error))
            return
        with contextlib.suppress(NoMatches):  # left meanwhile
            self._show_read(messages, letters)

    def _show_read(self, messages: list[Shown], letters: list[Shown]) -> None:
        self._note("")
        self._shown["messages"] = {str(message.id): message for message in messages}
        self._shown["dead"] = {f"{letter.subscriber}\n{letter.id}": letter for letter in letters}
        self._table("messages").show(
            [
                (
                    key,
                    _cells(
                        "messages",
                        str(message.id),
                        "  " + message.sent[:23].replace("T", " "),
                        size(message.size),
                        "  " + summary((message.topic or "-").encode()),
                        "  " + summary(message.data),
                    ),
                )
                for key, message in self._shown["messages"].items()
            ]
        )
        self._table("dead").show(
            [
                (
                    key,
                    _cells(
                        "dead",
                        letter.subscriber or "",
                        str(letter.id),
                        "  " + (letter.died or "")[:19].replace("T", " "),
                        str(letter.delivery_count),
                        "  " + summary((letter.reason or "").encode()),
                        "  " + summary(letter.data),
                    ),
                )
                for key, letter in self._shown["dead"].items()
            ]
        )
        for tab in self._shown:
            self._show_preview(tab)

    def _note(self, text: str) -> None:
        for note in self.query("#note").results(Static):
            note.update(text)

    def _selected(self, tab: str) -> Shown | None:
        return self._shown[tab].get(self._table(tab).selected or "")

    def _show_preview(self, tab: str) -> None:
        message = self._selected(tab)
        box = self.query_one(f"#{tab}-preview", Static)
        if message is None:
            box.update("There are no messages." if tab == "messages" else "There are no dead letters.")
            return
        text = Text()
        if message.reason is not None:
            text.append(f"reason: {summary(message.reason.encode())}\n", "red")
        for name, value in message.headers.items():
            shown = summary(value if isinstance(value, bytes) else value.encode())
            text.append(f"{summary(name.encode())}: {shown}\n", "dim")
        text.append(preview(message.data, VIEWS[self._format]))
        box.update(text)

    def on_data_table_row_highlighted(self, event: LiveTable.RowHighlighted) -> None:
        """Show the message that the cursor has come to."""
        tab = (event.data_table.id or "").removesuffix("-table")
        if tab in self._shown:
            self._show_preview(tab)

    # -- keys ---------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show the keys that mean something in this table."""
        if not self.is_mounted:
            return True
        if action == "settle":
            return self.tab == "dead"
        return self.tab in self._shown if action in ("view", "reload") else True

    def on_tabbed_content_tab_activated(self) -> None:
        """Move into the table that has come to the front."""
        self._table(self.tab).focus()
        self.refresh_bindings()

    def action_tab(self, tab: str) -> None:
        """Show another table."""
        # Typed ahead, the key comes before the tabs are ready, which then show the first one.
        self.call_after_refresh(setattr, self.query_one(TabbedContent), "active", tab)

    def action_view(self) -> None:
        """Show payloads in the next of the formats."""
        self._format = (self._format + 1) % len(VIEWS)
        self._note(f"shown as {VIEWS[self._format]}")
        self._show_preview(self.tab)

    def action_reload(self) -> None:
        """Read the messages and dead letters again."""
        self._read()

    def action_settle(self, what: str, everything: bool) -> None:
        """Requeue or discard the dead letter under the cursor, or all of its subscriber; discarding asks first."""
        letter = self._selected("dead")
        if letter is None or letter.subscriber is None:
            return
        subscriber, ids = letter.subscriber, None if everything else [letter.id]
        act = self._source.requeue if what == "requeue" else self._source.discard
        if what == "requeue" and not everything:
            self._settle(act, subscriber, ids, what)
            return
        which = "all dead letters" if everything else f"the dead letter {letter.id}"
        question = f"{what.capitalize()} {which} of {subscriber!r} in the queue {self._view.name!r}?"
        if what == "discard":
            question += "\nWhat is discarded is gone for good."

        def answered(yes: bool | None) -> None:
            if yes:
                self._settle(act, subscriber, ids, what)

        self.app.push_screen(Confirm(question, f"{what.capitalize()} {'all' if everything else 'it'}"), answered)

    @work(group="settle")
    async def _settle(
        self, act: Callable[[str, list[int] | None], int], subscriber: str, ids: list[int] | None, what: str
    ) -> None:
        try:
            number = await asyncio.get_running_loop().run_in_executor(None, act, subscriber, ids)
        except (PersipubsubError, OSError) as error:
            self._note(str(error))
            return
        self._read()
        self.notify(f"{what}{'d' if what == 'requeue' else 'ed'} {number} of {subscriber}", markup=False)


def _cells(tab: str, *cells: str | Text) -> tuple[Text, ...]:
    """Return cells as wide as the columns of a table; those under a heading in capitals stand to the right."""
    fitted = []
    for number, (cell, (heading, width)) in enumerate(zip(cells, _COLUMNS[tab], strict=True)):
        text = Text(cell) if isinstance(cell, str) else cell
        right = number > 0 and heading.isupper()
        text.truncate(width - 1 if right else width, overflow="ellipsis")
        if right or heading == "ID":
            text.align("right", width)
        fitted.append(text)
    return tuple(fitted)
