"""Who may do what: nobody else by default, and nothing in a message or a configuration leads anywhere."""

import fcntl
import itertools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from persipubsub import (
    ConfigError,
    Durability,
    Environment,
    NotAQueueError,
    OpenError,
    QueuePermissionError,
    config,
)
from persipubsub.engine.local import files, locks
from tests.faults.crew import Hand
from tests.hazards.security import deploy, plant, wrong_modes

NOBODY = 65_534


@pytest.fixture
def shared() -> Iterator[pathlib.Path]:
    """Give a folder in which everybody may make files, like /tmp."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@pytest.fixture
def nobody() -> Iterator[Hand]:
    """Give a process of a user without rights."""
    assert os.geteuid() == 0, "these tests need root, to become somebody else"
    hand = Hand(become_nobody)
    yield hand
    hand.end()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("group", [False, True])
def test_modes_are_those_of_the_deployment(
    queue_path: pathlib.Path, umask: int, durability: Durability, group: bool
) -> None:
    deploy(queue_path, umask, durability=durability, group_access=group)
    assert wrong_modes(queue_path, group) == []


def try_everything(path: pathlib.Path) -> list[str]:
    """Return what another user managed to do with the files of a queue."""
    done = []
    try:
        with Environment(path) as env:
            env.open_control()
        done.append("opened it")
    except QueuePermissionError:
        pass
    for folder, mode in itertools.product([path, path / files.BELLS], [os.R_OK, os.W_OK, os.X_OK]):
        if os.access(folder, mode):
            done.append(f"has access {mode} to {folder}")
    for name in (files.DATA, files.LMDB_LOCK, files.LOCKS, files.BOARD, f"{files.BELLS}/0", files.SEAL):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.open(path / name, flags | os.O_NONBLOCK)
            except PermissionError:
                continue
            done.append(f"opened {name} with {flags}")
    return done


def test_another_user_can_neither_read_nor_wake_nor_stall(shared: pathlib.Path, nobody: Hand) -> None:
    path = shared / "queue"
    with Environment(path) as env:
        env.new_control({"a"})
        env.new_publisher().send(b"secret")
        env.new_subscriber("a").fileno()
        assert nobody.do(try_everything, path) == []


def use_as_member(path: pathlib.Path) -> bytes:
    with Environment(path) as env:
        message = env.new_subscriber("a").get(timeout=0)
        assert message is not None
        message.ack()
        env.new_publisher().send(b"answer")
        return message.data


def become_member() -> None:
    os.setgroups([])
    os.setgid(54_321)
    os.setgroups([54_322])
    os.setuid(NOBODY)


def test_a_group_shares_what_was_deployed_for_it(shared: pathlib.Path) -> None:
    """A member whose own first group is another one: its files must be the group's all the same."""
    path = shared / "queue"
    member = Hand(become_member)
    try:
        deploy(path, 0o077, group_access=True, durability=Durability.PROCESS)
        for found in [path, *path.rglob("*")]:
            os.chown(found, -1, 54_322)
            found.chmod(0o2770 if found.is_dir() else 0o660)
        assert member.do(use_as_member, path) == b"secret"
        with Environment(path) as env:
            message = env.new_subscriber("a").get(timeout=0)
            assert message is not None
            assert message.data == b"answer"
        assert {found.stat().st_gid for found in path.rglob("*")} == {54_322}
    finally:
        member.end()


# -- what somebody else may have planted ---------------------------------------------------------------------


def plant_beside(path: pathlib.Path) -> None:
    """Make everything that might be in the way of a deployment."""
    for suffix in (".new", ".gone", ".failed"):
        (path.parent / f".{path.name}.0000000000000000{suffix}").symlink_to("/etc")
    os.mkfifo(path.parent / f".{path.name}.fifo.new")


def test_what_was_planted_beside_is_left_alone(shared: pathlib.Path, nobody: Hand) -> None:
    path = shared / "queue"
    nobody.do(plant_beside, path)
    for left in shared.iterdir():
        os.utime(left, (0, 0), follow_symlinks=False)
    deploy(path, 0)
    with Environment(path) as env:
        assert env.open_control().check() == []
    assert pathlib.Path("/etc/passwd").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "fifo"])
def test_no_queue_is_made_where_another_user_was_first(shared: pathlib.Path, nobody: Hand, kind: str) -> None:
    path = shared / "queue"
    victim = shared / "victim"
    victim.write_bytes(b"precious")
    nobody.do(plant, path, kind, victim)
    with pytest.raises(OpenError), Environment(path) as env:
        env.new_control({"a"})
    assert victim.read_bytes() == b"precious"


def lock_everything(path: pathlib.Path) -> bool:
    """Try to stall the queue by its locks; return whether a descriptor could be had."""
    try:
        descriptor = os.open(path / files.LOCKS, os.O_RDWR)
    except PermissionError:
        return False
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, locks.WRITER)
    return True


def test_another_user_cannot_take_the_locks(shared: pathlib.Path, nobody: Hand) -> None:
    deploy(shared / "queue", 0)
    assert not nobody.do(lock_everything, shared / "queue")


# -- configurations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["..", "../escape", "/escape", "a/b", ".", ".hidden", "", "a\0b", "a\nb", "~", "x" * 300, "ok/../../escape"]
)
def test_no_name_in_a_configuration_leads_out_of_its_root(tmp_path: pathlib.Path, name: str) -> None:
    file = tmp_path / "config" / "queues.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"root": "queues", "queues": {name: {"subscribers": ["a"]}}}))
    try:
        config.deploy(config.load(file))
    except (ConfigError, OpenError):
        pass
    outside = {path.name for path in tmp_path.iterdir()} - {"config"}
    assert outside == set()
    assert {path.name for path in file.parent.iterdir()} <= {"queues.json", "queues"}


def test_a_link_in_a_root_is_not_followed(tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "queues").mkdir()
    (tmp_path / "queues" / "frames").symlink_to(elsewhere)
    file = tmp_path / "queues.json"
    file.write_text(json.dumps({"root": "queues", "queues": {"frames": {"subscribers": ["a"]}}}))
    with pytest.raises((ConfigError, NotAQueueError)):
        config.deploy(config.load(file))
    assert list(elsewhere.iterdir()) == []


# -- children ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", list(Durability))
def test_no_descriptor_is_inherited(queue_path: pathlib.Path, durability: Durability) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Environment(queue_path) as env:
        env.new_control({"a"}, durability=durability)
        env.new_publisher().send(b"")
        env.new_subscriber("a").fileno()
        inherited = []
        for descriptor in set(os.listdir("/proc/self/fd")) - before:
            try:
                if not fcntl.fcntl(int(descriptor), fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                    inherited.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            except OSError:
                continue  # the one that listed the folder
        assert inherited == []
