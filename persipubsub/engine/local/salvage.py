"""Saving what can be read of a damaged queue: into records, from which a new one is made.

Only the bytes of the file are read, never through LMDB. What the trees still lead to comes first, of the newest meta
page and of the one before. Then every leaf page in the file is looked at for messages that a damaged branch has hidden.
Messages never change and carry a checksum over id, metadata and payload, so whatever agrees with it is genuine.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import msgspec

from persipubsub.engine.local import doubt, files, format
from persipubsub.engine.local.dumping import message_record
from persipubsub.engine.local.format import (
    AHEAD,
    DATA_DB,
    DEAD,
    DELAYED,
    LEASED,
    META_DB,
    OWN_DATA,
    QUEUE_DB,
    READY,
    REQUEUED,
    SUBSCRIBER_DB,
    State,
    Subscriber,
    unpack_id,
)
from persipubsub.engine.local.living import is_doomed
from persipubsub.engine.local.pages import Node, Pages
from persipubsub.engine.local.roster import settings_of
from persipubsub.engine.records import (
    DeadRecord,
    EndRecord,
    HoldRecord,
    MessageRecord,
    Record,
    StateRecord,
    SubscriberRecord,
)
from persipubsub.errors import QueueDamagedError, SettingsError
from persipubsub.limits import Retention, Settings, SubscriberSettings, check_settings, check_subscriber_settings
from persipubsub.names import encode_name

_Database = dict[bytes, Node]


class Salvage(msgspec.Struct, frozen=True, kw_only=True):
    """What was saved of a damaged queue, and what was not.

    :param messages: messages in the new queue or held by one of its subscribers
    :param lost: how many messages the damaged queue counted besides, at least
    :param lost_ids: those of them whose ids are known
    :param damages: what is wrong with the pages of the file
    :param notes: what else could not be read
    """

    messages: int
    lost: int
    lost_ids: tuple[int, ...]
    subscribers: tuple[str, ...]
    dead_letters: int
    damages: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Tell whether nothing was lost."""
        return not (self.lost or self.notes)


class Found:
    """What a damaged queue still holds."""

    def __init__(self, path: pathlib.Path) -> None:
        """Read everything but the payloads.

        :raise QueueDamagedError: nothing that a queue wrote can be read
        """
        self._descriptor = files.open_own(path / files.DATA, os.O_RDONLY)
        try:
            self._read(path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read(self, path: pathlib.Path) -> None:
        self.pages = Pages(self._descriptor)
        #: Message ids whose payload or metadata is gone.
        self.lost: list[int] = []
        self.notes: list[str] = []
        why = doubt.unsynced(path)
        if why is not None:
            self.notes.append(f"{why}: what was stored last before that may be missing without a trace")
        self.saved = 0
        self.dead = 0
        self._trees = [self.pages.databases(meta) for meta in self.pages.metas]
        queue = self._database(QUEUE_DB)
        self.state = self._state(queue)
        self.settings = self._settings(queue)
        self.subscribers = self._subscribers()
        self._messages: dict[int, tuple[list[Node], list[Node]]] = {}
        self._collect()
        if not queue and not self._messages:
            raise QueueDamagedError(f"Nothing can be read from {path / files.DATA} any more; restore a backup.")
        if not self.subscribers and self.settings.retention is not Retention.LOG:
            self.notes.append("no subscriber could be read: the new queue is a log, so that it keeps its messages")
            self.settings = self.settings.changed(retention=Retention.LOG)

    # -- the small databases -----------------------------------------------------------------------

    def _database(self, name: bytes) -> _Database:
        """Return the entries of a database, and of its last but one state if the last one is damaged."""
        found: _Database = {}
        shown = name.decode("utf-8", "replace")
        for number, tree in enumerate(self._trees):
            before = len(self.pages.damages)
            if name in tree:
                for node in self.pages.walk(tree[name], shown):
                    found.setdefault(node.key, node)
            elif not number:
                self.pages.damages.append(f"nothing leads to {shown} any more")
            if not number and len(self.pages.damages) == before:
                break  # it is whole: what the one before has besides was deleted since
        return found

    def _value(self, database: _Database, key: bytes) -> bytes | None:
        node = database.get(key)
        return None if node is None else self.pages.value(node)

    def _state(self, queue: _Database) -> State | None:
        try:
            return format.decode_state(self._value(queue, format.KEY_STATE) or b"")
        except msgspec.MsgspecError:
            self.notes.append("the state of the queue cannot be read")
            return None

    def _settings(self, queue: _Database) -> Settings:
        known: dict[str, Any] = {}
        for name in Settings.__struct_fields__:
            try:
                value = msgspec.msgpack.decode(self._value(queue, format.SETTING_PREFIX + name.encode()) or b"")
                msgspec.convert({name: value}, Settings)
                known[name] = value
            except msgspec.MsgspecError:
                self.notes.append(f"the setting {name} cannot be read; it has its default")
        try:
            return check_settings(msgspec.convert(known, Settings))
        except SettingsError as error:
            self.notes.append(f"the settings make no sense, all have their defaults: {error}")
            return Settings()

    def _subscribers(self) -> dict[str, Subscriber]:
        found = {}
        database = self._database(SUBSCRIBER_DB)
        for key in sorted(database):
            try:
                identifier = key.decode()
                encode_name(identifier, "identifier")
                record = format.decode_subscriber(self._value(database, key) or b"")
                check_subscriber_settings(settings_of(record))
            except (ValueError, msgspec.MsgspecError):
                self.notes.append(f"subscriber {key!r} cannot be read")
                continue
            if record.ephemeral is None:
                found[identifier] = record
        if self.state is not None and self.state.subscribers > len(found) + self.state.ephemerals:
            self.notes.append(f"{self.state.subscribers - len(found)} subscribers cannot be read")
        return found

    # -- messages ----------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Find where payloads and metadata stand, by message id."""
        before = len(self.pages.damages)
        data, meta = self._database(DATA_DB), self._database(META_DB)
        self.next_id = 1 if self.state is None else self.state.next_id
        for number, database in enumerate((data, meta)):
            for key, node in database.items():
                self._note(key, node, number)
        if len(self.pages.damages) > before or not self._trees:
            self._scan()
        if self._messages:
            self.next_id = max(self.next_id, max(self._messages) + 1)

    def _note(self, key: bytes, node: Node, which: int) -> None:
        message_id = unpack_id(key) if len(key) == 8 else 0
        if self.state is not None and is_doomed(self.state, message_id):
            return  # a limit took it
        if 0 < message_id < 2**63:
            self._messages.setdefault(message_id, ([], []))[which].append(node)

    def _scan(self) -> None:
        """Look at every leaf page for messages that somebody may need and that nothing leads to any more."""
        low = min((record.position for record in self.subscribers.values()), default=0)
        if self.settings.retention is Retention.LOG:
            low = 0
        held = {
            unpack_id(key, 1)
            for identifier in self.subscribers
            for key in self._database(format.subscriber_db(identifier.encode()))
            if key[:1] in (LEASED, READY, DELAYED) and len(key) == 9
        }
        end = 2**63 if self.state is None else self.state.next_id
        known = {message_id for message_id, (data, meta) in self._messages.items() if data and meta}
        for node in self.pages.every_leaf_node():
            if len(node.key) == 8:
                message_id = unpack_id(node.key)
                if message_id not in known and (low <= message_id < end or message_id in held):
                    # Whether it is a payload or metadata, the checksum tells.
                    self._note(node.key, node, 0)
                    self._note(node.key, node, 1)

    def _message(self, message_id: int) -> MessageRecord | None:
        payloads, metas = self._messages[message_id]
        for meta in metas:
            stored = self.pages.value(meta) if meta.size < 1 << 20 else None
            for payload in payloads if stored else ():
                record = _genuine(message_id, stored, self.pages.value(payload))
                if record is not None:
                    return record
        return None

    # -- all of it ---------------------------------------------------------------------------------

    def records(self) -> Iterator[Record]:
        """Give everything that can be read; afterwards ``lost``, ``saved``, ``dead`` and the notes are complete."""
        for message_id in sorted(self._messages):
            record = self._message(message_id)
            if record is None:
                self.lost.append(message_id)
            else:
                self.saved += 1
                yield record
        yield StateRecord(next_id=self.next_id)
        for identifier, subscriber in self.subscribers.items():
            yield from self._subscriber(identifier, subscriber)
        yield EndRecord()

    def report(self) -> Salvage:
        """Say what was saved; after ``records`` was read to its end."""
        counted = 0 if self.state is None else self.state.messages
        return Salvage(
            messages=self.saved,
            lost=max(counted - self.saved, len(self.lost), 0),
            lost_ids=tuple(self.lost),
            subscribers=tuple(self.subscribers),
            dead_letters=self.dead,
            damages=tuple(dict.fromkeys(self.pages.damages)),
            notes=tuple(self.notes),
        )

    def _subscriber(self, identifier: str, record: Subscriber) -> Iterator[Record]:
        database = self._database(format.subscriber_db(identifier.encode()))
        by_kind: dict[bytes, list[int]] = {}
        for key in sorted(database):
            if len(key) == 9:
                by_kind.setdefault(key[:1], []).append(unpack_id(key, 1))
        yield SubscriberRecord(
            identifier=identifier,
            position=min(record.position, self.next_id),
            paused=record.paused,
            settings=_lasting(settings_of(record)),
            ahead=by_kind.get(AHEAD, []),
        )
        given: set[int] = set()
        for kind in (LEASED, READY, DELAYED):
            for message_id in by_kind.get(kind, []):
                hold = None if message_id in given else self._hold(database, kind, message_id, identifier)
                if hold is not None:
                    given.add(message_id)
                    yield hold
        for message_id in by_kind.get(DEAD, []):
            dead = self._dead(database, message_id, identifier)
            if dead is not None:
                self.dead += 1
                yield dead

    def _hold(self, database: _Database, kind: bytes, message_id: int, identifier: str) -> HoldRecord | None:
        key = format.pack_id(message_id)
        try:
            hold = format.decode_hold(self._value(database, kind + key) or b"")
        except msgspec.MsgspecError:
            self.notes.append(f"what subscriber {identifier!r} noted of message {message_id} cannot be read")
            hold = format.Hold()
        if hold.top:
            return None
        own = None
        if hold.own_copy:
            own = _genuine(message_id, self._value(database, REQUEUED + key), self._value(database, OWN_DATA + key))
            if own is None:
                self.notes.append(f"the requeued message {message_id} of subscriber {identifier!r} is lost")
                return None
        return HoldRecord(
            id=message_id,
            count=hold.count,
            first_received_ns=hold.first_received_ns,
            due_ns=hold.due_ns if kind == DELAYED else 0,
            error=hold.error,
            message=own,
        )

    def _dead(self, database: _Database, message_id: int, identifier: str) -> DeadRecord | None:
        key = format.pack_id(message_id)
        try:
            dead = format.decode_dead(self._value(database, DEAD + key) or b"")
        except msgspec.MsgspecError:
            dead = None
        message = None if dead is None else _genuine(message_id, dead.meta, self._value(database, OWN_DATA + key))
        if dead is None or message is None:
            self.notes.append(f"the dead letter {message_id} of subscriber {identifier!r} is lost")
            return None
        return DeadRecord(message=message, died_ns=dead.died_ns, count=dead.count, reason=dead.reason)


def _genuine(message_id: int, stored: bytes | None, data: bytes | None) -> MessageRecord | None:
    """Return the record of a message if it agrees with its checksum."""
    if stored is None or data is None or not format.is_intact(message_id, stored, data):
        return None
    try:
        return message_record(message_id, stored, data)
    except (ValueError, msgspec.MsgspecError):
        return None


def _lasting(settings: SubscriberSettings) -> SubscriberSettings:
    return msgspec.structs.replace(settings, ephemeral=False)
