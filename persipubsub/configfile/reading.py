"""Read a deployment file without trusting it.

Whatever the file says wrong becomes a :class:`~persipubsub.errors.ConfigError` that starts with the
path of the field, such as ``$.queues.frames.high_water_mark.max_messages``.
"""

import json
import math
import os
import pathlib
import re
from typing import Any, Final, TypeVar

import msgspec

from persipubsub import limits
from persipubsub.configfile.engines import engine_path
from persipubsub.configfile.schema import ConfigFile, HighWaterMarkFile, QueueFile, SubscriberFile
from persipubsub.errors import ConfigError, IdentifierError, SettingsError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings
from persipubsub.names import encode_name
from persipubsub.paths import absolute

#: A larger file is refused unread.
MAX_FILE_BYTES: Final = 16 * 1024**2
#: Commas and brackets; more would be expensive to parse, and no deployment has so many fields.
MAX_MARKS: Final = 200_000
#: Objects and lists in one another; the shape below needs six.
MAX_DEPTH: Final = 32


# -- the checked value ----------------------------------------------------------------------------


class SubscriberConfig(msgspec.Struct, frozen=True):
    """A subscriber as it is to be deployed."""

    settings: SubscriberSettings
    start: str | int


class QueueConfig(msgspec.Struct, frozen=True):
    """A queue as it is to be deployed; ``path`` is absolute, or the URL of a queue on another ``engine``."""

    path: pathlib.Path
    settings: Settings
    subscribers: dict[str, SubscriberConfig]
    on_engine: bool = False


class Config(msgspec.Struct, frozen=True):
    """A checked deployment file; ``file`` and ``root`` are absolute."""

    file: pathlib.Path
    root: pathlib.Path
    queues: dict[str, QueueConfig]


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check the deployment file at ``path``; nothing on disk is changed.

    :raise ConfigError: the file or something in it is wrong; the message starts with the path of the field
    """
    file = pathlib.Path(path)
    tree = _parse(_read(file), file)
    _check_tree(tree, "$", 0)
    if not isinstance(tree, dict):
        raise ConfigError(f'$: Expected an object such as {{"queues": {{}}}}, but {file} holds {_kind(tree)}.')
    queue_trees = tree.get("queues", {})
    if isinstance(queue_trees, dict):
        tree = {**tree, "queues": {}} if "queues" in tree else tree
    document = _convert(tree, ConfigFile, "$")
    folder = absolute(file).parent
    root = _root(folder, document.root)
    queues = {name: _queue(queue_tree, name, root, folder) for name, queue_tree in queue_trees.items()}
    _check_paths(queues)
    return Config(file=folder / file.name, root=root, queues=queues)


def queue_config(config: Config, name: str) -> QueueConfig:
    """Return the queue called ``name``.

    :param config: what ``load`` returned
    :param name: of the queue
    :raise ConfigError: the file has no such queue; the message lists those it has
    """
    try:
        return config.queues[name]
    except KeyError:
        known = ", ".join(config.queues) or "none"
        raise ConfigError(f"$.queues: There is no queue {name!r} in {config.file}; it has: {known}.") from None


def queue_path(config: Config, name: str) -> pathlib.Path:
    """Return the directory of the queue called ``name``, or its URL; it need not be deployed yet.

    :param config: what ``load`` returned
    :param name: of the queue
    :raise ConfigError: the file has no such queue; the message lists those it has
    """
    return queue_config(config, name).path


# -- reading --------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that remembers a key which stands in it twice."""

    repeated: str | None = None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                result.repeated = key
                break
            seen.add(key)
    return result


def _read(file: pathlib.Path) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"$: There is no file {file}; write one, or give the path of another.") from None
    except IsADirectoryError:
        raise ConfigError(f"$: {file} is a directory; give the path of a JSON file.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"$: {file} cannot be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"$: {file} is larger than {MAX_FILE_BYTES} bytes; that is no deployment file.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"$: {file} is not UTF-8 at byte {error.start}; save it as UTF-8.") from None
    if not text.strip():
        raise ConfigError(f'$: {file} is empty; write an object such as {{"queues": {{}}}}.')
    return text


def _parse(text: str, file: pathlib.Path) -> Any:
    if text.count(",") + text.count("[") + text.count("{") > MAX_MARKS:
        raise ConfigError(f"$: {file} has more than {MAX_MARKS} values; that is no deployment file.")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ConfigError(f"$: Objects and lists stand deeper than {MAX_DEPTH} in one another.") from None
    except ValueError as error:
        raise ConfigError(f"$: {file} is not JSON: {error}") from None


def _check_tree(value: Any, path: str, depth: int) -> None:
    """Refuse what JSON lets through and no field can mean."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{path}: Objects and lists stand deeper than {MAX_DEPTH} in one another.")
    if isinstance(value, _Object):
        if value.repeated is not None:
            raise ConfigError(f"{child(path, value.repeated)}: The key stands twice; keep one of them.")
        for key, item in value.items():
            _check_text(key, path)
            _check_tree(item, child(path, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_tree(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {value} is not a number that JSON or a queue can hold.")


def _check_text(text: str, path: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: {text!r} has half of a surrogate pair; it is not Unicode text.") from None


def child(path: str, key: str) -> str:
    """Return the path of a field below ``path``."""
    if re.fullmatch(r"[A-Za-z_$][\w$-]*", key):
        return f"{path}.{key}"
    return f"{path}[{json.dumps(key, ensure_ascii=False) if len(key) < 300 else repr(key[:40] + '…')}]"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a number")


_CHOICES = {
    "strategy": [member.value for member in Strategy],
    "retention": [member.value for member in Retention],
    "durability": [member.value for member in Durability],
    "start": ["first", "latest", "the id of a message"],
}

T = TypeVar("T", bound=msgspec.Struct)


def _convert(tree: Any, shape: type[T], path: str) -> T:
    if isinstance(tree, dict):
        known = msgspec.structs.fields(shape)
        for key in tree:
            if key not in (field.encode_name for field in known):
                names = ", ".join(field.encode_name for field in known)
                raise ConfigError(f"{child(path, key)}: There is no such setting; there are: {names}.")
    try:
        return msgspec.convert(tree, shape, strict=True)
    except msgspec.ValidationError as error:
        what, found, where = str(error).partition(" - at `$")
        if found:
            path += where.rstrip("`")
        choices = _CHOICES.get(path.rpartition(".")[2])
        if choices is not None:
            what += "; choose one of: " + ", ".join(choices)
        raise ConfigError(f"{path}: {what}.") from None


# -- queues and subscribers -----------------------------------------------------------------------


def _root(folder: pathlib.Path, root: str) -> pathlib.Path:
    if not root or "\0" in root:
        raise ConfigError(f"$.root: {root!r} is no path; name the directory that holds the queues.")
    return absolute(folder / root)


def _queue(tree: Any, name: str, root: pathlib.Path, folder: pathlib.Path) -> QueueConfig:
    path = child("$.queues", name)
    _check_name(name, "queue name", path)
    subscribers: dict[str, SubscriberConfig] = {}
    if isinstance(tree, dict):
        subscribers = _subscribers(tree.get("subscribers", []), f"{path}.subscribers")
        if isinstance(tree.get("high_water_mark"), dict):
            _convert(tree["high_water_mark"], HighWaterMarkFile, f"{path}.high_water_mark")
        if "subscribers" in tree:
            tree = {**tree, "subscribers": []}
    document = _convert(tree, QueueFile, path)
    mark = document.high_water_mark
    settings = Settings(
        high_water_mark=HighWaterMark(mark.message_timeout, mark.max_messages, mark.max_bytes),
        strategy=document.strategy,
        retention=document.retention,
        durability=document.durability,
        max_message_bytes=document.max_message_bytes,
        deduplication_window=document.deduplication_window,
        lock_timeout=document.lock_timeout,
        group_access=document.group_access,
    )
    try:
        limits.check_settings(settings)
    except SettingsError as error:
        raise _at_setting(path, error) from None
    location = engine_path(document, name, folder, path)
    if location is not None:
        return QueueConfig(path=location, settings=settings, subscribers=subscribers, on_engine=True)
    return QueueConfig(path=_directory(root, name, document.path, path), settings=settings, subscribers=subscribers)


def _subscribers(tree: Any, path: str) -> dict[str, SubscriberConfig]:
    result: dict[str, SubscriberConfig] = {}
    if isinstance(tree, dict):
        for name, settings in tree.items():
            _check_name(name, "subscriber", child(path, name))
            result[name] = _subscriber(settings, child(path, name))
    elif isinstance(tree, list):
        for index, name in enumerate(tree):
            if not isinstance(name, str):
                raise ConfigError(f"{path}[{index}]: Expected the name of a subscriber, but it is {_kind(name)}.")
            _check_name(name, "subscriber", f"{path}[{index}]")
            if name in result:
                raise ConfigError(f"{path}[{index}]: The subscriber {name!r} stands twice; keep one of them.")
            result[name] = _subscriber({}, path)
    else:
        raise ConfigError(f"{path}: Expected a list of names or an object of names, but it is {_kind(tree)}.")
    return result


def _subscriber(tree: Any, path: str) -> SubscriberConfig:
    document = _convert(tree, SubscriberFile, path)
    settings = SubscriberSettings(
        lease=document.lease, max_deliveries=document.max_deliveries, topic_filter=document.topic_filter
    )
    try:
        limits.check_subscriber_settings(settings)
    except SettingsError as error:
        raise _at_setting(path, error) from None
    except IdentifierError as error:
        raise ConfigError(f"{path}.topic_filter: {error}") from None
    return SubscriberConfig(settings=settings, start=document.start)


def _at_setting(path: str, error: SettingsError) -> ConfigError:
    """Move the name of the setting, with which a SettingsError starts, into the path."""
    setting, _, rest = str(error).partition(" ")
    return ConfigError(f"{path}.{setting}: It {rest}")


def _check_name(name: str, what: str, path: str) -> None:
    try:
        encode_name(name, what)
    except IdentifierError as error:
        raise ConfigError(f"{path}: {error}") from None


def _directory(root: pathlib.Path, name: str, given: str | None, path: str) -> pathlib.Path:
    """Return where the queue lives: inside the root, whatever links say."""
    if given is None and ("/" in name or name in (".", "..")):
        raise ConfigError(f"{path}: The queue name {name!r} is no name of a directory; choose another, or add a path.")
    relative = name if given is None else given
    if given is not None:
        path += ".path"
        if not given or "\0" in given or os.path.isabs(given) or ".." in pathlib.PurePath(given).parts:
            raise ConfigError(f"{path}: {given!r} must be a path relative to the root, without '..'.")
    directory = pathlib.Path(os.path.normpath(root / relative))
    real_root = os.path.realpath(root)
    real = os.path.realpath(directory)
    if real == real_root or os.path.commonpath((real_root, real)) != real_root:
        raise ConfigError(f"{path}: {directory} leads to {real}, which is not inside the root {real_root}.")
    return directory


def _check_paths(queues: dict[str, QueueConfig]) -> None:
    """Refuse two queues in one directory, and one within another."""
    taken: dict[str, str] = {}
    for name, queue in queues.items():
        if queue.on_engine:
            continue
        real = os.path.realpath(queue.path)
        if real in taken:
            raise ConfigError(
                f"{child('$.queues', name)}.path: {queue.path} is the directory of the queue {taken[real]!r}, too."
            )
        taken[real] = name
    for real, name in taken.items():
        for parent in pathlib.PurePath(real).parents:
            if str(parent) in taken:
                raise ConfigError(
                    f"{child('$.queues', name)}.path: {real} lies inside the queue {taken[str(parent)]!r}."
                )
