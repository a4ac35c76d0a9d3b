"""Short sequences of operations that are cut off at every point, and what must hold wherever that was.

A scenario runs in a child that tells what has returned, on a pipe; ``judge`` looks at the queue afterwards.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from persipubsub import Durability, Environment, HighWaterMark, SettingsMismatchError, Strategy
from persipubsub.manager import QueueManager

Tell = Callable[[str], None]

#: What stands in the queue before: of each subscriber.
BEFORE = [b"first", b"second", b"third"]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is done, and how the queue is judged when it was cut off after some of it had returned."""

    act: Callable[[Environment, Tell], None]
    judge: Callable[[Environment, set[str]], list[str]]
    strategy: Strategy = Strategy.PRUNE_FIRST
    most: int | None = None
    #: Whether the queue looks as if something else had written it, so that whoever opens it looks at everything first.
    doubted: bool = False


def deploy(path: pathlib.Path, scenario: Scenario, durability: Durability) -> None:
    """Deploy the queue of a scenario, with messages in it."""
    with Environment(path) as env:
        env.new_control(
            {"a", "b"},
            HighWaterMark(max_messages=scenario.most),
            scenario.strategy,
            durability=durability,
            map_size=1 << 20,
        )
        env.new_publisher().send_many(BEFORE)


def left(env: Environment, identifier: str) -> list[bytes]:
    """Take all that is there, and acknowledge it."""
    with env.new_subscriber(identifier).messages(batch=10, timeout=0) as loop:
        return [message.data for message in loop]


def _unless(holds: bool, finding: str) -> list[str]:
    return [] if holds else [finding]


# -- publishing -------------------------------------------------------------------------------------------


def _publish(env: Environment, tell: Tell) -> None:
    pub = env.new_publisher()
    pub.send(b"one")
    tell("one")
    pub.send_many([b"two", b"three"])
    tell("both")


def _judge_published(env: Environment, told: set[str]) -> list[str]:
    findings = []
    for identifier in ("a", "b"):
        got = left(env, identifier)
        wanted = BEFORE + ([b"one"] if "one" in told else []) + ([b"two", b"three"] if "both" in told else [])
        whole = [*BEFORE, b"one", b"two", b"three"]
        findings += _unless(got[: len(wanted)] == wanted, f"{identifier} got {got} after {sorted(told)}")
        findings += _unless(got in (whole[:3], whole[:4], whole), f"{identifier} got a part of a batch: {got}")
    return findings


# -- consuming --------------------------------------------------------------------------------------------


def _receive(env: Environment, tell: Tell) -> None:
    with env.new_subscriber("a").receive(timeout=0) as data:
        assert data == b"first"
        tell("body")
    tell("done")


def _judge_received(env: Environment, told: set[str]) -> list[str]:
    got = left(env, "a")
    if "done" in told:
        return _unless(got == BEFORE[1:], f"acknowledged, and again: {got}")
    if "body" in told:
        return _unless(got in (BEFORE, BEFORE[1:]), f"in the block: {got}")
    return _unless(got == BEFORE, f"acknowledged without a body: {got}")


def _settle(env: Environment, tell: Tell) -> None:
    sub = env.new_subscriber("a")
    first, second = sub.get_many(2, timeout=0)
    first.nack(reason="not now")
    tell("back")
    second.reject("never")
    tell("dead")


def _judge_settled(env: Environment, told: set[str]) -> list[str]:
    dead = [letter.data for letter in env.open_control().dead_letters("a")]
    got = left(env, "a")
    findings = _unless(sorted(got + dead) == sorted(BEFORE), f"{got} and dead {dead}")
    return findings + _unless("dead" not in told or dead == [b"second"], f"dead after its rejection: {dead}")


def _loop(env: Environment, tell: Tell) -> None:
    with env.new_subscriber("a").messages(batch=2, timeout=0) as loop:
        for number, message in enumerate(loop):
            assert message.data == BEFORE[number]
            tell(f"body {number}")
    tell("done")


def _judge_looped(env: Environment, told: set[str]) -> list[str]:
    got = left(env, "a")
    handled = sum(f"body {number}" in told for number in range(3))
    fitting = [BEFORE[number:] for number in ((3,) if "done" in told else range(handled + 1))]
    return _unless(got in fitting, f"{handled} handled, then {got}")


# -- pruning, subscribers, deployment ---------------------------------------------------------------------


def _overflow(env: Environment, tell: Tell) -> None:
    env.new_publisher().send_many([b"four", b"five"])
    tell("sent")
    env.open_control().prune_dangling_messages()


def _judge_overflow(env: Environment, told: set[str]) -> list[str]:
    (figures, _) = env.open_control().statistics().subscribers
    got = left(env, "a")
    if got == BEFORE:
        return _unless("sent" not in told, "what was sent is not there")
    return _unless((got, figures.lost) == ([b"third", b"four", b"five"], 2), f"got {got}, lost {figures.lost}")


def _roster(env: Environment, tell: Tell) -> None:
    control = env.open_control()
    control.add_subscriber("c", start="first", max_deliveries=7)
    tell("added")
    control.remove_subscriber("b")
    tell("removed")


def _judge_roster(env: Environment, told: set[str]) -> list[str]:
    control = env.open_control()
    there = control.subscriber_ids
    findings = _unless(there in ({"a", "b"}, {"a", "b", "c"}, {"a", "c"}), f"subscribers are {sorted(there)}")
    findings += _unless("added" not in told or "c" in there, "what was added is not there")
    findings += _unless("removed" not in told or "b" not in there, "what was removed is still there")
    try:
        control.add_subscriber("c", start="first", max_deliveries=7)
    except SettingsMismatchError as error:
        findings.append(f"half a subscriber: {error}")
    for identifier in sorted(control.subscriber_ids):
        findings += _unless(left(env, identifier) == BEFORE, f"{identifier} misses something")
    return findings


def _deploy(env: Environment, tell: Tell) -> None:
    path = pathlib.Path(env.location).parent / "new"
    manager = QueueManager(path)
    manager.create("queue", subscriber_ids={"x"}).close()
    tell("created")
    manager.delete("queue")
    tell("deleted")


def _judge_deployed(env: Environment, told: set[str]) -> list[str]:
    root = pathlib.Path(env.location).parent / "new"
    manager = QueueManager(root)
    names = manager.names()
    findings = _unless(names in ([], ["queue"]), f"there is {names}")
    findings += _unless("deleted" not in told or not names, "it is there after its deletion")
    if names:
        with manager.open("queue") as new:
            findings += [str(found) for found in new.open_control().check()]
            findings += _unless(new.open_control().subscriber_ids == {"x"}, "half a queue")
    return findings


def _look(env: Environment, tell: Tell) -> None:
    env.open_control().statistics()


def _judge_looked(env: Environment, told: set[str]) -> list[str]:
    return [
        finding for name in ("a", "b") for finding in _unless(left(env, name) == BEFORE, f"{name} misses something")
    ]


SCENARIOS = {
    "publish": Scenario(_publish, _judge_published),
    "receive": Scenario(_receive, _judge_received),
    "settle": Scenario(_settle, _judge_settled),
    "loop": Scenario(_loop, _judge_looped),
    "prune": Scenario(_overflow, _judge_overflow, most=3),
    "subscribers": Scenario(_roster, _judge_roster),
    "deploy": Scenario(_deploy, _judge_deployed),
    "doubt": Scenario(_look, _judge_looked, doubted=True),
}


def run(path: pathlib.Path, scenario: Scenario, pipe: int) -> None:
    """Run a scenario from the opening of the queue to its closing, and tell on a pipe what has returned."""

    def tell(text: str) -> None:
        os.write(pipe, f"{text}\n".encode())

    with Environment(path) as env:
        scenario.act(env, tell)
    tell("closed")


def judge(path: pathlib.Path, scenario: Scenario, told: set[str]) -> list[str]:
    """Judge a queue after its process was killed."""
    with Environment(path) as env:
        control = env.open_control()
        findings = [str(found) for found in control.check()]
        findings += scenario.judge(env, told)
        findings += [f"afterwards: {found}" for found in control.check()]
        env.new_publisher().send(b"on")
        for identifier in sorted(control.subscriber_ids):
            findings += _unless(left(env, identifier)[-1:] == [b"on"], f"{identifier} does not get on")
    return findings
