"""Readers that are killed in the middle of a read transaction, and a table that has no place for another reader."""

import os
import pathlib
import signal
import threading
import time
from unittest import mock

from persipubsub import Environment, QueueBusyError, SubscriberSettings
from persipubsub.engine.local import mapped, store
from tests.hazards.trials import Trial, store_of
from tests.process import support
from tests.process.support import BOUND, Here
from tests.soak.protocol import percentile

#: Readers that are killed in a trial.
READERS = 12
_CHURN = 40
_LARGE = 20_000
#: The file may be larger than that of a run in which nobody dies by a tenth, and by these pages, however many die.
MORE_PAGES = 512


def look_for_ever(here: Here) -> None:
    """Read a message in a block that never ends."""
    with here.sub.receive_view(timeout=BOUND) as view:
        here.tell(len(view))
        signal.pause()


def churn(env: Environment, times: int) -> None:
    """Publish and consume, so that pages are freed and wanted."""
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    for _ in range(times):
        pub.send(bytes(_LARGE))
        with sub.receive(timeout=0) as data:
            assert data is not None


def live_through(trial: Trial, path: pathlib.Path, *, killing: bool) -> int:
    """Let readers come and go, or be killed; return how many pages the file has in the end."""
    with Environment(path) as env:
        env.new_control({"sub": SubscriberSettings(max_deliveries=None)}, durability=trial.durability)
        pub = env.new_publisher()
        # All have it open before the first is killed: whoever opens a queue sweeps the places of the dead.
        crowd = [trial.child() for _ in range(READERS if killing else 1)]
        for child in crowd:
            child.do(support.open_subscriber, path)
        for number in range(READERS):
            pub.send(bytes(_LARGE))
            if killing:
                crowd[number].start(look_for_ever)
                trial.expect(crowd[number].told() == _LARGE, "a reader got another message")
                time.sleep(trial.source.random() * 0.005)
                crowd[number].kill()
            with env.new_subscriber("sub").receive(timeout=BOUND) as data:
                trial.expect(data is not None, "the message that a dead reader held did not come")
            churn(env, _CHURN)
        pages: int = store_of(env).env.info()["last_pgno"]
    for child in crowd:
        child.kill()
    with Environment(path) as env:
        places = [line.split()[0] for line in store_of(env).env.readers().splitlines()]
        dead = [place for place in places if place.isdigit() and int(place) != os.getpid()]
        trial.expect(not dead, f"places of dead readers: {dead}")
    return pages


def stale(trial: Trial) -> None:
    """Kill readers; the file stays as large as without."""
    control = live_through(trial, trial.folder / "control", killing=False)
    pages = live_through(trial, trial.path, killing=True)
    trial.tries += READERS
    trial.note("pages more", pages - control)
    trial.expect(pages <= control * 1.1 + MORE_PAGES, f"{pages} pages instead of {control}")
    trial.check()


# -- no place for another reader -------------------------------------------------------------------------

#: Places for readers, processes that receive, and threads in each.
PLACES, RECEIVERS, THREADS = 4, 3, 8
_SENT = 300


def receive_in_threads(here: Here, path: pathlib.Path, most: int) -> tuple[int, int, list[str]]:
    """Receive in many threads until it is over; return how many came, how often one was refused, and errors."""
    lock, errors = threading.Lock(), list[str]()
    received = refused = 0
    over = path.with_name("over")
    with Environment(path) as env:
        control = env.open_control()

        def consume() -> None:
            nonlocal received, refused
            sub = env.new_subscriber("sub")
            while not over.exists():
                try:
                    with sub.receive_view(timeout=0.05) as view, lock:
                        received += view is not None
                    control.statistics()
                except QueueBusyError as error:
                    if "too many processes and threads" not in str(error):
                        errors.append(str(error))
                    with lock:
                        refused += 1
                except Exception as error:  # noqa: BLE001 - the row judges it
                    errors.append(f"{type(error).__name__}: {error}")
                    return

        threads = [threading.Thread(target=consume) for _ in range(most)]
        for thread in threads:
            thread.start()
        here.tell("ready")
        for thread in threads:
            thread.join(BOUND)
            if thread.is_alive():
                errors.append("a receiver hangs")
    return received, refused, errors


def crowded(trial: Trial) -> None:
    """Let many receive where the table has few places; publishers take no notice."""
    # Whoever deploys makes the table; whoever opens it first could make it longer.
    few = [mock.patch.object(module, "MAX_READERS", PLACES) for module in (store, mapped)]
    with few[0], few[1], Environment(trial.path) as env:
        env.new_control({"sub": SubscriberSettings(max_deliveries=None)}, durability=trial.durability)
        crowd_in(trial, env)
    trial.tries += RECEIVERS * THREADS
    trial.check()


def crowd_in(trial: Trial, env: Environment) -> None:
    """Publish while many receive."""
    pub, received, took = env.new_publisher(), 0, list[float]()
    crowd = [trial.child() for _ in range(RECEIVERS)]
    for child in crowd:
        child.start(receive_in_threads, trial.path, THREADS)
    for child in crowd:
        trial.expect(child.told() == "ready", "no receiver")
    for _ in range(_SENT):
        began = time.monotonic()
        pub.send(bytes(100))
        took.append(time.monotonic() - began)
    support.wait_until(lambda: lag_of(env) == 0, "all was received")
    trial.path.with_name("over").touch()
    for child in crowd:
        number, refused, errors = child.returned(2 * BOUND)
        received += number
        trial.findings += errors
        trial.add("refused for want of a place", refused)
    trial.expect(received >= _SENT, f"{received} of {_SENT} came")
    trial.note("send p99 s", percentile(took, 0.99) or 0)


def lag_of(env: Environment) -> int:
    """Return what the subscriber has yet to settle; one, if there is no place to look from."""
    try:
        return env.open_control().statistics().subscribers[0].lag
    except QueueBusyError:
        return 1
