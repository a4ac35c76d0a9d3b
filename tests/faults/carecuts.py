"""Power cuts while a queue is looked after: its backup, restoration, compaction, export, import and salvage.

Wherever the cut comes, what was there before is as it was; what was to be made is there wholly, or not at all, or is
refused; and it is there wholly once the operation has returned.
"""

import dataclasses
import os
import pathlib
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator

from persipubsub import Durability, Environment, PersipubsubError, QueueDamagedError, SubscriberSettings
from persipubsub.care import import_queue, restore, salvage
from persipubsub.cli import exporting
from persipubsub.engine.local import files, opening
from tests.faults import judging, powercut, powerloss
from tests.faults.crew import Hand
from tests.faults.judging import Snapshot
from tests.faults.powercut import Cut
from tests.faults.powerloss import RecordedLife, Verdict
from tests.faults.recorder import Recorder

#: What is looked after, and what becomes of it.
SOURCE, TARGET, EXPORT = "source", "target", "export.jsonl"
_PAGE = 4096
_LAST = 8


def _export(root: pathlib.Path, env: Environment) -> None:
    with exporting._stream(root / EXPORT) as stream:
        env.open_control().export(stream)


def _import(root: pathlib.Path) -> None:
    with open(root / EXPORT, "rb") as stream:
        import_queue(stream, root / TARGET)


#: What is done while the queue is open.
OPEN: dict[str, Callable[[pathlib.Path, Environment], object]] = {
    "backup": lambda root, env: env.open_control().backup(root / TARGET),
    "compact": lambda root, env: env.open_control().compact(),
    "export": _export,
}
#: And to one that nobody has open.
CLOSED: dict[str, Callable[[pathlib.Path], object]] = {
    "restore": lambda root: restore(root / SOURCE, root / TARGET),
    "import": _import,
    "salvage": lambda root: salvage(root / SOURCE, root / TARGET),
}
NAMES = (*OPEN, *CLOSED)


@dataclasses.dataclass
class Care:
    """An operation that was recorded."""

    recorder: Recorder
    name: str
    #: How the queue was before.
    source: Snapshot
    #: How what was made is.
    target: Snapshot
    #: The data file of the damaged queue.
    damaged: bytes = b""


def _fill(path: pathlib.Path, durability: Durability, source: random.Random) -> Environment:
    env = Environment(path)
    settings = {"a": SubscriberSettings(max_deliveries=1), "b": SubscriberSettings()}
    env.new_control(settings, durability=durability, map_size=1 << 20)
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send_many([source.randbytes(source.randrange(4000)) for _ in range(source.randrange(20, 50))])
    pub.send(source.randbytes(30_000), headers={"h": b"v"}, topic="t")
    taken = sub.get_many(12, timeout=0)
    for message in taken[:10]:
        message.ack()
    taken[10].nack(reason="of a test")
    taken[11].nack(reason="of a test")
    opening._stores[files.identity(path)]._sync()
    return env


def care(root: pathlib.Path, name: str, durability: Durability, seed: int) -> Care:
    """Record an operation upon a queue that is made for it."""
    root.mkdir()
    path, source = root / SOURCE, random.Random(seed)
    with _fill(path, durability, source) as env:
        before = judging.snapshot(env)
        if name in ("import", "restore"):
            made = root.with_name("made")
            made.mkdir()
            _export(made, env)
            env.open_control().backup(made / SOURCE)
        if name in OPEN:
            recorder = Recorder(root)
            with recorder.recording(), recorder.operation():
                OPEN[name](root, env)
    if name in CLOSED:
        damaged = _prepare(root, name)
        recorder = Recorder(root)
        with recorder.recording(), recorder.operation():
            CLOSED[name](root)
        return Care(recorder, name, before, _target(root / TARGET), damaged)
    return Care(recorder, name, before, before if name == "compact" else _target(root / TARGET, root / EXPORT))


def _prepare(root: pathlib.Path, name: str) -> bytes:
    """Put what is restored, imported or salvaged in its place; return the data file of a damaged queue."""
    made = root.with_name("made")
    if name == "salvage":
        data = root / SOURCE / files.DATA
        with open(data, "r+b") as stream:
            stream.seek(5 * _PAGE)
            stream.write(bytes(_PAGE))
        return data.read_bytes()
    if name == "restore":
        shutil.rmtree(root / SOURCE)
        (made / SOURCE).rename(root / SOURCE)
    else:
        (made / EXPORT).rename(root / EXPORT)
    shutil.rmtree(made)
    return b""


def _target(path: pathlib.Path, export: pathlib.Path | None = None) -> Snapshot:
    if export is not None and export.exists():
        path = path.with_name("imported")
        with open(export, "rb") as stream:
            import_queue(stream, path)
    with Environment(path) as env:
        return judging.snapshot(env)


# -- judging -----------------------------------------------------------------------------------------------


def cut_and_judge(
    done: Care, folder: pathlib.Path, seed: int, cuts: int, until: float = float("inf"), enough: int = sys.maxsize
) -> Verdict:
    """Cut the power at random points of an operation, and judge what is left each time."""
    source = random.Random(seed)
    verdict = Verdict()
    possible = range(1, len(done.recorder.points))
    # Half of them where what was made appears.
    chosen = source.choices(possible, k=cuts // 2) + source.choices(possible[-_LAST:], k=cuts - cuts // 2)
    with Hand(judging.another_boot) as hand:
        for where, root in powercut.cuts(done.recorder, folder, Counter(chosen), source, until):
            verdict.cuts += 1
            try:
                findings = hand.do(_judge, root, done.name, done.source, done.target, done.damaged, where, verdict)
                verdict, found = findings
                verdict.findings += [f"{done.name}, {where}: {finding}" for finding in found]
            except Exception as error:  # noqa: BLE001 - whatever it is, it should not have left the package
                verdict.findings.append(f"{done.name}, {where}: {type(error).__name__}: {error}")
            if len(verdict.findings) >= enough:
                break
    return verdict


def _judge(
    root: pathlib.Path, name: str, source: Snapshot, target: Snapshot, damaged: bytes, cut: Cut, verdict: Verdict
) -> tuple[Verdict, list[str]]:
    findings: list[str] = []
    if name == "salvage":
        if (root / SOURCE / files.DATA).read_bytes() != damaged:
            findings.append("the damaged queue was changed")
    elif name != "import":
        found = judging.look(root / SOURCE)
        wrong = found.refusal or "; ".join(found.findings) or found.trouble
        if wrong or (found.snapshot != source):
            findings.append(f"the queue is not what it was: {wrong or 'other content'}")
    if name == "compact":
        return verdict, findings
    if name == "export":
        return verdict, findings + list(_judge_export(root, target, cut, verdict))
    if not os.path.lexists(root / TARGET):
        verdict.absent += 1
        if cut.done:
            findings.append("what was made is not there")
        return verdict, findings
    found = judging.look(root / TARGET)
    if found.refusal:
        verdict.refused += 1
        if cut.done:
            findings.append(f"what was made is refused: {found.refusal}")
    elif found.findings or found.trouble or found.snapshot != target:
        findings.append(f"what was made is not whole: {found.findings}; {found.trouble}")
    return verdict, findings


def _judge_export(root: pathlib.Path, target: Snapshot, cut: Cut, verdict: Verdict) -> Iterator[str]:
    try:
        if _target(root / TARGET, root / EXPORT) != target:
            yield "the export is taken, and is not whole"
    except PersipubsubError as error:
        verdict.absent += not (root / EXPORT).exists()
        verdict.refused += (root / EXPORT).exists()
        if cut.done:
            yield f"the export is not there, or not whole: {error}"


# -- what can be read after a cut --------------------------------------------------------------------------


def cut_and_salvage(
    life: RecordedLife,
    folder: pathlib.Path,
    seed: int,
    cuts: int,
    until: float = float("inf"),
    enough: int = sys.maxsize,
) -> Verdict:
    """Cut the power at random points of a life; where the queue is refused as damaged, save what can be read.

    The verdict tells how many messages were saved as ``saved``.
    """
    source = random.Random(seed)
    verdict = Verdict()
    possible = [number for number, point in enumerate(life.recorder.points) if point.done]
    chosen = Counter(source.choices(possible, k=cuts))
    with Hand(judging.another_boot) as hand:
        for where, root in powercut.cuts(life.recorder, folder, chosen, source, until):
            verdict.cuts += 1
            try:
                refused, saved, found = hand.do(
                    _salvage, root / powerloss.WHERE, root / TARGET, life.sent, _sure(life, where)
                )
                verdict.refused += refused
                verdict.saved += saved
                verdict.findings += [f"{where}: {finding}" for finding in found]
            except Exception as error:  # noqa: BLE001 - whatever it is, it should not have left the package
                verdict.findings.append(f"{where}: {type(error).__name__}: {error}")
            if len(verdict.findings) >= enough:
                break
    return verdict


def _sure(life: RecordedLife, cut: Cut) -> set[int]:
    """Return the messages that were there at the last sync, and ever since."""
    data = life.recorder.numbers_of(files.DATA)
    before = reversed(life.recorder.points[1 : cut.point])
    #: The operations that had returned at that sync.
    synced = next((point.done for point in before if data.intersection(point.durable_files)), 0)
    kept = [{message_id for message_id, _ in shot[3]} for shot in life.snapshots[max(1, synced) : cut.begun + 1]]
    return set.intersection(*kept) if kept and synced else set()


def _salvage(
    path: pathlib.Path, target: pathlib.Path, sent: dict[int, int], sure: set[int]
) -> tuple[bool, int, list[str]]:
    """Return whether the queue was refused, how many messages were saved, and what went wrong."""
    before = (path / files.DATA).read_bytes()
    found = judging.look(path)
    if not found.refusal:
        return False, 0, []
    if not found.refusal.startswith("QueueDamagedError") or str(path) not in found.refusal:
        return True, 0, [f"refused otherwise: {found.refusal}"]
    findings = []
    try:
        saved = salvage(path, target)
    except PersipubsubError as error:
        if not isinstance(error, QueueDamagedError) or target.exists():
            findings.append(f"salvage: {type(error).__name__}: {error}")
        return True, 0, findings
    if (path / files.DATA).read_bytes() != before:
        findings.append("the damaged queue was changed")
    with Environment(target) as env:
        ids = []
        for message_id, checksum in judging.snapshot(env)[3]:
            ids.append(message_id)
            if sent.get(message_id) != checksum:
                findings.append(f"message {message_id} was saved with a payload that was never sent")
        if ids != sorted(set(ids)):
            findings.append(f"out of order, or twice: {ids}")
        missing = sure.difference(ids)
        if missing and saved.complete:
            findings.append(f"messages {sorted(missing)} were synced and are gone, and it says that nothing was lost")
        findings += [f"check: {one.where}: {one.what}" for one in env.open_control().check()]
    return True, saved.messages, findings
