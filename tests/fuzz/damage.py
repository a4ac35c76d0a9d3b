"""Damages the data file of a queue at random, and looks at what a user gets then."""

import dataclasses
import functools
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from types import SimpleNamespace

import typer.main

from persipubsub import Draft, Durability, Environment, PersipubsubError
from persipubsub.care import checking
from persipubsub.cli.app import run
from persipubsub.engine.local import files
from tests.faults.crew import Hand

PAGE = 4096
OTHERS = ("bit flipped", "bits flipped", "zeroed", "noise", "page swapped", "page noise", "meta")
#: A file that is cut off is so much likelier than one that is overwritten.
MANNERS = (*["truncated"] * 3, *OTHERS)


Sent = tuple[int, str | None, dict[str, str | bytes]]
"""Checksum of the payload, topic and headers."""


@dataclasses.dataclass
class Pattern:
    """A queue, and what is in it."""

    path: pathlib.Path
    sent: dict[int, Sent]
    used: int


@dataclasses.dataclass
class Result:
    """What a user got from a damaged queue."""

    #: Whether ``check`` found something, by itself and through the command line.
    checked: list[str] = dataclasses.field(default_factory=list)
    #: What was raised, if something was.
    error: str = ""
    #: Messages that are not what was sent.
    wrong: list[int] = dataclasses.field(default_factory=list)
    #: How many messages of those that were sent came.
    received: int = 0


def make(path: pathlib.Path, seed: int) -> Pattern:
    """Create a queue with trees of some depth, and with all kinds of records."""
    source = random.Random(seed)
    pattern = Pattern(path, {}, 0)
    with Environment(path) as env:
        control = env.new_control({"a", "b", "c"}, durability=Durability.PROCESS, map_size=1 << 22)
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        for _ in range(3):
            drafts = [
                Draft(source.randbytes(source.choice([3, 40, 300, 6000])), topic=source.choice([None, "t.x"]))
                for _ in range(60)
            ]
            pub.send_many(drafts)
            pub.send(b"once", headers={"h": b"v"}, deduplication_id=str(source.random()))
            for message in sub.get_many(12, timeout=0):
                fate = source.randrange(3)
                if fate == 2:
                    message.reject("no")
                else:
                    (message.ack, message.nack)[fate]()
        env.new_subscriber("b").ack([4, 7, 9])
        for retained in env.browse():
            pattern.sent[retained.id] = (zlib.crc32(retained.data), retained.topic, dict(retained.headers))
        assert control.check() == []
    pattern.used = files.extent(path / files.DATA)[1]
    return pattern


def hurt(path: pathlib.Path, used: int, manner: str, source: random.Random) -> None:
    """Damage the part of the data file that LMDB uses."""
    data = path / files.DATA
    pages = used // PAGE
    with open(data, "r+b") as stream:

        def put(at: int, new: bytes) -> None:
            stream.seek(at)
            stream.write(new)

        def get(at: int, size: int) -> bytes:
            stream.seek(at)
            return stream.read(size)

        if manner == "truncated":
            stream.truncate(source.randrange(used))
        elif manner in ("bit flipped", "bits flipped"):
            for _ in range(1 if manner == "bit flipped" else 50):
                at = source.randrange(used)
                put(at, bytes([get(at, 1)[0] ^ 1 << source.randrange(8)]))
        elif manner == "zeroed":
            put(source.randrange(used), bytes(source.choice([1, 16, 512, PAGE, 3 * PAGE])))
        elif manner == "noise":
            put(source.randrange(used), source.randbytes(source.choice([1, 2, 8, 16, 512])))
        elif manner == "page swapped":
            one, other = source.randrange(2, pages), source.randrange(2, pages)
            first, second = get(one * PAGE, PAGE), get(other * PAGE, PAGE)
            put(one * PAGE, second)
            put(other * PAGE, first)
        elif manner == "page noise":
            put(source.randrange(2, pages) * PAGE, source.randbytes(PAGE))
        else:
            put(source.randrange(2) * PAGE + source.randrange(160), source.randbytes(1))


def use(path: pathlib.Path, sent: dict[int, Sent]) -> Result:
    """Do with a damaged queue what users do."""
    result = Result()
    try:
        with Environment(path) as env:
            result.checked = [f"{finding.where}: {finding.what}" for finding in env.open_control().check()]
            env.open_control().statistics()
            taken = env.new_subscriber("c").get_many(10_000, timeout=0)
            for message in taken:
                found = (zlib.crc32(message.data), message.topic, dict(message.headers))
                if sent.get(message.id) != found:
                    result.wrong.append(message.id)
            result.received = len(taken)
            for message in itertools.islice(taken, 3):
                message.ack()
            env.new_publisher().send(b"one more")
            for identifier in ("a", "b"):
                env.new_subscriber(identifier).get_many(10_000, timeout=0)
    except PersipubsubError as error:
        result.error = f"{type(error).__name__}: {error}"
    return result


class _Fork:
    """Stands for ``subprocess.Popen`` where a queue is checked apart: it begins at once, an interpreter does not."""

    def __init__(self, command: Sequence[str], **_: object) -> None:
        """Answer for the queue that the command names, in a child."""
        path = command[-1]
        sys.stdout.flush()
        self._read, write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                os.dup2(write, 1)
                checking.answer(path)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(write)
        self.returncode = 0

    def __enter__(self) -> "_Fork":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pipe."""
        os.close(self._read)

    def communicate(self) -> tuple[bytes, None]:
        """Wait for the end; return what was written to the standard output."""
        output = b""
        while piece := os.read(self._read, 65536):
            output += piece
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return output, None


def prepare() -> None:
    """Let what commands print go nowhere, build the command line once for all of them, and fork to check."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    typer.main.get_command = functools.cache(typer.main.get_command)
    checking.subprocess = SimpleNamespace(Popen=_Fork, PIPE=subprocess.PIPE)  # type: ignore[assignment, attr-defined]


def check_by_command(path: pathlib.Path) -> int:
    """Return the exit status of ``persipubsub check``."""
    return run(["check", str(path)])


def trial(
    pattern: Pattern, folder: pathlib.Path, seed: int, hand: Hand, *, by_command: bool = True
) -> tuple[str, Result | None, list[str]]:
    """Damage a copy in one way; return what was done, what was got and what is wrong with that.

    :param by_command: whether ``persipubsub check`` is to look at it, too, which takes most of the time
    """
    source = random.Random(seed)
    manner = source.choice(MANNERS)
    what = f"seed {seed}, {manner}"
    copy = folder / "damaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(pattern.path, copy)
    hurt(copy, pattern.used, manner, source)
    findings = []
    try:
        status = hand.do(check_by_command, copy) if by_command else 1
        result: Result = hand.do(use, copy, pattern.sent)
    except Exception as error:  # noqa: BLE001 - a signal, a hang, or an error that is not ours
        return what, None, [f"{what}: {type(error).__name__}: {error}"]
    if result.wrong:
        findings.append(f"{what}: messages {result.wrong[:5]} are not what was sent")
    if not result.error and not result.checked and result.received != len(pattern.sent):
        findings.append(f"{what}: {result.received} of {len(pattern.sent)} messages came, and check finds nothing")
    if status not in (0, 1, 2):
        findings.append(f"{what}: check ended with {status}")
    if status == 0 and (result.error or result.checked):
        findings.append(f"{what}: check says that all is well, but: {result.error or result.checked}")
    return what, result, findings
