"""Rows that do one trial after another, each with a seed of its own."""

import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from tests.soak.protocol import Outcome, Run

#: Findings after which it is clear that something is wrong.
ENOUGH = 20

Trial = Callable[[pathlib.Path, int, float], Outcome]
"""Takes an empty folder, a seed, and the moment of the monotonic clock at which it should come to an end."""


@contextmanager
def memory(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a folder in memory, or in ``folder`` where there is none: what is synced is recorded, not waited for."""
    shared = pathlib.Path("/dev/shm")
    where = shared if os.access(shared, os.W_OK) else folder
    with tempfile.TemporaryDirectory(prefix="persipubsub-soak-", dir=where) as name:
        yield pathlib.Path(name)


def repeat(trial: Trial, *, largest: Collection[str] = (), enough: int = ENOUGH) -> Run:
    """Return what runs a row: ``trial`` with ``seed``, ``seed + 1``, ..., in memory, until the time is over.

    :param largest: figures of which the largest is kept; the others are added up
    :param enough: so many findings end it
    """

    def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
        until = time.monotonic() + seconds
        total = Outcome(0, [])
        while time.monotonic() < until and len(total.findings) < enough:
            with memory(folder) as work:
                outcome = trial(work, seed, until)
            total.trials += outcome.trials
            total.findings.extend(f"seed {seed}: {finding}" for finding in outcome.findings)
            for name, value in outcome.figures.items():
                before = total.figures.get(name, value if name in largest else 0)
                if not isinstance(value, int | float) or not isinstance(before, int | float):
                    raise TypeError(f"figure {name!r} of a trial is {value!r}, which cannot be added up")
                total.figures[name] = max(before, value) if name in largest else before + value
            seed += 1
        return total

    return run
