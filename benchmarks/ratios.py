"""What the figures say about each other: ratios to the floor and to the best peer."""

import msgspec

from benchmarks.results import Results, Spread
from benchmarks.systems.base import Role
from benchmarks.workloads.base import Figure


class Rival(msgspec.Struct, frozen=True):
    """Whom a system is compared with, and how it does: above 1 it is better, below 1 worse."""

    name: str
    advantage: float


class Row(msgspec.Struct, frozen=True):
    """A system in the table of a figure."""

    system: str
    role: str
    spread: Spread
    floors: tuple[Rival, ...] = ()
    best_peer: Rival | None = None


def advantage(figure: Figure, own: float, other: float) -> float:
    """Return how many times better ``own`` is than ``other``."""
    over, under = (own, other) if figure.higher else (other, own)
    if under:
        return over / under
    return float("inf") if over else 1.0


def best(results: Results, figure: Figure, names: list[str]) -> str | None:
    """Return which of ``names`` has the best median; ``None`` if none has any."""
    medians = {name: median for name in names if (median := results.median(figure.key, name)) is not None}
    if not medians:
        return None
    return (max if figure.higher else min)(medians, key=lambda name: medians[name])


def named(results: Results, role: Role, survives: str, durability: str | None = None) -> list[str]:
    """Return the systems of a role and a class, and of a durability if one is given."""
    return [
        name
        for name, record in results.systems.items()
        if record.role == role.value
        and record.survives == survives
        and (durability is None or record.durability == durability)
    ]


def rows(results: Results, figure: Figure, survives: str) -> list[Row]:
    """Return the systems of a class that have the figure, best first."""
    found: list[Row] = []
    for name, record in results.systems.items():
        spread = results.spread(figure.key, name)
        if spread is None or record.survives != survives:
            continue
        floors: tuple[Rival, ...] = ()
        peer: Rival | None = None
        if record.role == Role.OURS.value:
            floors = tuple(
                Rival(floor, advantage(figure, spread.median, median))
                for floor in named(results, Role.FLOOR, survives, record.durability)
                if (median := results.median(figure.key, floor)) is not None
            )
            rival = best(results, figure, named(results, Role.PEER, survives))
            median = results.median(figure.key, rival) if rival else None
            if rival is not None and median is not None:
                peer = Rival(rival, advantage(figure, spread.median, median))
        found.append(Row(name, record.role, spread, floors, peer))
    return sorted(found, key=lambda row: row.spread.median, reverse=figure.higher)
