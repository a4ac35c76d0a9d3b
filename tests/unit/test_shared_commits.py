"""A commit that processes share, with both sides played by one process: what the other does is decided step by step."""

import pathlib
import threading
from collections.abc import Callable, Iterator

import pytest

from persipubsub.engine.local.bells import Bells
from persipubsub.engine.local.board import FOR_MESSAGES, FOR_ROOM, WRITERS_AT, Slots
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.operations import sending
from persipubsub.engine.local.posts import Question
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.sharing import Sharing, _encode
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.writelock import WriteLock
from persipubsub.engine.messages import Delivery, Entry
from persipubsub.errors import PersipubsubError, QueueBusyError
from persipubsub.limits import Durability
from tests.process.support import wait_until
from tests.unit.engines import created, opened, send, stored

Step = Callable[[], object]


class Other:
    """Another process: for each of its steps it has the write lock while one here tries to get it, unless it left."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        """Have no steps yet."""
        self.steps: list[Step] = []
        self._store = store
        self._patch = patch
        self._acts = False
        here = WriteLock.try_acquire

        def try_acquire(lock: WriteLock) -> bool:
            if self._acts or not self.steps:
                return here(lock)
            self._acts = True
            try:
                left = self.steps.pop(0)() == "left"
            finally:
                self._acts = False
            return left and here(lock)

        patch.setattr(WriteLock, "try_acquire", try_acquire)

    def writes(self) -> None:
        """Keep the write lock for its own sake."""

    def carries(self) -> None:
        """Commit what was posted, and answer."""
        self._store.writer._commit_shared([])

    def carries_and_leaves(self) -> str:
        """Do so right before the lock is tried again."""
        self.carries()
        return "left"

    def dies_after_the_commit(self) -> None:
        """Commit what was posted; nobody ever gets an answer, nor is woken."""
        with self._patch.context() as patch:
            patch.setattr(Sharing, "answer", lambda *_, **__: None)
            patch.setattr(type(self._store.writer), "_tell", lambda *_: None)
            self.carries()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    with opened(created(tmp_path / "queue", durability=Durability.COMMIT, lock_timeout=0.05)) as engine:
        yield engine
        assert engine._store.posts.count() == 0


@pytest.fixture
def other(store: Store, monkeypatch: pytest.MonkeyPatch) -> Other:
    return Other(store, monkeypatch)


def take(engine: LocalEngine, most: int = 1) -> list[Delivery]:
    return engine.take("sub", most, None)


# -- what is carried ----------------------------------------------------------------------------------------


def test_all_that_can_be_posted_is_carried(engine: LocalEngine, store: Store, other: Other) -> None:
    for data in (b"small", b"large" * 200, b""):
        before = store.last_transaction()
        other.steps = [other.writes, other.carries]
        message_id = send(engine, data)
        other.steps = [other.writes, other.carries]
        (delivery,) = take(engine)
        assert (delivery.id, delivery.data, delivery.delivery_count) == (message_id, data, 1)
        other.steps = [other.writes, other.carries]
        engine.settle("sub", [delivery.receipt])
        assert store.last_transaction() == before + 3
        assert not other.steps
    (figures,) = engine.statistics().subscribers
    assert (figures.settled, figures.lag) == (3, 0)


@pytest.mark.parametrize("headers", [b"", b"x" * 300], ids=["without the payloads", "not at all"])
def test_an_answer_that_is_too_long(
    engine: LocalEngine, store: Store, other: Other, monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    sent = [b"%300d" % number for number in range(16)]
    engine.put([Entry(data, len(data), headers) for data in sent])
    alone: list[int] = []
    acquire = WriteLock.acquire

    def wait_for_the_lock(lock: WriteLock, timeout: float) -> None:
        alone.append(store.last_transaction())
        acquire(lock, timeout)

    other.steps = [other.writes, other.carries]
    before = store.last_transaction()
    with monkeypatch.context() as patch:
        patch.setattr(WriteLock, "acquire", wait_for_the_lock)
        assert [delivery.data for delivery in take(engine, 16)] == sent
    # Carried along without the payloads; or refused, with nothing committed, and done by who asked.
    assert alone == ([before] if headers else [])
    assert store.last_transaction() == before + 1


def test_an_error_in_what_is_carried_is_raised_where_it_was_asked(engine: LocalEngine, other: Other) -> None:
    send(engine, b"settled by another")
    (delivery,) = take(engine)
    assert engine.settle_ids("sub", [delivery.id]) == 1
    other.steps = [other.writes, other.carries]
    with pytest.raises(PersipubsubError, match="Message 1 of subscriber 'sub'"):
        engine.settle("sub", [delivery.receipt])


def test_who_gets_the_lock_meanwhile_writes_by_itself(engine: LocalEngine, store: Store, other: Other) -> None:
    other.steps = [other.writes, other.writes]
    before = store.last_transaction()
    assert send(engine, b"by itself") == 1
    assert store.last_transaction() == before + 1
    assert stored(engine) == [b"by itself"]


def test_an_answer_that_comes_with_the_lock(engine: LocalEngine, store: Store, other: Other) -> None:
    other.steps = [other.writes, other.carries_and_leaves]
    before = store.last_transaction()
    assert send(engine, b"carried") == 1
    assert store.last_transaction() == before + 1
    assert stored(engine) == [b"carried"]
    assert send(engine, b"the lock is free") == 2


# -- where the other dies -----------------------------------------------------------------------------------


def test_what_a_dead_one_has_committed_is_not_done_again(engine: LocalEngine, store: Store, other: Other) -> None:
    sleeper, publisher = engine.waiter("sub"), engine.room_waiter()
    sleeper.arm()
    publisher.arm()
    before = store.last_transaction()
    other.steps = [other.writes, other.dies_after_the_commit]
    assert send(engine, b"once") == 1
    assert store.last_transaction() == before + 1
    assert stored(engine) == [b"once"]
    # The dead one has woken nobody: who finds its commit does.
    assert not store.board.is_anybody_waiting(FOR_MESSAGES)
    assert not store.board.is_anybody_waiting(FOR_ROOM)
    assert send(engine, b"the lock is free") == 2
    sleeper.close()
    publisher.close()


def test_a_successor_answers_what_a_dead_one_has_committed(engine: LocalEngine, store: Store, other: Other) -> None:
    other.steps = [other.writes, other.dies_after_the_commit, other.carries]
    assert send(engine, b"once") == 1
    assert not other.steps
    assert stored(engine) == [b"once"]
    assert engine.statistics().published == 1


def test_nobody_answers(engine: LocalEngine, other: Other) -> None:
    other.steps = [other.writes] * 1000
    with pytest.raises(QueueBusyError, match=r"another process has kept the write lock for 0\.05 s.*continue or kill"):
        send(engine, b"never")
    other.steps = []
    assert stored(engine) == []
    assert send(engine, b"later") == 1


# -- interrupts ---------------------------------------------------------------------------------------------


def test_an_interrupt_takes_the_question_back(engine: LocalEngine, other: Other) -> None:
    other.steps = [other.writes, interrupt]
    with pytest.raises(KeyboardInterrupt):
        send(engine, b"never")
    assert not other.steps
    other._store.writer._commit_shared([])
    assert stored(engine) == []


@pytest.mark.parametrize("death", [False, True], ids=["answered", "dead"])
def test_an_interrupt_after_the_commit_gives_the_message_back(engine: LocalEngine, other: Other, death: bool) -> None:
    send(engine, b"taken")

    def carry_and_interrupt() -> None:
        if death:
            other.dies_after_the_commit()
        else:
            other.carries()
        interrupt()

    other.steps = [other.writes, carry_and_interrupt]
    with pytest.raises(KeyboardInterrupt):
        take(engine)
    (figures,) = engine.statistics().subscribers
    assert (figures.leased, figures.waiting) == (0, 1)
    (delivery,) = take(engine)
    assert (delivery.data, delivery.delivery_count) == (b"taken", 2)


def test_an_interrupt_in_the_middle_of_the_others_commit(
    engine: LocalEngine, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say what comes of it, so after a moment the interrupt goes on."""

    def decides_and_stops() -> None:
        (question,) = other._store.posts.asked()
        assert other._store.posts.decide(question)
        interrupt()

    def busy(lock: WriteLock, timeout: float) -> None:
        assert timeout == 0.05
        raise QueueBusyError("stopped")

    other.steps = [other.writes, decides_and_stops]
    with monkeypatch.context() as patch:
        patch.setattr(WriteLock, "acquire", busy)
        with pytest.raises(KeyboardInterrupt):
            send(engine, b"nobody knows")
    assert not other.steps
    assert send(engine, b"later") == 1


def test_an_interrupt_while_looking_for_the_answer_frees_the_lock(
    engine: LocalEngine, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Question] = []

    def interrupted(sharing: Sharing, question: Question) -> None:
        calls.append(question)
        interrupt()

    other.steps = [other.writes]
    with monkeypatch.context() as patch:
        patch.setattr(Sharing, "_answered", interrupted)
        with pytest.raises(KeyboardInterrupt):
            send(engine, b"never")
    assert len(calls) == 1
    assert other._store.board.page[WRITERS_AT:].count(1) == 0  # nobody writes
    assert stored(engine) == []


# -- what is not posted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["slot", "bell"])
def test_without_a_place_to_ask_one_waits_for_the_lock(
    engine: LocalEngine, other: Other, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    where = Slots if lacking == "slot" else Bells
    monkeypatch.setattr(where, "claim", lambda _: None)
    other.steps = [other.writes]
    assert send(engine, b"by itself") == 1
    assert not other.steps
    assert stored(engine) == [b"by itself"]


def test_what_a_dead_one_has_posted_goes_with_its_place(
    engine: LocalEngine, store: Store, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the successor cannot ask after all."""
    store.posts.ask(Question(0, b"of a dead one...", 4000, _encode([sending(Publication([Entry(b"dead", 4)]))])))
    monkeypatch.setattr(Bells, "claim", lambda _: None)
    other.steps = [other.writes]
    assert send(engine, b"by itself") == 1
    assert store.writer._sharing._slot == 0
    assert stored(engine) == [b"by itself"]


def test_what_is_too_long_or_too_many_waits_for_the_lock(engine: LocalEngine, other: Other) -> None:
    asked: list[int] = []
    other.steps = [lambda: asked.append(other._store.posts.count())]
    engine.put([Entry(bytes(100), 100)] * 100)
    other.steps.append(lambda: asked.append(other._store.posts.count()))
    engine.put([Entry(bytes(5000), 5000)])
    other.steps.append(lambda: asked.append(other._store.posts.count()))
    assert len(take(engine, 50)) == 50
    assert asked == [0, 0, 0]
    assert not other.steps


# -- threads -----------------------------------------------------------------------------------------------


def test_threads_of_one_process_are_carried_in_one_question(engine: LocalEngine, store: Store, other: Other) -> None:
    before = store.last_transaction()
    threads = [threading.Thread(target=send, args=(engine, b"%d" % number)) for number in range(4)]

    def start_the_others() -> None:
        for thread in threads:
            thread.start()
        wait_until(lambda: len(store.writer._jobs) == len(threads), "all wait for this one")

    other.steps = [start_the_others, other.carries, other.writes, other.carries]
    send(engine, b"first")
    for thread in threads:
        thread.join()
    assert sorted(stored(engine)) == [b"0", b"1", b"2", b"3", b"first"]
    assert store.last_transaction() == before + 2
