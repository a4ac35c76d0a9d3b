"""Every workload runs, with tiny sizes, over ours and the floor, in processes of its own."""

import contextlib
import sys
from collections.abc import AsyncIterator
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


def test_our_classes_over_a_server_and_a_relay_to_it(tmp_path: Path) -> None:
    field = contestants(systems.choose(["ours-nats-always"]))
    results = run(field, workloads.choose(["send", "batches", "relay"]), 1, Size.TINY, tmp_path)
    assert results.failures == []
    for figure in ("send.rate", "batches.receive", "relay.rate"):
        assert results.values[figure]["ours-nats-always"][0] > 0


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


@pytest.mark.parametrize(("error", "following"), [(ValueError, 1), (KeyboardInterrupt, 0)])
def test_what_was_measured_before_a_mishap_is_kept(
    error: type[BaseException], following: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(place: str) -> None:
        raise error("no more")

    monkeypatch.setattr(systems.SYSTEMS["os-pipe"], "discard", fail)
    field = contestants([systems.SYSTEMS[name] for name in ("mp-queue", "os-pipe", "floor-process")])
    results = run(field, workloads.choose(["at-once"]), 1, Size.TINY, tmp_path)
    assert [failure.system for failure in results.failures] == ["os-pipe"]
    assert list(results.values["at-once.rate"]) == ["mp-queue", "floor-process"][: 1 + following]


class FakeJob:
    def __init__(self, queue: "FakeHonker", number: int, payload: str) -> None:
        self.queue, self.id, self.payload = queue, number, payload

    def ack(self) -> None:
        self.queue.ack_batch([self.id], "")


class FakeHonker:
    """What the driver uses of honker, whose wheel does not run everywhere."""

    def __init__(self) -> None:
        self.waiting: list[FakeJob] = []
        self.held: dict[int, FakeJob] = {}

    def open(self, path: str) -> "FakeHonker":
        return self

    def queue(self, name: str) -> "FakeHonker":
        return self

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def enqueue(self, payload: str, tx: None = None) -> None:
        self.waiting.append(FakeJob(self, len(self.waiting), payload))

    def claim_batch(self, worker: str, most: int) -> list[FakeJob]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        self.held |= {job.id: job for job in taken}
        return taken

    def claim_one(self, worker: str) -> FakeJob | None:
        return next(iter(self.claim_batch(worker, 1)), None)

    async def claim(self, worker: str) -> AsyncIterator[FakeJob]:
        self.enqueue("late")
        yield self.claim_batch(worker, 1)[0]

    def ack_batch(self, ids: list[int], worker: str) -> None:
        for number in ids:
            del self.held[number]

    def close(self) -> None:
        pass


def test_the_driver_of_honker_takes_and_acknowledges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHonker()
    monkeypatch.setitem(sys.modules, "honker", fake)
    system = systems.SYSTEMS["honker"]
    place = system.place(str(tmp_path), 0)
    system.deploy(place, ["a"])
    connection = system.connect(place)
    connection.sender().send(b"\xff")
    connection.sender().send_many([b"b", b"c"])
    taken: list[bytes] = []

    def handle(data: bytes) -> bool:
        taken.append(data)
        return True

    receiver = connection.receiver("a")
    receiver.take_each(lambda data: handle(data) and len(taken) < 2, 0)
    receiver.take_batches(10, lambda batch: all(map(handle, batch)), 0)
    receiver.take_each(handle, 1.0)
    connection.close()
    assert taken == [b"\xff", b"b", b"c", b"late"]
    assert fake.held == {}
