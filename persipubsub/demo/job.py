"""The plot: two publishers, three subscribers, a kill in the middle, and the verdict."""

import json
import os
import pathlib
import time
from collections.abc import Callable

import msgspec

from persipubsub import config as deployment
from persipubsub.demo import processes
from persipubsub.demo.crew import Crew, Member, new_event
from persipubsub.demo.files import Original, collect, write_manifest
from persipubsub.demo.verdict import Verdict, judge
from persipubsub.environment import Environment
from persipubsub.errors import PersipubsubError
from persipubsub.limits import LARGEST_MESSAGE_BYTES

QUEUE = "files"
PUBLISHERS = 2
#: The processes of each subscriber; the third worker takes the place of the first.
READERS = {"archive": ["archive"], "index": ["index"], "workers": ["worker-1", "worker-2", "worker-3"]}
#: Seconds without any progress after which the demo gives up.
STALL = 60.0
#: Seconds between two looks at the journals.
TICK = 0.05


class DirectoryInUseError(PersipubsubError):
    """The directory for the demo holds something already."""


class Progress(msgspec.Struct, frozen=True):
    """Where the job stands.

    :param files: how many there are
    :param sent: messages committed so far
    :param received: different files received so far, by subscriber
    :param redelivered: deliveries of a message that had been delivered before
    :param killed: process id of the killed worker
    """

    files: int
    sent: int
    received: dict[str, int]
    redelivered: int
    killed: int | None


def run(folder: pathlib.Path | None, directory: pathlib.Path, report: Callable[[Progress], None]) -> Verdict:
    """Stream ``folder`` (``None``: the standard library) through a queue deployed in ``directory``.

    ``report`` is called several times a second. Blocks until all is received, something fails, or
    nothing moves for ``STALL`` seconds.

    :raise NothingToSendError: no files
    :raise DirectoryInUseError: ``directory`` is not empty
    """
    root, originals = collect(folder)
    config = _prepare(directory, originals)
    with Crew(config, QUEUE, directory / "journals") as crew:
        problems = _play(crew, root, directory / "manifest.json", originals, report)
        crew.update()
        sent = [line for member in _publishers(crew) for line in member.sent]
        received = {name: [line for member in _readers(crew, name) for line in member.received] for name in READERS}
    problems += _look_after(config)
    return judge(originals, sent, received, problems)


def _prepare(directory: pathlib.Path, originals: list[Original]) -> pathlib.Path:
    """Write the configuration, deploy it, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    if os.listdir(directory):
        raise DirectoryInUseError(f"{directory} is not empty; give a new or an empty directory.")
    document = {
        "root": "./queues",
        "queues": {
            QUEUE: {
                "subscribers": list(READERS),
                "strategy": "block",
                "max_message_bytes": LARGEST_MESSAGE_BYTES,
            }
        },
    }
    config = directory / "persipubsub.json"
    config.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    deployment.deploy(deployment.load(config))
    (directory / "journals").mkdir()
    write_manifest(directory / "manifest.json", originals)
    return config


def _play(
    crew: Crew,
    root: pathlib.Path,
    manifest: pathlib.Path,
    originals: list[Original],
    report: Callable[[Progress], None],
) -> list[str]:
    """Start everybody, kill one, and wait until all is received; return what went wrong."""
    stop, killed = new_event(), new_event()
    files = len(originals)
    crew.start("archive", processes.consume, "archive", 64, stop)
    crew.start("index", processes.consume, "index", 64, stop)
    # The second worker leaves at least half to the first, so that there is one to kill midway.
    victim = crew.start("worker-1", processes.work_until_killed, "workers", files // 8)
    crew.start("worker-2", processes.work, "workers", stop, files // 2, killed)
    problems = _wait(crew, lambda: all("ready" in member.events for member in crew.members.values()), lambda: None)
    if problems:
        return problems
    for part in range(PUBLISHERS):
        crew.start(f"publisher-{part + 1}", processes.publish, root, manifest, part, PUBLISHERS)

    def step() -> None:
        if not victim.killed and "holding" in victim.events:
            victim.kill()
            killed.set()
            crew.start("worker-3", processes.work, "workers", stop, None, None)
        report(_progress(crew, files, victim))

    def is_done() -> bool:
        return all("finished" in publisher.events for publisher in _publishers(crew)) and all(
            _received(crew, name) >= files for name in READERS
        )

    problems = _wait(crew, is_done, step)
    stop.set()
    problems += crew.join(STALL if not problems else 1.0)
    crew.update()
    report(_progress(crew, files, victim))
    return list(dict.fromkeys(problems))


def _wait(crew: Crew, is_done: Callable[[], bool], step: Callable[[], None]) -> list[str]:
    """Repeat ``step`` until it is done; return why it cannot be, or nothing."""
    moved = time.monotonic()
    while True:
        if crew.update():
            moved = time.monotonic()
        step()
        if is_done():
            return []
        problems = crew.failures()
        if problems:
            return problems
        if time.monotonic() - moved > STALL:
            return [f"nothing moved for {STALL:g} s"]
        crew.pause(TICK)


def _look_after(config: pathlib.Path) -> list[str]:
    """Ask the queue itself: nothing may be damaged, or left for anybody."""
    with Environment.from_config(config, QUEUE) as environment, environment.new_control() as control:
        problems = [f"check: {finding.where}: {finding.what}" for finding in control.check()]
        problems += [
            f"{subscriber.lag} messages are left for {subscriber.identifier}"
            for subscriber in control.statistics().subscribers
            if subscriber.lag
        ]
    return problems


def _publishers(crew: Crew) -> list[Member]:
    return [member for name, member in crew.members.items() if name.startswith("publisher")]


def _readers(crew: Crew, subscriber: str) -> list[Member]:
    return [crew.members[name] for name in READERS[subscriber] if name in crew.members]


def _received(crew: Crew, subscriber: str) -> int:
    """Return how many different files have reached the subscriber."""
    return len(set[str]().union(*(member.paths for member in _readers(crew, subscriber))))


def _progress(crew: Crew, files: int, victim: Member) -> Progress:
    return Progress(
        files=files,
        sent=sum(len(publisher.sent) for publisher in _publishers(crew)),
        received={name: _received(crew, name) for name in READERS},
        redelivered=sum(member.redelivered for member in crew.members.values()),
        killed=victim.process.pid if victim.killed else None,
    )
