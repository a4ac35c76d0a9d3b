"""Random configurations, names and messages, and what is wrong with the answers."""

import dataclasses
import itertools
import json
import math
import pathlib
import random
import resource
import time
import unicodedata
from collections.abc import Callable
from typing import Any

from persipubsub import ConfigError, Environment, PersipubsubError, config

#: Bytes that reading a configuration may take.
MEMORY = 64 << 20
_ENOUGH = 20
#: Seconds of the processor that reading a configuration may take.
_SLOW = 2.0

VALID: dict[str, Any] = {
    "root": "queues",
    "queues": {
        "frames": {
            "high_water_mark": {"max_messages": 100, "max_bytes": 1000000, "message_timeout": 3.5},
            "strategy": "reject",
            "retention": "log",
            "durability": "process",
            "subscribers": {"a": {"lease": 2.0, "max_deliveries": 3, "topic_filter": "t.>"}, "b": {}},
        },
        "plain": {"subscribers": ["x", "y"]},
    },
}

_ODD: list[Any] = [
    *[None, True, False, 0, -1, 1.5, 10**400, 2**63, 2**64, math.nan, math.inf, "", "..", "\ud800", "a" * 300, [], {}],
    *[[[]], {"a": 1}, ["a", "a"], ["a", 1], "full", "1e999", "\0", "é", 1e308],
]


def _mutate(value: Any, source: random.Random) -> Any:
    if isinstance(value, dict) and value and source.random() < 0.8:
        changed = dict(value)
        key = source.choice(list(changed))
        what = source.randrange(6)
        if what == 0:
            del changed[key]
        elif what == 1:
            changed[source.choice(["", "x", "max_messages", "..", "a" * 300, "é", "subscribers", "root"])] = changed[
                key
            ]
        else:
            changed[key] = _mutate(changed[key], source)
        return changed
    if isinstance(value, list) and value and source.random() < 0.5:
        return [*value, source.choice(_ODD)]
    return source.choice(_ODD)


def text_of(source: random.Random) -> bytes:
    """Return a file that is a configuration, nearly one, or none."""
    value = VALID
    for _ in range(source.randrange(4)):
        value = _mutate(value, source)
    text = json.dumps(value, indent=source.choice([None, 2])).encode()
    kind = source.randrange(8)
    if kind == 0:
        return text[: source.randrange(len(text) + 1)]
    if kind == 1:
        at = source.randrange(len(text))
        return text[:at] + source.randbytes(source.randrange(1, 4)) + text[at + 1 :]
    if kind == 2:
        return source.randbytes(source.randrange(200))
    if kind == 3:
        return (b"[" if source.randrange(2) else b'{"root":') * source.choice([10, 1000, 100_000])
    if kind == 4:
        return text.replace(b'"root"', b'"queues"', 1)
    return text


def judge_config(file: pathlib.Path, text: bytes) -> str:
    """Load a configuration; return what is wrong with the answer."""
    file.write_bytes(text)
    try:
        config.load(file)
    except ConfigError as error:
        if not str(error):
            return "an error that says nothing"
    except Exception as error:  # noqa: BLE001 - that is the finding
        return f"{type(error).__name__}: {error}"
    return ""


@dataclasses.dataclass
class Read:
    """What came of many configurations."""

    tried: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)
    #: Seconds of the processor that the slowest took.
    longest: float = 0.0


def judge_configs(file: pathlib.Path, seed: int, number: int, seconds: float) -> Read:
    """Load ``number`` random configurations, and one that is cut off after every byte.

    To be done in a process of its own: it may never take more than ``MEMORY`` bytes besides what it has.
    """
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    source = random.Random(seed)
    until = time.monotonic() + seconds
    whole = json.dumps(VALID).encode()
    found = Read()
    for text in itertools.chain(
        (whole[:length] for length in range(len(whole))), (text_of(source) for _ in range(number))
    ):
        if time.monotonic() > until or len(found.findings) >= _ENOUGH:
            break
        began = time.process_time()
        wrong = judge_config(file, text)
        took = time.process_time() - began
        if took > _SLOW:
            wrong = wrong or f"it took {took:.1f} s"
        found.longest = max(found.longest, took)
        found.tried += 1
        if wrong:
            found.findings.append(f"{wrong}: {text[:200]!r}")
    return found


def name_of(source: random.Random) -> str:
    """Return a name that may be one: letters of all kinds, combining ones, controls, surrogates, too long ones."""
    alphabet = "aé\u0301\u00e9/.. \t\n\0\u202e\ud800😀-_ﬁß>*#"
    length = source.choice([0, 1, 2, 3, 20, 63, 64, 127, 128, 255, 256, 1000])
    name = "".join(source.choice(alphabet) for _ in range(length))
    return unicodedata.normalize(source.choice(["NFC", "NFD"]), name) if source.randrange(2) else name


def judge_subscribers(path: pathlib.Path, names: list[str]) -> list[str]:
    """Add subscribers of such names; those that are accepted must be themselves, and no others."""
    findings: list[str] = []
    accepted: dict[str, bytes] = {}
    with Environment(path) as env:
        control = env.new_control({})
        for name in names:
            try:
                control.add_subscriber(name)
            except PersipubsubError as error:
                if not isinstance(error, ValueError):
                    findings.append(f"{name!r}: {error}")
                continue
            except Exception as error:  # noqa: BLE001 - that is the finding
                findings.append(f"{name!r}: {type(error).__name__}: {error}")
                continue
            accepted[name] = name.encode()
        if control.subscriber_ids != set(accepted):
            findings.append(f"there are {len(control.subscriber_ids)} subscribers, {len(accepted)} were accepted")
        env.new_publisher().send(b"x")
        for name in list(accepted)[::7]:
            message = env.new_subscriber(name).pop(timeout=0)
            if message is None or message.data != b"x":
                findings.append(f"{name!r} does not receive")
        findings.extend(map(str, control.check()))
    return findings


def judge_messages(path: pathlib.Path, source: random.Random, number: int) -> list[str]:
    """Send messages with odd topics, headers and options: each is refused by an error of ours, or comes as it is."""
    findings: list[str] = []
    odd: list[Callable[[], Any]] = [
        lambda: source.choice(_ODD),
        lambda: name_of(source),
        lambda: source.randbytes(source.randrange(300)),
        lambda: {name_of(source): source.choice([b"", b"v", "t", name_of(source), source.choice(_ODD)])},
    ]
    with Environment(path) as env:
        env.new_control({"a"})
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        for _ in range(number):
            data = source.choice([b"", source.randbytes(40), bytearray(b"x"), memoryview(b"abc"), *_ODD])
            options: dict[str, Any] = {}
            for key in ("headers", "topic", "deduplication_id", "delay", "expires_in"):
                if not source.randrange(3):
                    options[key] = source.choice(odd)()
            try:
                pub.send(data, **options)
            except (PersipubsubError, TypeError, ValueError):
                continue
            except Exception as error:  # noqa: BLE001 - that is the finding
                findings.append(f"send({data!r}, {options!r}): {type(error).__name__}: {error}")
                continue
            message = sub.get(timeout=0)
            if message is None:
                if not {"delay", "expires_in", "deduplication_id"} & set(options):
                    findings.append(f"send({data!r}, {options!r}) does not come")
                continue
            same_topic = message.topic == options.get("topic")
            if not options.get("delay") and (message.data != bytes(data) or not same_topic):
                findings.append(f"send({data!r}, {options!r}) comes as {message}")
            message.ack()
        findings.extend(map(str, env.open_control().check()))
    return findings
