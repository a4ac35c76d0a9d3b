"""The rows of the long run that are about processes which die, stop, fork, wait and are interrupted."""

import gc
import itertools
import logging
import pathlib
import random
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack

from persipubsub import Durability
from tests.crash import failpoints, fencing, histories, interrupts, linear, points, races, scenarios
from tests.crash.storm import Weather, growing, storm
from tests.process.support import Children
from tests.soak.protocol import Figure, Outcome, Row, percentile
from tests.soak.repeating import memory

DURABILITIES = (Durability.PROCESS, Durability.COMMIT, Durability.FULL)
#: Kills of one storm; a queue is made for each.
_KILLS = 400
#: The file may be larger in the second half of a storm by this factor: batches differ.
_GROWTH = 3.0


def _storms(weathers: Callable[[int], Weather], kills: int, steady: bool) -> Callable[..., Outcome]:
    """Return what runs storm after storm until the time is over."""

    def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
        deadline = time.monotonic() + seconds
        findings: list[str] = []
        summed = dict.fromkeys(("at named points", "sent", "deliveries", "again"), 0.0)
        worst = dict.fromkeys(("rescue max s", "drained in s", "growth"), 0.0)
        total = 0
        reached: set[str] = set()
        for number in itertools.count():
            left = deadline - time.monotonic()
            if (number and left < 3) or findings:
                break
            weather = weathers(number)
            blown, verdict = storm(folder / str(number), seed + number, weather, kills, left)
            findings += [f"seed {seed + number}, {weather.durability.value}: {found}" for found in blown.findings]
            if steady and blown.kills > kills // 2 and blown.growth() > _GROWTH:
                findings.append(f"seed {seed + number}: the file grew by the factor {blown.growth():.1f}")
            total += blown.kills
            reached |= blown.reached.keys()
            new = blown.figures(verdict)
            for name in summed:
                summed[name] += float(new[name] or 0)
            for name in worst:
                worst[name] = max(worst[name], float(new[name] or 0))
        points = f"{len(reached)} of {len(failpoints.FAILPOINTS)}"
        figures: dict[str, Figure] = {"storms": number, "points": points}
        figures.update({name: round(value) for name, value in summed.items()})
        figures.update(worst)
        return Outcome(total, findings, figures)

    return run


def _calm_queue(number: int) -> Weather:
    """Return weather with many kills, or, every other time, with many messages."""
    durability = DURABILITIES[number // 2 % 3]
    if number % 2:
        return Weather(durability, publishers=3, most=2000, map_size=1 << 23, batch=100, batches=0.8, pause=2.0)
    return Weather(durability, publishers=3)


def _growing_queue(number: int) -> Weather:
    return growing((Durability.PROCESS, Durability.PROCESS, Durability.FULL, Durability.COMMIT)[number % 4])


def _points(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Try points in a random order, of all scenarios and durabilities alike, until the time is over."""
    source = random.Random(seed)
    kinds = list(itertools.product((points.LINES, points.CALLS, points.TORN), scenarios.SCENARIOS, DURABILITIES))
    # Each has the same time; what those with few points leave over is for the others, which come later.
    deadline = time.monotonic() + seconds
    tried = there = 0
    findings: list[str] = []
    source.shuffle(kinds)
    kinds.sort(key=lambda kind: kind[0] == points.LINES)
    with ExitStack() as stack:
        benches = {}
        for calls in (True, False):
            home = stack.enter_context(memory(folder))
            benches[calls] = stack.enter_context(points.Bench(home, calls=calls))
        for number, (mode, name, durability) in enumerate(kinds):
            if findings:
                break
            bench = benches[mode != points.LINES]
            count = bench.prepare(name, durability, mode)
            until = time.monotonic() + (deadline - time.monotonic()) / (len(kinds) - number)
            there += count
            for point in bench.try_points(mode, source.sample(range(1, count + 1), count), until):
                tried += point.reached
                where = f"{name}, {durability.value}, {mode} {point.nth} of {count}"
                findings += [f"{where}: {finding}" for finding in point.findings]
    return Outcome(tried, findings, {"points": there, "tried": tried, "share": tried / there})


def _histories(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Record history after history, each on a queue of its own, and judge them."""
    deadline = time.monotonic() + seconds
    findings: list[str] = []
    operations = number = 0
    children = Children()
    try:
        crowd = [children.new("forkserver") for _ in range(3)]
        while not number or (time.monotonic() < deadline and not findings):
            path = folder / str(number)
            histories.deploy(path, DURABILITIES[number % 3])
            history = histories.record(crowd, path, seed + number, 60)
            reason = linear.explain(history)
            if reason is not None:
                findings.append(f"seed {seed + number}: {reason}")
            for child in crowd:
                child.do(histories.close)
            operations += len(history)
            number += 1
            shutil.rmtree(path)
    finally:
        children.end()
    return Outcome(number, findings, {"operations": operations})


def _interrupts(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Interrupt at every moment, in a random order."""
    logging.disable(logging.CRITICAL)
    # Each trial collects the garbage: what was imported is none, and need not be looked through again and again.
    gc.freeze()
    findings: list[str] = []
    tried = there = 0
    deadline = time.monotonic() + seconds
    children = Children()
    try:
        for number, act in enumerate(interrupts.ACTS):
            bench = interrupts.Bench(folder / act, children.new("forkserver"), Durability.PROCESS)
            count = bench.count(act)
            there += count
            until = time.monotonic() + (deadline - time.monotonic()) / (len(interrupts.ACTS) - number)
            for nth in random.Random(seed).sample(range(1, count + 1), count):
                if time.monotonic() > until or findings:
                    break
                reached, found = bench.trial(act, nth)
                tried += reached
                findings += found
            bench.close()
    finally:
        children.end()
    return Outcome(tried, findings, {"moments": there, "tried": tried})


def _races(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Race until the time is over."""
    children = Children()
    try:
        found = races.race(children.new("forkserver"), folder, seed, seconds, 1_000_000)
    finally:
        children.end()
    figures: dict[str, Figure] = {
        "p50 s": percentile(found.rounds, 0.5),
        "p99.9 s": percentile(found.rounds, 0.999),
        "max s": max(found.rounds),
    }
    return Outcome(len(found.rounds), [f"{found.lost} wake-ups were lost"] if found.lost else [], figures)


def _late(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Come late until the time is over."""
    deadline = time.monotonic() + seconds
    number, findings = 0, list[str]()
    while not number or (time.monotonic() < deadline and not findings):
        findings = fencing.late(folder / str(number), seed + number, 1000)
        number += 1
    return Outcome(1000 * number, findings)


ROWS = [
    Row(
        "kill-storm",
        "publishers, competing consumers of three subscribers and an admin, killed at random moments and named points",
        "nothing lost, nothing held by two, order kept, acknowledged means never again, check clean after every kill, "
        "nothing stuck, the file does not grow",
        _storms(_calm_queue, _KILLS, steady=True),
        "process, commit, full, one queue after another",
        share=4,
        aim=1_000,
    ),
    Row(
        "growth-storm",
        "the same while the map is too small again and again, and those who make it grow die of it",
        "as above, and no error reaches a process",
        _storms(_growing_queue, 40, steady=False),
        "process twice, full, commit, one queue after another",
        share=2,
        aim=300,
    ),
    Row(
        "crash-points",
        "publish, receive, settle, loop, prune, subscribers and deploy, cut off by SIGKILL at a line of the library, "
        "before a call that changes a file or a lock, and in the middle of a write",
        "what returned stands, nothing is half done, check clean, the queue gets on",
        _points,
        share=15,
        aim=40_000,
    ),
    Row(
        "histories",
        "sends, takes, acknowledgements, returns and settlements by id of threads and processes at once, recorded",
        "a queue that does one thing after another could have shown the same",
        _histories,
        "process, commit, full, one queue after another",
        aim=300,
    ),
    Row(
        "interrupts",
        "receive, receive_view, a loop and send, interrupted at every moment at which Python may run a signal handler",
        "nothing acknowledged that was not handled, nothing left held or locked, the next message arrives",
        _interrupts,
        "process",
        aim=1_000,
    ),
    Row(
        "wake-ups",
        "two processes that wake each other, at every moment of the way to sleep",
        f"nobody waits for more than {races.LOST:g} s",
        _races,
        "process",
        aim=100_000,
    ),
    Row(
        "late-settlements",
        "acknowledgements, returns, rejections and extensions after the lease ended and another took the message, "
        "while the wall clock is set back and forth by a day",
        "each raises LeaseLostError and changes nothing",
        _late,
        "process",
        share=0.5,
        aim=10_000,
    ),
]
