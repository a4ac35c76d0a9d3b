"""A life of a queue in which one call to the operating system fails, and power cuts afterwards."""

import dataclasses
import errno
import pathlib
import random
import shutil
import time
from collections.abc import Iterator

from persipubsub import Durability, OpenError, StorageError, StorageFailedError, StorageFullError
from tests.faults import judging, powerloss
from tests.faults.crew import Hand
from tests.faults.powerloss import Faults
from tests.faults.shim import SYNCS


@dataclasses.dataclass(frozen=True)
class Kind:
    """A manner of failing."""

    name: str
    error: int = 0
    short: bool = False


KINDS = (
    Kind("input/output error", errno.EIO),
    Kind("no space", errno.ENOSPC),
    Kind("short write"),
    Kind("short write, then no space", errno.ENOSPC, short=True),
)
OPERATIONS = 12
#: Judges what power cuts leave; it ends with the process that lets calls fail.
_judge = Hand(judging.another_boot)


@dataclasses.dataclass
class Trial:
    """What became of one failing call."""

    call: str = ""
    errors: list[str] = dataclasses.field(default_factory=list)
    cuts: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)


def calls(folder: pathlib.Path, durability: Durability, seed: int) -> tuple[int, list[int]]:
    """Return how many calls there are that might fail, and the numbers of those by which LMDB syncs."""
    faults = Faults()
    powerloss.live(folder / "whole", durability, seed, OPERATIONS, faults).recorder.close()
    shutil.rmtree(folder / "whole")
    return faults.calls, faults.syncs


def run(folder: pathlib.Path, durability: Durability, seed: int, nth: int, kind: Kind, cuts: int) -> Trial:
    """Let the call ``nth`` fail, and cut the power at ``cuts`` points from there on."""
    faults = Faults(nth, kind.error, short=kind.short or not kind.error)
    life = powerloss.live(folder / "failing", durability, seed, OPERATIONS, faults)
    trial = Trial(faults.failed.name if faults.failed else "")
    trial.errors = [f"{type(error).__name__}: {error}" for error in life.errors]
    trial.findings.extend(_judge_errors(life.errors, kind, trial.call))
    verdict = powerloss.cut_and_judge(life, folder, seed, cuts, after=faults.point, judge_by=_judge)
    trial.cuts = verdict.cuts
    trial.findings.extend(verdict.findings)
    life.recorder.close()
    shutil.rmtree(folder / "failing")
    return trial


def _judge_errors(errors: list[Exception], kind: Kind, call: str) -> Iterator[str]:
    for error in errors:
        allowed: tuple[type[Exception], ...] = (StorageFailedError, StorageError, OpenError)
        if kind.error == errno.ENOSPC and call not in SYNCS:
            allowed = (StorageFullError,)
        if not isinstance(error, (*allowed, StorageFullError)):
            yield f"{type(error).__name__}: {error}"


def sweep(
    folder: pathlib.Path,
    durability: Durability,
    seed: int,
    trials: int,
    cuts: int,
    *,
    only_syncs: bool = False,
    until: float = float("inf"),
) -> Iterator[tuple[str, Trial]]:
    """Let random calls fail, each in a process of its own; yields what that was and what became of it.

    :param only_syncs: let nothing fail but LMDB's syncs, and these with an input/output error
    :param until: a moment of the monotonic clock at which it ends
    """
    source = random.Random(seed)
    hand = Hand(bound=100)
    number, syncs = hand.do(calls, folder, durability, seed)
    numbers, kinds = (syncs, KINDS[:1]) if only_syncs else (range(number), KINDS)
    try:
        for _ in range(trials):
            if time.monotonic() > until:
                return
            nth, kind = source.choice(numbers), source.choice(kinds)
            try:
                trial = hand.do(run, folder, durability, seed, nth, kind, cuts)
            except Exception as error:  # noqa: BLE001 - nothing else should come out of there
                trial = Trial(findings=[f"{type(error).__name__}: {error}"])
            yield f"{durability.value}, {kind.name} at call {nth} ({trial.call})", trial
            for name in ("failing", "cut"):
                shutil.rmtree(folder / name, ignore_errors=True)
    finally:
        hand.end()
