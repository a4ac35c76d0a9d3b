"""Where a relayed message has been: a header that it carries, one step for each queue that it was relayed from.

::

    persipubsub-relay: <identity of the queue>/<id there> <identity of the next queue>/<id there> ...
    persipubsub-sent:  when it was sent first, ISO 8601

The first step is its origin; the last one, the queue and the id that the last relay took it from.
"""

import datetime
from typing import Final

import msgspec

from persipubsub.message import Headers

#: The steps, oldest first, separated by spaces.
TRAIL: Final = "persipubsub-relay"
#: When the message was sent to the first queue.
SENT: Final = "persipubsub-sent"


class Step(msgspec.Struct, frozen=True):
    """A message of a queue; as text also the deduplication id under which it is forwarded.

    >>> str(Step("5f0c", 17))
    '5f0c/17'
    """

    identity: str
    id: int

    def __str__(self) -> str:
        return f"{self.identity}/{self.id}"


def steps_of(headers: Headers) -> list[Step]:
    """Return the steps that a message has behind it; what is no step, but somebody's own text, counts as none.

    >>> steps_of({TRAIL: "5f0c/17 88a1/3"})
    [Step(identity='5f0c', id=17), Step(identity='88a1', id=3)]
    """
    value = headers.get(TRAIL)
    steps: list[Step] = []
    for word in value.split() if isinstance(value, str) else ():
        identity, _, number = word.rpartition("/")
        if not identity or not (number.isascii() and number.isdigit()):
            return []
        steps.append(Step(identity, int(number)))
    return steps


def extended(headers: Headers, step: Step, sent: datetime.datetime) -> dict[str, str | bytes]:
    """Return the headers that a message is forwarded with."""
    behind = " ".join([*map(str, steps_of(headers)), str(step)])
    return {SENT: sent.isoformat(), **headers, TRAIL: behind}
