"""What one send, and one receive with its acknowledgement, spend their time on: ``python -m benchmarks.steps``.

Each step is called by itself, many times, and the shortest round counts: so steps can be added up and compared with the
whole, and a busy machine does little harm. The durability is ``process``, where nothing waits for a disk.
"""

import argparse
import contextlib
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import lmdb

from persipubsub import Durability, Environment
from persipubsub.engine.local import format
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Entry, Receipt

_PAYLOAD = bytes(128)
_ROUNDS, _CALLS = 15, 1000
#: Seconds between two calls, as a sync, a slow handler or a quiet sensor makes them; calls after each.
_PAUSES, _PAUSED_CALLS = (0.0, 0.0002, 0.001, 0.005), 300

Row = tuple[str, float]


def shortest(call: Callable[[], object]) -> float:
    """Return the microseconds that a call takes in the fastest of some rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_CALLS):
            call()
        best = min(best, time.perf_counter() - began)
    return best / _CALLS * 1e6


class Floor(NamedTuple):
    """Microseconds of py-lmdb alone."""

    send: float
    #: A send that also writes a third record into a third tree, as the queue's state is.
    send_with_state: float
    put: float
    receive: float


class Bare:
    """What a queue does at the very least, by py-lmdb alone."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Create an environment in an empty folder."""
        self._env = lmdb.open(str(folder), map_size=1 << 30, max_dbs=3, sync=False, writemap=True)
        self._data, self._meta, self._queue = (self._env.open_db(name) for name in (b"data", b"meta", b"queue"))
        self._sent, self._received = itertools.count(), itertools.count()

    def send(self) -> None:
        """Append a payload and its time."""
        key = format.pack_id(next(self._sent))
        with self._env.begin(write=True) as txn:
            txn.put(key, _PAYLOAD, append=True, db=self._data)
            txn.put(key, key, append=True, db=self._meta)

    def send_with_state(self) -> None:
        """Append them, and write a record into a third tree."""
        key = format.pack_id(next(self._sent))
        with self._env.begin(write=True) as txn:
            txn.put(key, _PAYLOAD, append=True, db=self._data)
            txn.put(key, key, append=True, db=self._meta)
            txn.put(format.KEY_STATE, _PAYLOAD, db=self._queue)

    def receive(self) -> None:
        """Read the oldest payload, then delete it with its time."""
        key = format.pack_id(next(self._received))
        with self._env.begin() as txn:
            txn.get(key, db=self._data)
        with self._env.begin(write=True) as txn:
            txn.delete(key, db=self._data)
            txn.delete(key, db=self._meta)

    def measure(self) -> Floor:
        """Return how long that takes."""
        alone = shortest(self.send)
        with self._env.begin(write=True) as txn:
            put = shortest(lambda: txn.put(format.pack_id(next(self._sent)), _PAYLOAD, append=True, db=self._data))
        return Floor(alone, shortest(self.send_with_state), put, shortest(self.receive))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def of_a_send(env: Environment, lowest: Floor) -> list[Row]:
    """Return the steps of a send."""
    engine: Any = env._connection.engine()
    store: Store = engine._store
    publisher = env.new_publisher()
    entries = [Entry(_PAYLOAD, len(_PAYLOAD))]
    publication = Publication(entries)
    lock = store.writer.lock

    def take_the_lock() -> None:
        lock.acquire(1.0)
        lock.release()

    def put() -> Iterator[float]:
        for _ in range(_ROUNDS):
            txn = store.begin_writing()
            work = Work(store, txn)
            began = time.perf_counter()
            for _ in range(_CALLS):
                publication.put(work)
            yield (time.perf_counter() - began) / _CALLS * 1e6
            txn.abort()

    whole = shortest(lambda: publisher.send(_PAYLOAD))
    through_engine = shortest(lambda: engine.put(entries))
    written = shortest(lambda: store.write(publication.put, payload=len(_PAYLOAD)))
    store.recent = None
    rows = [
        ("checks of the arguments, down to the engine", whole - through_engine),
        ("digest of the payload", through_engine - written),
        ("the files are still there (fstat)", shortest(store.check_files)),
        ("nobody else writes (a byte in shared memory)", shortest(take_the_lock)),
        ("ids, limits, checksum, the metadata record", min(put()) - 2 * lowest.put),
        ("py-lmdb: begin, three records into three trees, commit", lowest.send_with_state),
        ("somebody waits? (a search in shared memory)", shortest(lambda: store.bells.ring(1))),
    ]
    rows.append(
        (
            "the job, the turn of the thread, the state record, the rest",
            whole - sum(microseconds for _, microseconds in rows),
        )
    )
    return [*rows, ("a send", whole)]


def of_a_receive(env: Environment) -> list[Row]:
    """Return the steps of a receive with its acknowledgement."""
    engine: Any = env._connection.engine()
    store: Store = engine._store
    publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
    calls = 200

    def fill() -> None:
        publisher.send_many([_PAYLOAD] * calls)

    def per_call(step: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(_ROUNDS):
            fill()
            began = time.perf_counter()
            for _ in range(calls):
                step()
            best = min(best, time.perf_counter() - began)
        return best / calls * 1e6

    def receive() -> None:
        with subscriber.receive(timeout=0):
            pass

    taken: list[Receipt] = []

    def take() -> None:
        taken.append(engine.take("a", 1, None)[0].receipt)

    def settle() -> None:
        engine.settle("a", [taken.pop()])

    def touch(work: Work) -> None:
        work.touched = True

    def touch_subscriber(work: Work) -> None:
        desk = Desk(work, "a")
        desk.record.deliveries += 1
        desk.save()

    whole = per_call(receive)
    taking = per_call(take)
    while taken:
        settle()
    settling = float("inf")
    for _ in range(_ROUNDS):
        fill()
        for _ in range(calls):
            take()
        began = time.perf_counter()
        for _ in range(calls):
            settle()
        settling = min(settling, (time.perf_counter() - began) / calls * 1e6)
    transaction = shortest(lambda: store.write(touch))
    subscriber_record = shortest(lambda: store.write(touch_subscriber)) - transaction
    return [
        ("two write transactions of which only the state changes", 2 * transaction),
        ("the subscriber's record, twice", 2 * subscriber_record),
        ("taking: message, checksum, lease, pending counts, position", taking - transaction - subscriber_record),
        ("settling: lease, pending count, message, metadata", settling - transaction - subscriber_record),
        ("the block, the message object, what is held", whole - taking - settling),
        ("a receive with its acknowledgement", whole),
    ]


def usual(call: Callable[[], object], pause: float) -> float:
    """Return the microseconds that a call usually takes (the median) after the process has slept for ``pause``."""
    found = []
    for _ in range(_PAUSED_CALLS):
        if pause:
            time.sleep(pause)
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found) * 1e6


def show_pauses(env: Environment, bare: Bare) -> None:
    """Print what the same calls take when the process was asleep in between."""
    publisher, subscriber = env.new_publisher(), env.new_subscriber("a")

    def receive() -> None:
        with subscriber.receive(timeout=0):
            pass

    publisher.send_many([_PAYLOAD] * len(_PAUSES) * _PAUSED_CALLS)
    print("after a pause, µs")
    print("  asleep, ms  py-lmdb's send  a send  a receive")
    for pause in _PAUSES:
        bare_send, send, received = (
            usual(call, pause) for call in (bare.send, lambda: publisher.send(_PAYLOAD), receive)
        )
        print(f"  {pause * 1e3:10.1f}  {bare_send:14.1f}  {send:6.1f}  {received:9.1f}")


def show(title: str, rows: list[Row], alone: float) -> None:
    """Print a table."""
    print(f"{title}, µs")
    for step, microseconds in rows:
        print(f"  {microseconds:6.2f}  {step}")
    print(f"  {alone:6.2f}  py-lmdb alone: the floor")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, help="where to put the queue (default: the temporary directory)")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        (folder / "floor").mkdir()
        with contextlib.closing(Bare(folder / "floor")) as bare, Environment(folder / "queue") as env:
            lowest = bare.measure()
            env.new_control({"a"}, durability=Durability.PROCESS)
            show("send", of_a_send(env, lowest), lowest.send)
            env.new_subscriber("a").seek("latest")
            show("receive and acknowledge", of_a_receive(env), lowest.receive)
            show_pauses(env, bare)


if __name__ == "__main__":
    main()
