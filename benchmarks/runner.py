"""Measures systems with workloads, round by round."""

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe
from benchmarks.results import Failure, Results, SystemRecord
from benchmarks.systems.base import System
from benchmarks.workloads.base import Bench, Size, Workload


class Contestant(msgspec.Struct):
    """A system under the name that the results give it, with the revision of the package that it runs."""

    name: str
    system: System
    source: Path | None = None


def contestants(systems: Sequence[System]) -> list[Contestant]:
    """Return systems that run the package at hand."""
    return [Contestant(system.name, system) for system in systems]


def run(
    field: Sequence[Contestant],
    workloads: Sequence[Workload],
    rounds: int,
    size: Size,
    folder: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Results:
    """Measure every contestant with every workload, ``rounds`` times.

    In each round each workload is measured with one contestant after the other, and each round begins with
    another one, so that whatever slows the machine for a while hits them all.

    :param folder: where queues are kept, on the disk that is to be measured; a temporary one if left out
    :param report: is told what is being done
    """
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="persipubsub-benchmarks-", dir=folder))
        home = Path(temporary)
        records = {contestant.name: _record(contestant) for contestant in field}
        results = Results(machine=describe(home), size=size.value, rounds=rounds, systems=records)
        present = [contestant for contestant in field if records[contestant.name].missing is None]
        addresses: dict[str, str] = {}
        for contestant in present:
            report(f"start {contestant.name}")
            own = home / contestant.name
            own.mkdir()
            addresses[contestant.name] = stack.enter_context(contestant.system.running(own))
        number = itertools.count().__next__
        for turn, workload in itertools.product(range(rounds), workloads):
            if turn >= workload.most_rounds:
                continue
            shift = turn % max(1, len(present))
            for contestant in [*present[shift:], *present[:shift]]:
                name = contestant.name
                reason = workload.skips(contestant.system)
                if reason is not None:
                    results.skipped.setdefault(workload.name, {})[name] = reason
                    continue
                report(f"round {turn + 1} of {rounds}: {workload.name}, {name}")
                bench = Bench(contestant.system, addresses[name], size, contestant.source, number)
                try:
                    results.add(name, workload.measure(bench))
                except KeyboardInterrupt:
                    results.failures.append(Failure(workload.name, name, "interrupted, and what would have followed"))
                    return results
                except BenchmarkError as error:
                    results.failures.append(Failure(workload.name, name, str(error)))
                except Exception as error:  # noqa: BLE001  a driver raises what it likes, and the others go on
                    results.failures.append(Failure(workload.name, name, f"{type(error).__name__}: {error}"))
    return results


def _record(contestant: Contestant) -> SystemRecord:
    system = contestant.system
    missing = system.missing()
    return SystemRecord(
        name=contestant.name,
        role=system.role.value,
        survives=system.survives.value,
        durability=system.durability,
        note=system.note,
        missing=missing,
        versions={} if missing else system.versions(),
    )
