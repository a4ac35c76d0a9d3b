"""One trial after another until the time is over."""

import itertools
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from persipubsub import Durability, Environment
from persipubsub.engine.local.store import Store
from tests.crash import planted
from tests.process.support import TRIES, Child, Children, Here
from tests.soak.protocol import Outcome, Run

DURABILITIES = (Durability.PROCESS, Durability.FULL, Durability.COMMIT)


class Trial:
    """What a trial is given, and where it says what it found."""

    def __init__(self, folder: pathlib.Path, seed: int, number: int, children: Children, bugs: Sequence[str]) -> None:
        """Begin the trial ``number``, in an empty folder of its own; ``bugs`` are planted into its processes."""
        self.bugs = list(bugs)
        self.folder = folder
        self.path = folder / "queue"
        self.source = random.Random(f"{seed} {number}")
        self.number = number
        self.durability = DURABILITIES[number % len(DURABILITIES)]
        self.children = children
        #: What went against the promise.
        self.findings: list[str] = []
        #: What came later than promised: a finding if it does so in each of a few tries.
        self.late: list[str] = []
        #: How many times the promise was tried.
        self.tries = 0
        #: Sums over all trials, and the largest values.
        self.sums: dict[str, int] = {}
        self.worst: dict[str, float] = {}

    def child(self) -> Child:
        """Start a process."""
        child = self.children.new("forkserver")
        if self.bugs:
            child.do(plant, self.bugs)
        return child

    def expect(self, condition: object, finding: str) -> None:
        """Note ``finding`` unless the condition holds."""
        if not condition:
            self.findings.append(finding)

    def expect_soon(self, seconds: float, bound: float, finding: str) -> None:
        """Note ``finding`` unless it took at most so long; what else runs on the machine may be to blame."""
        if seconds > bound:
            self.late.append(finding)

    def add(self, name: str, number: int) -> None:
        """Count something."""
        self.sums[name] = self.sums.get(name, 0) + number

    def note(self, name: str, value: float) -> None:
        """Note a measure of which the largest counts."""
        self.worst[name] = max(self.worst.get(name, 0.0), value)

    def check(self) -> None:
        """Check the queue when all is over."""
        with Environment(self.path) as env:
            self.findings += [f"check: {found.where}: {found.what}" for found in env.open_control().check()]


def plant(here: Here, bugs: Sequence[str]) -> None:
    """Plant bugs into a process."""
    for bug in bugs:
        planted.plant(bug)


Attempt = Callable[[Trial], None]


def one(attempt: Attempt, folder: pathlib.Path, seed: int, number: int = 0, bugs: Sequence[str] = ()) -> Trial:
    """Run one trial; its processes end with it. Where something was late, and nothing else is wrong, try again."""
    for _ in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        children = Children()
        trial = Trial(folder, seed, number, children, bugs)
        try:
            attempt(trial)
        finally:
            children.end()
        if trial.findings or not trial.late:
            return trial
        shutil.rmtree(folder, ignore_errors=True)
    trial.findings += trial.late
    return trial


def row(attempt: Attempt) -> Run:
    """Return what runs trial after trial until the time is over, or one of them found something."""

    def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
        deadline = time.monotonic() + seconds
        outcome = Outcome(0, [])
        figures: dict[str, Any] = {}
        for number in itertools.count():
            if outcome.findings or (number and time.monotonic() > deadline):
                break
            trial = one(attempt, folder / str(number), seed, number)
            outcome.trials += trial.tries
            outcome.findings += [f"seed {seed}, trial {number}: {finding}" for finding in trial.findings]
            for name, count in trial.sums.items():
                figures[name] = figures.get(name, 0) + count
            for name, value in trial.worst.items():
                figures[name] = max(figures.get(name, 0.0), value)
            if not trial.findings:
                shutil.rmtree(folder / str(number), ignore_errors=True)
        outcome.figures.update(figures)
        return outcome

    return run


def store_of(env: Environment) -> Store:
    """Return the store of an open queue."""
    engine: Any = env._connection.engine()
    store: Store = engine._store
    return store
