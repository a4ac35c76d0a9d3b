"""A map that is full and cannot grow, and one that grows under load."""

import contextlib
import pathlib
import resource
import signal
import time

from persipubsub import Environment, StorageFullError
from tests.hazards.trials import Trial
from tests.process import support
from tests.process.support import BOUND, Here
from tests.soak.protocol import percentile

MIB = 1 << 20
#: What the map and the data file may take.
LIMIT = 6 * MIB
#: Acknowledgements that have to succeed while somebody reads a view: no page that they free is used again meanwhile.
PINNED_ACKS = 20


def fill(here: Here, path: pathlib.Path, size: int) -> int:
    """Send until there is no room, where no file may grow any more; return how many messages got in."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    here.env = Environment(path)
    here.pub, here.sub = here.env.new_publisher(), here.env.new_subscriber("sub")
    number = 0
    with contextlib.suppress(StorageFullError):
        while True:
            here.pub.send_many([bytes(size)] * 20)
            number += 20
    with contextlib.suppress(StorageFullError):
        while True:
            here.pub.send(bytes(size))
            number += 1
    return number


def acknowledge(here: Here, most: int) -> tuple[int, str]:
    """Take and acknowledge one by one; return how many it were, and the error that ended it."""
    for number in range(most):
        try:
            message = here.sub.get(timeout=0)
            if message is None:
                return number, ""
            message.ack()
        except Exception as error:  # noqa: BLE001 - the trial judges it
            return number, f"{type(error).__name__}: {error}"
    return most, ""


def view_for_ever(here: Here, path: pathlib.Path) -> None:
    """Read a message in a block until this process is killed."""
    with Environment(path) as env, env.new_subscriber("viewer").receive_view(timeout=BOUND) as view:
        here.tell(len(view or b""))
        signal.pause()


def full(trial: Trial) -> None:
    """Fill the map; then acknowledge and prune, also beside somebody who reads a view."""
    path, size = trial.path, trial.source.choice([2000, 5000, 20_000])
    with Environment(path) as env:
        env.new_control({"sub", "viewer"}, durability=trial.durability, map_size=LIMIT)
    child, viewer = trial.child(), trial.child()
    number = child.do(fill, path, size)
    trial.expect(number > 50, f"only {number} messages got in")
    viewer.start(view_for_ever, path)
    trial.expect(viewer.told() == size, "the view is of another message")
    acked, said = child.do(acknowledge, PINNED_ACKS)
    trial.expect(acked == PINNED_ACKS, f"{acked} of {PINNED_ACKS} acknowledged beside a view: {said}")
    more, said = child.do(acknowledge, 1000)
    trial.expect(not said or "disk is full" in said, f"beside a view: {said}")
    trial.add("of these beside a view", acked + more)
    viewer.kill()
    rest, said = child.do(acknowledge, number)
    # The one at which it ended may be in hand.
    trial.expect(acked + more + rest >= number - 1, f"{acked + more + rest} of {number} acknowledged: {said}")
    trial.tries += acked + more + rest
    trial.add("filled with", number)
    child.do(support.close)
    with Environment(path) as env:
        control = env.open_control()
        control.remove_subscriber("viewer")
        control.prune_dangling_messages()
        trial.expect(control.statistics().messages <= 1, f"{control.statistics().messages} messages are left over")
        env.new_publisher().send(bytes(size))
    trial.check()


# -- growing --------------------------------------------------------------------------------------------

PUBLISHERS, MESSAGES = 3, 40


def publish(here: Here, path: pathlib.Path, seed: int) -> tuple[int, list[float]]:
    """Publish much; return how many bytes, and how long each took."""
    sent, took = 0, list[float]()
    with Environment(path) as env:
        pub = env.new_publisher()
        env.open_control().statistics()
        for number in range(MESSAGES):
            size = (seed * 7919 + number * 104_729) % 200_000
            began = time.monotonic()
            pub.send(bytes(size))
            took.append(time.monotonic() - began)
            sent += size
    return sent, took


def consume(here: Here, path: pathlib.Path) -> int:
    """Take all; return how many bytes."""
    received = 0
    with Environment(path) as env:
        sub = env.new_subscriber("sub")
        for _ in range(PUBLISHERS * MESSAGES):
            sub.peek()
            with sub.receive(timeout=BOUND) as data:
                received += len(data or b"")
    return received


def growing(trial: Trial) -> None:
    """Let the map grow again and again while four processes work."""
    with Environment(trial.path) as env:
        # The idle subscriber keeps everything.
        control = env.new_control({"sub", "idle"}, durability=trial.durability, map_size=MIB)
        consumer, *publishers = [trial.child() for _ in range(1 + PUBLISHERS)]
        consumer.start(consume, trial.path)
        for child in publishers:
            child.start(publish, trial.path, trial.source.randrange(1000))
        took: list[float] = []
        sent = 0
        try:
            for child in publishers:
                size, seconds = child.returned(2 * BOUND)
                sent += size
                took += seconds
            trial.expect(consumer.returned(2 * BOUND) == sent, "not all bytes came")
        except support.ChildError as error:
            trial.findings.append(str(error))
        trial.expect(control.statistics().payload_bytes == sent, "not all bytes are kept")
    trial.note("stall p99 s", percentile(took, 0.99) or 0)
    trial.note("stall max s", max(took, default=0))
    trial.tries += len(took)
    trial.check()
