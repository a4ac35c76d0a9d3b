"""What becomes of messages on their way: which are sent, how, and which are not."""

import datetime
from collections.abc import Collection, Sequence

from persipubsub.message import Draft, Message
from persipubsub.relay.trail import Step, extended, steps_of


class Outgoing:
    """A part of a batch, ready to be sent to the target in one transaction."""

    def __init__(self, messages: Sequence[Message[bytes]], source: str, target: str, arrived: Collection[int]) -> None:
        """Sort out what is not to be sent.

        :param source: identity of the queue that they were taken from
        :param target: identity of the queue that they go to
        :param arrived: ids of those that the target has already
        """
        self.drafts: list[Draft] = []
        self.payload = 0
        self.repeated = 0
        self.turned_back = 0
        self.expired = 0
        now = datetime.datetime.now(datetime.UTC)
        for message in messages:
            if message.id in arrived:
                self.repeated += 1
            elif any(step.identity == target for step in steps_of(message.headers)):
                self.turned_back += 1
            else:
                self._add(message, Step(source, message.id), now)

    def _add(self, message: Message[bytes], step: Step, now: datetime.datetime) -> None:
        expires_in = None
        if message.expires is not None:
            expires_in = (message.expires - now).total_seconds()
            if expires_in <= 0:
                self.expired += 1
                return
        self.drafts.append(
            Draft(
                message.data,
                headers=extended(message.headers, step, message.sent),
                topic=message.topic,
                expires_in=expires_in,
                deduplication_id=str(step),
            )
        )
        self.payload += message.size
