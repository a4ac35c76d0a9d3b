"""A recorded life of a queue, power cuts all along it, and the judgement of what is left."""

import dataclasses
import itertools
import os
import pathlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import lmdb

from persipubsub import Durability, Environment, Message, SubscriberSettings
from persipubsub.engine.local import opening, syncing
from tests.faults import judging, powercut
from tests.faults.crew import Hand
from tests.faults.judging import Found, Snapshot
from tests.faults.powercut import Cut
from tests.faults.recorder import Recorder
from tests.faults.shim import SYNCS, Call, Refusal

#: Where the queue lies below the recorded folder: the folders in between are created by the deployment.
WHERE = pathlib.Path("deployed", "here", "queue")


@dataclasses.dataclass
class Life:
    """What the queue looked like after each operation."""

    durability: Durability
    snapshots: list[Snapshot] = dataclasses.field(default_factory=lambda: [()])
    #: Checksums of all payloads that were ever sent, by id.
    sent: dict[int, int] = dataclasses.field(default_factory=dict)
    #: What operations raised.
    errors: list[Exception] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class RecordedLife(Life):
    """What was recorded besides."""

    recorder: Recorder = dataclasses.field(kw_only=True)


class Recording(Protocol):
    """What records a life."""

    def recording(self) -> AbstractContextManager[None]:
        """Record what happens in the block."""

    def operation(self) -> AbstractContextManager[None]:
        """Count an operation of the user."""


class Faults:
    """Lets one call fail: the one with number ``nth``, counted from zero (none if it is negative)."""

    def __init__(self, nth: int = -1, error: int = 0, *, short: bool = False) -> None:
        """Let it fail with ``error``; ``short``: half of what is written is, without an error if that is 0."""
        self.calls = 0
        #: Which of them were syncs of LMDB.
        self.syncs: list[int] = []
        self.failed: Call | None = None
        #: When that was, in calls.
        self.point = 0
        self._nth = nth
        self._error = error
        self._short = short
        self._untold: tuple[int, int] | None = None

    def __call__(self, call: Call) -> Refusal | None:
        """Count a call, and refuse it if it is the one."""
        if call.name == "ftruncate" and call.size == os.fstat(call.descriptor).st_size:
            return None  # LMDB makes sure of a length that the file has already: that cannot fail
        number = self.calls
        self.calls += 1
        if call.from_lmdb and call.name in SYNCS:
            self.syncs.append(number)
        if number == self._nth:
            self.failed = call
            self.point = number
            if call.name in SYNCS and call.descriptor >= 0 and self._error:
                # Each descriptor of the file is told of a failed sync, once.
                self._untold = (os.fstat(call.descriptor).st_ino, call.descriptor)
            writes = call.name in ("write", "pwrite", "writev")
            if self._short and not writes:
                return None
            return Refusal(self._error, call.size // 2 if self._short else 0)
        if self._untold is not None and call.name in SYNCS and call.descriptor >= 0:
            inode, descriptor = self._untold
            if os.fstat(call.descriptor).st_ino == inode and call.descriptor != descriptor:
                self._untold = None
                return Refusal(self._error)
        return None


def live(
    root: pathlib.Path, durability: Durability, seed: int, operations: int, faults: Faults | None = None
) -> RecordedLife:
    """Record the creation of a queue and ``operations`` random ones; the same seed does the same.

    What an operation raises is kept; after StorageFailedError the queue is opened again.
    """
    root.mkdir()
    life = RecordedLife(durability, recorder=Recorder(root, faults or Faults()))
    lead(life, root, life.recorder, seed, operations)
    return life


def lead(life: Life, root: pathlib.Path, recorder: Recording, seed: int, operations: int) -> None:
    """Lead a life in the folder ``root``, while it is recorded."""
    durability, source = life.durability, random.Random(seed)
    with _syncing_by_hand(), recorder.recording():
        env = Environment(root / WHERE)
        settings = {"a": SubscriberSettings(max_deliveries=3), "b": SubscriberSettings()}

        def deploy() -> None:
            env.new_control(settings, durability=durability, map_size=1 << 20)

        with recorder.operation():
            for _ in range(5):
                if _attempt(life, deploy):
                    break
        held: list[Message[bytes]] = []
        env, shot = _open_again(life, env, held)
        _note(life, shot)
        for number in itertools.count():
            if number >= operations and not held:
                break
            with recorder.operation():
                if number >= operations:
                    _attempt(life, held.pop().ack)
                else:
                    _attempt(life, lambda env=env: _operation(env, source, held)())  # type: ignore[misc]
                env, shot = _open_again(life, env, held)
            _note(life, shot)
            if durability is Durability.PROCESS and not source.randrange(4):
                with recorder.operation():
                    next(iter(opening._stores.values()))._sync()
                    env, shot = _open_again(life, env, held)
                _note(life, shot)
        with recorder.operation():
            _attempt(life, env.close)
    with Environment(root / WHERE) as env:
        _note(life, judging.snapshot(env))


def _attempt(life: Life, work: Callable[[], object]) -> bool:
    """Do something; keep the error, if there is one, and return whether there was none."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is judged later
        life.errors.append(error)
        return False
    return True


def _open_again(life: Life, env: Environment, held: list[Message[bytes]]) -> tuple[Environment, Snapshot]:
    """Return an environment that can be used, another one if this has failed, and what the queue looks like."""
    for _ in range(5):
        try:
            return env, judging.snapshot(env)
        except Exception as error:  # noqa: BLE001 - it is judged later
            life.errors.append(error)
        held.clear()
        _attempt(life, env.close)
        env = Environment(env.path)
    raise AssertionError(f"it fails again and again: {life.errors[-1]}")


def _note(life: Life, shot: Snapshot) -> None:
    """Keep what the queue looks like after the operation that has begun last."""
    life.snapshots.append(shot)
    life.sent.update(shot[3])


def _operation(env: Environment, source: random.Random, held: list[Message[bytes]]) -> Callable[[], object]:
    """Return one operation that is one commit."""
    sub, pub, control = env.new_subscriber("a"), env.new_publisher(), env.open_control()
    kind = source.choice(["send", "send", "many", "large", "get", "get", "ack", "ack", "nack", "forget", "join"])
    if kind == "get":

        def get() -> None:
            held.extend(sub.get_many(source.randrange(1, 4), timeout=0))

        return get
    if kind in ("ack", "nack") and held:
        message = held.pop(source.randrange(len(held)))
        return message.ack if kind == "ack" else lambda: message.nack(reason="later")
    if kind == "many":
        payloads = [source.randbytes(source.randrange(300)) for _ in range(source.randrange(2, 12))]
        return lambda: pub.send_many(payloads)
    if kind == "forget":
        return lambda: env.new_subscriber("b").ack(source.randrange(1, 60))
    if kind == "join":
        name = f"guest {source.randrange(3)}"
        if name in control.subscriber_ids:
            return lambda: control.remove_subscriber(name)
        return lambda: control.add_subscriber(name, start="first")
    data = source.randbytes(source.randrange(5_000, 60_000) if kind == "large" else source.randrange(2_500))
    return lambda: pub.send(data)


@contextmanager
def _syncing_by_hand() -> Iterator[None]:
    """Keep the background sync away: when it runs would be chance."""
    before = syncing.Syncer.ask
    syncing.Syncer.ask = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        syncing.Syncer.ask = before  # type: ignore[method-assign]


def without_sync(**flags: bool) -> Callable[..., Any]:
    """Return what is planted in the place of ``lmdb.open``: these flags are not what they should be."""
    lmdb_open = lmdb.open

    def open_carelessly(*arguments: Any, **named: Any) -> Any:
        return lmdb_open(*arguments, **{**named, **flags})

    return open_carelessly


# -- judging --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Verdict:
    """What became of the queue at all cuts."""

    cuts: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)
    #: Cuts before the queue was there, after which it was not.
    absent: int = 0
    #: The largest number of returned commits that one cut took.
    deepest: int = 0
    #: Cuts after which the queue was refused as damaged.
    refused: int = 0
    #: Messages that were saved of those.
    saved: int = 0


def cut_and_judge(
    life: RecordedLife,
    folder: pathlib.Path,
    seed: int,
    states: int,
    until: float = float("inf"),
    *,
    enough: int = sys.maxsize,
    after: int = 0,
    judge_by: Hand | None = None,
) -> Verdict:
    """Cut the power at random points of a life and judge what is left each time.

    :param states: how often, about
    :param until: a moment of the monotonic clock at which it ends
    :param enough: so many findings end it as well
    :param after: the first point at which it may be cut, counted in calls
    :param judge_by: who judges, believing in another boot; one is made for it if there is none
    """
    source = random.Random(seed)
    verdict = Verdict()
    possible = [number for number, point in enumerate(life.recorder.points) if number and point.calls >= after]
    each = max(1, -(-states // len(possible)))
    chosen = dict.fromkeys(source.sample(possible, min(len(possible), states)), each)
    with Hand(judging.another_boot) if judge_by is None else nullcontext(judge_by) as hand:
        for where, root in powercut.cuts(life.recorder, folder, chosen, source, until):
            verdict.cuts += 1
            verdict.findings += [f"{where}: {found}" for found in judge(life, where, root / WHERE, hand, verdict)]
            if len(verdict.findings) >= enough:
                break
    return verdict


def judge(life: Life, cut: Cut, path: pathlib.Path, hand: Hand, verdict: Verdict) -> Iterator[str]:
    """Return what is wrong with the queue that is left at a path."""
    if not path.exists():
        verdict.absent += 1
        if cut.done:
            yield "the queue is not there"
        return
    try:
        found: Found = hand.do(judging.look, path)
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not have left the package
        yield f"{type(error).__name__}: {error}"
        return
    if found.refusal:
        verdict.refused += 1
        if life.durability is not Durability.PROCESS or not found.refusal.startswith("QueueDamagedError"):
            yield found.refusal
        return
    if found.findings or found.trouble:
        yield f"check: {found.findings}; {found.trouble}"
    for message_id, checksum in found.snapshot[3]:
        if life.sent.get(message_id, checksum) != checksum:
            yield f"message {message_id} has a payload that was never sent"
    # The latest state that looks like this one; and the operation under way may have come through.
    alike = [number for number in range(cut.begun + 1) if life.snapshots[number] == found.snapshot]
    if not alike:
        yield "it is in a state that it never was in"
        return
    # Not every operation found something to do.
    after = life.snapshots[alike[-1] : cut.done + 1]
    lost = sum(one != next_one for one, next_one in itertools.pairwise(after))
    verdict.deepest = max(verdict.deepest, lost)
    if lost > {Durability.FULL: 0, Durability.COMMIT: 1, Durability.PROCESS: cut.done}[life.durability]:
        yield f"{lost} commits that had returned are lost"
