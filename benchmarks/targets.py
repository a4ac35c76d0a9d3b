"""How fast the queue is to be: targets as data, and whether a run met them.

A target compares one figure of ours with another figure of the same run, or with a fixed bound.
"""

import enum
import operator
from collections.abc import Callable

import msgspec

from benchmarks.ratios import best, named
from benchmarks.results import Results
from benchmarks.systems.base import Role
from benchmarks.workloads import FIGURES


class Against(enum.Enum):
    """What a figure of ours is divided by."""

    FLOOR = "the floor of the same durability"
    """Of several, the best: with or without a writable map."""
    BEST_PEER = "the best peer of its class"
    SYSTEM = "another system"
    ITSELF = "another figure of its own"
    NOTHING = "nothing"


class Target(msgspec.Struct, frozen=True):
    """``figure`` of ``system``, divided by ``against``, is to be ``relation`` ``bound``.

    :param other: the system, or the figure, that it is divided by
    """

    figure: str
    system: str
    against: Against
    relation: str
    bound: float
    other: str = ""

    @property
    def text(self) -> str:
        """Say it in words."""
        what = FIGURES[self.figure]
        subject = f"{self.system}: {what.key}"
        divisor = {
            Against.FLOOR: " of the floor",
            Against.BEST_PEER: " of the best peer",
            Against.SYSTEM: f" of {self.other}",
            Against.ITSELF: f" of its own {self.other}",
            Against.NOTHING: f" {what.unit}",
        }[self.against]
        sign = {">=": "≥", "<=": "≤"}[self.relation]
        times = "" if self.against is Against.NOTHING else " x"
        return f"{subject} {sign} {self.bound:g}{times}{divisor}"


class Verdict(msgspec.Struct, frozen=True):
    """What became of a target; ``met`` is ``None`` when a figure is missing."""

    target: Target
    met: bool | None
    measured: float | None = None
    divisor: str = ""


RELATIONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


def _targets() -> tuple[Target, ...]:
    floor, peer, system, own, nothing = Against
    durabilities = ("process", "commit", "full")
    return (
        Target("send.rate", "ours-process", floor, ">=", 0.5),
        Target("send.rate", "ours-process", peer, ">=", 5),
        Target("send.rate", "ours-commit", floor, ">=", 0.9),
        Target("send.rate", "ours-full", floor, ">=", 0.9),
        *(Target("batches.send", f"ours-{name}", floor, ">=", 0.5) for name in durabilities),
        *(Target("batches.send", f"ours-{name}", peer, ">=", 5) for name in durabilities),
        Target("drain.one", "ours-process", floor, ">=", 0.4),
        Target("drain.loop", "ours-process", own, ">=", 5, "drain.one"),
        *(Target("at-once.rate", f"ours-{name}", floor, ">=", 1.0) for name in durabilities),
        Target("at-once.rate", "ours-process", system, ">=", 10, "redis-everysec"),
        Target("at-once.rate", "ours-process", system, ">=", 10, "jetstream"),
        Target("latency.p50", "ours-process", system, "<=", 2, "os-pipe"),
        Target("latency.p99", "ours-process", system, "<=", 4, "os-pipe"),
        Target("latency.idle", "ours-process", nothing, "<=", 1),
        *(Target("fan-out.1000", f"ours-{name}", own, "<=", 1.2, "fan-out.1") for name in durabilities),
        *(Target(f"large.send.{size}", "ours-process", floor, ">=", 0.9) for size in ("1", "10")),
        *(Target(f"large.send.{size}", f"ours-{name}", peer, ">=", 2) for size in ("1", "10") for name in durabilities),
        *(Target("large.view.speed", f"ours-{name}", nothing, ">=", 5) for name in durabilities),
        Target("group-commit.16", "ours-full", own, ">=", 6, "group-commit.1"),
        *(
            Target(f"workers.{count}", "ours-full", against, ">=", bound, other)
            for count in (4, 8)
            for against, bound, other in (
                (floor, 2.0, ""),
                (system, 1.0, "jetstream-always"),
                (system, 1.0, "redis-always"),
            )
        ),
        Target("workers.8", "ours-process", own, ">=", 0.8, "workers.1"),
        Target("workers.8", "ours-full", own, ">=", 0.8, "workers.1"),
        *(
            Target(f"backlog.{way}.7", f"ours-{name}", own, "<=", 1.3, f"backlog.{way}.4")
            for way in ("send", "take")
            for name in durabilities
        ),
        *(Target("pruning.max", f"ours-{name}", nothing, "<=", 50) for name in durabilities),
        Target("opening.import", "ours-process", nothing, "<=", 80),
        *(
            Target(f"footprint.{figure}", f"ours-{name}", nothing, "<=", bound)
            for figure, bound in (("publisher", 1), ("subscriber", 1), ("file", 1.1))
            for name in durabilities
        ),
        *(Target(figure, "ours-nats", system, ">=", 0.5, "jetstream") for figure in ("send.rate", "drain.one")),
        Target("batches.send", "ours-nats", system, ">=", 1, "jetstream"),
        Target("batches.receive", "ours-nats", system, ">=", 0.5, "jetstream"),
        Target("latency.p50", "ours-nats", system, "<=", 2, "jetstream"),
        Target("send.rate", "ours-process", system, ">=", 10, "ours-nats"),
        Target("relay.rate", "ours-nats", nothing, ">=", 10_000),
        *(Target("burst.transactions", f"ours-{name}-aio", nothing, "<=", 50) for name in durabilities),
    )


TARGETS = _targets()


def judge(results: Results, target: Target) -> Verdict:
    """Tell whether a run met a target."""
    own = results.median(target.figure, target.system)
    if own is None:
        return Verdict(target, None)
    if target.against is Against.NOTHING:
        return Verdict(target, RELATIONS[target.relation](own, target.bound), own)
    name, figure = _divisor(results, target)
    other = results.median(figure, name) if name else None
    if not other:
        return Verdict(target, None)
    quotient = own / other
    label = figure if target.against is Against.ITSELF else str(name)
    return Verdict(target, RELATIONS[target.relation](quotient, target.bound), quotient, label)


def judge_all(results: Results) -> list[Verdict]:
    """Judge every target whose workload and system were asked for."""
    return [
        judge(results, target)
        for target in TARGETS
        if target.figure in results.values and target.system in results.systems
    ]


def _divisor(results: Results, target: Target) -> tuple[str | None, str]:
    """Return the system and the figure that a target divides by."""
    if target.against is Against.ITSELF:
        return target.system, target.other
    if target.against is Against.SYSTEM:
        return target.other, target.figure
    record = results.systems[target.system]
    floor = target.against is Against.FLOOR
    names = named(results, Role.FLOOR if floor else Role.PEER, record.survives, record.durability if floor else None)
    return best(results, FIGURES[target.figure], names), target.figure
