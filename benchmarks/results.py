"""What a run found out, as it is written to a file."""

import statistics

import msgspec

from benchmarks.machine import Machine


class SystemRecord(msgspec.Struct):
    """A system as it was measured, or why it was not."""

    name: str
    role: str
    survives: str
    durability: str | None = None
    note: str = ""
    missing: str | None = None
    versions: dict[str, str] = {}


class Failure(msgspec.Struct):
    """A measurement that did not come about."""

    workload: str
    system: str
    message: str


class Spread(msgspec.Struct, frozen=True):
    """What the rounds found."""

    median: float
    lowest: float
    highest: float


class Results(msgspec.Struct):
    """Everything about a run.

    ``values`` maps figures to systems to what each round found; ``skipped`` maps workloads to systems to reasons.
    """

    machine: Machine
    size: str
    rounds: int
    systems: dict[str, SystemRecord]
    values: dict[str, dict[str, list[float]]] = {}
    skipped: dict[str, dict[str, str]] = {}
    failures: list[Failure] = []
    #: Figures that stem from another run: how that was made.
    elsewhere: dict[str, str] = {}

    def add(self, system: str, found: dict[str, float]) -> None:
        """Add what a round found about a system."""
        for figure, value in found.items():
            self.values.setdefault(figure, {}).setdefault(system, []).append(value)

    @property
    def how(self) -> str:
        """Say how often, how long and under what load it was measured."""
        rounds = f"{self.rounds} round{'s' if self.rounds != 1 else ''} ({self.size})"
        return (
            f"{self.machine.date}, revision {self.machine.revision}, {rounds}, load {self.machine.load:g} at the start"
        )

    def replace(self, other: "Results") -> None:
        """Take the figures of another run in place of one's own, for all systems: ratios stay within one run."""
        for figure, values in other.values.items():
            self.values[figure] = values
            self.elsewhere[figure] = other.how
        self.skipped.update(other.skipped)
        self.failures += other.failures

    def spread(self, figure: str, system: str) -> Spread | None:
        """Return median, minimum and maximum; ``None`` if there are no values."""
        values = self.values.get(figure, {}).get(system)
        return Spread(statistics.median(values), min(values), max(values)) if values else None

    def median(self, figure: str, system: str) -> float | None:
        """Return the median; ``None`` if there are no values."""
        found = self.spread(figure, system)
        return found.median if found else None
