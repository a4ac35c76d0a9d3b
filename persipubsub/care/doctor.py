"""What on this machine, and in a queue, needs care: each symptom says what was seen and what to do."""

import importlib.metadata
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator

import msgspec

from persipubsub.care import surroundings
from persipubsub.care.measuring import fsync_seconds
from persipubsub.engine.figures import Statistics
from persipubsub.engine.local import files, open_local
from persipubsub.engine.local.vitals import Vitals, library_versions
from persipubsub.errors import PersipubsubError
from persipubsub.paths import absolute
from persipubsub.units import size

#: Older ones destroy locks that other processes use while they leave.
_OLDEST_LMDB = (0, 9, 33)
_FEW_FILES = 256
_SLOW_FSYNC = 0.02
_SMALL_SHARE, _LITTLE_SPACE = 0.05, 256 << 20
_WORTH_COMPACTING = 64 << 20
_FAR_BEHIND = 10_000


class Symptom(msgspec.Struct, frozen=True):
    """Something that was looked at; ``advice`` is there if it needs care.

    :param topic: what was looked at, a word or two
    :param finding: what was seen
    :param advice: what to do; ``None`` if all is well
    """

    topic: str
    finding: str
    advice: str | None = None

    @property
    def needs_care(self) -> bool:
        """Tell whether something is to be done."""
        return self.advice is not None


def examine(path: str | os.PathLike[str] | None = None) -> list[Symptom]:
    """Look at this machine and, if its path is given, at a queue in use; what is found is never raised.

    It takes some tens of fsyncs on the queue's disk; nothing in the queue is changed.

    :param path: of a queue, or ``None``: look at the machine and the current folder alone
    """
    if path is None:
        return [*_machine(), *_place(pathlib.Path.cwd())]
    queue = absolute(path)
    folder = next(folder for folder in (queue, *queue.parents) if folder.is_dir())
    return [*_machine(), *_place(folder), *_queue(queue)]


# -- the machine ------------------------------------------------------------------------------------


def _machine() -> Iterator[Symptom]:
    binding, library = library_versions()
    yield Symptom(
        "versions",
        f"persipubsub {importlib.metadata.version('persipubsub')}, Python {platform.python_version()}, "
        f"py-lmdb {binding} with LMDB {'.'.join(map(str, library))}, {platform.system()} {platform.release()}",
        "Install the wheel of lmdb, which brings a newer LMDB." if library < _OLDEST_LMDB else None,
    )
    soft, hard = surroundings.open_files()
    yield Symptom(
        "open files",
        f"a process may open {soft} (could be raised to {hard}); an open queue takes about 8, a waiting consumer 1",
        f"Raise the limit (ulimit -n): {soft} is little." if soft < _FEW_FILES else None,
    )
    namespace = surroundings.pid_namespace()
    if namespace is not None:
        yield Symptom(
            "process ids",
            f"this is process {os.getpid()} in {namespace}",
            "This is process 1: another container whose only process is number 1 could not use the same queue. Start "
            "an init process in the containers (docker run --init), or share the pid namespace."
            if os.getpid() == 1
            else None,
        )


def _place(folder: pathlib.Path) -> Iterator[Symptom]:
    mount = surroundings.mount_of(folder)
    if mount is not None:
        advice = None
        if mount.is_network:
            advice = "Put the queue on a local disk: locks and maps are not the same for all machines of a network."
        elif mount.read_only:
            advice = "It is mounted read-only: a queue needs to be written."
        fate = ", gone with the next start of the machine" if mount.kind in ("tmpfs", "ramfs") else ""
        yield Symptom("filesystem", f"{folder} is on {mount.kind} ({mount.source} at {mount.point}){fate}", advice)
    usage = shutil.disk_usage(folder)
    little = usage.free < _LITTLE_SPACE or usage.free < usage.total * _SMALL_SHARE
    yield Symptom(
        "disk space",
        f"{size(usage.free)} of {size(usage.total)} are free",
        "Make room: a full disk refuses what is sent." if little else None,
    )
    try:
        cost = fsync_seconds(folder)
    except OSError as error:
        yield Symptom("fsync", f"nothing can be written in {folder}: {error.strerror}", "Mend the rights or the disk.")
    else:
        yield Symptom(
            "fsync",
            f"writing 4 KiB and syncing them takes {cost * 1e3:.3g} ms here (median of 20)",
            "The disk is slow: send many at once, or from many threads, which share a commit; or choose another "
            "durability."
            if cost > _SLOW_FSYNC
            else None,
        )


# -- the queue --------------------------------------------------------------------------------------


def _queue(path: pathlib.Path) -> Iterator[Symptom]:
    try:
        engine = open_local(path)
        try:
            vitals, statistics = engine.vitals(), engine.statistics()
        finally:
            engine.close()
    except PersipubsubError as error:
        yield Symptom("queue", "it cannot be used", str(error))
        return
    yield Symptom(
        "queue",
        f"{statistics.identity}, format {vitals.format_version}, {statistics.messages} messages, "
        f"{size(statistics.payload_bytes)} of payload, {len(statistics.subscribers)} subscribers",
    )
    for look in (_space, _readers, _leases, _subscribers):
        yield from look(vitals, statistics)
    if (path / files.BOOT).exists():
        yield Symptom("unsynced", "durability 'process': what was sent last is not on the disk yet")


def _space(vitals: Vitals, statistics: Statistics) -> Iterator[Symptom]:
    finding = (
        f"the map is {size(vitals.map_bytes)} and grows by itself; the file uses {size(vitals.used_bytes)}, of which "
        f"{size(vitals.free_bytes)} hold nothing"
    )
    wasteful = vitals.free_bytes > max(_WORTH_COMPACTING, vitals.used_bytes // 2)
    advice = "`persipubsub compact` would give that back to the disk; new messages would use it as well."
    yield Symptom("file", finding, advice if wasteful else None)


def _readers(vitals: Vitals, statistics: Statistics) -> Iterator[Symptom]:
    slow = [reader for reader in vitals.readers if reader.behind > _FAR_BEHIND]
    pids = ", ".join(str(reader.pid) for reader in slow)
    yield Symptom(
        "readers",
        f"{len(vitals.readers)} of {vitals.reader_slots} places are taken by other processes that read at this moment; "
        f"{vitals.stale_readers} were left by dead ones, and swept",
        f"Look at process {pids}: it has read for more than {_FAR_BEHIND} transactions (a receive_view block, a "
        "stopped process), and the file grows as long as it does."
        if slow
        else None,
    )


def _leases(vitals: Vitals, statistics: Statistics) -> Iterator[Symptom]:
    for identifier, number in vitals.stale_leases.items():
        yield Symptom(
            "owners",
            f"{number} messages of subscriber {identifier!r} are held by owners that died",
            "Start a consumer: they come back when the next one asks for messages.",
        )
    if not vitals.stale_leases:
        yield Symptom("owners", "nobody died with messages in hand")


def _subscribers(vitals: Vitals, statistics: Statistics) -> Iterator[Symptom]:
    for subscriber in statistics.subscribers:
        for number, finding, advice in (
            (subscriber.dead, "{} messages are dead letters", "Look at them with `persipubsub dead-letters list`."),
            (subscriber.lost, "{} messages were lost to limits since it was added", None),
            (
                subscriber.lag if subscriber.paused else 0,
                "it is paused while {} messages wait",
                "Resume it with `persipubsub subscribers resume`, or remove it.",
            ),
        ):
            if number:
                yield Symptom(f"subscriber {subscriber.identifier}", finding.format(number), advice)
    if not statistics.subscribers:
        yield Symptom("subscribers", "there are none")
