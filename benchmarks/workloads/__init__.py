"""The workloads."""

from collections.abc import Iterable

from benchmarks.errors import BenchmarkError
from benchmarks.workloads.at_once import AtOnce
from benchmarks.workloads.backlog import Backlog
from benchmarks.workloads.base import Figure, Workload
from benchmarks.workloads.batches import Batches
from benchmarks.workloads.burst import Burst
from benchmarks.workloads.drain import Drain
from benchmarks.workloads.fan_out import FanOut
from benchmarks.workloads.footprint import Footprint
from benchmarks.workloads.group_commit import GroupCommit
from benchmarks.workloads.large import Large
from benchmarks.workloads.latency import Latency
from benchmarks.workloads.opening import Opening
from benchmarks.workloads.pruning import Pruning
from benchmarks.workloads.relay import Relaying
from benchmarks.workloads.single_send import SingleSend
from benchmarks.workloads.workers import Workers

_ALL: tuple[Workload, ...] = (
    SingleSend(),
    Drain(),
    Batches(),
    AtOnce(),
    Latency(),
    FanOut(),
    Large(),
    Workers(),
    GroupCommit(),
    Burst(),
    Backlog(),
    Pruning(),
    Relaying(),
    Opening(),
    Footprint(),
)

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}
FIGURES: dict[str, Figure] = {figure.key: figure for workload in _ALL for figure in workload.figures}

#: A quick look.
QUICK = ("send", "drain", "batches", "at-once", "latency")


def choose(names: Iterable[str]) -> list[Workload]:
    """Return the workloads of those names.

    :raise BenchmarkError: there is none of a name
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in WORKLOADS]
    if unknown:
        raise BenchmarkError(f"There is no workload {unknown[0]!r}; choose from {', '.join(WORKLOADS)}.")
    return [workload for name, workload in WORKLOADS.items() if name in wanted]


__all__ = ["FIGURES", "QUICK", "WORKLOADS", "Figure", "Workload", "choose"]
