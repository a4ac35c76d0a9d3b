"""What engines refuse in the same words."""

from collections.abc import Iterable

import msgspec

from persipubsub.errors import PositionError, QueueNotFoundError, SettingsMismatchError, UnknownSubscriberError
from persipubsub.limits import SubscriberSettings

#: Subscribers that an error lists, at most.
_MOST_NAMED = 20


def not_found(location: str) -> QueueNotFoundError:
    """Return the error for a location where nothing is deployed."""
    return QueueNotFoundError(
        f"No queue is deployed at {location}. Deploy one with "
        f"Environment({location!r}).new_control(subscriber_ids=...) or with `persipubsub deploy`."
    )


def unknown_subscriber(identifier: str, known: Iterable[str], queue: str = "The queue") -> UnknownSubscriberError:
    """Return the error about a subscriber that a queue does not have.

    :param queue: what the message calls the queue, at the beginning of a sentence
    """
    names = sorted(known)
    listed = ", ".join(map(repr, names[:_MOST_NAMED])) or "none at all"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return UnknownSubscriberError(
        f"{queue} has no subscriber {identifier!r}; it has {listed}{more}. Add it with Control.add_subscriber()."
    )


def check_same(
    identifier: str, stored: SubscriberSettings, asked: SubscriberSettings, queue: str = "the queue"
) -> None:
    """Compare the settings of a subscriber with those that it is to be added with.

    :param queue: what the message calls the queue
    :raise SettingsMismatchError: names the differences
    """
    old, new = msgspec.structs.asdict(stored), msgspec.structs.asdict(asked)
    different = [f"{name} is {old[name]!r}, not {new[name]!r}" for name in old if old[name] != new[name]]
    if different:
        raise SettingsMismatchError(
            f"Subscriber {identifier!r} of {queue} exists with other settings: {', '.join(different)}. Change it with "
            "Control.configure_subscriber(), or remove it first."
        )


def check_ephemeral(identifier: str, stored: SubscriberSettings, asked: SubscriberSettings) -> None:
    """Refuse to change whether a subscriber is ephemeral.

    :raise SettingsMismatchError: it would change
    """
    if asked.ephemeral != stored.ephemeral:
        raise SettingsMismatchError(
            f"Subscriber {identifier!r} cannot become {'' if asked.ephemeral else 'not '}ephemeral; remove it, and add "
            "it anew."
        )


def check_position(position: object, first: int, following: int, queue: str = "The queue") -> int:
    """Return ``position`` if a subscriber can stand there.

    :param queue: what the message calls the queue, at the beginning of a sentence
    :param first: the oldest id that is retained
    :param following: the id that the next message gets
    :raise PositionError: it cannot
    """
    if isinstance(position, bool) or not isinstance(position, int):
        raise PositionError(f"A position is 'first', 'latest' or a message id, not {position!r}.")
    if not first <= position <= following:
        raise PositionError(
            f"{queue} retains no message {position}; choose an id from {first} (the oldest) to {following} (the next "
            "message)."
        )
    return position
