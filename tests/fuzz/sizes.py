"""Messages of all sizes: they come as they were sent, at the price of a few copies, or are refused at once."""

import dataclasses
import itertools
import os
import pathlib
import random
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence

from persipubsub import Durability, Environment, MessageTooLargeError, QueueBusyError
from persipubsub.engine.local import files, opening
from tests.faults.crew import Hand

KIB, MIB = 1 << 10, 1 << 20
PAGE, PAGE_HEADER = 4 * KIB, 16
LARGEST = 4 * MIB
#: A record goes to pages of its own where it does not fit twice into one, with its key and the headers.
_HALF = (PAGE - PAGE_HEADER) // 2
#: So many copies of a message may be in the memory of who sends or receives it.
COPIES = 3
#: And this besides: pages of the map that are read on the way, and what Python does.
BESIDES = 12 * MIB


def table(source: random.Random) -> list[int]:
    """Return sizes: nothing, one byte, all around where storage changes, and some by chance."""
    sizes = {0, 1, 2, LARGEST - 1, LARGEST, 100 * KIB}
    sizes.update(range(_HALF - 64, _HALF + 4))
    for pages in (1, 2, 3, 16):
        sizes.update(range(pages * PAGE - PAGE_HEADER - 24, pages * PAGE - PAGE_HEADER + 4))
        sizes.update((pages * PAGE - 1, pages * PAGE, pages * PAGE + 1))
    for size in (255, 64 * KIB, MIB):  # from 64 KiB on a message is read after its transaction
        sizes.update((size - 1, size, size + 1))
    sizes.update(source.randrange(64 * KIB) for _ in range(20))
    return sorted(sizes)


@dataclasses.dataclass
class Found:
    """What became of the messages."""

    messages: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)
    #: How often a message of 1 MiB was in memory, by size of the message.
    copies: dict[int, float] = dataclasses.field(default_factory=dict)


def round_trips(path: pathlib.Path, durability: Durability, seed: int) -> Found:
    """Send messages of all sizes, one by one and many at once; take them in all ways."""
    source = random.Random(seed)
    noise = source.randbytes(LARGEST + 1)
    found = Found()

    def expect(same: bool, what: str, size: int) -> None:
        found.messages += 1
        if not same:
            found.findings.append(f"{size} bytes: not what was sent, by {what}")

    sizes = table(source)
    with Environment(path) as env:
        control = env.new_control({"a"}, durability=durability, max_message_bytes=LARGEST)
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        for size in sizes:
            sent = noise[:size] if size % 2 else noise[len(noise) - size :]
            pub.send(sent)
            with sub.receive(timeout=0) as data:
                expect(data == sent, "receive", size)
            pub.send(memoryview(sent))
            with sub.receive_view(timeout=0) as view:
                expect(view is not None and view == sent, "receive_view", size)
        small = [size for size in sizes if size <= 64 * KIB]
        source.shuffle(small)
        pub.send_many([noise[size : 2 * size] for size in small])
        for size, message in itertools.zip_longest(small, sub.get_many(len(small), timeout=0)):
            expect(message is not None and message.data == noise[size : 2 * size], "send_many", size)
            message.ack()
        before = control.statistics().published
        for size in (LARGEST + 1, 2 * LARGEST):
            try:
                pub.send(bytes(size))
                found.findings.append(f"{size} bytes were accepted")
            except MessageTooLargeError:
                found.messages += 1
            try:
                pub.send_many([b"small", bytes(size)])
                found.findings.append(f"{size} bytes were accepted among others")
            except MessageTooLargeError:
                found.messages += 1
        if control.statistics().published != before:
            found.findings.append("something was stored of what was refused")
        found.findings += [f"check: {one.where}: {one.what}" for one in control.check()]
    return found


# -- too large: nobody is kept waiting for it --------------------------------------------------------------

_held: list[object] = []


def hold_the_lock(path: pathlib.Path) -> None:
    """Keep every writer of other processes out, until this process ends."""
    env = Environment(path)
    env.new_publisher().send(b"first")
    locked = opening._stores[files.identity(path)].writer.locked()
    locked.__enter__()
    _held.extend((env, locked))


def too_large_while_locked(path: pathlib.Path) -> list[str]:
    """Send what is too large, and what is not, while another process writes; return what went wrong."""
    findings = []
    with Environment(path) as env:
        env.new_control({"a"}, max_message_bytes=LARGEST, lock_timeout=0.2)
        pub = env.new_publisher()
        pub.send(b"first")
        other = Hand()
        try:
            other.do(hold_the_lock, path)
            size = os.stat(path / files.DATA).st_size
            for data, expected in ((bytes(LARGEST + 1), MessageTooLargeError), (b"small", QueueBusyError)):
                try:
                    pub.send(data)
                    findings.append(f"{len(data)} bytes were sent")
                except (MessageTooLargeError, QueueBusyError) as error:
                    if not isinstance(error, expected):
                        findings.append(f"{len(data)} bytes while another process writes: {type(error).__name__}")
            if os.stat(path / files.DATA).st_size != size:
                findings.append("the file grew for a message that was refused")
        finally:
            other.end()
    return findings


# -- memory ------------------------------------------------------------------------------------------------


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"the kernel does not tell {name}"
    return int(found[1]) * KIB


class Peak:
    """How much more memory than at the beginning this process had at a moment since then."""

    def __init__(self) -> None:
        """Begin to measure."""
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        """Return it."""
        return _status("VmHWM") - self._before


def _payload(size: int) -> bytes:
    return b"a large message " * (size // 16) + b"x" * (size % 16)


def publish(path: pathlib.Path, size: int) -> int:
    """Return how much memory it takes to make and send a message."""
    with Environment(path) as env:
        pub = env.new_publisher()
        pub.send(b"")
        peak = Peak()
        pub.send(_payload(size))
        return peak.bytes()


def consume(path: pathlib.Path, way: str) -> tuple[int, int, int]:
    """Take the message in a way; return the memory it took, its size and its checksum."""
    with Environment(path) as env:
        sub = env.new_subscriber(way)
        sub.pop(timeout=0)
        peak = Peak()
        with sub.receive(timeout=0) if way == "receive" else sub.receive_view(timeout=0) as data:
            assert data is not None
            return peak.bytes(), len(data), zlib.crc32(data)


def memory(path: pathlib.Path, durability: Durability, size: int) -> Found:
    """Send and take a large message, each in a process of its own."""
    found = Found()
    with Environment(path) as env:
        env.new_control({"receive", "receive_view"}, durability=durability, max_message_bytes=size)
    took: dict[str, int] = {}
    hand = Hand(bound=100)
    try:
        took["send"] = hand.do(publish, path, size)
        hand.end()
        for way in ("receive", "receive_view"):
            took[way], length, checksum = hand.do(consume, path, way)
            hand.end()
            if (length, checksum) != (size, zlib.crc32(_payload(size))):
                found.findings.append(f"{size} bytes: not what was sent, by {way}")
    finally:
        hand.end()
    for way, much in took.items():
        found.messages += 1
        found.copies[size] = max(found.copies.get(size, 0.0), much / size)
        if much > COPIES * size + BESIDES:
            found.findings.append(f"{way} takes {much / MIB:.0f} MiB for a message of {size / MIB:.0f} MiB")
    return found


def trials(folder: pathlib.Path, durability: Durability, seed: int, large: Sequence[int]) -> Iterator[Found]:
    """Try everything that there is with one durability, each in a queue of its own."""
    yield round_trips(folder / "round trips", durability, seed)
    yield Found(2, too_large_while_locked(folder / "too large"))
    for size in large:
        yield memory(folder / str(size), durability, size)
        shutil.rmtree(folder / str(size))
    for name in ("round trips", "too large"):
        shutil.rmtree(folder / name)
