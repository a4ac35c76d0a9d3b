"""A table that changes in place: the cursor and the scroll position stay where they are."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import DataTable


class LiveTable(DataTable[Text]):
    """Rows with keys, moved through by the arrow keys (or j and k), a row at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "cursor_down"),
        ("k", "cursor_up"),
        ("g", "scroll_top"),
        ("G", "scroll_bottom"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        """Start empty."""
        super().__init__(id=id, cursor_type="row", cell_padding=0, zebra_stripes=False)
        self._headings: list[tuple[str, int]] = []
        self._shown: dict[str, tuple[Text, ...]] = {}

    @property
    def selected(self) -> str | None:
        """Return the key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def set_columns(self, headings: Sequence[tuple[str, int]]) -> None:
        """Show these columns, given by heading and width; rows are shown anew if they differ from those before."""
        if list(headings) == self._headings:
            return
        self._headings = list(headings)
        self._shown = {}
        self.clear(columns=True)
        for number, (heading, width) in enumerate(headings):
            justify = "right" if number and heading.strip().isupper() else "left"
            label = Text(heading)
            label.align("right" if justify == "right" else "left", width)
            self.add_column(label, key=str(number), width=width)

    def show(self, rows: Sequence[tuple[str, tuple[Text, ...]]]) -> None:
        """Show these rows, each with its key."""
        if [key for key, _ in rows] != list(self._shown):
            self._rebuild(rows)
        else:
            for key, cells in rows:
                for number, (cell, before) in enumerate(zip(cells, self._shown[key], strict=True)):
                    if cell != before or cell.spans != before.spans:
                        self.update_cell(key, str(number), cell)
        self._shown = dict(rows)

    def _rebuild(self, rows: Sequence[tuple[str, tuple[Text, ...]]]) -> None:
        selected, place, scrolled = self.selected, self.cursor_row, self.scroll_y
        keys = [key for key, _ in rows]
        self.clear()
        for key, cells in rows:
            self.add_row(*cells, key=key)
        if keys:
            row = keys.index(selected) if selected in keys else min(place, len(keys) - 1)
            self.move_cursor(row=row, animate=False, scroll=False)
            self.scroll_to(y=scrolled, animate=False, force=True)
