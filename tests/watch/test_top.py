"""``persipubsub top``, driven by keys as a user would, in 80 columns and 24 lines."""

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from persipubsub import Environment, QueueManager
from persipubsub.watch.sampling import Reading, Track
from persipubsub.watch.source import Source
from persipubsub.watch.top.app import Overview, TopApp
from persipubsub.watch.top.confirm import Confirm
from persipubsub.watch.top.detail import QueueScreen
from persipubsub.watch.top.rows import columns, rows
from persipubsub.watch.watching import Watch
from tests.process.support import BOUND, wait_until
from tests.watch.support import Elsewhere, Stuck, fill, statistics, subscriber

Test = Callable[["Top"], Coroutine[Any, Any, None]]


class Top:
    """The program, its keys, and what it shows."""

    def __init__(self, app: TopApp, pilot: Pilot[None], root: Path) -> None:
        self.app = app
        self.pilot = pilot
        self.root = root

    async def press(self, *keys: str) -> None:
        """Type ahead; the pilot's own way waits for widgets that may be gone by then."""
        for key in keys:
            self.app.simulate_key(key)
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < deadline, f"{what}; the screen shows:\n{self.screen}"
            await asyncio.sleep(0.03)

    async def shows(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.screen for text in texts), f"shows {texts}")

    @property
    def screen(self) -> str:
        """Return the lines of the terminal."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def line(self, start: str) -> str:
        return next((line for line in self.screen.splitlines() if line.startswith(start)), "")


def run(root: Path, test: Test, *others: Source, size: tuple[int, int] = (80, 24)) -> None:
    sources = [Source(name, root / name) for name in QueueManager(root).names()]
    watch = Watch([*sources, *others])

    async def main() -> None:
        app = TopApp(watch, 0.3)
        async with app.run_test(size=size) as pilot:
            await test(Top(app, pilot, root))

    try:
        asyncio.run(main())
    finally:
        watch.close()


@pytest.fixture
def root() -> Iterator[Path]:
    """Return a directory with two queues, by a short path: where a queue is takes lines of the small screen."""
    before = set(threading.enumerate())
    with tempfile.TemporaryDirectory(prefix="top-") as folder:
        fill(Path(folder) / "orders")
        QueueManager(folder).create("frames", subscriber_ids={"archive"}).close()
        yield Path(folder)
        # A look that was under way at the end makes files in the folder that is removed now.
        readers = {"watch orders", "watch frames"}
        wait_until(
            lambda: not readers.intersection(thread.name for thread in set(threading.enumerate()) - before),
            "nobody looks any more",
        )


def test_all_that_matters_fits_into_80_columns(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("frames", "  archive", "orders", "  worker", "  idle")
        heading = top.line("QUEUE")
        for word in ("IN/S", "OUT/S", "LAG", "TREND", "OLDEST", "LEASED", "DELAY", "DEAD", "PRUNED"):
            assert word in heading
        assert top.line("  worker").split()[-4:] == ["0", "0", "2", "0"]
        # The keys, and what has no column.
        keys = ("Open", "Pause", "Sort", "Quit")
        await top.until(lambda: all(key in top.screen.splitlines()[-1] for key in keys), "the keys")
        await top.shows("on disk", "free", "published")
        assert all(len(line) <= 80 for line in top.screen.splitlines())

    run(root, test)


def test_figures_change_in_place(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("  archive")
        await top.press("down", "down")
        with Environment(root / "frames") as environment:
            environment.new_publisher().send_many([b"x"] * 4321)
            await top.until(lambda: "4321" in top.line("  archive"), "the lag grows")
            await top.until(lambda: "█" in top.line("  archive"), "the trend shows it")
        table = top.app.screen.query_one(DataTable)
        assert table.cursor_row == 2

    run(root, test)


def test_a_wide_terminal_shows_the_disk(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("ON DISK", "FREE", "MiB", "GiB")

    run(root, test, size=(130, 30))


def test_the_terminal_may_be_resized(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("  archive")
        assert "ON DISK" not in top.screen
        await top.pilot.resize_terminal(120, 40)
        await top.shows("ON DISK", "  archive")
        await top.pilot.resize_terminal(60, 10)
        await top.until(lambda: "ON DISK" not in top.screen, "few columns")

    run(root, test)


def test_sorting(root: Path) -> None:
    def first(top: Top) -> str:
        return top.screen.splitlines()[2].split()[0]

    async def test(top: Top) -> None:
        await top.shows("  archive")
        assert first(top) == "frames"
        await top.press("s")
        await top.shows("by lag")
        await top.until(lambda: first(top) == "orders", "the one with the longest lag comes first")
        await top.press("s", "s", "s")
        await top.shows("by name")

    run(root, test)


def test_pausing(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("  archive")
        await top.press("space")
        await top.shows("paused")
        await top.press("space")
        await top.shows("every 0.3 s")

    run(root, test)


def test_queues_that_are_gone_or_stuck_are_said_to_be(root: Path) -> None:
    stuck = Stuck()

    async def test(top: Top) -> None:
        await top.until(lambda: "busy" in top.line("stuck"), "the stuck one is busy")
        assert "ok" not in top.line("stuck")
        await top.shows("1 not readable")
        QueueManager(root).delete("frames", force=True)
        await top.until(lambda: "gone" in top.line("frames"), "the deleted one is gone")
        # On it, Enter opens what there is to say.
        await top.press("enter")
        await top.until(lambda: isinstance(top.app.screen, QueueScreen), "it is open")
        await top.shows("nothing is deployed here")
        await top.press("escape")
        QueueManager(root).create("frames", subscriber_ids={"again"}).close()
        await top.shows("  again")

    run(root, test, stuck)
    stuck.go_on.set()


def test_nothing_to_watch(tmp_path: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("0 queues", "There are no queues to show.")
        await top.press("enter", "s")
        await top.shows("by lag")

    run(tmp_path, test)


def test_a_look_that_ends_after_the_screen_is_no_error(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("  idle")
        await top.app.screen.query("#title").remove()
        top.app.refresh_views()

    run(root, test)


# -- inside a queue ---------------------------------------------------------------------------------


async def open_orders(top: Top) -> QueueScreen:
    await top.shows("  idle")
    await top.press("down", "down", "enter")
    await top.until(lambda: isinstance(top.app.screen, QueueScreen), "the queue is open")
    assert isinstance(top.app.screen, QueueScreen)
    return top.app.screen


def test_subscribers_and_their_owners(root: Path) -> None:
    async def test(top: Top) -> None:
        with Environment(root / "orders") as environment, environment.new_subscriber("idle").receive(timeout=0):
            await open_orders(top)
            await top.shows("worker", "idle", "LATE")
            await top.press("2")
            await top.shows("PID", "Command")
            await top.until(lambda: "python" in top.line("idle"), "the owner is shown")
            assert top.line("idle").split()[2] == "1"
            assert "here" in top.line("idle")

    run(root, test)


def test_owners_in_other_containers_are_shown_as_such(root: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("remote")
        await top.press("enter")
        await top.until(lambda: isinstance(top.app.screen, QueueScreen), "the queue is open")
        await top.shows("1 Subscribers", "LATE")
        await top.press("2")
        await top.until(lambda: "elsewhere  python worker.py" in top.line("worker"), "the owner is shown")
        assert all(len(line) <= 80 for line in top.screen.splitlines())

    run(root / "nothing", test, Elsewhere())


def test_messages_in_each_of_the_formats(root: Path) -> None:
    async def test(top: Top) -> None:
        await open_orders(top)
        await top.press("3")
        await top.shows("shop.orders", "plain text", "00 01 02", "<img src=x")
        await top.press("G")
        await top.press("down", "down", "down", "down", "down")
        await top.shows('"order": 1', "trace: abc")
        for name, text in (("json", '"order": 1'), ("text", '{"order": 1}'), ("hex", "00000000  7b 22")):
            await top.press("v")
            await top.shows(f"shown as {name}", text)

    run(root, test, size=(140, 30))


def test_new_messages_appear(root: Path) -> None:
    async def test(top: Top) -> None:
        await open_orders(top)
        await top.press("3")
        await top.shows("plain text")
        with Environment(root / "orders") as environment:
            environment.new_publisher().send(b"came later")
            await top.shows("came later")
        await top.press("f5")

    run(root, test)


def dead(root: Path) -> list[int]:
    with Environment(root / "orders") as environment:
        return [letter.id for letter in environment.open_control().dead_letters("worker")]


def test_dead_letters_are_requeued_and_discarded(root: Path) -> None:
    assert dead(root) == [1, 2]

    async def test(top: Top) -> None:
        screen = await open_orders(top)
        await top.press("1")
        assert "Discard" not in top.screen
        await top.press("4")
        await top.shows("card declined", "<b>bold</b>", "Requeue", "Discard")
        await top.press("r")
        await top.until(lambda: dead(root) == [2], "one is requeued")
        table = screen.query_one("#dead-table", DataTable)
        await top.until(lambda: table.row_count == 1, "it is not shown any more")
        # Discarding asks; only a clear yes does it.
        for answer in ("n", "escape", "enter"):
            await top.press("d")
            await top.until(lambda: isinstance(top.app.screen, Confirm), "it asks")
            await top.shows("Discard the dead letter 2 of 'worker'", "gone for good")
            await top.press(answer)
            await top.until(lambda: top.app.screen is screen, "it is answered")
        assert dead(root) == [2]
        await top.press("d")
        await top.until(lambda: isinstance(top.app.screen, Confirm), "it asks")
        await top.shows("gone for good")
        await top.press("right", "enter")
        await top.until(lambda: dead(root) == [], "it is discarded")
        await top.shows("There are no dead letters.")
        await top.press("d")
        assert top.app.screen is screen

    run(root, test)


@pytest.mark.parametrize("key", ["R", "D"])
def test_all_dead_letters_of_a_subscriber(root: Path, key: str) -> None:
    async def test(top: Top) -> None:
        await open_orders(top)
        await top.press("4")
        await top.shows("card declined")
        await top.press(key)
        await top.shows("all dead letters of 'worker'")
        await top.press("y")
        await top.until(lambda: dead(root) == [], "none is left")
        with Environment(root / "orders") as environment:
            (worker,) = (
                one for one in environment.open_control().statistics().subscribers if one.identifier == "worker"
            )
            assert worker.waiting == (4 if key == "R" else 2)

    run(root, test)


def test_a_failing_change_is_told_and_the_program_goes_on(root: Path) -> None:
    async def test(top: Top) -> None:
        screen = await open_orders(top)
        await top.press("4")
        await top.shows("card declined")
        await top.press("space")
        QueueManager(root).delete("orders", force=True)
        await top.press("r")
        await top.until(lambda: "There is no queue at" in str(screen.query_one("#note", Static).content), "it is told")
        await top.press("escape")
        await top.until(lambda: isinstance(top.app.screen, Overview), "and goes on")

    run(root, test)


@pytest.mark.parametrize("width", [80, 99, 101, 102, 129])
def test_columns_fill_the_terminal_and_no_more(width: int) -> None:
    shown = columns(width)
    assert width - 34 <= sum(column.width for column in shown) <= width - 1
    track = Track("orders", "/queues/orders")
    view = track.add(Reading(at=1.0, statistics=statistics(subscriber("worker", waiting=123456, dead=7))))
    for row in rows([view], shown):
        assert [cell.cell_len for cell in row.cells[1:]] == [column.width for column in shown[1:]]


def test_long_names_are_cut(tmp_path: Path) -> None:
    QueueManager(tmp_path).create("q" * 200, subscriber_ids={"Ł" * 100}).close()
    watch = Watch([Source("q" * 200, tmp_path / ("q" * 200))])
    for row in rows(watch.sample(BOUND), columns(80)):
        assert sum(cell.cell_len for cell in row.cells) <= 79
        assert isinstance(row.cells[0], Text)
        assert row.cells[0].plain.endswith("…")
    watch.close()
