"""Files that are nobody else's, planted links and FIFOs that do no harm, and messages that are only bytes."""

import os
import pathlib
import random
import shutil
import stat
import sys
import time
from typing import Any

from persipubsub import Durability, Environment, OpenError
from persipubsub.engine.local import files
from tests.hazards.trials import Trial
from tests.process.support import Here

UMASKS = (0o000, 0o022, 0o077)
NAMES = (files.DATA, files.LMDB_LOCK, files.LOCKS, files.BOARD, files.POSTS, files.BOOT, files.SEAL, files.BELLS)
KINDS = ("link", "dangling link", "fifo", "folder", "file")
HOSTILE = 200
#: Nothing hangs: whatever is planted, using the queue takes no longer, in seconds.
_LONGEST = 10.0


def deploy(path: pathlib.Path, umask: int = 0o022, **settings: Any) -> None:
    """Deploy a queue, and use it, whatever the umask."""
    before = os.umask(umask)
    try:
        with Environment(path) as env:
            env.new_control({"a"}, **settings)
            env.new_publisher().send(b"secret")
            env.new_subscriber("a").fileno()
    finally:
        os.umask(before)


def wrong_modes(path: pathlib.Path, group: bool) -> list[str]:
    """Return which files of a queue are open to others than they should be."""
    findings = []
    folder, file = (0o2770, 0o660) if group else (0o700, 0o600)
    for found in [path, *path.rglob("*")]:
        mode = stat.S_IMODE(found.stat().st_mode)
        if mode != (folder if found.is_dir() else file):
            findings.append(f"{found.name or found} has mode {mode:04o}, group_access={group}")
    return findings


def deploy_here(here: Here, path: pathlib.Path, umask: int, durability: Durability, group: bool) -> list[str]:
    """Deploy a queue and look at its files."""
    deploy(path, umask, durability=durability, group_access=group)
    return wrong_modes(path, group)


# -- planted -----------------------------------------------------------------------------------------------


def plant(path: pathlib.Path, kind: str, victim: pathlib.Path) -> None:
    """Put something at a path that a queue might follow, open or wait for."""
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("nowhere"))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"planted")


def use_planted(
    here: Here, folder: pathlib.Path, durability: Durability, name: str, kind: str
) -> tuple[list[str], float]:
    """Use a queue in which something is planted; return what harm it did, and how many seconds it took."""
    findings = []
    victim, path = folder / "victim", folder / "queue"
    deploy(path, durability=durability)
    victim.write_bytes(b"precious")
    target = path / name
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    plant(target, kind, victim)
    began = time.monotonic()
    try:
        with Environment(path) as env:
            if [message.data for message in env.browse()] != [b"secret"]:
                findings.append("the message is another one")
            with env.new_subscriber("a") as sub:
                sub.fileno()
                if sub.peek() is None:
                    findings.append("the message is lost")
    except OpenError:
        pass  # refused: that is right with all but what is made anew at each opening
    except Exception as error:  # noqa: BLE001 - that is the finding
        findings.append(f"{type(error).__name__}: {error}")
    took = time.monotonic() - began
    if victim.read_bytes() != b"precious":
        findings.append("another file was overwritten")
    if victim.with_name("nowhere").exists():
        findings.append("another file was made")
    return [f"{kind} at {name}: {finding}" for finding in findings], took


# -- hostile -----------------------------------------------------------------------------------------------


def hear(here: Here, path: pathlib.Path, seed: int) -> list[str]:
    """Send and take hostile messages; return what was unpickled, run or imported meanwhile."""
    heard: list[str] = []
    listening = True
    watched = ("pickle.find_class", "exec", "compile", "marshal.loads", "import", "os.system", "subprocess.Popen")

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in watched:
            heard.append(f"{event} {arguments[:1]}")

    source = random.Random(seed)
    bodies = [
        b"cos\nsystem\n(S'true'\ntR.",
        b'{"__class__": "os.system"}',
        b"__import__('os')",
        *[source.randbytes(source.randrange(200)) for _ in range(HOSTILE)],
    ]
    deploy(path, durability=Durability.PROCESS)
    with Environment(path) as env:
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        sub.pop(timeout=0)
        pub.send(b"", headers={"h": b""}, topic="t")  # whatever is loaded at first use is loaded
        sub.pop(timeout=0)
        sys.addaudithook(listen)
        for body in bodies:
            pub.send(body, headers={"h": body[:50], "../../etc": b"%s%n"}, topic="t")
            message = sub.get(timeout=0)
            if message is None or (message.data, message.headers["h"]) != (body, body[:50]):
                heard.append(f"{body!r} comes as {message!r}")
                break
            message.ack()
        listening = False
    return heard


def secured(trial: Trial) -> None:
    """Try all of it, with one durability."""
    child = trial.child()
    for umask in UMASKS:
        for group in (False, True):
            path = trial.folder / f"{umask:03o} {group}"
            found = child.do(deploy_here, path, umask, trial.durability, group)
            trial.findings += [f"umask {umask:03o}: {finding}" for finding in found]
            trial.tries += 1
    for name in NAMES:
        for kind in KINDS:
            folder = trial.folder / f"{kind} {name}"
            folder.mkdir()
            found, took = child.do(use_planted, folder, trial.durability, name, kind)
            trial.findings += found
            trial.expect_soon(took, _LONGEST, f"{kind} at {name}: it took long")
            trial.tries += 1
            if trial.findings:
                return
    trial.findings += child.do(hear, trial.folder / "hostile", trial.source.randrange(1 << 30))
    trial.tries += HOSTILE
