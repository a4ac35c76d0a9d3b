"""Every workload runs, with tiny sizes, over ours and the floor, in processes of its own."""

from pathlib import Path

import pytest

from benchmarks import systems, workloads
from benchmarks.runner import contestants, run
from benchmarks.systems.base import Connection, System
from benchmarks.workloads.base import Size


def measure(workload: str, names: list[str], folder: Path) -> dict[str, dict[str, list[float]]]:
    results = run(contestants(systems.choose(names)), workloads.choose([workload]), 1, Size.TINY, folder)
    assert results.failures == []
    assert list(folder.iterdir()) == []
    return results.values


@pytest.mark.parametrize("workload", sorted(set(workloads.WORKLOADS) - {"burst"}))
def test_workload_finds_its_figures(workload: str, tmp_path: Path) -> None:
    names = ["ours-process", "floor-process"]
    found = measure(workload, names, tmp_path)
    known = {figure.key for figure in workloads.WORKLOADS[workload].figures}
    assert found
    assert set(found) <= known
    present = {system for values in found.values() for system in values}
    reasons = {name: workloads.WORKLOADS[workload].skips(systems.SYSTEMS[name]) for name in names}
    assert present <= set(systems.SYSTEMS)
    assert {name for name, reason in reasons.items() if reason is None} <= present
    for values in found.values():
        assert all(value >= 0 or "footprint" in workload for rounds in values.values() for value in rounds)


@pytest.mark.parametrize("durability", ["process", "full"])
def test_a_thousand_concurrent_sends_share_few_transactions(durability: str, tmp_path: Path) -> None:
    name = f"ours-{durability}-aio"
    found = measure("burst", [name], tmp_path)
    assert 1 <= found["burst.transactions"][name][0] <= 50


def test_references_are_measured_through_inherited_queues(tmp_path: Path) -> None:
    found = measure("at-once", ["os-pipe", "mp-queue"], tmp_path)
    assert all(found["at-once.rate"][name][0] > 0 for name in ("os-pipe", "mp-queue"))


def test_a_server_is_started_and_stopped(tmp_path: Path) -> None:
    found = measure("drain", ["jetstream"], tmp_path)
    assert found["drain.one"]["jetstream"][0] > 0


def test_a_system_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems.SYSTEMS["litequeue"], "packages", ("no-such-package",), raising=True)
    results = run(contestants(systems.choose(["litequeue"])), workloads.choose(["send"]), 1, Size.TINY, tmp_path)
    assert "no-such-package" in str(results.systems["litequeue"].missing)
    assert results.values == {}


def test_a_measurement_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = systems.SYSTEMS["os-pipe"]

    def refuse(self: System, place: str) -> Connection:
        raise ValueError("out of order")

    monkeypatch.setattr(type(pipe), "connect", refuse)
    field = contestants(systems.choose(["os-pipe", "floor-process"]))
    results = run(field, workloads.choose(["at-once"]), 1, Size.TINY, tmp_path)
    assert [(failure.workload, failure.system) for failure in results.failures] == [("at-once", "os-pipe")]
    assert "out of order" in results.failures[0].message
    assert set(results.values["at-once.rate"]) == {"floor-process"}
