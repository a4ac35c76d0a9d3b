"""Rows of the long run: power cuts, failing disks, damaged files, random inputs."""

import pathlib
import random
import shutil
import time

from persipubsub import Durability
from tests.faults import blockcuts, carecuts, diskerrors, powerloss
from tests.faults.blockdisk import NotPermittedError
from tests.faults.crew import Hand
from tests.faults.powerloss import Verdict
from tests.fuzz import damage, inputs, sizes
from tests.soak.protocol import Figure, Outcome, Row
from tests.soak.repeating import Trial, repeat

#: States of one life that are judged, about; and damaged copies of one queue.
_STATES, _COPIES = 600, 200
_DEEPEST, _REFUSED = "deepest loss in commits", "refused as damaged"


def _outcome(verdict: Verdict, **figures: Figure) -> Outcome:
    return Outcome(verdict.cuts, verdict.findings, figures)


def _power_loss(durability: Durability, most: int) -> Trial:
    """Return what leads a life of ``most`` operations, or, three times of four, of a third of that, and cuts it off."""

    def trial(work: pathlib.Path, seed: int, until: float) -> Outcome:
        life = powerloss.live(work / "life", durability, seed, most // 3 if seed % 4 else most)
        verdict = powerloss.cut_and_judge(life, work, seed, _STATES, until)
        life.recorder.close()
        figures = {"absent": verdict.absent, _DEEPEST: verdict.deepest, _REFUSED: verdict.refused, "lives": 1}
        return _outcome(verdict, **figures)

    return trial


def _care(work: pathlib.Path, seed: int, until: float) -> Outcome:
    durability = list(Durability)[seed % len(Durability)]
    total = Verdict()
    for name in carecuts.NAMES:
        done = carecuts.care(work / "care", name, durability, seed)
        verdict = carecuts.cut_and_judge(done, work, seed, 100, until)
        done.recorder.close()
        shutil.rmtree(work / "care")
        total.cuts += verdict.cuts
        total.findings += [f"{durability.value}: {finding}" for finding in verdict.findings]
        total.absent += verdict.absent
        total.refused += verdict.refused
    return _outcome(total, absent=total.absent, refused=total.refused)


def _salvage(work: pathlib.Path, seed: int, until: float) -> Outcome:
    life = powerloss.live(work / "life", Durability.PROCESS, seed, 40)
    verdict = carecuts.cut_and_salvage(life, work, seed, 200, until)
    life.recorder.close()
    return _outcome(verdict, **{_REFUSED: verdict.refused, "messages saved": verdict.saved})


def _block_images(work: pathlib.Path, seed: int, until: float) -> Outcome:
    durability = list(Durability)[seed % len(Durability)]
    # What it mounts ends with it.
    hand = Hand(bound=600)
    try:
        verdict: Verdict = hand.do(blockcuts.trial, work, durability, seed, 40, 100, until)
    except NotPermittedError as error:
        return Outcome(0, [str(error)])
    finally:
        hand.end()
    deepest = verdict.deepest if durability is Durability.COMMIT else 0
    findings = [f"{durability.value}: {finding}" for finding in verdict.findings]
    figures = {"absent": verdict.absent, f"{_DEEPEST}, commit": deepest, f"{_REFUSED}, process": verdict.refused}
    return Outcome(verdict.cuts, findings, {**figures})


def _disk_errors(durability: Durability) -> Trial:
    def trial(work: pathlib.Path, seed: int, until: float) -> Outcome:
        outcome = Outcome(0, [])
        figures = {"power cuts afterwards": 0}
        for what, one in diskerrors.sweep(work, durability, seed, 50, 4, until=until):
            outcome.trials += 1
            outcome.findings.extend(f"{what}: {finding}" for finding in one.findings)
            figures["power cuts afterwards"] += one.cuts
            for error in one.errors:
                name = error.partition(":")[0]
                figures[name] = figures.get(name, 0) + 1
        outcome.figures.update(figures)
        return outcome

    return trial


def _damage(work: pathlib.Path, seed: int, until: float) -> Outcome:
    outcome = Outcome(0, [])
    figures = {"told (the rest hit pages that hold nothing)": 0, "truncated": 0}
    told, truncated = figures
    pattern = damage.make(work / "queue", seed)
    hand = Hand(damage.prepare)
    try:
        for number in range(_COPIES):
            if time.monotonic() > until:
                break
            what, result, findings = damage.trial(pattern, work, seed * _COPIES + number, hand)
            outcome.trials += 1
            outcome.findings.extend(findings)
            figures[told] += bool(result and (result.error or result.checked))
            figures[truncated] += what.endswith("truncated")
    finally:
        hand.end()
    outcome.figures.update(figures)
    return outcome


_LONGEST = "longest, ms of the processor"


def _configurations(work: pathlib.Path, seed: int, until: float) -> Outcome:
    left = max(0.0, until - time.monotonic())
    hand = Hand(bound=left + 100)
    try:
        found = hand.do(inputs.judge_configs, work / "queues.json", seed, 5000, left)
    finally:
        hand.end()
    return Outcome(found.tried, found.findings, {_LONGEST: found.longest * 1000})


def _names(work: pathlib.Path, seed: int, until: float) -> Outcome:
    source = random.Random(seed)
    findings = list(inputs.judge_subscribers(work / "names", [inputs.name_of(source) for _ in range(200)]))
    findings += inputs.judge_messages(work / "messages", source, 400)
    return Outcome(600, findings)


_LARGE = [10 * sizes.MIB, 100 * sizes.MIB]


def _copies(size: int) -> str:
    return f"memory, in messages of {size // sizes.MIB} MiB"


def _message_sizes(work: pathlib.Path, seed: int, until: float) -> Outcome:
    durability = list(Durability)[seed % len(Durability)]
    outcome = Outcome(0, [])
    for found in sizes.trials(work, durability, seed, _LARGE):
        outcome.trials += found.messages
        outcome.findings += [f"{durability.value}: {finding}" for finding in found.findings]
        outcome.figures.update({_copies(size): times for size, times in found.copies.items()})
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
            repeat(_power_loss(durability, 60), largest=[_DEEPEST]),
            durability.value,
            3.5,
            20_000,
        )
        for durability in Durability
    ],
    Row(
        "power-loss-deployment",
        "the power is cut while a queue is deployed",
        "it is there wholly or not at all",
        repeat(_power_loss(Durability.FULL, 0), largest=[_DEEPEST]),
        "full",
        0.5,
        aim=2_000,
    ),
    Row(
        "power-loss-care",
        f"the power is cut during {', '.join(carecuts.NAMES[:-1])} or {carecuts.NAMES[-1]}",
        "the queue is what it was; what is made is there wholly, or not at all, and wholly once the call has returned",
        repeat(_care),
        "full, commit, process, one queue after another",
        0.5,
        aim=1_000,
    ),
    Row(
        "power-loss-salvage",
        "what can be read is saved of queues that a power cut has damaged",
        "no payload that was never sent, in order, check clean; what is uncertain is said; the damaged queue is "
        "left as it was",
        repeat(_salvage),
        "process",
        0.5,
        aim=1_000,
    ),
    Row(
        "block-images",
        "the power is cut below the filesystem: a disk forgets, keeps or tears what it was not told to flush",
        "as the rows of power-loss, once the filesystem's journal is replayed",
        repeat(_block_images, largest=[f"{_DEEPEST}, commit"], enough=1),
        "full, commit, process, one life after another",
        1.0,
        aim=200,
    ),
    *[
        Row(
            f"disk-errors-{durability.value}",
            "one call fails with an I/O error, no space or a short write; then the power is cut",
            "nothing is reported as stored that is not; errors of ours only",
            repeat(_disk_errors(durability)),
            durability.value,
            3.5,
            aim=1_000,
        )
        for durability in Durability
    ],
    Row(
        "damaged-files",
        "the data file is truncated, flipped, zeroed, swapped or overwritten",
        "a clear error or what was sent; no signal, no hang; check tells",
        repeat(_damage),
        "process (the files are the same with all)",
        share=1.5,
        aim=3_500,
    ),
    Row(
        "random-configurations",
        "configurations that are right, nearly right, cut (one after every byte), or noise",
        f"they are read or refused by ConfigError, at once, in {inputs.MEMORY >> 20} MiB",
        repeat(_configurations, largest=[_LONGEST], enough=1),
        "none: no queue is made",
        0.5,
        aim=20_000,
    ),
    Row(
        "message-sizes",
        "messages of no byte up to 100 MiB, all around where storage changes, and larger ones than allowed",
        f"exactly what was sent; what is too large is refused although another process writes; at most {sizes.COPIES} "
        "times the message in memory",
        repeat(_message_sizes, largest=[*map(_copies, _LARGE)], enough=1),
        "full, commit, process, one after another",
        0.2,
        aim=4_000,
    ),
    Row(
        "random-names-and-messages",
        "identifiers, topics, headers and options of any kind",
        "taken as they are or refused by an error of ours; no two become one",
        repeat(_names),
        "full",
        0.5,
        aim=10_000,
    ),
]
