"""The right to use a queue's files is taken away while it is open: by modes, or with the filesystem."""

import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import lmdb
import pytest

from persipubsub import (
    Durability,
    Environment,
    PersipubsubError,
    QueuePermissionError,
    StorageError,
    StorageFailedError,
)
from persipubsub.engine.local import files, naming, opening
from persipubsub.engine.local.store import Store
from tests.faults.crew import Hand
from tests.process.support import BOUND

NOBODY = 65_534
#: The folder itself, and all that is in it.
NAMES = (".", files.BELLS, files.DATA, files.LMDB_LOCK, files.LOCKS, files.BOARD, files.POSTS)
SENT = [b"%d" % number for number in range(6)]

# -- modes -------------------------------------------------------------------------------------------------


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@pytest.fixture
def shared() -> Iterator[pathlib.Path]:
    """Give a folder in which everybody may make files."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def lose_a_right(path: pathlib.Path, name: str, durability: Durability) -> list[str]:
    """Use a queue, lose all rights on one of its files, go on, get them back; return what went wrong."""
    findings: list[str] = []

    def attempt(what: str, work: Any) -> bool:
        try:
            work()
            done = True
        except QueuePermissionError as error:
            if name != "." or str(path) not in str(error) or "give the right back" not in str(error):
                findings.append(f"{what}, {name}: {error}")
            done = False
        except Exception as error:  # noqa: BLE001 - that is the finding
            findings.append(f"{what}, {name}: {type(error).__name__}: {error}")
            done = False
        if done and name == ".":
            findings.append(f"{what}: nobody could find the files, and it was done all the same")
        return done

    with Environment(path) as env:
        control = env.new_control({"a", "b"}, durability=durability, map_size=1 << 20)
        pub, sub, other = env.new_publisher(), env.new_subscriber("a"), env.new_subscriber("b")
        pub.send_many(SENT[:3])
        held = sub.get(timeout=0)
        assert held is not None
        target = path / name
        mode = stat.S_IMODE(target.stat().st_mode)
        target.chmod(0)
        attempt("send", lambda: pub.send(SENT[3]))
        settled = attempt("acknowledge", held.ack)
        attempt("grow", lambda: pub.send(bytes(2 << 20)))
        attempt("wait", lambda: other.get_many(99, timeout=0) or other.get(timeout=0.01))
        attempt("look", control.statistics)
        attempt("check", control.check)
        target.chmod(mode)
        pub.send(SENT[5])
        if not settled:
            held.ack()
        if control.check():
            findings.append(f"check, {name}: {control.check()}")
        kept = [message.data for message in env.browse() if len(message.data) == 1]
        expected = [*SENT[:3], *SENT[3 : 4 - (name == ".")], SENT[5]]
        if kept != expected:
            findings.append(f"{name}: {kept} are there instead of {expected}")
    with Environment(path) as env:
        taken = [message.data for message in env.new_subscriber("a").get_many(99, timeout=0)]
        if [data for data in taken if len(data) == 1] != expected[1:]:
            findings.append(f"{name}: {expected[1:]} are not all delivered")
    return findings


@pytest.fixture
def everything_is_loaded(tmp_path: pathlib.Path) -> None:
    """Use a queue, for nobody may not read where modules are."""
    with Environment(tmp_path / "first") as env:
        control = env.new_control({"a"})
        env.new_publisher().send(b"")
        env.new_subscriber("a").get_many(1, timeout=0)
        control.statistics()
        control.check()


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.usefixtures("everything_is_loaded")
def test_a_right_is_taken_away_and_given_back(shared: pathlib.Path, durability: Durability) -> None:
    assert os.geteuid() == 0, "this test needs root, to become somebody else"
    hand = Hand(become_nobody)
    try:
        for number, name in enumerate(NAMES):
            assert hand.do(lose_a_right, shared / str(number), name, durability) == []
    finally:
        hand.end()


@pytest.mark.usefixtures("everything_is_loaded")
def test_a_lost_right_that_is_taken_for_lost_files_is_seen(
    shared: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "PermissionError", ZeroDivisionError, raising=False)
    hand = Hand(become_nobody)
    try:
        findings = hand.do(lose_a_right, shared / "queue", ".", Durability.FULL)
    finally:
        hand.end()
    assert "QueueReplacedError" in "\n".join(findings)


# -- the filesystem ----------------------------------------------------------------------------------------


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND)


class Disk:
    """A filesystem of its own, which can be made to give up."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Make the filesystem, and mount it."""
        self._image = folder / "image"
        self.path = folder / "disk"
        self.path.mkdir()
        with open(self._image, "wb") as image:
            image.truncate(48 << 20)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mount it as one usually is: an error makes it read-only."""
        run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))

    def give_up(self) -> None:
        """Let it find an error."""
        device = os.stat(self.path).st_dev
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        pathlib.Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("of a test")

    def unmount(self) -> None:
        """Unmount it."""
        run("umount", str(self.path))


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[Disk]:
    found = Disk(tmp_path)
    yield found
    subprocess.run(["umount", "-l", str(found.path)], check=True)


#: In the process that does what follows.
opened: list[Environment] = []


def deploy(path: pathlib.Path, durability: Durability) -> None:
    env = Environment(path)
    env.new_control({"a"}, durability=durability)
    env.new_publisher().send_many(SENT)
    opening._stores[files.identity(path)]._sync()
    opened.append(env)


def use_read_only(path: pathlib.Path, durability: Durability) -> list[str]:
    """Go on with the queue that ``deploy`` left open; return what went wrong."""
    env, findings = opened[-1], []
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    writes_at_once = durability is not Durability.PROCESS

    def judge(what: str, error: PersipubsubError) -> None:
        said = str(error)
        if not isinstance(error, StorageError) or str(path) not in said or "ead-only" not in said:
            findings.append(f"{what}: {type(error).__name__}: {said}")
        elif "open it again" not in said:
            findings.append(f"{what}: it does not say what to do: {said}")

    deadline = time.monotonic() + BOUND
    for what, work in (("send", lambda: pub.send(b"lost")), ("take", lambda: sub.get(timeout=0))):
        try:
            while time.monotonic() < deadline:
                work()
                if writes_at_once:
                    findings.append(f"{what} was done")
                    break
            else:
                findings.append("nobody says that the disk can not be written")
        except PersipubsubError as error:
            judge(what, error)
        except lmdb.Error as error:
            findings.append(f"{what}: {type(error).__name__}: {error}")
    if writes_at_once and [message.data for message in env.browse()] != SENT:
        findings.append("it cannot be read")
    try:
        env.close()
    except StorageFailedError as error:
        judge("close", error)
    return findings


@pytest.mark.parametrize("durability", list(Durability))
def test_a_filesystem_becomes_read_only_and_is_mended(disk: Disk, durability: Durability) -> None:
    path = disk.path / "queue"
    hand = Hand()
    try:
        hand.do(deploy, path, durability)
        # While a file is open to be written, nobody can make it so on purpose.
        with pytest.raises(subprocess.CalledProcessError):
            run("mount", "-o", "remount,ro", str(disk.path))
        disk.give_up()
        assert hand.do(use_read_only, path, durability) == []
    finally:
        hand.end()
    disk.unmount()
    disk.mount()
    with Environment(path) as env:
        assert env.open_control().check() == []
        assert [message.data for message in env.browse()][: len(SENT)] == SENT
        assert env.new_publisher().send(b"") == len(SENT) + 1


def test_an_error_that_is_not_told_in_our_words_is_seen(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "explain", lambda store, error: error)
    hand = Hand()
    try:
        hand.do(deploy, disk.path / "queue", Durability.COMMIT)
        disk.give_up()
        findings = hand.do(use_read_only, disk.path / "queue", Durability.COMMIT)
    finally:
        hand.end()
    assert "Read-only file system" in "\n".join(findings)
