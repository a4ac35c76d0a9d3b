"""The operations that any process can carry out for another: each is a record, and what it does in a transaction.

Most writes are closures, which stay in the process that makes them. Sending, taking and acknowledging are records
instead, so that a process that finds another one writing can hand them over (see ``posts``).
"""

import msgspec

from persipubsub.engine import events
from persipubsub.engine.local import format, returning, settle, take
from persipubsub.engine.local.format import OWNER, pack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Delivery, Entry, Receipt


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """What a take gives."""

    deliveries: list[Delivery]
    #: There may be more behind what was walked over.
    more: bool
    #: The number of the subscriber.
    number: int


class Taking(msgspec.Struct, frozen=True, array_like=True, tag="take"):
    """Settle, then take, for an owner who may be another process's."""

    identifier: str
    owner: int
    #: The owner's record, and the number of the subscriber that has it already.
    introduction: bytes
    known_to: int
    look_for_deaths: bool
    most: int
    lease: take.Lease
    receipts: tuple[Receipt, ...] = ()

    def run(self, work: Work) -> Taken:
        """Carry it out; what is taken was not handed over yet."""
        desk = Desk(work, self.identifier)
        if self.receipts:
            settle.settle(desk, self.receipts)
        return self.run_step(desk, self.usual)

    def usual(self, desk: Desk) -> list[Delivery]:
        """Take in the usual way."""
        return take.take(desk, self.most, self.lease)

    def run_step(self, desk: Desk, step: take.Step) -> Taken:
        """Take by ``step``, looking for messages of dead owners before, or when there is nothing else."""
        record = desk.record
        if record.number != self.known_to:
            desk.txn.put(OWNER + pack_id(self.owner), self.introduction, db=desk.db)
            desk.work.touched = True
        if self.look_for_deaths and record.leased:
            take_over_from_dead(desk, self.owner)
        taken = step(desk)
        if not taken and not self.look_for_deaths and record.leased and take_over_from_dead(desk, self.owner):
            taken = step(desk)
        desk.save()
        return Taken(taken, record.position < desk.work.state.next_id and not record.paused, record.number)


def take_over_from_dead(desk: Desk, me: int) -> bool:
    """Give back what dead owners held; tell whether there were any."""
    is_alive = desk.work.store.is_alive
    dead = [owner for owner in desk.owners() if owner != me and not is_alive(owner)]
    if dead:
        records = {owner: desk.txn.get(OWNER + pack_id(owner), b"", desk.db) for owner in dead}
        who = {owner: format.decode_owner(record) for owner, record in records.items() if record}
        for owner, held in returning.take_over(desk, dead).items():
            pid, command = (who[owner].pid, who[owner].command) if owner in who else (0, "unknown")
            desk.work.events.append(events.took_over(desk.identifier, pid, command, held))
    return bool(dead)


class Settling(msgspec.Struct, frozen=True, array_like=True, tag="settle"):
    """Acknowledge takes."""

    identifier: str
    receipts: tuple[Receipt, ...]

    def run(self, work: Work) -> None:
        """Carry it out.

        :raise LeaseLostError: one of them is not held any more
        """
        desk = Desk(work, self.identifier)
        settle.settle(desk, self.receipts)
        desk.save()


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A message to be sent: as ``Entry``, but always with plain bytes."""

    data: bytes
    headers: bytes
    topic: str | None
    delay_ns: int
    expires_in_ns: int | None
    deduplication_id: bytes | None


class Sending(msgspec.Struct, frozen=True, array_like=True, tag="send"):
    """Store messages."""

    messages: list[Sent]

    def run(self, work: Work) -> list[int]:
        """Carry it out and return the ids."""
        return Publication(
            [
                Entry(
                    sent.data,
                    len(sent.data),
                    sent.headers,
                    sent.topic,
                    sent.delay_ns,
                    sent.expires_in_ns,
                    sent.deduplication_id,
                )
                for sent in self.messages
            ]
        ).put(work)


Operation = Taking | Settling | Sending


def sending(publication: Publication) -> Sending:
    """Return a publication as a record."""
    return Sending(
        [
            Sent(
                bytes(entry.data),
                entry.headers,
                entry.topic,
                entry.delay_ns,
                entry.expires_in_ns,
                entry.deduplication_id,
            )
            for entry in publication.entries
        ]
    )
