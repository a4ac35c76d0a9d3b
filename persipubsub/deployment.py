"""Compare a deployment file with what is on disk, and make the disk like the file."""

import contextlib
import enum
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import msgspec

from persipubsub.configfile.reading import Config, QueueConfig, child
from persipubsub.engine.opening import opener_for
from persipubsub.environment import Environment
from persipubsub.errors import ConfigError, OpenError, QueueNotFoundError
from persipubsub.limits import HighWaterMark, Settings, SubscriberSettings
from persipubsub.manager import QueueManager


class Action(enum.Enum):
    """What a deployment does with a queue or a subscriber."""

    CREATE = "create"
    CHANGE = "change"
    UNCHANGED = "unchanged"
    REMOVE = "remove"
    """It is not in the file, and is removed."""
    WOULD_REMOVE = "would remove"
    """It is not in the file, and is left alone: only a deployment with ``prune`` removes."""


class Row(msgspec.Struct, frozen=True):
    """One line of a plan.

    :param action: what is done
    :param queue: name of the queue; for one that is not in the file, of its directory
    :param subscriber: identifier; ``None`` for the queue itself
    :param details: what changes, in words
    :param path: directory of the queue, or its URL
    """

    action: Action
    queue: str
    path: pathlib.Path
    subscriber: str | None = None
    details: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON can hold it.

        :raise OpenError: the path is none; that of a plan is one
        """
        return {
            "action": self.action.value,
            "queue": self.queue,
            "subscriber": self.subscriber,
            "details": list(self.details),
            "path": opener_for(self.path).location,
        }


class Plan(msgspec.Struct, frozen=True):
    """What a deployment does, or has done."""

    rows: tuple[Row, ...]

    @property
    def differs(self) -> bool:
        """Tell whether anything is to be done."""
        return any(row.action not in (Action.UNCHANGED, Action.WOULD_REMOVE) for row in self.rows)


def plan(config: Config, *, prune: bool = False) -> Plan:
    """Return what deploying ``config`` would do; nothing is changed.

    :param prune: plan to remove what is not in the file
    :raise OpenError: something else than a usable queue is where one is to be
    """
    rows: list[Row] = []
    for name, queue in config.queues.items():
        rows += _plan_queue(name, queue, prune)
    gone = Action.REMOVE if prune else Action.WOULD_REMOVE
    rows += [Row(gone, path.name, path) for path in _unlisted_queues(config)]
    return Plan(tuple(rows))


def deploy(config: Config, *, dry_run: bool = False, prune: bool = False) -> Plan:
    """Make the queues on disk as ``config`` says, and return what was done.

    Deploying again does nothing. The plan is made and checked before the first change. Nothing is
    deleted without ``prune``; with it, subscribers that are not listed go, and so do queues directly
    under the root that are not listed. The queues are changed one after the other, each wholly or not at
    all; a deployment that is killed, or stopped by a queue that is busy, is completed by the next one.

    :param dry_run: change nothing
    :param prune: remove what is not in the file
    :raise OpenError: something else than a usable queue is where one is to be
    :raise QueueError: a queue cannot be changed now, as its durability while others have it open
    """
    result = plan(config, prune=prune)
    if dry_run:
        return result
    rows: dict[pathlib.Path, list[Row]] = {}
    for row in result.rows:
        rows.setdefault(row.path, []).append(row)
    for name, queue in config.queues.items():
        is_new = rows[queue.path][0].action is Action.CREATE
        if not is_new:
            _change(queue, rows[queue.path])
        elif not _create(queue):
            # Another deployment came first.
            _change(queue, _plan_queue(name, queue, prune))
    for row in result.rows:
        if row.subscriber is None and row.action is Action.REMOVE:
            QueueManager(row.path.parent).delete(row.path.name)
    return result


# -- planning -------------------------------------------------------------------------------------


def _plan_queue(name: str, queue: QueueConfig, prune: bool) -> list[Row]:
    try:
        settings, subscribers, bounds = _stored(queue.path)
    except QueueNotFoundError:
        if not queue.on_engine:
            _check_free(queue.path)
        opener_for(queue.path).check(queue.settings)
        for identifier in queue.subscribers:
            _check_start(name, queue, identifier, (1, 1))
        return [
            Row(Action.CREATE, name, queue.path),
            *(Row(Action.CREATE, name, queue.path, identifier) for identifier in queue.subscribers),
        ]
    changes = _differences(_as_dict(settings), _as_dict(_wanted(queue, settings)))
    if changes:
        opener_for(queue.path).check(_wanted(queue, settings))
    rows = [Row(Action.CHANGE if changes else Action.UNCHANGED, name, queue.path, details=changes)]
    for identifier, subscriber in queue.subscribers.items():
        if identifier not in subscribers:
            _check_start(name, queue, identifier, bounds)
            rows.append(Row(Action.CREATE, name, queue.path, identifier))
            continue
        changes = _differences(_as_dict(subscribers[identifier]), _as_dict(subscriber.settings))
        rows.append(Row(Action.CHANGE if changes else Action.UNCHANGED, name, queue.path, identifier, changes))
    gone = Action.REMOVE if prune else Action.WOULD_REMOVE
    for identifier, stored in subscribers.items():
        # An ephemeral one belongs to a running program, and goes with it.
        if identifier not in queue.subscribers and not stored.ephemeral:
            rows.append(Row(gone, name, queue.path, identifier))
    return rows


def _stored(path: pathlib.Path) -> tuple[Settings, dict[str, SubscriberSettings], tuple[int, int]]:
    """Return settings and subscribers of a queue, its oldest id and its next one."""
    with contextlib.closing(opener_for(path).open()) as engine:
        return engine.settings(), engine.subscribers(), engine.bounds()


def _check_start(name: str, queue: QueueConfig, identifier: str, bounds: tuple[int, int]) -> None:
    """Refuse, before anything is changed, a start that the queue does not retain.

    :raise ConfigError: it does not
    """
    start = queue.subscribers[identifier].start
    if isinstance(start, int) and not bounds[0] <= start <= bounds[1]:
        raise ConfigError(
            f"{child(child('$.queues', name) + '.subscribers', identifier)}.start: The message {start} is not in the "
            f"queue, which has those from {bounds[0]} on and gives {bounds[1]} next; start within these, or at 'first'."
        )


def _check_free(path: pathlib.Path) -> None:
    """Refuse to create a queue below something that is not a directory.

    :raise OpenError: it is below a file
    """
    for folder in path.parents:
        if not os.path.lexists(folder):
            continue  # looked at first: somebody may create it at this moment
        if folder.is_dir():
            return
        raise OpenError(f"{path} cannot be created: {folder} is not a directory; give the queue another path.")


def _wanted(queue: QueueConfig, stored: Settings) -> Settings:
    """Return the settings of the file; what a file does not decide stays as it is stored."""
    return msgspec.structs.replace(queue.settings, map_size=stored.map_size)


def _as_dict(settings: Settings | SubscriberSettings) -> dict[str, Any]:
    result = {}
    for name, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, HighWaterMark):
            for limit in ("message_timeout", "max_messages", "max_bytes"):
                result[f"{name}.{limit}"] = getattr(value, limit)
        else:
            result[name] = value.value if isinstance(value, enum.Enum) else value
    return result


def _differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}: {_show(old[name])} -> {_show(new[name])}" for name in old if old[name] != new[name])


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def _unlisted_queues(config: Config) -> list[pathlib.Path]:
    """Return the queues of ours directly under the root that the file does not list."""
    listed = {os.path.realpath(queue.path) for queue in config.queues.values() if not queue.on_engine}
    try:
        folders = sorted(config.root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    result = []
    for folder in folders:
        # Not behind a link: what it leads to need not belong to this root. Not hidden: that is somebody's work.
        if (
            folder.name.startswith(".")
            or folder.is_symlink()
            or not folder.is_dir()
            or os.path.realpath(folder) in listed
        ):
            continue
        if any(os.path.realpath(folder) == os.path.commonpath((os.path.realpath(folder), path)) for path in listed):
            continue
        if _is_queue(folder):
            result.append(folder)
    return result


def _is_queue(folder: pathlib.Path) -> bool:
    try:
        _stored(folder)
    except OpenError:
        return False
    return True


# -- applying -------------------------------------------------------------------------------------


def _create(queue: QueueConfig) -> bool:
    """Create a queue with its subscribers; return False if somebody else has just done so."""
    subscribers = {identifier: subscriber.settings for identifier, subscriber in queue.subscribers.items()}
    return opener_for(queue.path).create(queue.settings, subscribers)


def _change(queue: QueueConfig, rows: Sequence[Row]) -> None:
    """Carry out the rows about one queue that exists."""
    todo = [row for row in rows if row.action in (Action.CREATE, Action.CHANGE, Action.REMOVE)]
    if not todo:
        return
    # Subscribers first: what they need must not go with a retention or a limit that changes.
    todo.sort(key=lambda row: row.subscriber is None)
    with Environment(queue.path) as environment, environment.new_control() as control:
        for row in todo:
            if row.subscriber is None:
                wanted = _wanted(queue, control.settings)
                control.configure(**msgspec.structs.asdict(wanted))
            elif row.action is Action.REMOVE:
                control.remove_subscriber(row.subscriber)
            else:
                subscriber = queue.subscribers[row.subscriber]
                settings = msgspec.structs.asdict(subscriber.settings)
                if row.action is Action.CREATE:
                    control.add_subscriber(row.subscriber, subscriber.start, **settings)
                else:
                    control.configure_subscriber(row.subscriber, **settings)
