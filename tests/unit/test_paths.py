"""Every path leads where the operating system would go, ``..`` behind a symbolic link too."""

import ast
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from persipubsub import Environment, QueueManager, Retention, care, config
from persipubsub.paths import absolute

PACKAGE = Path(__file__).resolve().parents[2] / "persipubsub"


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    """Return ``far/aside/..``, which is the folder ``place`` to the operating system and ``far`` to a reader."""
    (tmp_path / "far").mkdir()
    (tmp_path / "place" / "beside").mkdir(parents=True)
    (tmp_path / "far" / "aside").symlink_to(tmp_path / "place" / "beside")
    return tmp_path / "far" / "aside" / ".."


def test_dots_behind_a_link(aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = aside.resolve()
    (place / "link").symlink_to(place / "beside")
    monkeypatch.chdir(place.parent)
    assert absolute(aside) == place
    assert absolute(aside / "queue") == place / "queue"
    assert absolute("far/aside/../queue") == place / "queue"
    assert absolute(aside / "link") == place / "link", "a link without dots behind it is kept"
    assert absolute("far/aside") == place.parent / "far" / "aside"
    assert absolute("not/there/../x/") == place.parent / "not" / "x"
    assert absolute("a\0b/../c").name == "c", "who opens it says what is wrong"


def deploy(path: Path) -> None:
    with Environment(path) as env, env.new_control({"sub"}, retention=Retention.LOG):
        env.new_publisher().send(b"1")


def by_config(aside: Path) -> None:
    (aside / "queues.json").write_text('{"queues": {"made": {"subscribers": ["sub"]}}, "root": "."}', encoding="utf-8")
    loaded = config.load(aside / "queues.json")
    assert loaded.root == aside.resolve()
    config.deploy(loaded)


def by_root(aside: Path) -> None:
    file = aside.parents[2] / "queues.json"
    file.write_text('{"queues": {"made": {"subscribers": ["sub"]}}, "root": "far/aside/.."}', encoding="utf-8")
    config.deploy(config.load(file))


def by_manager(aside: Path) -> None:
    QueueManager(aside).create("made", subscriber_ids={"sub"}).close()


def by_backup(aside: Path) -> None:
    deploy(aside / "queue")
    with Environment(aside / "queue") as env:
        env.open_control().backup(aside / "made")


def by_restore(aside: Path) -> None:
    by_backup(aside)
    os.rename(aside / "made", aside / "backup")
    assert care.restore(aside / "backup", aside / "made") == aside.resolve() / "made"


def by_import(aside: Path) -> None:
    deploy(aside / "queue")
    stream = io.BytesIO()
    with Environment(aside / "queue") as env:
        env.open_control().export(stream)
    stream.seek(0)
    care.import_queue(stream, aside / "made")


def by_salvage(aside: Path) -> None:
    deploy(aside / "queue")
    care.salvage(aside / "queue", aside / "made")


@pytest.mark.parametrize("make", [by_config, by_root, by_manager, by_backup, by_restore, by_import, by_salvage])
def test_what_is_made_stands_there(make: Callable[[Path], None], aside: Path) -> None:
    make(aside)
    assert QueueManager(aside).exists("made")
    assert (aside.resolve() / "made" / "data.mdb").exists()
    assert os.listdir(aside.parents[1]) == ["aside"]


def test_only_one_function_makes_paths_absolute() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "abspath"
    }
    assert found == {"paths.py"}
