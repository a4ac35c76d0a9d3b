"""Files that are deleted or exchanged under load: nothing succeeds in them afterwards."""

import logging
import os
import pathlib
import shutil
import time
from collections.abc import Callable

from persipubsub import Environment, QueueReplacedError
from persipubsub.engine.local import files
from tests.hazards.trials import Trial
from tests.process.support import BOUND, Here

WORKERS = 3
#: Where a folder above the queue is moved, the names of its files are looked up so often, in seconds.
GLANCE = 0.05
#: Once the files are gone, nobody waits for errors longer than so many seconds and so many operations.
PATIENCE, OPERATIONS = 5.0, 100


def _replace(path: pathlib.Path) -> None:
    os.replace(path.with_name("copy"), path / files.DATA)


def _delete(path: pathlib.Path) -> None:
    # Those who work there may still add a file.
    while path.exists():
        shutil.rmtree(path, ignore_errors=True)


def _move(path: pathlib.Path) -> None:
    path.rename(path.with_name("elsewhere"))


def _move_above(path: pathlib.Path) -> None:
    path.parent.rename(path.parent.with_name(f"{path.parent.name} away"))


def _restore(path: pathlib.Path) -> None:
    path.rename(path.with_name("old"))
    path.with_name("backup").rename(path)


#: What is done, and how many seconds later an operation may still begin, and succeed.
WAYS: dict[str, tuple[Callable[[pathlib.Path], object], float]] = {
    "data deleted": (lambda path: (path / files.DATA).unlink(), 0.0),
    "data exchanged": (_replace, 0.0),
    "folder deleted": (_delete, 0.0),
    "folder moved": (_move, 0.0),
    "backup put back": (_restore, 0.0),
    "lock file deleted": (lambda path: (path / files.LMDB_LOCK).unlink(), 0.0),
    "folder above moved": (_move_above, GLANCE),
}


def over_of(path: pathlib.Path) -> pathlib.Path:
    """Return a file that is there when the files of a queue are not; no way to take them away moves it."""
    return path.parent.with_name(f"{path.parent.name} over")


def work_on(here: Here, path: pathlib.Path, number: int) -> list[tuple[float, float, str]]:
    """Publish or take, until errors have come ten times; return when each of the last operations began and ended."""
    notes: list[tuple[float, float, str]] = []
    env = Environment(path)
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    here.tell("ready")
    logging.disable(logging.CRITICAL)
    until, left, errors, over = time.monotonic() + BOUND, OPERATIONS, 0, over_of(path)
    is_over = False
    # On a busy machine the time may be up before anything was done in it.
    while errors < 10 and (time.monotonic() < until or (is_over and left)):
        if is_over:
            left = max(0, left - 1)
        elif over.exists():
            until, is_over = time.monotonic() + PATIENCE, True
        began, said = time.monotonic(), ""
        try:
            if number % 2:
                with sub.receive(timeout=0):
                    pass
            else:
                pub.send(b"x")
        except Exception as error:  # noqa: BLE001 - the trial judges it
            errors += 1
            said = f"{type(error).__name__}: {error}"
        notes.append((began, time.monotonic(), said))
    env.close()
    return notes[-2000:]


def replaced(trial: Trial) -> None:
    """Take the files away while several processes work."""
    source, path = trial.source, trial.path
    name = list(WAYS)[trial.number % len(WAYS)]
    take_away, late = WAYS[name]
    with Environment(path) as env:
        env.new_control({"sub"}, durability=trial.durability)
        env.new_publisher().send(b"x")
        env.open_control().backup(path.with_name("backup"))
    shutil.copy(path / files.DATA, path.with_name("copy"))
    crowd = [trial.child() for _ in range(WORKERS)]
    for number, child in enumerate(crowd):
        child.start(work_on, path, number)
    for child in crowd:
        child.told()
    time.sleep(0.02 + source.random() * 0.1)
    take_away(path)
    gone = time.monotonic()
    over_of(path).touch()
    for child in crowd:
        notes = child.returned(2 * BOUND)
        errors = [(began, said) for began, _, said in notes if said]
        after = [began - gone for began, _, said in notes if not said and began > gone]
        trial.expect(len(errors) == 10, f"{name}: {len(errors)} errors")
        trial.findings += [f"{name}: {said}" for _, said in errors if not said.startswith(QueueReplacedError.__name__)]
        if after:
            trial.note(f"last success, {name}, s", max(after))
            trial.expect(max(after) <= late, f"{name}: an operation succeeded that began {max(after):.3f} s later")
        trial.tries += 1
