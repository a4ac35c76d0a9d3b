"""What JetStream does not remember about a message that came back: why, until when, and what did not count.

A note is written before the message is given back, and deleted when the message is settled. It is looked up only for
messages that are delivered again.
"""

import asyncio
from collections.abc import Iterable

import msgspec
from nats.js import errors as js_errors

from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.translate import MESSAGE_NOT_FOUND, code_of


class Note(msgspec.Struct, frozen=True):
    """What is known about a message besides what the server knows.

    ``uncounted`` deliveries never reached a caller; ``due_ns`` is on the wall clock, 0 for no delay;
    ``held`` tells that the message was taken once more since it came back.
    """

    uncounted: int = 0
    last_error: str | None = None
    first_received_ns: int = 0
    due_ns: int = 0
    held: bool = False
    exists: bool = False


NO_NOTE = Note()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note)


class Notes:
    """The notes of a queue; everything here runs on the loop."""

    def __init__(self, link: Link, names: Names) -> None:
        """Read nothing yet."""
        self._link = link
        self._names = names

    async def read(self, identifier: str, message_id: int) -> Note:
        """Return the note about a message."""
        return await self._read(self._names.note(identifier, message_id))

    async def read_all(self, identifier: str) -> list[Note]:
        """Return all notes of a subscriber."""
        return list(await asyncio.gather(*map(self._read, await self.subjects(identifier))))

    async def subjects(self, identifier: str) -> list[str]:
        """Return the subjects of all notes of a subscriber."""
        return await subjects_like(self._link, self._names.state, self._names.note(identifier, "*"))

    async def write(self, identifier: str, message_id: int, note: Note) -> None:
        """Store a note in the place of the one before."""
        subject = self._names.note(identifier, message_id)
        stored = msgspec.structs.replace(note, exists=True)
        await self._link.manage(lambda js: js.publish(subject, _encode(stored), stream=self._names.state))

    async def forget(self, identifier: str, message_ids: Iterable[int | str]) -> None:
        """Delete notes; ``"*"`` stands for all of a subscriber."""
        await asyncio.gather(*[self._forget(self._names.note(identifier, each)) for each in message_ids])

    async def _forget(self, subject: str) -> None:
        await self._link.manage(lambda js: js.purge_stream(self._names.state, subject=subject))

    async def _read(self, subject: str) -> Note:
        try:
            found = await self._link.manage(lambda js: js.get_last_msg(self._names.state, subject))
        except js_errors.APIError as error:
            if code_of(error) == MESSAGE_NOT_FOUND:
                return NO_NOTE
            raise
        return _decode.decode(found.data or b"{}")


async def subjects_like(link: Link, stream: str, pattern: str) -> list[str]:
    """Return the subjects of a stream that match a pattern and have messages."""
    info = await link.manage(lambda js: js.stream_info(stream, subjects_filter=pattern))
    return sorted(info.state.subjects or {})
