"""Publishers and consumers, and someone who kills them and starts others in their place."""

import dataclasses
import itertools
import os
import pathlib
import random
import signal
import time
from collections.abc import Sequence
from typing import Any

from persipubsub import Control, Durability, Environment, HighWaterMark, Strategy
from tests.crash import checker, failpoints, roles
from tests.crash.journal import SUFFIX, Journal
from tests.process.support import BOUND, Child, Children, eventually
from tests.soak.protocol import percentile

#: A point is reached for the nth time, at most this.
_LATEST = 40
#: How many of those who are killed from outside might still have come to their points.
_SPOILT = 0.3


@dataclasses.dataclass(frozen=True)
class Weather:
    """What a storm is like."""

    durability: Durability = Durability.FULL
    publishers: int = 2
    #: Of each subscriber.
    consumers: int = 2
    admins: int = 1
    #: Publishers wait when so many messages are stored: consumers keep up, and publishers die waiting, too.
    most: int | None = 300
    map_size: int = 1 << 20
    #: How many of the deaths are at a named point.
    named: float = 0.5
    bugs: Sequence[str] = ()
    #: Bytes of most messages.
    sizes: int = 200
    #: Messages that are sent at once, at most, where it is not one; and how often it is not.
    batch: int = 20
    batches: float = 0.2
    #: The longest time between two kills; most are much shorter.
    pause: float = 0.2
    #: Messages that are sent for each kill, at least: on a slow machine nobody would live long enough to do anything.
    work: int = 3
    #: Whether publishers die at the points where the map grows.
    grows: bool = False
    #: Seconds that consumers have to empty the queue at the end.
    patience: float = 2 * BOUND


def growing(durability: Durability, bugs: Sequence[str] = ()) -> Weather:
    """Return weather in which the map is soon too small, again and again, and who makes it grow dies of it."""
    return Weather(
        durability,
        most=1500,
        map_size=1 << 18,
        sizes=30_000,
        work=20,
        grows=True,
        publishers=3,
        admins=0,
        named=0.9,
        bugs=bugs,
    )


@dataclasses.dataclass
class Place:
    """A role, and who has it now."""

    role: str
    arguments: tuple[Any, ...]
    child: Child
    process: str
    point: str | None


class Storm:
    """A crowd of processes around one queue."""

    def __init__(self, children: Children, folder: pathlib.Path, seed: int, weather: Weather) -> None:
        """Deploy the queue and start everybody."""
        self._children = children
        self._folder = folder
        self._source = random.Random(seed)
        self._weather = weather
        self._numbers = itertools.count()
        self._began = time.monotonic()
        self.findings: list[str] = []
        self.kills = 0
        #: How often somebody died at a named point.
        self.reached: dict[str, int] = {}
        self.pages: list[int] = []
        self.drained_in = 0.0
        (folder / roles.JOURNALS).mkdir(parents=True)
        self._journal = Journal(folder / roles.JOURNALS, "supervisor")
        self._journal.write("expected", subscribers=sorted(roles.SUBSCRIBERS))
        self.env = Environment(folder / roles.QUEUE)
        self.control: Control = self.env.new_control(
            set(roles.SUBSCRIBERS),
            HighWaterMark(max_messages=weather.most),
            Strategy.BLOCK,
            durability=weather.durability,
            map_size=weather.map_size,
        )
        for identifier in roles.SUBSCRIBERS:
            # What is killed again and again in the same hands shall not die here.
            self.control.configure_subscriber(identifier, max_deliveries=None)
        publisher = "grower" if weather.grows else "publisher"
        crowd: list[tuple[str, tuple[Any, ...]]] = [
            (publisher, (weather.sizes, weather.batch, weather.batches))
        ] * weather.publishers
        crowd += [("consumer", (identifier,)) for identifier in roles.SUBSCRIBERS] * weather.consumers
        crowd += [("admin", ())] * weather.admins
        self._places = [self._begin(role, arguments) for role, arguments in crowd]

    # -- processes ----------------------------------------------------------------------------------

    def _begin(self, role: str, arguments: tuple[Any, ...]) -> Place:
        seed = self._source.randrange(1 << 30)
        process = f"{role}-{next(self._numbers)}"
        point = self._choose_point(role, arguments) if self._source.random() < self._weather.named else None
        fault = None if point is None else (point, self._choose_moment(point))
        child = self._children.new("forkserver")
        child.start(roles.STEPS[role], self._folder, process, seed, fault, self._weather.bugs, *arguments)
        return Place(role, arguments, child, process, point)

    def _choose_point(self, role: str, arguments: tuple[Any, ...]) -> str:
        mine = {role, *arguments} if role == "grower" else {"any", role, *arguments}
        fitting = [name for name, point in failpoints.FAILPOINTS.items() if point.who in mine]
        least = min(self.reached.get(name, 0) for name in fitting)
        return self._source.choice([name for name in fitting if self.reached.get(name, 0) == least])

    def _choose_moment(self, point: str) -> int:
        # A map grows a few times only, for all processes together.
        return 1 if failpoints.FAILPOINTS[point].who == "grower" else self._source.randrange(1, _LATEST)

    def _end(self, place: Place) -> None:
        """Kill a process, unless it has killed itself."""
        # Until when it surely lived: it may kill itself while this one looks, or waits for the processor.
        moment = time.monotonic_ns()
        if place.child.is_busy():
            self._journal.write("killing", process=place.process, moment=moment)
        place.child.kill()
        self._note_end(place)

    def _note_end(self, place: Place) -> None:
        code = place.child.ended()
        self._journal.write("dead", process=place.process)
        if place.point is not None and self._died_at_its_point(place):
            self.reached[place.point] = self.reached.get(place.point, 0) + 1
        elif code not in (-signal.SIGKILL, -signal.SIGALRM):
            self.findings.append(f"{place.process} ended with {code}")

    def _died_at_its_point(self, place: Place) -> bool:
        path = self._folder / roles.JOURNALS / f"{place.process}{SUFFIX}"
        return path.exists() and b'"dying"' in path.read_bytes()[-300:]

    def _look_after(self, place: Place) -> bool:
        """Replace a process that has come to its end by itself; tell whether it had."""
        if place.child.is_busy():
            return False
        try:
            self.findings.append(f"{place.process} came to an end: {place.child.returned()}")
        except AssertionError:
            pass  # it killed itself
        except Exception as error:  # noqa: BLE001 - what it raised
            self.findings.append(f"{place.process} raised {error}")
        place.child.kill()
        self._note_end(place)
        return True

    # -- the storm ------------------------------------------------------------------------------------

    def blow(self, kills: int, seconds: float = 1e9) -> None:
        """Kill so many processes, or for so long; look after each whether the queue is sound."""
        deadline = time.monotonic() + seconds
        while self.kills < kills and time.monotonic() < deadline and len(self.findings) < 10:
            self._wait(self._source.random() ** 3 * self._weather.pause)
            victims = [place for place in self._places if self._look_after(place)]
            if not victims:
                victims = [self._choose_victim()]
                self._end(victims[0])
            self._replace(victims)
            self._check()

    def _replace(self, dead: Sequence[Place]) -> None:
        for place in dead:
            self.kills += 1
            self._places[self._places.index(place)] = self._begin(place.role, place.arguments)

    def _choose_victim(self) -> Place:
        pointless = [place for place in self._places if place.point is None]
        if not pointless or self._source.random() < _SPOILT:
            return self._source.choice(self._places)
        return self._source.choice(pointless)

    def _wait(self, seconds: float) -> None:
        """Wait for so long, and until something was done; or until somebody has come to his end."""
        until, enough = time.monotonic() + seconds, self._weather.work * self.kills
        eventually(
            lambda: self._somebody_ended() or (time.monotonic() >= until and self._published() >= enough),
            seconds + self._weather.patience / 2,
        )

    def _somebody_ended(self) -> bool:
        return not all(place.child.is_busy() for place in self._places)

    def _published(self) -> int:
        return self.control.statistics().published

    def _check(self) -> None:
        self.findings += [f"after {self.kills} kills: {finding}" for finding in self.control.check()]
        store: Any = self.env._connection.engine()
        self.pages.append(store._store.env.info()["last_pgno"])

    def _end_role(self, *names: str) -> None:
        for place in [place for place in self._places if place.role in names]:
            self._places.remove(place)
            if not self._look_after(place):
                self._end(place)
            self.kills += 1

    def calm(self) -> checker.Verdict:
        """End the publishers, let the consumers finish, and judge."""
        self._end_role("publisher", "grower", "admin")
        # Who only reads sees a commit whose process was killed at its very end after the next write: here is one.
        self.control.configure_subscriber(next(iter(roles.SUBSCRIBERS)), max_deliveries=None)
        roles.remove_guests(self.env)
        began = time.monotonic()
        drained = eventually(self._is_drained, self._weather.patience)
        self.drained_in = time.monotonic() - began
        if not drained:
            self.findings.append(f"stuck: {self._lag()} deliveries are left after {self._weather.patience:g} s")
        self._end_role("consumer")
        self._check()
        verdict = checker.judge(self._folder / roles.JOURNALS)
        self.findings += verdict.findings
        self._account(verdict)
        self.env.close()
        return verdict

    def _is_drained(self) -> bool:
        self._replace([place for place in self._places if self._look_after(place)])
        return not self._lag()

    def _lag(self) -> int:
        return sum(subscriber.lag for subscriber in self.control.statistics().subscribers)

    def _account(self, verdict: checker.Verdict) -> None:
        """Compare with the queue's own figures."""
        figures = self.control.statistics()
        if self._lag():
            return
        self._claim(figures.published >= verdict.sent, f"{figures.published} published, but {verdict.sent} sent")
        self._claim(figures.messages == figures.payload_bytes == 0, f"{figures.messages} messages are left over")
        for subscriber in figures.subscribers:
            same = (subscriber.settled, subscriber.lost, subscriber.dead) == (figures.published, 0, 0)
            self._claim(same, f"of {figures.published} messages {subscriber}")
            once = subscriber.deliveries - subscriber.redelivered == subscriber.settled
            self._claim(once, f"deliveries do not add up: {subscriber}")

    def _claim(self, holds: bool, finding: str) -> None:
        if not holds:
            self.findings.append(finding)

    def growth(self) -> float:
        """Return how much larger the file became in the second half than it was in the first."""
        half = len(self.pages) // 2
        return max(self.pages[half:]) / max(self.pages[:half])

    def figures(self, verdict: checker.Verdict) -> dict[str, int | float | str | None]:
        """Return what the scorecard shows."""
        return {
            "kills": self.kills,
            "at named points": sum(self.reached.values()),
            "points": len(self.reached),
            "kills/s": self.kills / (time.monotonic() - self._began),
            "sent": verdict.sent,
            "deliveries": verdict.deliveries,
            "again": verdict.redeliveries,
            "rescue p50 s": percentile(verdict.rescues, 0.5),
            "rescue max s": max(verdict.rescues, default=None),
            "drained in s": self.drained_in,
            "growth": self.growth(),
            "MiB": max(self.pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
        }


def storm(
    folder: pathlib.Path, seed: int, weather: Weather, kills: int, seconds: float = 1e9
) -> tuple[Storm, checker.Verdict]:
    """Let a storm blow and calm down."""
    children = Children()
    try:
        blowing = Storm(children, folder, seed, weather)
        blowing.blow(kills, seconds)
        return blowing, blowing.calm()
    finally:
        children.end()
