"""Where a writable map may be used."""

import pathlib

import pytest

from persipubsub import Durability, Environment
from persipubsub.engine.local import files, filesystem, opening

TABLE = """\
23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
24 23 0:40 / /srv rw - btrfs /dev/sdb rw
25 24 0:41 / /srv/my\\040disk rw - tmpfs tmpfs rw
26 24 0:42 / /srv/my\\040disk rw - zfs tank rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "ext4"), ("/srvother", "ext4"), ("/srv", "btrfs"), ("/srv/queue", "btrfs"), ("/srv/my disk/q", "zfs")],
)
def test_the_nearest_mount_counts(tmp_path: pathlib.Path, path: str, expected: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert filesystem.kind(pathlib.Path(path), table) == expected
    assert filesystem.kind(pathlib.Path(path), tmp_path / "none") == ""


def test_here_it_is_known() -> None:
    assert filesystem.kind(pathlib.Path("/proc")) == "proc"


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_no_writable_map_where_allocated_space_is_no_promise(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(filesystem, "kind", lambda path: kind)
    with Environment(queue_path) as env:
        control = env.new_control({"a"}, durability=Durability.PROCESS)
        env.new_publisher().send(b"")
        assert opening._stores[files.identity(queue_path)]._writable_map == (kind == "ext4")
        assert control.check() == []
