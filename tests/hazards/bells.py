"""What a sleeper is woken by is taken away: the message comes all the same, a little later."""

import os
import pathlib
import shutil
import stat
import time
from collections.abc import Callable

from persipubsub import Environment
from persipubsub.engine.local import files, waiting
from tests.hazards.trials import Trial
from tests.process import support
from tests.process.support import BOUND

#: A message may come so much later than without a disturbance, in seconds.
LATE = waiting.LONGEST + 1.5
#: Who has not come so many seconds after all was sent sleeps on.
_ASLEEP = 40.0


def _fifos(path: pathlib.Path) -> list[pathlib.Path]:
    return [found for found in (path / files.BELLS).iterdir() if stat.S_ISFIFO(found.lstat().st_mode)]


def _delete(path: pathlib.Path) -> None:
    for fifo in _fifos(path):
        fifo.unlink()


def _exchange(path: pathlib.Path, make: Callable[[pathlib.Path], object]) -> None:
    for fifo in _fifos(path):
        fifo.unlink()
        make(fifo)


def _make_anew(path: pathlib.Path) -> None:
    shutil.rmtree(path / files.BELLS)
    (path / files.BELLS).mkdir(0o700)


#: What is done to the folder of the bells.
WAYS: dict[str, Callable[[pathlib.Path], object]] = {
    "FIFO deleted": _delete,
    "FIFO exchanged": lambda path: _exchange(path, os.mkfifo),
    "file in its place": lambda path: _exchange(path, lambda fifo: fifo.write_bytes(b"planted")),
    "link in its place": lambda path: _exchange(path, lambda fifo: fifo.symlink_to("/dev/zero")),
    "folder deleted": lambda path: shutil.rmtree(path / files.BELLS),
    "folder made anew": _make_anew,
    "noise in it": lambda path: [fifo.write_bytes(trash) for fifo in _fifos(path) for trash in (b"\0" * 4096, b"x")],
}


def taken_away(trial: Trial) -> None:
    """Let consumers sleep, take away what wakes them, each in another way, and send."""
    sleepers = {name: trial.child() for name in WAYS}
    envs = {name: Environment(trial.folder / name) for name in WAYS}
    try:
        for name, env in envs.items():
            env.new_control({"sub"}, durability=trial.durability)
            sleepers[name].do(support.open_subscriber, env.path)
            sleepers[name].start(support.get_and_ack, BOUND)
        for name, env in envs.items():
            support.wait_until_asleep(sleepers[name], env.path)
            WAYS[name](env.path)
        sent = {}
        for name, env in envs.items():
            env.new_publisher().send(b"wake up")
            sent[name] = time.monotonic()
        until = time.monotonic() + _ASLEEP
        for name, sleeper in sleepers.items():
            if not sleeper.answers(max(0.0, until - time.monotonic())):
                trial.findings.append(f"{name}: it sleeps on")
                continue
            got = sleeper.returned()
            trial.expect(got is not None and got[0] == b"wake up", f"{name}: {got}")
            late = got[2] / 1e9 - sent[name] if got else 0.0
            trial.note(f"{name}, s", late)
            trial.expect_soon(late, LATE, f"{name}: it came after {late:.1f} s")
            # What is there again wakes, or one looks now and then.
            sleeper.start(support.get_and_ack, BOUND)
            envs[name].new_publisher().send(b"again")
            trial.expect((sleeper.returned() or [b""])[0] == b"again", f"{name}: nothing comes any more")
            trial.tries += 1
        for name, env in envs.items():
            trial.findings += [f"{name}: {found.what}" for found in env.open_control().check()]
    finally:
        for env in envs.values():
            env.close()
