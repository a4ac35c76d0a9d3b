"""Two processes that wake each other, again and again: no wake-up is lost between looking and sleeping."""

import dataclasses
import pathlib
import random
import time
from collections.abc import Sequence
from unittest import mock

from persipubsub import Durability, Environment
from persipubsub.engine.local import waiting
from tests.crash import planted
from tests.process.support import BOUND, PATIENT, Child, Here, be_patient

#: Whoever is not woken sleeps for minutes here: a wake-up that has not come after so many seconds is lost.
LOST = BOUND / 2
_END = b"end"


@dataclasses.dataclass
class Races:
    """What came of them: seconds of each round, and how many wake-ups were lost."""

    rounds: list[float]
    lost: int = 0


def answer(here: Here, there: pathlib.Path, back: pathlib.Path, bugs: Sequence[str]) -> None:
    """Send back what comes, until the end comes."""
    source = random.Random(0)
    be_patient(here)
    for bug in bugs:
        planted.plant(bug)
    with Environment(there) as env, Environment(back) as other:
        sub, pub = env.new_subscriber("sub"), other.new_publisher()
        here.tell("ready")
        while True:
            with sub.receive(timeout=BOUND) as data:
                if data == _END:
                    return
            pub.send(data)
            dawdle(source)


def dawdle(source: random.Random) -> None:
    """Let some microseconds pass, so that the other side is anywhere on its way to sleep."""
    until = time.perf_counter() + source.random() * 6e-4
    while time.perf_counter() < until:
        pass


def race(
    child: Child,
    folder: pathlib.Path,
    seed: int,
    seconds: float,
    rounds: int,
    bugs: Sequence[str] = (),
    *,
    least: int = 1,
    lost: float = LOST,
) -> Races:
    """Wake and be woken for so long, or so often, at most; ends with the first lost wake-up.

    :param least: rounds that are made however long they take
    :param lost: seconds after which a wake-up is lost
    """
    paths = folder / "there", folder / "back"
    for path in paths:
        with Environment(path) as env:
            env.new_control({"sub"}, durability=Durability.PROCESS)
    source, found = random.Random(seed), Races([])
    deadline = time.monotonic() + seconds
    patient = mock.patch.object(waiting, "LONGEST", PATIENT)
    with patient, Environment(paths[0]) as env, Environment(paths[1]) as other:
        pub, sub = env.new_publisher(), other.new_subscriber("sub")
        child.start(answer, *paths, list(bugs))
        assert child.told() == "ready"
        while len(found.rounds) < rounds and not found.lost:
            if time.monotonic() > deadline and len(found.rounds) >= least:
                break
            dawdle(source)
            began = time.monotonic()
            pub.send(b"x")
            with sub.receive(timeout=lost):
                found.rounds.append(time.monotonic() - began)
            # Who was not woken here looks once more at the end of its time, and may find the answer.
            found.lost += found.rounds[-1] >= lost
        pub.send(_END)
        child.returned()
    return found
