"""Storing messages: each with an id of its own, so that a repeated attempt stores nothing twice."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js import errors as js_errors

from persipubsub.engine import events
from persipubsub.engine.jetstream import wire
from persipubsub.engine.jetstream.behind import note_stored
from persipubsub.engine.jetstream.link import RETRY
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.translate import (
    BATCH_INCOMPLETE,
    DUPLICATE_IN_BATCH,
    STORE_FAILED,
    code_of,
    is_passing,
    translate,
)
from persipubsub.engine.messages import Entry
from persipubsub.errors import (
    MessageTooLargeError,
    PersipubsubError,
    QueueFullError,
    UnreachableError,
    UnsupportedByEngineError,
)
from persipubsub.limits import Retention, Settings

#: The server's limit for one batch.
LARGEST_BATCH: Final = 1000


class _BatchLostError(Exception):
    """An attempt to store a batch has to begin anew."""


class Publisher:
    """Stores messages of one engine."""

    def __init__(self, session: Session) -> None:
        """Use ``session``."""
        self._session = session
        self._prefix = f"p.{secrets.token_hex(8)}."
        self._number = 0
        self._told_of_unrouted = False

    async def put(self, entries: Sequence[Entry], message_ids: Sequence[str] | None = None) -> list[int]:
        """Store messages, all or none, and return their ids.

        :param message_ids: under which a repetition is recognised, for those without a deduplication id
        :raise QueueFullError: there is no room, and the strategy does not prune
        :raise MessageTooLargeError: a message, or the batch, can never fit
        """
        settings = (await self._session.stored()).settings
        self._check(entries, settings)
        ids = [self._message_id(entry, settings, message_ids, index) for index, entry in enumerate(entries)]
        if settings.retention is Retention.CONSUMED and not self._told_of_unrouted:
            await self._tell_of_unrouted()
        try:
            return await self._put_noted(entries, ids)
        except js_errors.APIError as error:
            if code_of(error) != STORE_FAILED or "maximum" not in (error.description or ""):
                raise translate(error, self._session.where) from error
            # A full log first gives up what everybody has consumed; only then it is full.
            if settings.retention is not Retention.LOG or not await self._prune_consumed(len(entries)):
                raise await self._full(settings) from error
        try:
            return await self._put_noted(entries, ids)
        except js_errors.APIError as error:
            raise translate(error, self._session.where) from error

    async def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches, at the same time."""
        outcomes = await asyncio.gather(*map(self.put, batches), return_exceptions=True)
        result: list[list[int] | Exception] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, Exception) and not isinstance(outcome, PersipubsubError):
                outcome = translate(outcome, self._session.where)
            result.append(outcome)
        return result

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> api.PubAck:
        """Store one message under a subject and return what the server says.

        :raise APIError: it was refused
        """
        session = self._session
        deadline = asyncio.get_running_loop().time() + session.link.patience
        while True:
            try:
                return _read(await session.link.request(subject, data, headers, deadline))
            except nats.errors.NoRespondersError as error:
                # The stream is gone, or without a leader.
                await session.check_alive()
                if asyncio.get_running_loop().time() > deadline:
                    raise translate(error, session.where) from error
            except js_errors.APIError as error:
                if not is_passing(error) or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(RETRY)

    async def _put_noted(self, entries: Sequence[Entry], ids: Sequence[str]) -> list[int]:
        stored = await self._put(entries, ids)
        note_stored(self._session, stored)
        return stored

    async def _put(self, entries: Sequence[Entry], ids: Sequence[str]) -> list[int]:
        if len(entries) == 1:
            return [await self._put_one(entries[0], ids[0])]
        if not entries:
            return []
        if len(set(ids)) == len(ids):
            try:
                return await self._put_batch(entries, ids)
            except js_errors.APIError as error:
                if code_of(error) != DUPLICATE_IN_BATCH:
                    raise
        # Something of it is stored already: by this very batch, whose confirmation was lost, or under a deduplication
        # id that was seen before. One by one, the server tells the ids of those and stores the others.
        return [await self._put_one(entry, message_id) for entry, message_id in zip(entries, ids, strict=True)]

    async def _put_one(self, entry: Entry, message_id: str) -> int:
        names = self._session.names
        headers = wire.entry_headers(entry, message_id, names)
        return (await self.publish(names.topic(entry.topic), bytes(entry.data), headers)).seq

    async def _put_batch(self, entries: Sequence[Entry], ids: Sequence[str]) -> list[int]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._session.link.patience
        while True:
            try:
                found = await self._session.link.insist(
                    lambda seconds: self._send_batch(entries, ids, seconds), deadline
                )
            except (_BatchLostError, nats.errors.NoRespondersError) as error:
                await self._session.check_alive()
                if loop.time() > deadline:
                    raise UnreachableError(
                        f"The cluster of {self._session.where} has no leader for the queue; try again when it has a "
                        "majority. Nothing of the batch was confirmed."
                    ) from error
                await asyncio.sleep(RETRY)
                continue
            return list(range(found.seq - len(entries) + 1, found.seq + 1))

    async def _send_batch(self, entries: Sequence[Entry], ids: Sequence[str], seconds: float) -> api.PubAck:
        client, names = self._session.link.client, self._session.names
        batch = secrets.token_hex(12)
        last = len(entries) - 1
        for index, entry in enumerate(entries):
            headers = wire.entry_headers(entry, ids[index], names)
            headers[wire.BATCH_ID] = batch
            headers[wire.BATCH_SEQUENCE] = str(index + 1)
            subject, data = names.topic(entry.topic), bytes(entry.data)
            if index < last:
                await client.publish(subject, data, headers=headers)
            else:
                headers[wire.BATCH_COMMIT] = "1"
                answer = await client.request(subject, data, timeout=seconds, headers=headers)
        try:
            return _read(answer)
        except js_errors.APIError as error:
            if code_of(error) in BATCH_INCOMPLETE:
                # The connection was lost in the middle, or the leader changed.
                raise _BatchLostError from error
            raise

    def _message_id(self, entry: Entry, settings: Settings, message_ids: Sequence[str] | None, index: int) -> str:
        if entry.deduplication_id is not None and settings.deduplication_window:
            return wire.user_message_id(entry.deduplication_id)
        if message_ids is not None:
            return message_ids[index]
        self._number += 1
        return f"{self._prefix}{self._number}"

    def _check(self, entries: Sequence[Entry], settings: Settings) -> None:
        payload = self._session.link.client.max_payload
        for entry in entries:
            if entry.size > settings.max_message_bytes:
                raise MessageTooLargeError(
                    f"The message has {entry.size} bytes, but the queue takes at most {settings.max_message_bytes} "
                    "(max_message_bytes)."
                )
            if len(entry.headers) > wire.LARGEST_HEADERS:
                raise MessageTooLargeError(
                    f"The headers take {len(entry.headers)} bytes, but on a NATS server at most {wire.LARGEST_HEADERS} "
                    "are possible; put what is large into the message."
                )
            if wire.size_of(entry) > payload:
                raise MessageTooLargeError(
                    f"The message has {entry.size} bytes and its headers {len(entry.headers)}, but the server takes "
                    f"at most {payload} bytes with everything; raise max_payload in its configuration, or send less."
                )
        mark = settings.high_water_mark
        if mark.max_messages is not None and len(entries) > mark.max_messages:
            raise QueueFullError(
                f"A batch of {len(entries)} messages can never fit into a queue of at most {mark.max_messages} "
                "(max_messages); send fewer at once."
            )
        size = sum(entry.size for entry in entries)
        if mark.max_bytes is not None and size > mark.max_bytes:
            raise MessageTooLargeError(
                f"{size} bytes at once can never fit into a queue of at most {mark.max_bytes} (max_bytes); send less."
            )
        if len(entries) > LARGEST_BATCH:
            raise UnsupportedByEngineError(
                f"JetStream stores at most {LARGEST_BATCH} messages at once, wholly or not at all, but these are "
                f"{len(entries)}; send smaller batches."
            )

    async def _full(self, settings: Settings) -> QueueFullError:
        session, mark = self._session, settings.high_water_mark
        state = (await session.link.manage(lambda js: js.stream_info(session.names.stream))).state
        return QueueFullError(
            f"The queue is full: {state.messages} messages of {state.bytes} bytes, headers included; the limits are "
            f"max_messages={mark.max_messages} and max_bytes={mark.max_bytes}; nothing was stored. Let subscribers "
            "catch up, raise the limits or choose the strategy prune_first."
        )

    async def _tell_of_unrouted(self) -> None:
        if not (await self._session.roster()).subscribers:
            self._told_of_unrouted = True
            await self._session.link.tell(lambda: events.unrouted().log(self._session.where))

    async def _prune_consumed(self, wanted: int) -> bool:
        """Drop the oldest of a log that everybody has settled, about as many as are to be stored."""
        session = self._session
        info = await session.link.manage(lambda js: js.stream_info(session.names.stream))
        lowest = info.state.last_seq + 1
        for listed in (await session.roster(fresh=True)).subscribers.values():
            consumer = await session.consumer_info(listed)
            lowest = min(lowest, (consumer.ack_floor.stream_seq if consumer.ack_floor else 0) + 1)
        before = min(lowest, info.state.first_seq + wanted)
        if before <= info.state.first_seq:
            return False
        await session.link.manage(lambda js: js.purge_stream(session.names.stream, seq=before))
        return True


def _read(answer: Msg) -> api.PubAck:
    found: dict[str, Any] = json.loads(answer.data)
    if "error" in found:
        raise js_errors.APIError.from_error(found["error"])
    return api.PubAck.from_response(found)
