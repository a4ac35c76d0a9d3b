"""Which queues ``top`` and ``dashboard`` look at."""

import json
import os
from pathlib import Path

import pytest
import typer

from persipubsub import QueueManager
from persipubsub.cli.finding import find_queues
from persipubsub.errors import ConfigError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with two queues below ``queues`` and a deployment file that has three."""
    manager = QueueManager(tmp_path / "queues")
    for name in ("frames", "orders"):
        manager.create(name).close()
    queues = {name: {"subscribers": ["a"]} for name in ("frames", "orders", "later")}
    (tmp_path / "persipubsub.json").write_text(json.dumps({"root": "queues", "queues": queues}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIPUBSUB_CONFIG", raising=False)
    return tmp_path


def test_a_directory_of_queues_means_all_of_them(root: Path) -> None:
    found = find_queues(["queues"], None, [])
    assert found == {"frames": Path("queues/frames"), "orders": Path("queues/orders")}


def test_queues_may_be_given_one_by_one(root: Path) -> None:
    assert list(find_queues(["queues/orders", "missing"], None, [])) == ["orders", "missing"]
    os.chdir(root / "queues" / "orders")
    assert find_queues(["."], None, []) == {"orders": Path()}


def test_equal_names_are_told_apart_by_their_paths(root: Path) -> None:
    QueueManager(root / "other").create("orders").close()
    assert list(find_queues(["queues/orders", "other/orders"], None, [])) == ["orders", "other/orders"]


def test_other_engines_are_given_by_their_location(root: Path) -> None:
    assert find_queues(["memory:one", "nats://host:4222/orders"], None, []) == {
        "memory:one": "memory:one",
        "nats://host:4222/orders": "nats://host:4222/orders",
    }


def test_the_deployment_file_has_the_names(root: Path) -> None:
    everything = find_queues([], None, [])
    assert everything == {name: root / "queues" / name for name in ("frames", "orders", "later")}
    assert list(find_queues([], root / "persipubsub.json", ["orders"])) == ["orders"]
    with pytest.raises(ConfigError, match="nothing"):
        find_queues([], None, ["nothing"])


def test_not_both_ways(root: Path) -> None:
    with pytest.raises(typer.BadParameter, match="not both"):
        find_queues(["queues"], None, ["orders"])
