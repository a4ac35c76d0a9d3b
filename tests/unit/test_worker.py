"""Workers in threads: handlers compete, failures come again later, and a stop is graceful."""

import contextlib
import itertools
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persipubsub import (
    Backoff,
    Environment,
    Message,
    SettingsError,
    SubscriberError,
    SubscriberSettings,
    UnknownSubscriberError,
    Worker,
    run,
)
from tests.process.support import BOUND, wait_until

SOON = Backoff(first=0.001, longest=0.01)
_NUMBERS = itertools.count()


@pytest.fixture(params=["memory", "local"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    """Return a queue whose subscriber "a" gives up after three deliveries; nothing is leased in the end."""
    where = f"memory:worker-{next(_NUMBERS)}" if request.param == "memory" else str(tmp_path / "queue")
    with Environment(where) as env:
        control = env.new_control({"a": SubscriberSettings(max_deliveries=3)})
        yield env
        assert control.check() == []
        assert [figures.leased for figures in control.statistics().subscribers] in ([0], [])


def test_handlers_compete(env: Environment) -> None:
    env.new_publisher().send_many([str(number).encode() for number in range(50)])
    handled: list[bytes] = []
    # All of them must be busy at once for anybody to go on.
    together = threading.Barrier(5)

    def handle(message: Message[bytes]) -> None:
        if int(message.data) < 5:
            together.wait(BOUND)
        handled.append(message.data)
        if len(handled) == 50:
            worker.stop()

    worker = Worker(handle, env.new_subscriber("a"), 5)
    assert worker.run() == 50
    assert sorted(map(int, handled)) == list(range(50))
    assert env.open_control().statistics().subscribers[0].lag == 0


def test_failures_come_again_and_die(env: Environment) -> None:
    env.new_publisher().send_many([b"good", b"bad", b"second time"])
    tried: list[tuple[bytes, int, str | None]] = []

    def handle(message: Message[bytes]) -> None:
        tried.append((message.data, message.delivery_count, message.last_error))
        if message.data == b"bad" or (message.data == b"second time" and message.delivery_count == 1):
            raise ValueError("too dark")

    worker = Worker(handle, env.new_subscriber("a"), backoff=SOON)
    control = env.open_control()

    def stop() -> None:
        wait_until(lambda: control.statistics().subscribers[0].lag == 0, "all is settled")
        worker.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert worker.run() == 2
    stopper.join()
    assert [letter.reason for letter in control.dead_letters("a")] == ["ValueError: too dark"]
    assert sorted(tried) == [
        (b"bad", 1, None),
        (b"bad", 2, "ValueError: too dark"),
        (b"bad", 3, "ValueError: too dark"),
        (b"good", 1, None),
        (b"second time", 1, None),
        (b"second time", 2, "ValueError: too dark"),
    ]


def test_delay_keeps_a_failure_out_of_the_way(env: Environment) -> None:
    env.new_publisher().send_many([b"bad", b"good"])

    def handle(message: Message[bytes]) -> None:
        if message.data == b"bad":
            raise ValueError
        worker.stop()

    worker = Worker(handle, env.new_subscriber("a"), backoff=Backoff(first=3600, longest=7200))
    assert worker.run() == 1
    assert env.open_control().statistics().subscribers[0].delayed == 1


def test_handler_may_settle_by_itself(env: Environment) -> None:
    env.new_publisher().send_many([b"reject", b"nack", b"last"])

    def handle(message: Message[bytes]) -> None:
        if message.data == b"reject":
            message.reject("no")
        elif message.data == b"nack":
            message.nack(delay=3600)
        else:
            worker.stop()

    worker = Worker(handle, env.new_subscriber("a"))
    worker.run()
    figures = env.open_control().statistics().subscribers[0]
    assert (figures.dead, figures.delayed, figures.lag) == (1, 1, 1)


def test_stop_lets_the_handler_finish(env: Environment) -> None:
    env.new_publisher().send_many([b"1", b"2"])
    entered, leave = threading.Event(), threading.Event()

    def handle(message: Message[bytes]) -> None:
        entered.set()
        leave.wait(BOUND)

    worker = Worker(handle, env.new_subscriber("a"), 1)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(worker.run()))
    thread.start()
    entered.wait(BOUND)
    worker.stop()
    leave.set()
    thread.join(BOUND)
    assert results == [1]
    assert env.open_control().statistics().subscribers[0].waiting == 1


def test_stop_gives_back_what_is_not_finished_in_time(env: Environment) -> None:
    env.new_publisher().send(b"1")
    entered, leave = threading.Event(), threading.Event()

    def handle(message: Message[bytes]) -> None:
        entered.set()
        leave.wait(BOUND)

    worker = Worker(handle, env.new_subscriber("a"), 1, grace=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    entered.wait(BOUND)
    worker.stop()
    thread.join(BOUND)
    figures = env.open_control().statistics().subscribers[0]
    assert (figures.leased, figures.waiting + figures.lag > 0, figures.settled) == (0, True, 0)
    leave.set()  # its late acknowledgement settles nothing
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("persipubsub-worker")],
        "the threads are gone",
    )
    assert env.open_control().statistics().subscribers[0].settled == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it(env: Environment, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    env.new_publisher().send(b"1")

    def handle(message: Message[bytes]) -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    assert run(handle, env.new_subscriber("a"), 2) == 1
    assert signal.getsignal(number) is before


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have more descriptors open than select() can take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with open(os.devnull, "rb") as null, contextlib.ExitStack() as opened:
        while opened.enter_context(os.fdopen(os.dup(null.fileno()), "rb")).fileno() < 1024:
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_many_open_files_do_not_keep_it_from_running(env: Environment) -> None:
    env.new_publisher().send(b"frame")
    worker = Worker(lambda message: worker.stop(), env.new_subscriber("a"))
    assert worker.run() == 1


def test_idle_worker_stops_at_once(env: Environment) -> None:
    worker = Worker(lambda message: None, env.new_subscriber("a"), 3)
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: len(worker._holder._room._waiters) == 3, "three handlers wait")
    with pytest.raises(SubscriberError, match="runs already"):
        worker.run()
    start = time.monotonic()
    worker.stop()
    thread.join(BOUND)
    assert time.monotonic() - start < BOUND / 2


def test_what_keeps_it_from_taking_is_raised(env: Environment) -> None:
    sub = env.new_subscriber("a")
    env.open_control().remove_subscriber("a")
    with pytest.raises(UnknownSubscriberError):
        run(lambda message: None, sub, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"grace": -1},
        {"grace": "long"},
        {"lease": 0},
        {"signals": ["TERM"]},
        {"signals": [12345]},
        {"signals": None},
    ],
)
def test_arguments_that_make_no_sense(env: Environment, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Worker(lambda message: None, env.new_subscriber("a"), **options)


def test_backoff() -> None:
    exact = Backoff(first=1, factor=3, longest=60, jitter=0)
    assert [exact.delay(failures) for failures in (1, 2, 3, 4, 5, 5000)] == [1, 3, 9, 27, 60, 60]
    delays = [Backoff(first=8, jitter=0.5).delay(1) for _ in range(100)]
    assert 4 <= min(delays) < max(delays) <= 8
    wrong: list[dict[str, Any]] = [{"first": -1}, {"factor": 0.5}, {"longest": None}, {"jitter": 2}]
    for options in wrong:
        with pytest.raises(SettingsError):
            Backoff(**options)
