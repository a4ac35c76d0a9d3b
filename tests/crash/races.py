"""Two processes that wake each other, again and again: no wake-up is lost between looking and sleeping."""

import dataclasses
import pathlib
import random
import time
from collections.abc import Sequence

from persipubsub import Durability, Environment
from tests.crash import planted
from tests.process.support import BOUND, Child, Here

#: A lost wake-up costs two seconds; whoever is woken is there much sooner.
LOST = 1.0
_END = b"end"


@dataclasses.dataclass
class Races:
    """What came of them: seconds of each round."""

    rounds: list[float]

    @property
    def lost(self) -> int:
        """Return how many wake-ups were lost."""
        return sum(seconds > LOST for seconds in self.rounds)


def answer(here: Here, there: pathlib.Path, back: pathlib.Path, bugs: Sequence[str]) -> None:
    """Send back what comes, until the end comes."""
    source = random.Random(0)
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


def race(child: Child, folder: pathlib.Path, seed: int, seconds: float, rounds: int, bugs: Sequence[str] = ()) -> Races:
    """Wake and be woken for so long, or so often, at most; ends with the first lost wake-up."""
    paths = folder / "there", folder / "back"
    for path in paths:
        with Environment(path) as env:
            env.new_control({"sub"}, durability=Durability.PROCESS)
    source, found = random.Random(seed), Races([])
    deadline = time.monotonic() + seconds
    with Environment(paths[0]) as env, Environment(paths[1]) as other:
        pub, sub = env.new_publisher(), other.new_subscriber("sub")
        child.start(answer, *paths, list(bugs))
        assert child.told() == "ready"
        while len(found.rounds) < rounds and time.monotonic() < deadline and not found.lost:
            dawdle(source)
            began = time.monotonic()
            pub.send(b"x")
            with sub.receive(timeout=BOUND) as data:
                assert data == b"x"
            found.rounds.append(time.monotonic() - began)
        pub.send(_END)
        child.returned()
    return found
