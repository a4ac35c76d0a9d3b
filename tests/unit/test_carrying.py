"""A commit that carries along what other processes have posted, and what becomes of what they take back."""

import pathlib
import time
from collections.abc import Iterator

import lmdb
import pytest

from persipubsub.engine.local import posts, sharing
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.operations import sending
from persipubsub.engine.local.posts import Question
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.sharing import Sharing
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Entry
from persipubsub.errors import StorageError
from persipubsub.limits import Durability
from tests.unit.engines import created, opened, send, stored


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    with opened(created(tmp_path / "queue", durability=Durability.COMMIT)) as engine:
        yield engine
        assert engine._store.posts.count() == 0


def interrupt() -> None:
    raise KeyboardInterrupt


def ask(store: Store, slot: int = 7, nonce: bytes = b"of another......", data: bytes = b"posted") -> Question:
    """Post a message as a process that has the given slot."""
    body = sharing._encode([sending(Publication([Entry(data, len(data))]))])
    question = Question(slot, nonce, 4000, body)
    store.posts.ask(question)
    return question


def test_a_question_that_is_half_written_is_not_carried(engine: LocalEngine, store: Store) -> None:
    question = ask(store)
    at = posts._PART + question.slot * 2 * posts._PART + posts._HEAD.size
    whole = store.posts._page[at]
    store.posts._page[at] = whole ^ 1
    assert send(engine, b"mine") == 1
    assert store.posts.count() == 1
    assert store.posts.next_bell() is None
    store.posts._page[at] = whole
    assert store.posts.next_bell() == 4000
    assert send(engine, b"mine, too") in (2, 3)
    assert sorted(stored(engine)) == [b"mine", b"mine, too", b"posted"]
    assert store.posts.answer_to(question.slot, question.nonce) is not None


@pytest.mark.parametrize("replaced", [False, True], ids=["withdrawn", "replaced"])
def test_a_question_that_is_taken_back_before_the_commit_is_left_out(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    question = ask(store)
    finish = Work.finish

    def finish_late(work: Work) -> bool:
        monkeypatch.setattr(Work, "finish", finish)
        assert store.posts.withdraw(question.slot)
        if replaced:
            ask(store, nonce=b"of the successor", data=b"instead")
        return finish(work)

    monkeypatch.setattr(Work, "finish", finish_late)
    assert send(engine, b"mine") == 1
    assert stored(engine) == [b"mine"]
    assert not store.posts.answer_to(question.slot, question.nonce)
    # Whatever stands there now can still be taken back.
    assert store.posts.count() == replaced
    assert not store.posts.decide(question)
    assert store.posts.withdraw(question.slot)


def test_a_question_that_is_replaced_after_the_commit_is_not_answered(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask(store)
    note = Sharing.note_commit

    def note_late(sharing: Sharing, carried: int) -> None:
        monkeypatch.setattr(Sharing, "note_commit", note)
        ask(store, nonce=b"of the successor", data=b"of the successor")
        note(sharing, carried)

    monkeypatch.setattr(Sharing, "note_commit", note_late)
    send(engine, b"mine")
    assert store.posts.answer_to(question.slot, question.nonce) is None
    assert store.posts.count() == 1
    send(engine, b"mine")
    assert sorted(stored(engine)) == [b"mine", b"mine", b"of the successor", b"posted"]


def test_a_commit_that_fails_lets_the_others_take_their_questions_back(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask(store)

    def fail(work: Work) -> bool:
        assert store.posts.decide(question)
        raise lmdb.MemoryError("Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(Work, "finish", fail)
        with pytest.raises(StorageError, match="no memory or address space"):
            send(engine, b"mine")
    assert store.posts.withdraw(question.slot)
    assert stored(engine) == []


def test_an_interrupt_after_the_commit_leaves_the_others_theirs(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask(store)

    class Noted:
        """What follows the commit, interrupted."""

        def __get__(self, store: Store, kind: object) -> object:
            return store.__dict__["recent"]

        def __set__(self, store: Store, work: Work | None) -> None:
            store.__dict__["recent"] = work
            if work is not None:
                interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Store, "recent", Noted(), raising=False)
        with pytest.raises(KeyboardInterrupt):
            send(engine, b"mine")
    # It was carried out: whoever takes it back now is told to look for the answer.
    assert not store.posts.withdraw(question.slot)
    assert sorted(stored(engine)) == [b"mine", b"posted"]
    assert store.writer.rehearse(lambda work: sharing._stored_answer(work, question))


def test_a_carrier_waits_for_those_it_answered_last(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.last_transaction()
    store.posts.carried = 1
    store.writer._sharing._seconds = 1000.0  # a fifth of it is more than a test takes
    glances: list[float] = []

    def sleep(seconds: float) -> None:
        glances.append(seconds)
        ask(store)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        send(engine, b"mine")
    assert len(glances) == 1
    assert store.last_transaction() == before + 1
    assert sorted(stored(engine)) == [b"mine", b"posted"]
    # They do not come again: it waits no longer than is paid back.
    store.writer._sharing._seconds = 0.05
    began = time.monotonic()
    send(engine, b"mine")
    assert time.monotonic() - began >= 0.01
    assert store.posts.carried == 0
