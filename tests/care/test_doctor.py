"""The doctor sees what needs care, and nothing else."""

import collections
import os
import pathlib
import shutil

import pytest

from persipubsub import Durability, Environment, care
from persipubsub.care import doctor, surroundings
from persipubsub.care.measuring import fsync_seconds, measure
from tests.process.support import Children, Here, get, open_subscriber

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /mnt/share rw,relatime shared:12 - nfs4 server:/share rw,vers=4.2
31 22 0:26 / /mnt/share/cache rw shared:13 - tmpfs tmpfs rw
32 22 0:27 / /mnt/with\\040space ro,relatime - ext4 /dev/vdb ro
33 22 0:28 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
34 22 0:29 / /mnt/over rw - ext4 /dev/vdc rw
35 34 0:30 / /mnt/over rw - 9p hostshare rw
not a line
"""


def needing(symptoms: list[care.Symptom]) -> dict[str, str]:
    return {symptom.topic: symptom.finding for symptom in symptoms if symptom.needs_care}


@pytest.mark.parametrize(
    ("path", "kind", "network", "read_only"),
    [
        ("/var/queue", "ext4", False, False),
        ("/mnt/share/queue", "nfs4", True, False),
        ("/mnt/share/cache/queue", "tmpfs", False, False),
        ("/mnt/sharex", "ext4", False, False),
        ("/mnt/with space/queue", "ext4", False, True),
        ("/mnt/ssh", "fuse.sshfs", True, False),
        ("/mnt/over/queue", "9p", True, False),
    ],
)
def test_mounts(tmp_path: pathlib.Path, path: str, kind: str, network: bool, read_only: bool) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    mount = surroundings.mount_of(pathlib.Path(path), tmp_path / "mountinfo")
    assert mount is not None
    assert (mount.kind, mount.is_network, mount.read_only) == (kind, network, read_only)


def test_without_mountinfo(tmp_path: pathlib.Path) -> None:
    assert surroundings.mount_of(tmp_path, tmp_path / "missing") is None


def test_this_machine_knows_where_things_are(tmp_path: pathlib.Path) -> None:
    mount = surroundings.mount_of(tmp_path)
    assert mount is not None
    assert os.path.ismount(mount.point)


def test_a_sound_queue(tmp_path: pathlib.Path) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"})
        env.new_publisher().send(b"x")
    topics = [symptom.topic for symptom in care.examine(tmp_path / "queue")]
    assert topics[:4] == ["versions", "open files", "process ids", "filesystem"]
    assert {"disk space", "fsync", "queue", "file", "readers", "owners"} <= set(topics)
    assert not needing(
        [symptom for symptom in care.examine(tmp_path / "queue") if symptom.topic in ("queue", "owners")]
    )


def test_subscribers_that_need_care(queue: pathlib.Path) -> None:
    found = needing(care.examine(queue))
    assert found["subscriber b"] == "2 messages are dead letters"
    assert found["subscriber c"] == "it is paused while 12 messages wait"


def test_who_died_with_messages_in_hand(queue: pathlib.Path, children: Children) -> None:
    child = children.new()
    child.do(open_subscriber, queue, "a")
    child.do(get, 0)
    assert "owners" not in needing(care.examine(queue))
    child.kill()
    assert "1 messages of subscriber 'a' are held by owners that died" in needing(care.examine(queue))["owners"]
    with Environment(queue) as env, env.new_subscriber("a").receive(timeout=0):
        pass
    assert "owners" not in needing(care.examine(queue))


def _view(here: Here, path: pathlib.Path) -> None:
    """Read a view until the end of the process."""
    here.env = Environment(path)
    here.view = here.env.new_subscriber("a").receive_view(timeout=0)
    here.view.__enter__()


def test_readers(queue: pathlib.Path, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    def readers() -> care.Symptom:
        (found,) = [symptom for symptom in care.examine(queue) if symptom.topic == "readers"]
        return found

    monkeypatch.setattr(doctor, "_FAR_BEHIND", 10)
    child = children.new()
    child.do(_view, queue)
    assert readers().finding.startswith("1 of 2048 places are taken")
    assert not readers().needs_care
    with Environment(queue) as env, env.new_publisher() as pub:
        for _ in range(12):
            pub.send(b"more")
        assert f"process {child.pid}:" in (readers().advice or "")
        child.kill()
        # As long as somebody has the queue open: the next one alone begins with an empty table.
        assert "; 1 were left by dead ones" in readers().finding
        assert readers().finding.startswith("0 of 2048 places are taken")


def test_what_cannot_be_used_is_a_symptom(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    (damaged / "data.mdb").write_bytes(b"")
    for path in (damaged, tmp_path / "missing", tmp_path):
        assert needing(care.examine(path))["queue"] == "it cannot be used"


def test_a_wasteful_file_and_an_unsynced_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_WORTH_COMPACTING", 1 << 20)
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=Durability.PROCESS)
        env.new_publisher().send_many([b"x" * 100_000] * 100)
        control.purge("a")
        assert "file" in needing(care.examine(tmp_path / "queue"))
        assert "unsynced" in [symptom.topic for symptom in care.examine(tmp_path / "queue")]
        control.compact()
    assert "file" not in needing(care.examine(tmp_path / "queue"))
    assert "unsynced" not in [symptom.topic for symptom in care.examine(tmp_path / "queue")]


def test_a_machine_that_needs_care(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1 << 40, (1 << 40) - 100, 100))
    monkeypatch.setattr(surroundings, "open_files", lambda: (100, 200))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(doctor, "library_versions", lambda: ("1.0", (0, 9, 29)))
    monkeypatch.setattr(doctor, "fsync_seconds", lambda folder: 0.5)
    monkeypatch.setattr(
        surroundings, "mount_of", lambda folder: surroundings.Mount("/mnt", "cifs", "//server/share", False)
    )
    monkeypatch.chdir(tmp_path)
    found = needing(care.examine())
    assert set(found) == {"versions", "open files", "process ids", "filesystem", "disk space", "fsync"}
    monkeypatch.setattr(surroundings, "mount_of", lambda folder: surroundings.Mount("/mnt", "ext4", "/dev/vda", True))

    def refuse(folder: pathlib.Path) -> float:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor, "fsync_seconds", refuse)
    found = needing(care.examine())
    assert "nothing can be written" in found["fsync"]
    assert "filesystem" in found


def test_measuring_leaves_nothing(tmp_path: pathlib.Path) -> None:
    assert 0 < fsync_seconds(tmp_path) < 30
    found = list(measure(tmp_path, seconds=0.01, size=10))
    assert [one.durability for one in found] == [durability.value for durability in Durability for _ in range(3)]
    for one in found:
        assert 0 < one.median <= one.p99 <= one.longest <= one.seconds
        assert one.rate == one.messages / one.seconds
        assert one.calls * (100 if "100" in one.what else 1) == one.messages
    assert os.listdir(tmp_path) == []
