"""Commits that processes share: what another process has posted is carried along, and the other way round.

Where every commit is synced, the sync is what an operation costs; so those who wait for it at the same time should
wait for one. See ``posts`` for how a question travels and why it is carried out once.
"""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from persipubsub.engine.local import format, locks, posts
from persipubsub.engine.local.board import FOR_MESSAGES, FOR_ROOM, Slots
from persipubsub.engine.local.operations import Operation, Sending, Settling, Taken, Taking
from persipubsub.errors import PersipubsubError, QueueBusyError

if TYPE_CHECKING:
    from persipubsub.engine.local.bells import Bell
    from persipubsub.engine.local.jobs import Job
    from persipubsub.engine.local.store import Store
    from persipubsub.engine.local.work import Work

#: Somebody who died may have left a question unanswered: so often those who wait look for themselves, in ms.
_PATIENCE = 5
#: How long the carrier waits for those who asked for the last commit: this part of what a commit takes.
_PART_OF_A_COMMIT = 0.2
#: Payloads up to this size travel with the answer; what is larger is read by whoever asked.
_SMALL = 512
#: Takes of more messages are not posted: where an answer does not fit, all that was carried along is done again.
_MOST = 16
_GLANCE = 0.00002
#: Seconds that an interrupted call waits at most to learn what came of its question; a commit takes milliseconds.
_LOOK_BACK = 0.3
_REFUSED = b""
_encode = msgspec.msgpack.Encoder().encode
_questions = msgspec.msgpack.Decoder(list[Operation])
_answers = msgspec.msgpack.Decoder(list[msgspec.Raw])
_result_of_sending = msgspec.msgpack.Decoder(list[int])
_result_of_taking = msgspec.msgpack.Decoder(Taken)


class _CannotBeAnsweredError(Exception):
    """The answer is too long: who asked has to carry it out."""


class Carried(msgspec.Struct):
    """A question of another process on its way through a commit of this one."""

    question: posts.Question
    answer: bytes = _REFUSED

    def run(self, work: Work) -> None:
        """Carry it out, unless somebody has who died before he could say so."""
        stored = _stored_answer(work, self.question)
        if stored is not None:
            self.answer = stored
            return
        results = [operation.run(work) for operation in _questions.decode(self.question.body)]
        answer = _answer(results, _SMALL)
        if len(answer) > posts.LONGEST:
            answer = _answer(results, 0)
        if len(answer) > posts.LONGEST:
            raise _CannotBeAnsweredError
        work.txn.put(_key(self.question), self.question.nonce + answer, db=work.queue)
        work.touched = True
        self.answer = answer


class Sharing:
    """Posts what this process wants while another one writes, and answers what others have posted."""

    def __init__(self, store: Store) -> None:
        """Nothing is claimed before it is needed."""
        self._store = store
        self._slots = Slots(store.locks, locks.POSTS, posts.SLOTS)
        self._slot: int | None = None
        self._bell: Bell | None = None
        self._nonces = map(partial(int.to_bytes, length=8, byteorder="little"), itertools.count())
        self._me = os.urandom(8)
        #: When the last commit began here, and how long it took.
        self._began = self._seconds = 0.0

    # -- asking --------------------------------------------------------------------------------------

    def is_carried(self, jobs: Sequence[Job[Any]], timeout: float) -> bool:
        """Let another process carry jobs; False if this one has the write lock now, and has to carry them itself.

        :raise QueueBusyError: neither was possible in ``timeout`` seconds
        """
        lock = self._store.writer.lock
        if lock.try_acquire():
            return False
        body = _body(jobs)
        if body is None or (place := self._place()) is None:
            lock.acquire(timeout)
            return False
        slot, bell = place
        question = posts.Question(slot, self._me + next(self._nonces), bell.slot, body)
        self._store.posts.ask(question)
        try:
            answer = self._wait_for_answer(question, bell, timeout)
        except BaseException:
            answer = self._take_back(question)
            if answer:
                _hand_out(jobs, answer)
            raise
        if answer is None:
            return False
        if answer == _REFUSED:
            lock.acquire(timeout)
            return False
        _hand_out(jobs, answer)
        return True

    def _place(self) -> tuple[int, Bell] | None:
        """Claim where this process asks, and the bell that tells of the answer; ``None`` if they cannot be had."""
        if self._slot is None:
            self._slot = self._slots.claim()
        if self._slot is None:
            return None
        if self._bell is None:
            self._store.posts.withdraw(self._slot)  # a dead process may have left something
            self._bell = self._store.bells.claim()
        return None if self._bell is None else (self._slot, self._bell)

    def _wait_for_answer(self, question: posts.Question, bell: Bell, timeout: float) -> bytes | None:
        """Return the answer; ``None`` if this process has the write lock instead."""
        store = self._store
        poll = select.poll()
        poll.register(bell.descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout
        while True:
            answer = store.posts.answer_to(question.slot, question.nonce)
            if answer is not None:
                return answer
            if store.writer.lock.try_acquire():
                try:
                    store.posts.withdraw(question.slot)
                    answer = self._answered(question)
                except BaseException:
                    store.writer.lock.release()
                    raise
                if answer is not None:
                    store.writer.lock.release()
                    self.ring_next()
                return answer
            if time.monotonic() > deadline:
                raise QueueBusyError(
                    f"Queue {store.path}: {store.writer.lock.name_holder()} has kept the write lock for {timeout:g} s; "
                    "it may be stopped (SIGSTOP, debugger): continue or kill it."
                )
            if poll.poll(_PATIENCE):
                bell.silence()

    def _answered(self, question: posts.Question) -> bytes | None:
        """Return the answer, also if whoever carried the question out died before he gave it; under the write lock."""
        answer = self._store.posts.answer_to(question.slot, question.nonce)
        if answer is None:
            answer = self._store.writer.committer.rehearse(partial(_stored_answer, question=question))
            if answer is not None:
                # It may have died before it woke those who wait for what it committed.
                for kind in (FOR_MESSAGES, FOR_ROOM):
                    self._store.bells.ring(kind)
        return answer

    def _take_back(self, question: posts.Question) -> bytes | None:
        """Withdraw a question; return the answer if it was carried out before that."""
        if self._store.posts.withdraw(question.slot):
            return self._store.posts.answer_to(question.slot, question.nonce)
        return self._look_back(question)

    def _look_back(self, question: posts.Question) -> bytes | None:
        """Return the answer to a question that was interrupted, once nobody can be carrying it out any more."""
        lock = self._store.writer.lock
        try:
            lock.acquire(min(self._store.lock_timeout, _LOOK_BACK))
        except PersipubsubError:
            return self._store.posts.answer_to(question.slot, question.nonce)
        try:
            return self._answered(question)
        finally:
            lock.release()
            self.ring_next()

    # -- carrying ------------------------------------------------------------------------------------

    def asked(self) -> list[Carried]:
        """Return what others have posted; under the write lock.

        Those whom the last commit answered are about to ask again. So a carrier waits for as many as came along
        then, but only for a small part of what a commit takes: it is paid back by fewer commits.
        """
        posted, expected = self._store.posts, self._store.posts.carried
        if expected:
            deadline = time.monotonic() + _PART_OF_A_COMMIT * self._seconds
            while posted.count() < expected and time.monotonic() < deadline:
                time.sleep(_GLANCE)
        self._began = time.monotonic()
        return [Carried(question) for question in posted.asked()]

    def note_commit(self, carried: int) -> None:
        """Take notice of how many came along, and how long it took."""
        self._store.posts.carried = carried
        self._seconds = time.monotonic() - self._began

    def leave_open(self, carried: Carried) -> None:
        """Say that what was going to be carried along was not committed: who asked may take it back."""
        self._store.posts.leave_open(carried.question.slot)

    def answer(self, carried: Carried, *, refused: bool) -> None:
        """Answer what was carried along."""
        self._store.posts.answer(carried.question, _REFUSED if refused else carried.answer)
        self._store.bells.ring_one(carried.question.bell)

    def ring_next(self) -> None:
        """Wake somebody who has posted and was not carried along: he can write now."""
        bell = self._store.posts.next_bell()
        if bell is not None:
            self._store.bells.ring_one(bell)


def _key(question: posts.Question) -> bytes:
    return format.POST_PREFIX + bytes((question.slot,))


def _stored_answer(work: Work, question: posts.Question) -> bytes | None:
    """Return the answer that a commit has stored, if somebody has carried out the question."""
    stored = work.txn.get(_key(question), None, work.queue)
    if stored is None or stored[:16] != question.nonce:
        return None
    return bytes(stored[16:])


def _answer(results: Sequence[Any], largest: int) -> bytes:
    """Return results as an answer, without the payloads of more than ``largest`` bytes."""
    for result in results:
        if isinstance(result, Taken):
            for delivery in result.deliveries:
                if delivery.size > largest:
                    delivery.data = b""
    return _encode(results)


def _body(jobs: Sequence[Job[Any]]) -> bytes | None:
    """Return jobs as the body of a question, ``None`` if that cannot be, or the answer would be too long."""
    operations = []
    for job in jobs:
        if job.post is None or job.payload > posts.LONGEST:
            return None
        operation = job.post()
        if isinstance(operation, Taking) and operation.most > _MOST:
            return None
        operations.append(operation)
    body = _encode(operations)
    return body if len(body) <= posts.LONGEST else None


def _hand_out(jobs: Sequence[Job[Any]], answer: bytes) -> None:
    """Give each job its result."""
    for job, raw in zip(jobs, _answers.decode(answer), strict=True):
        operation = job.post() if job.post is not None else None
        if isinstance(operation, Sending):
            job.result = _result_of_sending.decode(raw)
        elif not isinstance(operation, Settling):
            job.result = _result_of_taking.decode(raw)
        job.done = True
