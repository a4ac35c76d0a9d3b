"""The LMDB engine against the memory engine: whatever is done to both, they answer alike.

The memory engine was written independently and to be obviously right. Hypothesis looks for a
sequence of operations, reopenings included, after which the two differ in an answer, in their
statistics, or in what ``check`` finds.
"""

import contextlib
import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import hypothesis
import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from persipubsub.engine.base import Engine
from persipubsub.engine.clock import Clock
from persipubsub.engine.local import blocks, create_local, doom, open_local, opening, prune
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.operations import take_over_from_dead
from persipubsub.engine.local.taker import at_desk
from persipubsub.engine.memory import open_memory
from persipubsub.engine.memory.settle import NO_REASON
from persipubsub.engine.messages import OWNER_DIED, Delivery, Entry, Receipt
from persipubsub.errors import PersipubsubError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings

SECOND = 1_000_000_000
NAMES = ("a", "b", "c")
TOPICS = ("x", "x.y", "z")
FILTERS = (None, None, "x", "x.*", "x.>", ">")

names = st.sampled_from(NAMES)
entries = st.builds(
    lambda data, delay, expires, topic, headers, dedup: Entry(
        data, len(data), headers, topic, delay * SECOND, None if expires is None else expires * SECOND, dedup
    ),
    # The last is too large.
    data=st.sampled_from(
        (b"", b"1", b"12", b"123", b"1234", b"12345", b"123456", *[b"\0\xff", b"1234567"] * 6, b"12345678")
    ),
    delay=st.sampled_from((0, 0, 0, 0, 1, 3)),
    expires=st.sampled_from((None, None, None, 1, 4)),
    topic=st.sampled_from((None, *TOPICS)),
    headers=st.sampled_from((b"", b"", b"\x81\xa1k\xa1v")),
    dedup=st.sampled_from((None, None, None, b"one", b"two")),
)
batches = st.lists(entries, min_size=1, max_size=4)
queue_settings = st.builds(
    lambda most, size, timeout, strategy, retention: Settings(
        high_water_mark=HighWaterMark(timeout, most, size),
        strategy=strategy,
        retention=retention,
        durability=Durability.PROCESS,
        deduplication_window=5.0,
        max_message_bytes=7,
        map_size=1 << 20,
    ),
    most=st.sampled_from((None, None, None, 2, 4, 10)),
    size=st.sampled_from((None, None, None, 20, 40)),
    timeout=st.sampled_from((None, None, 2.0, 6.0)),
    strategy=st.sampled_from([Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST, Strategy.REJECT]),
    retention=st.sampled_from([Retention.CONSUMED, Retention.LOG]),
)
subscriber_settings = st.builds(
    SubscriberSettings,
    lease=st.sampled_from((None, None, 2.0)),
    max_deliveries=st.sampled_from((None, 1, 2)),
    topic_filter=st.sampled_from(FILTERS),
)


class Hands(Clock):
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000 * SECOND
        self.boot = 1_000 * SECOND

    def wall_ns(self) -> int:
        return self.wall

    def boot_ns(self) -> int:
        return self.boot


#: So that a few messages fill blocks, and what limits took lies around for a while before it is deleted.
SMALL = (
    (blocks, "SIZE", 4),
    (prune, "AT_ONCE", 1),
    (doom, "SLICE", 1),
    (doom, "MOST_RANGES", 2),
)


class Held(msgspec.Struct):
    """One take, as both engines know it."""

    subscriber: str
    local: Delivery
    memory: Delivery
    top: bool = False
    #: Whether its caller has it; a batch is handed over one by one.
    handed: bool = True


class Twins(RuleBasedStateMachine):
    """Both engines, and what was taken from them."""

    def __init__(self) -> None:
        super().__init__()
        shared_memory = pathlib.Path("/dev/shm")
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
        self.clock = Hands()
        self.patches = contextlib.ExitStack()
        for thing, name, value in ((opening, "clock", self.clock), *SMALL):
            self.patches.enter_context(mock.patch.object(thing, name, value))
        self.taken: list[Held] = []
        self.batch: list[Held] = []
        self.started = False

    @initialize(
        chosen=queue_settings,
        subscribers=st.fixed_dictionaries(
            {"a": subscriber_settings}, optional=dict.fromkeys("bc", subscriber_settings)
        ),
        batch=batches,
    )
    def start(self, chosen: Settings, subscribers: dict[str, SubscriberSettings], batch: list[Entry]) -> None:
        path = self.folder / "queue"
        create_local(path, chosen, subscribers)
        self.local: Engine = open_local(path)
        self.keeper = open_memory(str(self.folder), create=chosen, clock=self.clock)
        self.memory: Engine = open_memory(str(self.folder))
        for identifier, its in subscribers.items():
            self.memory.add_subscriber(identifier, its, "latest")
        self.started = True
        self.put(batch)

    def teardown(self) -> None:
        if self.started:
            self.local.close()
            self.memory.close()
            self.keeper.close()
        self.patches.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- asking both ---------------------------------------------------------------------------------

    def both(self, ask: Callable[[Engine], Any]) -> Any:
        """Ask both engines, and compare answers that are plain."""
        answers = [self.answer(ask, engine) for engine in (self.local, self.memory)]
        assert answers[0] == answers[1]
        return answers[0]

    @staticmethod
    def answer(ask: Callable[[Engine], Any], engine: Engine) -> Any:
        try:
            return ask(engine)
        except PersipubsubError as error:
            return type(error)

    def receive(self, subscriber: str, ask: Callable[[Engine], list[Delivery]], *, top: bool = False) -> None:
        """Take from both, compare what comes, and remember the takes."""
        answers = [self.answer(ask, engine) for engine in (self.local, self.memory)]
        if isinstance(answers[0], type) or isinstance(answers[1], type):
            assert answers[0] == answers[1]
            return
        assert [plain(delivery) for delivery in answers[0]] == [plain(delivery) for delivery in answers[1]]
        for local, memory in zip(*answers, strict=True):
            self.taken.append(Held(subscriber, local, memory, top))

    def settle_both(self, picked: list[Held], ask: Callable[[Engine, str, list[Receipt]], Any]) -> None:
        """Do the same with the receipts of both engines, for takes of one subscriber."""
        if not picked:
            return
        subscriber = picked[0].subscriber
        picked = [held for held in picked if held.subscriber == subscriber]

        def asking(receipts: list[Receipt]) -> Callable[[Engine], Any]:
            return lambda engine: ask(engine, subscriber, receipts)

        assert self.answer(asking([held.local.receipt for held in picked]), self.local) == self.answer(
            asking([held.memory.receipt for held in picked]), self.memory
        )

    def pick(self, data: st.DataObject, *, unhanded: bool = False) -> list[Held]:
        """Choose takes, old and new, settled or not."""
        # Hypothesis leaves many rules out of each example: where nothing was sent or taken, little would happen.
        if data.draw(st.booleans()):
            self.put(data.draw(batches))
            self.take(data.draw(names), data.draw(st.integers(1, 4)), None, data.draw(st.booleans()), [])
        # Nobody settles what was not handed over.
        known = [held for held in self.taken if held.handed or unhanded][-4:]
        return data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)) if known else []

    def there(self, name: str) -> str:
        """Return the name of a subscriber that is there, if there is one."""
        known = self.memory.subscribers()
        return name if name in known or not known else min(known)

    # -- what happens --------------------------------------------------------------------------------

    @rule(batch=batches)
    def put(self, batch: list[Entry]) -> None:
        self.both(lambda engine: engine.put(batch))

    @rule(
        name=names,
        most=st.integers(1, 4),
        lease=st.sampled_from((None, None, SECOND)),
        handed=st.booleans(),
        batch=st.lists(entries, max_size=3),
    )
    def take(self, name: str, most: int, lease: int | None, handed: bool, batch: list[Entry]) -> None:
        name = self.there(name)
        if batch:
            self.put(batch)
        before = len(self.taken)
        self.receive(name, lambda engine: engine.take(name, most, lease, hand_over=handed))
        if not handed:
            self.batch = self.taken[before:]
            for held in self.batch:
                held.handed = False

    @rule(name=names)
    def take_one(self, name: str) -> None:
        name = self.there(name)
        self.receive(name, lambda engine: engine.take(name, 1, None))

    @rule()
    def hand_over(self) -> None:
        """Hand over the next of the last batch, as a loop over it does."""
        if self.batch:
            held = self.batch.pop(0)
            held.handed = True
            self.local.handed(held.subscriber, held.local)
            self.memory.handed(held.subscriber, held.memory)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        self.settle_both(self.pick(data), lambda engine, name, receipts: engine.settle(name, receipts))

    @rule(data=st.data(), outgoing=st.lists(entries, min_size=1, max_size=2))
    def settle_and_send(self, data: st.DataObject, outgoing: list[Entry]) -> None:
        self.settle_both(self.pick(data), lambda engine, name, receipts: engine.settle(name, receipts, outgoing))

    @rule(data=st.data(), delay=st.sampled_from((0, 0, 2 * SECOND)), reason=st.sampled_from((None, "why")))
    def give_back(self, data: st.DataObject, delay: int, reason: str | None) -> None:
        self.settle_both(
            self.pick(data),
            lambda engine, name, receipts: engine.give_back(name, receipts, delay_ns=delay, reason=reason),
        )

    @rule(data=st.data())
    def give_back_undelivered(self, data: st.DataObject) -> None:
        self.settle_both(
            self.pick(data, unhanded=True),
            lambda engine, name, receipts: engine.give_back(name, receipts, undelivered=True),
        )

    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        self.settle_both(self.pick(data), lambda engine, name, receipts: engine.reject(name, receipts, "bad"))

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        self.settle_both(
            self.pick(data)[:1], lambda engine, name, receipts: engine.extend(name, receipts[0], 3 * SECOND)
        )

    @rule(name=names, ids=st.lists(st.integers(0, 40), max_size=3), back=st.integers(0, 4))
    def settle_ids(self, name: str, ids: list[int], back: int) -> None:
        name = self.there(name)
        near = self.local.bounds()[1] - back
        self.both(lambda engine: engine.settle_ids(name, [*ids, near]))

    @rule(name=names)
    def take_newest(self, name: str) -> None:
        name = self.there(name)
        self.receive(
            name,
            lambda engine: [delivery for delivery in [engine.take_newest(name, None)] if delivery is not None],
            top=True,
        )

    @rule(data=st.data(), settle=st.booleans())
    def finish_newest(self, data: st.DataObject, settle: bool) -> None:
        tops = [held for held in self.taken[-8:] if held.top]
        if tops:
            held = data.draw(st.sampled_from(tops))

            def finishing(delivery: Delivery) -> Callable[[Engine], Any]:
                def finish(engine: Engine) -> None:
                    (engine.settle_to_top if settle else engine.return_to_top)(held.subscriber, delivery.receipt)

                return finish

            assert self.answer(finishing(held.local), self.local) == self.answer(finishing(held.memory), self.memory)

    @rule(name=names)
    def pop(self, name: str) -> None:
        name = self.there(name)
        self.receive(name, lambda engine: [found for found in [engine.pop(name)] if found is not None])

    @rule(name=names, most=st.integers(1, 3))
    def peek(self, name: str, most: int) -> None:
        answers = [self.answer(lambda one: one.peek(name, most), engine) for engine in (self.local, self.memory)]
        if not isinstance(answers[0], type) and not isinstance(answers[1], type):
            answers = [[plain(delivery) for delivery in found] for found in answers]
        assert answers[0] == answers[1]

    @rule(name=names)
    def purge(self, name: str) -> None:
        name = self.there(name)
        self.both(lambda engine: engine.purge(name))

    @rule(name=names, back=st.integers(-1, 6))
    def seek(self, name: str, back: int) -> None:
        name = self.there(name)
        first, following = self.both(lambda engine: engine.bounds())
        self.both(lambda engine: engine.seek(name, max(following - back, first - 1, 0)))

    @rule(name=names, back=st.integers(0, 5), seconds=st.integers(0, 10))
    def find_position(self, name: str, back: int, seconds: int) -> None:
        name = self.there(name)
        self.both(lambda engine: engine.find_position(name, back=back))
        self.both(lambda engine: engine.find_position(name, sent_ns=self.clock.wall - seconds * SECOND))

    @rule(name=names, its=subscriber_settings, start=st.sampled_from(("first", "latest", 3)))
    def add_subscriber(self, name: str, its: SubscriberSettings, start: Any) -> None:
        self.both(lambda engine: engine.add_subscriber(name, its, start))

    @rule(name=names, its=subscriber_settings)
    def configure_subscriber(self, name: str, its: SubscriberSettings) -> None:
        self.both(lambda engine: engine.configure_subscriber(name, its))

    @rule(name=names)
    def remove_subscriber(self, name: str) -> None:
        self.both(lambda engine: engine.remove_subscriber(name))

    @rule(name=names, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        self.both(lambda engine: engine.pause(name, paused))

    @rule(chosen=queue_settings)
    def configure(self, chosen: Settings) -> None:
        self.both(lambda engine: engine.configure(chosen))

    @precondition(lambda self: len(self.taken) > 10)
    @rule()
    def clear(self) -> None:
        self.both(lambda engine: engine.clear())

    @rule()
    def prune(self) -> None:
        self.both(lambda engine: engine.prune_dangling())

    @rule(name=names, ids=st.one_of(st.none(), st.lists(st.integers(1, 20), max_size=3)))
    def requeue(self, name: str, ids: list[int] | None) -> None:
        name = self.there(name)
        self.both(lambda engine: engine.requeue_dead(name, ids))

    @rule(name=names, ids=st.one_of(st.none(), st.lists(st.integers(1, 20), max_size=3)))
    def discard(self, name: str, ids: list[int] | None) -> None:
        name = self.there(name)
        self.both(lambda engine: engine.discard_dead(name, ids))

    @rule(seconds=st.sampled_from((1, 1, 2, 5)))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.wall += seconds * SECOND
        self.clock.boot += seconds * SECOND

    @rule(seconds=st.sampled_from((-10, -1)))
    def set_clock_back(self, seconds: int) -> None:
        self.clock.wall += seconds * SECOND

    @rule()
    def reopen(self) -> None:
        self.local.close()
        self.local = open_local(self.folder / "queue")
        self.memory.close()
        self.memory = open_memory(str(self.folder))

    @rule()
    def crash(self) -> None:
        """Let the owner die: its lock is dropped, and nothing is given back. The next one takes over."""
        assert isinstance(self.local, LocalEngine)
        dying = self.local
        if dying._taker._owner:
            dying._store.owners.end(dying._taker._owner)
        dying._taker._left = True
        dying._release_store()
        successor = open_local(self.folder / "queue")
        for name in successor.subscribers():
            at_desk(successor._store, name, lambda desk: take_over_from_dead(desk, 0))
        self.local = successor
        self.memory.close()
        self.memory = open_memory(str(self.folder))

    # -- what always holds ---------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        if not self.started:
            return
        assert self.local.check() == []
        assert self.memory.check() == []
        assert msgspec.to_builtins(figures(self.local)) == msgspec.to_builtins(figures(self.memory))
        assert self.local.browse(0, 100) == self.memory.browse(0, 100)
        for name in self.local.subscribers():
            assert obituaries(self.local, name) == obituaries(self.memory, name)


def plain(delivery: Delivery) -> Any:
    """Return a delivery without its token, which is each engine's own.

    Nobody dies without closing in the memory of one process: a death is a give-back there.
    """
    error = None if delivery.last_error in (OWNER_DIED, NO_REASON) else delivery.last_error
    return msgspec.structs.replace(delivery, token=0, last_error=error)


def obituaries(engine: Engine, name: str) -> Any:
    """Return the dead letters of a subscriber, whatever the words for a death without a reason."""
    return [
        msgspec.structs.replace(dead, reason="" if dead.reason in (OWNER_DIED, NO_REASON) else dead.reason)
        for dead in engine.dead_letters(name)
    ]


def figures(engine: Engine) -> Any:
    """Return statistics without what must differ."""
    found = engine.statistics()
    return msgspec.structs.replace(
        found,
        identity="",
        created_ns=0,
        file_bytes=0,
        subscribers=tuple(
            msgspec.structs.replace(one, owners=()) for one in sorted(found.subscribers, key=lambda one: one.identifier)
        ),
    )


@dataclasses.dataclass
class Explored:
    """What was tried."""

    examples: int = 0
    #: After each of which the two engines were compared.
    steps: int = 0
    #: Messages that both have delivered.
    deliveries: int = 0


def explore(examples: int, seed: int | None = None, steps: int = 50) -> Explored:
    """Look for a difference in so many examples; a seed tries the same again.

    :raise AssertionError: there is one; Hypothesis notes the way to it (without a seed the shortest)
    """
    explored = Explored()

    class Counted(Twins):
        @invariant()
        def count(self) -> None:
            explored.steps += self.started

        def teardown(self) -> None:
            explored.examples += self.started
            explored.deliveries += len(self.taken)
            super().teardown()

    run_state_machine_as_test(
        Counted if seed is None else hypothesis.seed(seed)(Counted),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            # To make an example shorter takes minutes, which a run of so many seconds has not.
            phases=tuple(Phase) if seed is None else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return explored
