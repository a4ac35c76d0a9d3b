"""One queue by many paths, and queues that are opened, used and closed again and again."""

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from persipubsub import Environment, NotAQueueError
from persipubsub.engine.local import files, opening
from tests.hazards.trials import Trial
from tests.process import support
from tests.process.support import BOUND, Here

CHURNERS, ROUNDS = 4, 40


@contextmanager
def spellings(trial: Trial) -> Iterator[dict[str, pathlib.Path | str]]:
    """Give paths that all lead to the queue."""
    folder, path = trial.folder, trial.path
    (folder / "link").symlink_to(path)
    (folder / "parent").symlink_to(folder)
    (folder / "beside").mkdir()
    (folder / "far").mkdir()
    (folder / "far" / "aside").symlink_to(folder / "beside")
    (folder / "bound").mkdir()
    found: dict[str, pathlib.Path | str] = {
        "path": path,
        "text": str(path),
        "dots": folder / "beside" / ".." / "queue",
        "slashes": f"//{path}/",
        "relative": os.path.relpath(path),
        "link": folder / "link",
        "linked parent": folder / "parent" / "queue",
        "dots behind a link": folder / "far" / "aside" / ".." / "queue",
    }
    mount = ["mount", "--bind", str(path), str(folder / "bound")]
    is_bound = not os.geteuid() and subprocess.run(mount, capture_output=True).returncode == 0
    if is_bound:
        found["bound"] = folder / "bound"
    try:
        yield found
    finally:
        if is_bound:
            subprocess.run(["umount", "-l", str(folder / "bound")], check=True)


def open_and_send(here: Here, path: pathlib.Path) -> str:
    """Open a queue and send; return what was said against it."""
    try:
        with Environment(path) as env:
            env.new_publisher().send(b"x")
    except NotAQueueError as error:
        return str(error)
    return ""


def double_open(trial: Trial) -> None:
    """Open a queue by all its paths, in this process and in another, and by a hard link of its file."""
    with Environment(trial.path) as env:
        env.new_control({"sub"}, durability=trial.durability)
    child = trial.child()
    with spellings(trial) as paths, Environment(trial.path) as env:
        sub = env.new_subscriber("sub")
        order = list(paths)
        trial.source.shuffle(order)
        for name in order:
            with Environment(paths[name]) as other:
                other.new_publisher().send(name.encode())
                trial.expect(len(opening._stores) == 1, f"{name}: {len(opening._stores)} environments")
                trial.expect(child.do(open_and_send, paths[name]) == "", f"{name}: refused in another process")
                for expected in (name.encode(), b"x"):
                    with sub.receive(timeout=0) as data:
                        trial.expect(data == expected, f"{name}: {data!r} instead of {expected!r}")
            trial.tries += 1
    # Another folder with the same data file would have a lock file of its own.
    other_folder = trial.folder / "linked"
    shutil.copytree(trial.path, other_folder)
    (other_folder / files.DATA).unlink()
    os.link(trial.path / files.DATA, other_folder / files.DATA)
    for folder in (trial.path, other_folder):
        trial.expect("hard link" in child.do(open_and_send, folder), f"{folder.name}: a hard link was not noticed")
    (other_folder / files.DATA).unlink()
    trial.tries += 1
    trial.check()


def open_use_close(here: Here, path: pathlib.Path, name: str, times: int) -> int:
    """Open, use and close a queue so often; return how many descriptors are left over."""
    before = 0
    for number in range(times):
        with Environment(path) as env:
            env.new_publisher().send(f"{name} {number}".encode())
            with env.new_subscriber("sub").receive(timeout=0):
                pass
        if not number:
            before = len(os.listdir("/proc/self/fd"))
    return len(os.listdir("/proc/self/fd")) - before


def churn(trial: Trial) -> None:
    """Open, use and close a queue in several processes at once."""
    with Environment(trial.path) as env:
        env.new_control({"sub"}, durability=trial.durability)
    crowd = [trial.child() for _ in range(CHURNERS)]
    for number, child in enumerate(crowd):
        child.start(open_use_close, trial.path, str(number), ROUNDS)
    for child in crowd:
        try:
            left = child.returned(2 * BOUND)
            trial.expect(left == 0, f"{left} descriptors are left over")
        except support.ChildError as error:
            trial.findings.append(str(error))
    trial.tries += CHURNERS * ROUNDS
    with Environment(trial.path) as env:
        figures = env.open_control().statistics()
        trial.expect(figures.published == CHURNERS * ROUNDS, f"{figures.published} were published")
        (each,) = figures.subscribers
        trial.expect(each.settled + each.lag == figures.published, f"{each.settled} settled, {each.lag} left")
    trial.check()
