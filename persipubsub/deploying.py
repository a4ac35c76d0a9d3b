"""What a deployment asks for: checked, carried out, and compared with what stands."""

from collections.abc import Iterable, Mapping
from typing import Any

from persipubsub.connection import Connection
from persipubsub.engine.base import Engine
from persipubsub.errors import IdentifierError, SettingsError, SettingsMismatchError, UnknownSubscriberError
from persipubsub.limits import Settings, SubscriberSettings, check_subscriber_settings
from persipubsub.names import encode_name

SubscriberIds = Iterable[str] | Mapping[str, SubscriberSettings]
"""The subscribers of a queue: identifiers, or a mapping from identifiers to settings."""


def known_subscriber(engine: Engine, identifier: str) -> SubscriberSettings:
    """Return the settings of a subscriber.

    :raise UnknownSubscriberError: there is no such subscriber; the message lists those that there are
    """
    encode_name(identifier, "identifier")
    subscribers = engine.subscribers()
    try:
        return subscribers[identifier]
    except KeyError:
        names = ", ".join(map(repr, sorted(subscribers))) or "none"
        raise UnknownSubscriberError(
            f"There is no subscriber {identifier!r}; the queue has: {names}. Add it with Control.add_subscriber()."
        ) from None


def given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not ``None``."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_subscribers(subscriber_ids: SubscriberIds) -> dict[str, SubscriberSettings]:
    """Check identifiers and settings and return them as a dictionary.

    :raise IdentifierError: an identifier breaks the rules
    :raise SettingsError: a setting makes no sense
    """
    if isinstance(subscriber_ids, (str, bytes)) or not isinstance(subscriber_ids, Iterable):
        raise IdentifierError(f"subscriber_ids must be a set, list or mapping of str, but is {subscriber_ids!r}.")
    names = list(subscriber_ids)
    for name in names:
        encode_name(name, "identifier")
    if not isinstance(subscriber_ids, Mapping):
        return dict.fromkeys(names, SubscriberSettings())
    for name, settings in subscriber_ids.items():
        if not isinstance(settings, SubscriberSettings):
            raise SettingsError(f"The settings of {name!r} must be a SubscriberSettings, but are {settings!r}.")
        check_subscriber_settings(settings)
    return dict(subscriber_ids)


def deploy(connection: Connection, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
    """Create the queue with its subscribers, wholly or not at all; return False if it existed."""
    lasting = {identifier: subscriber for identifier, subscriber in subscribers.items() if not subscriber.ephemeral}
    if not connection.opener.create(settings, lasting):
        return False
    if len(lasting) != len(subscribers):
        # An ephemeral subscriber belongs to an open environment.
        add_missing(connection.engine(), subscribers)
    return True


def add_missing(engine: Engine, subscribers: Mapping[str, SubscriberSettings]) -> None:
    """Add the subscribers that do not exist, to get what comes next."""
    stored = engine.subscribers()
    for identifier, settings in subscribers.items():
        if identifier not in stored:
            engine.add_subscriber(identifier, settings, "latest")


def check_same(
    connection: Connection,
    changes: Mapping[str, Any],
    asked: Mapping[str, SubscriberSettings] | None,
    *,
    with_settings: bool,
) -> None:
    """Compare what is asked for with what is stored; an ephemeral subscriber may be there besides.

    :raise SettingsMismatchError: names the differences
    """
    engine = connection.engine()
    stored = engine.settings()
    differences = [
        f"{name} is {_plain(getattr(stored, name))}, not {_plain(value)}"
        for name, value in changes.items()
        if getattr(stored, name) != value
    ]
    if asked is not None:
        there = engine.subscribers()
        missing = sorted(asked.keys() - there.keys())
        besides = sorted(name for name in there.keys() - asked.keys() if not there[name].ephemeral)
        if missing:
            differences.append(f"it has no subscriber {', '.join(map(repr, missing))}")
        if besides:
            differences.append(f"it has the subscriber {', '.join(map(repr, besides))} besides")
        if with_settings:
            differences.extend(
                difference
                for name in sorted(asked.keys() & there.keys())
                for difference in _subscriber_differences(name, asked[name], there[name])
            )
    if differences:
        raise SettingsMismatchError(
            f"The queue at {connection.location} exists with other settings: {'; '.join(differences)}. Open it with "
            "new_control() without arguments and change it with configure(), add_subscriber() or remove_subscriber()."
        )


def check_same_subscriber(
    location: str, identifier: str, asked: SubscriberSettings, stored: SubscriberSettings
) -> None:
    """Compare the settings of a subscriber.

    :raise SettingsMismatchError: names the differences
    """
    differences = _subscriber_differences(identifier, asked, stored)
    if differences:
        raise SettingsMismatchError(
            f"The queue at {location} has the subscriber with other settings: {'; '.join(differences)}. "
            "Change them with configure_subscriber()."
        )


def _subscriber_differences(identifier: str, asked: SubscriberSettings, stored: SubscriberSettings) -> list[str]:
    return [
        f"{name} of {identifier!r} is {getattr(stored, name)!r}, not {getattr(asked, name)!r}"
        for name in SubscriberSettings.__struct_fields__
        if getattr(asked, name) != getattr(stored, name)
    ]


def _plain(value: object) -> str:
    return repr(getattr(value, "value", value))
