"""What a row of the scorecard is, and what comes out of it."""

import dataclasses
import math
import pathlib
from collections.abc import Callable

Figure = int | float | str | None


@dataclasses.dataclass
class Outcome:
    """What came out of a row."""

    #: How many independent trials there were: kills, crash points, races.
    trials: int
    #: What went against the promise, a line for each; the row stands if there is none.
    findings: list[str]
    #: Counts and measures, shown as they are.
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Tell whether something was tried, and nothing went wrong."""
        return self.trials > 0 and not self.findings

    @property
    def bound(self) -> float | None:
        """Return the rate of failure that ``trials`` without a failure exclude at 95 %: the rule of three."""
        return 3 / self.trials if self.stands else None


Run = Callable[[int, float, pathlib.Path], Outcome]
"""Takes the seed, the seconds that may be spent, and an empty folder; runs in a process of its own."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A promise and how it is tried; the same seed tries the same."""

    #: Short, in lower case with hyphens.
    id: str
    #: One line: what is tried.
    meaning: str
    #: What has to come out of it.
    target: str
    run: Run
    #: The durability of the queues that are tried, or why it does not matter.
    durability: str = "full, commit, process"
    #: Its share of the time, relative to other rows: the minutes in which two cores reach its aim, about.
    share: float = 1.0
    #: So many trials are made before a release; fewer tell less, and 0 sets no aim.
    aim: int = 0


def percentile(values: list[float], share: float) -> float | None:
    """Return the value below which ``share`` (0 to 1) of the values are."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, math.floor(share * len(values)))]
