"""Rows of the long run: power cuts, failing disks, damaged files, random inputs."""

import os
import pathlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from persipubsub import Durability
from tests.faults import blockcuts, carecuts, damage, diskerrors, inputs, powerloss, sizes
from tests.faults.blockdisk import NotPermittedError
from tests.faults.crew import Hand
from tests.soak.protocol import Outcome, Row, Run

#: Findings after which it is clear that something is wrong.
_ENOUGH = 20


@contextmanager
def _memory(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a folder in memory where there is one: what is synced is recorded, not waited for."""
    shared = pathlib.Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="persipubsub-soak-", dir=shared) as name:
        yield pathlib.Path(name)


def _power_loss(durability: Durability, operations: int) -> Run:
    def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
        until = time.monotonic() + seconds
        outcome = Outcome(0, [])
        totals = {"absent": 0, "deepest loss in commits": 0, "refused as damaged": 0, "lives": 0}
        with _memory(folder) as work:
            while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
                life = powerloss.live(work / "life", durability, seed, operations)
                verdict = powerloss.cut_and_judge(life, work, seed, 2000, until)
                life.recorder.close()
                shutil.rmtree(work / "life")
                outcome.trials += verdict.cuts
                outcome.findings.extend(f"seed {seed}: {finding}" for finding in verdict.findings)
                totals["absent"] += verdict.absent
                totals["refused as damaged"] += verdict.refused
                totals["deepest loss in commits"] = max(totals["deepest loss in commits"], verdict.deepest)
                totals["lives"] += 1
                seed += 1
        outcome.figures.update(totals)
        return outcome

    return run


def _care(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    totals = {"absent": 0, "refused": 0}
    with _memory(folder) as work:
        while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
            durability = list(Durability)[seed % len(Durability)]
            for name in carecuts.NAMES:
                done = carecuts.care(work / "care", name, durability, seed)
                verdict = carecuts.cut_and_judge(done, work, seed, 100, until)
                done.recorder.close()
                shutil.rmtree(work / "care")
                outcome.trials += verdict.cuts
                outcome.findings += [f"seed {seed}: {durability.value}: {finding}" for finding in verdict.findings]
                totals["absent"] += verdict.absent
                totals["refused"] += verdict.refused
            seed += 1
    outcome.figures.update(totals)
    return outcome


def _salvage(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    totals = {"refused as damaged": 0, "messages saved": 0}
    with _memory(folder) as work:
        while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
            life = powerloss.live(work / "life", Durability.PROCESS, seed, 40)
            verdict = carecuts.cut_and_salvage(life, work, seed, 200, until)
            life.recorder.close()
            shutil.rmtree(work / "life")
            outcome.trials += verdict.cuts
            outcome.findings += [f"seed {seed}: {finding}" for finding in verdict.findings]
            totals["refused as damaged"] += verdict.refused
            totals["messages saved"] += verdict.saved
            seed += 1
    outcome.figures.update(totals)
    return outcome


def _block_images(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    totals = {"absent": 0, "deepest loss in commits, commit": 0, "refused as damaged, process": 0}
    hand = Hand(bound=seconds + 100)
    try:
        with _memory(folder) as work:
            while time.monotonic() < until and not outcome.findings:
                durability = list(Durability)[seed % len(Durability)]
                place = work / str(seed)
                place.mkdir()
                verdict = hand.do(blockcuts.trial, place, durability, seed, 40, 100, until)
                shutil.rmtree(place)
                outcome.trials += verdict.cuts
                outcome.findings.extend(f"seed {seed}: {durability.value}: {found}" for found in verdict.findings)
                totals["absent"] += verdict.absent
                totals["refused as damaged, process"] += verdict.refused
                if durability is Durability.COMMIT:
                    deepest = max(totals["deepest loss in commits, commit"], verdict.deepest)
                    totals["deepest loss in commits, commit"] = deepest
                seed += 1
    except NotPermittedError as error:
        outcome.findings.append(str(error))
    finally:
        hand.end()
    outcome.figures.update(totals)
    return outcome


def _disk_errors(durability: Durability) -> Run:
    def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
        until = time.monotonic() + seconds
        outcome = Outcome(0, [])
        raised: dict[str, int] = {}
        cuts = 0
        with _memory(folder) as work:
            while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
                for what, trial in diskerrors.sweep(work, durability, seed, 50, 8):
                    outcome.trials += 1
                    cuts += trial.cuts
                    outcome.findings.extend(f"seed {seed}: {what}: {finding}" for finding in trial.findings)
                    for error in trial.errors:
                        name = error.partition(":")[0]
                        raised[name] = raised.get(name, 0) + 1
                    if time.monotonic() > until:
                        break
                seed += 1
        outcome.figures.update({"power cuts afterwards": cuts, **raised})
        return outcome

    return run


def _quietly() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _damage(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    told = 0
    with _memory(folder) as work:
        pattern = damage.make(work / "queue", seed)
        hand = Hand(_quietly)
        try:
            while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
                _, result, findings = damage.trial(pattern, work, seed, hand)
                outcome.trials += 1
                outcome.findings.extend(findings)
                told += bool(result and (result.error or result.checked))
                seed += 1
        finally:
            hand.end()
    outcome.figures["told (the rest hit pages that hold nothing)"] = told
    return outcome


def _configurations(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    longest = 0.0
    with _memory(folder) as work:
        while (left := until - time.monotonic()) > 0 and not outcome.findings:
            hand = Hand(bound=left + 100)
            try:
                found = hand.do(inputs.judge_configs, work / "queues.json", seed, 5000, left)
            finally:
                hand.end()
            outcome.trials += found.tried
            outcome.findings += [f"seed {seed}: {finding}" for finding in found.findings]
            longest = max(longest, found.longest)
            seed += 1
    outcome.figures["longest, ms of the processor"] = longest * 1000
    return outcome


def _names(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    source = random.Random(seed)
    outcome = Outcome(0, [])
    with _memory(folder) as work:
        while time.monotonic() < until and len(outcome.findings) < _ENOUGH:
            names = [inputs.name_of(source) for _ in range(200)]
            outcome.findings.extend(inputs.judge_subscribers(work / "names", names))
            outcome.findings.extend(inputs.judge_messages(work / "messages", source, 400))
            outcome.trials += 600
            for name in ("names", "messages"):
                shutil.rmtree(work / name)
    return outcome


def _message_sizes(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    until = time.monotonic() + seconds
    outcome = Outcome(0, [])
    copies: dict[int, float] = {}
    with _memory(folder) as work:
        while time.monotonic() < until and not outcome.findings:
            durability = list(Durability)[seed % len(Durability)]
            for found in sizes.trials(work, durability, seed, [10 * sizes.MIB, 100 * sizes.MIB]):
                outcome.trials += found.messages
                outcome.findings += [f"seed {seed}: {durability.value}: {finding}" for finding in found.findings]
                for size, times in found.copies.items():
                    copies[size] = max(copies.get(size, 0.0), times)
            seed += 1
    outcome.figures.update({f"memory, in messages of {size // sizes.MIB} MiB": at for size, at in copies.items()})
    return outcome


_LOST = {
    Durability.FULL: "no returned commit is lost, check is clean",
    Durability.COMMIT: "at most the last returned commit is lost, check is clean",
    Durability.PROCESS: "what opens is a state that was; all else is refused as damaged",
}

ROWS = [
    *[
        Row(
            f"power-loss-{durability.value}",
            "the power is cut at any point; unsynced writes are dropped, kept, reordered or torn",
            _LOST[durability],
            _power_loss(durability, 60),
            durability.value,
            2.0,
            20_000,
        )
        for durability in Durability
    ],
    Row(
        "power-loss-deployment",
        "the power is cut while a queue is deployed",
        "it is there wholly or not at all",
        _power_loss(Durability.FULL, 0),
        "full",
        0.5,
        aim=2_000,
    ),
    Row(
        "power-loss-care",
        f"the power is cut during {', '.join(carecuts.NAMES[:-1])} or {carecuts.NAMES[-1]}",
        "the queue is what it was; what is made is there wholly, or not at all, and wholly once the call has returned",
        _care,
        "full, commit, process, one queue after another",
        2.0,
        aim=1_000,
    ),
    Row(
        "power-loss-salvage",
        "what can be read is saved of queues that a power cut has damaged",
        "no payload that was never sent, in order, check clean; what is uncertain is said; the damaged queue is "
        "left as it was",
        _salvage,
        "process",
        1.5,
        aim=1_000,
    ),
    Row(
        "block-images",
        "the power is cut below the filesystem: a disk forgets, keeps or tears what it was not told to flush",
        "as the rows of power-loss, once the filesystem's journal is replayed",
        _block_images,
        "full, commit, process, one life after another",
        1.0,
        aim=200,
    ),
    *[
        Row(
            f"disk-errors-{durability.value}",
            "one call fails with an I/O error, no space or a short write; then the power is cut",
            "nothing is reported as stored that is not; errors of ours only",
            _disk_errors(durability),
            durability.value,
            aim=1_000,
        )
        for durability in Durability
    ],
    Row(
        "damaged-files",
        "the data file is truncated, flipped, zeroed, swapped or overwritten",
        "a clear error or what was sent; no signal, no hang; check tells",
        _damage,
        "process (the files are the same with all)",
        aim=2_000,
    ),
    Row(
        "random-configurations",
        "configurations that are right, nearly right, cut (one after every byte), or noise",
        f"they are read or refused by ConfigError, at once, in {inputs.MEMORY >> 20} MiB",
        _configurations,
        "none: no queue is made",
        0.5,
        aim=20_000,
    ),
    Row(
        "message-sizes",
        "messages of no byte up to 100 MiB, all around where storage changes, and larger ones than allowed",
        f"exactly what was sent; what is too large is refused although another process writes; at most {sizes.COPIES} "
        "times the message in memory",
        _message_sizes,
        "full, commit, process, one after another",
        0.2,
        aim=4_000,
    ),
    Row(
        "random-names-and-messages",
        "identifiers, topics, headers and options of any kind",
        "taken as they are or refused by an error of ours; no two become one",
        _names,
        "full",
        0.5,
        aim=10_000,
    ),
]
