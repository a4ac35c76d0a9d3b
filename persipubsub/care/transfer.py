"""Reading what ``Control.export`` wrote: into a new queue, or as messages for one that is in use."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from persipubsub.deploying import SubscriberIds, check_subscribers
from persipubsub.engine.local import copying, load_local
from persipubsub.engine.opening import opener_for
from persipubsub.engine.records import RECORDS_VERSION, EndRecord, MessageRecord, QueueRecord, Record
from persipubsub.environment import Environment
from persipubsub.errors import FormatVersionError, MessageError, SettingsError
from persipubsub.limits import Retention, check_settings
from persipubsub.message import Draft
from persipubsub.paths import absolute

_BATCH = 500
_BATCH_BYTES = 8 << 20

Progress = Callable[[int], None]


class Imported(msgspec.Struct, frozen=True):
    """What an import did.

    :param messages: messages stored
    :param known: those that were there already
    :param expired: those left out, as their time was over
    """

    messages: int
    known: int = 0
    expired: int = 0


def import_queue(
    stream: BinaryIO,
    path: str | os.PathLike[str],
    *,
    subscribers: SubscriberIds | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Make a queue of an export, wholly or not at all: messages keep their ids and times, subscribers their places.

    The queue gets an identity of its own, and its counters start anew. What was leased comes back, to be delivered
    next. Deduplication ids are not in an export.

    :param stream: what ``Control.export`` wrote, open for reading bytes
    :param path: of the new queue; nothing may be there
    :param subscribers: instead of those in the export; they get all messages
    :param progress: is told the number of messages so far
    :raise QueueExistsError: a queue is at ``path`` already; it is left untouched
    :raise MessageError: the export is cut off, or a line of it is none; nothing was created
    :raise FormatVersionError: it was written by a newer version; nothing was created
    :raise IdentifierError: an identifier in ``subscribers`` breaks the rules; nothing was created
    :raise SettingsError: nobody would get the messages: there are no subscribers, and the queue is no log
    """
    queue, records = _read(stream)
    number = 0

    def counted() -> Iterator[Record]:
        nonlocal number
        anybody = bool(chosen) or queue.settings.retention is Retention.LOG
        for record in records:
            if isinstance(record, MessageRecord):
                number += 1
                if progress is not None and not number % _BATCH:
                    progress(number)
            anybody = anybody or (chosen is None and record.__struct_config__.tag == "subscriber")
            if isinstance(record, EndRecord) and number and not anybody:
                raise SettingsError(
                    "The export has no subscribers, and a queue that is no log keeps nothing without: say which there "
                    "shall be; nothing was created."
                )
            yield record

    chosen = None if subscribers is None else check_subscribers(subscribers)
    target = absolute(path)
    if not load_local(target, check_settings(queue.settings), counted(), chosen):
        raise copying.exists(target)
    if progress is not None:
        progress(number)
    return Imported(number)


def import_messages(stream: BinaryIO, environment: Environment, *, progress: Progress | None = None) -> Imported:
    """Send the messages of an export to a queue, for all of its subscribers.

    They are sent anew: with ids and times of this queue. What has expired is left out; subscribers in the export are
    passed over. A batch of up to 500 messages (8 MiB) is stored wholly or not at all. Each message carries the
    deduplication id ``import/<identity of its queue>/<id>``, so after an interruption the same import goes on where it
    ended, within the queue's deduplication window.

    :param stream: what ``Control.export`` wrote, open for reading bytes
    :param environment: of the queue that gets the messages
    :param progress: is told the number of messages so far
    :raise MessageError: the export is cut off, or a line of it is none; earlier batches are stored
    :raise FormatVersionError: it was written by a newer version; nothing was stored
    :raise QueueFullError: the queue has no room; earlier batches are stored
    :raise OpenError: the queue cannot be opened; nothing was stored
    """
    queue, records = _read(stream)
    sent = known = expired = 0
    opener = opener_for(environment.location)
    with environment.new_publisher() as publisher, contextlib.closing(opener.open()) as engine:
        for batch in _batches(records):
            now = time.time_ns()
            drafts = [_draft(queue.identity, record, now) for record in batch if not 0 < record.expires_ns <= now]
            expired += len(batch) - len(drafts)
            fresh = engine.bounds()[1]
            repeated = sum(message_id < fresh for message_id in publisher.send_many(drafts))
            known += repeated
            sent += len(drafts) - repeated
            if progress is not None:
                progress(sent + known + expired)
    return Imported(sent, known, expired)


def _draft(identity: str, record: MessageRecord, now_ns: int) -> Draft:
    return Draft(
        record.data,
        headers=record.all_headers or None,
        topic=record.topic,
        delay=max(record.not_before_ns - now_ns, 0) / 1e9 or None,
        expires_in=(record.expires_ns - now_ns) / 1e9 if record.expires_ns else None,
        deduplication_id=f"import/{identity}/{record.id}",
    )


def _batches(records: Iterable[Record]) -> Iterator[list[MessageRecord]]:
    batch: list[MessageRecord] = []
    size = 0
    ended = False
    for record in records:
        ended = isinstance(record, EndRecord)
        if isinstance(record, MessageRecord):
            if batch and (len(batch) >= _BATCH or size + len(record.data) > _BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(record)
            size += len(record.data)
    if batch:
        yield batch
    if not ended:
        raise MessageError("The export is cut off: its last line is missing. What was there is stored.")


def _read(stream: BinaryIO) -> tuple[QueueRecord, Iterator[Record]]:
    """Return the record of the queue, and the others.

    :raise MessageError: a line is none
    :raise FormatVersionError: it was written by a newer version
    """
    decode = msgspec.json.Decoder(Record).decode

    def each() -> Iterator[Record]:
        for number, line in enumerate(stream, 2):
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                what = "the export is cut off there" if not line.endswith(b"\n") else str(error)
                raise MessageError(f"Line {number} is no line of an export: {what}.") from None

    try:
        head = msgspec.json.decode(first := stream.readline(), type=_Version)
        if head.version > RECORDS_VERSION:
            raise FormatVersionError(
                f"The export has version {head.version}, this version of persipubsub knows versions up to "
                f"{RECORDS_VERSION}: upgrade persipubsub; nothing was created."
            )
        queue = decode(first)
    except msgspec.MsgspecError as error:
        raise MessageError(f"This is no export of a queue: its first line says: {error}.") from None
    if not isinstance(queue, QueueRecord):
        raise MessageError("This is no export of a queue: its first line does not describe one.")
    return queue, each()


class _Version(msgspec.Struct):
    """The part of the first line that every version understands."""

    version: int
