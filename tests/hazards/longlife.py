"""Processes that live through a whole run: what they use of the machine stays the same once they are warm."""

import dataclasses
import itertools
import os
import pathlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from persipubsub import Environment, HighWaterMark, Strategy, SubscriberSettings
from tests.hazards import trials
from tests.hazards.trials import DURABILITIES, Trial, store_of
from tests.process.support import BOUND, Here
from tests.soak.protocol import Outcome

#: Samples of a run; the first fifth is for warming up.
SAMPLES = 50
_WARM = SAMPLES // 5
#: Openings until a visitor is warm: the heap of a process that opens and closes a queue comes to its size (1.3 to 2.3
#: MiB more) in the first thousands, most of it in these, and stays there for tens of thousands. Where they take long,
#: the few in a short run add little.
_VISITS = 3000
#: The longest that a visitor warms up, in lengths of the run.
_LONGEST = 10
#: What the last fifth may have more than that after the warm-up, in the unit of each; they come and go a little.
ALLOWED = {"memory KiB": 2048, "descriptors": 1, "threads": 0, "reader places": 2, "files": 2, "pages": 256}


@dataclasses.dataclass
class Course:
    """How one use of the machine went, of one process or of the queue: seconds and values."""

    who: str
    what: str
    values: list[tuple[float, float]]

    def growth(self) -> float:
        """Return by how much the last fifth is above the one after the warm-up."""
        early = statistics.median(value for _, value in self.values[_WARM : 2 * _WARM])
        return statistics.median(value for _, value in self.values[-_WARM:]) - early

    def slope(self) -> float:
        """Return the growth per hour, by a line through all that came after the warm-up."""
        times, values = zip(*self.values[_WARM:], strict=True)
        return statistics.linear_regression(times, values).slope * 3600


def use_of_this_process() -> dict[str, float]:
    """Return what this process uses; of its memory what is not of a file."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "memory KiB": int(fields["RssAnon"][0]),
        "threads": int(fields["Threads"][0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def sampled(seconds: float, use: Callable[[], dict[str, float]]) -> Iterator[dict[str, list[tuple[float, float]]]]:
    """Yield again and again until the time is over; meanwhile write down, at equal distances, what is used."""
    began, courses = time.monotonic(), dict[str, list[tuple[float, float]]]()
    for number in range(1, SAMPLES + 1):
        while time.monotonic() - began < seconds * number / SAMPLES:
            yield courses
        for what, value in use().items():
            courses.setdefault(what, []).append((time.monotonic() - began, value))


Courses = dict[str, list[tuple[float, float]]]
Told = tuple[Courses, int]
"""What was used, and the number of operations."""


def publish(here: Here, path: pathlib.Path, seconds: float, seed: int) -> Told:
    """Publish messages of many sizes, one by one and in batches."""
    source, number, courses = random.Random(seed), 0, Courses()
    with Environment(path) as env:
        pub = env.new_publisher()
        for courses in sampled(seconds, use_of_this_process):  # noqa: B007 - the last state is returned
            number += len(pub.send_many([source.randbytes(source.choice((10, 500, 9000)))] * source.randrange(1, 5)))
    return courses, number


def consume(here: Here, path: pathlib.Path, seconds: float, seed: int) -> Told:
    """Receive in all ways; give some back."""
    source, number, courses = random.Random(seed), 0, Courses()
    with Environment(path) as env:
        sub = env.new_subscriber("sub")
        for courses in sampled(seconds, use_of_this_process):  # noqa: B007 - the last state is returned
            how = source.randrange(4)
            if how == 0:
                with sub.receive(timeout=0.01) as data:
                    number += data is not None
            elif how == 1:
                with sub.receive_view(timeout=0.01) as view:
                    number += view is not None
            elif how == 2:
                with sub.messages(batch=10, timeout=0.01) as loop:
                    number += sum(1 for _ in itertools.islice(loop, 25))
            else:
                for message in sub.get_many(5, timeout=0.01):
                    (message.nack if source.random() < 0.1 else message.ack)()
                    number += 1
    return courses, number


def come_and_go(here: Here, path: pathlib.Path, seconds: float, seed: int, visits: int = _VISITS) -> Told:
    """Open the queue, look at it, and close it, again and again; ``visits`` are for warming up."""
    number, courses = 0, Courses()

    def visit() -> None:
        with Environment(path) as env:
            control = env.open_control()
            control.add_subscriber("guest")
            control.statistics()
            control.remove_subscriber("guest")

    until = time.monotonic() + _LONGEST * seconds
    for _ in range(visits):
        if time.monotonic() < until:
            visit()
    for courses in sampled(seconds, use_of_this_process):  # noqa: B007 - the last state is returned
        visit()
        number += 1
    return courses, number


Roles = dict[str, Callable[..., Told]]
ROLES: Roles = {"publisher": publish, "consumer 1": consume, "consumer 2": consume, "visitor": come_and_go}


def live(trial: Trial, seconds: float, roles: Roles = ROLES) -> list[Course]:
    """Let processes live for so long; return what they, and the queue, used."""
    with Environment(trial.path) as env:
        env.new_control(
            {"sub": SubscriberSettings(max_deliveries=None)},
            HighWaterMark(max_messages=500),
            Strategy.BLOCK,
            durability=trial.durability,
        )
        store = store_of(env)

        def use_of_the_queue() -> dict[str, float]:
            return {
                "pages": store.env.info()["last_pgno"],
                "reader places": len(store.env.readers().splitlines()),
                "files": sum(1 for _ in trial.path.rglob("*")),
            }

        crowd = {name: trial.child() for name in roles}
        for number, (name, role) in enumerate(roles.items()):
            crowd[name].start(role, trial.path, seconds, trial.number + number)
        courses: Courses = {}
        for courses in sampled(seconds, use_of_the_queue):  # noqa: B007 - the last state is returned
            time.sleep(seconds / SAMPLES / 10)
        found = [Course("queue", what, values) for what, values in courses.items()]
        for name, child in crowd.items():
            told, number = child.returned(2 * BOUND)
            trial.tries += number
            found += [Course(name, what, values) for what, values in told.items()]
    trial.check()
    return found


def judge(trial: Trial, courses: Sequence[Course]) -> None:
    """Note what grew."""
    for course in courses:
        growth = course.growth()
        trial.expect(
            growth <= ALLOWED[course.what],
            f"{course.who}: {growth:g} {course.what} more at the end than when it was warm",
        )
        name = f"{course.what} per hour"
        if abs(course.slope()) >= abs(trial.worst.get(name, 0.0)):
            trial.worst[name] = course.slope()
        trial.note(f"{course.what} at most", max(value for _, value in course.values))


def run(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Live as long as there is time, with one durability, which the seed chooses."""

    def attempt(trial: Trial) -> None:
        judge(trial, live(trial, seconds))

    trial = trials.one(attempt, folder, seed, seed % len(DURABILITIES))
    return Outcome(trial.tries, trial.findings, {**trial.worst, "durability": trial.durability.value})
