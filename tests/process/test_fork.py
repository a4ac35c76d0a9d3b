"""Forking with an open queue, in every state: the child works on, the parent is not disturbed."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import pickle
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from persipubsub import Durability, Environment, LeaseLostError, Publisher, Subscriber
from tests.process import support
from tests.process.support import BOUND, Children

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


class Forked:
    """A forked child that does one thing and tells what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                answer: tuple[str, Any] = ("returned", work())
            except BaseException:  # noqa: BLE001 - the test judges it
                answer = ("raised", traceback.format_exc())
            os.write(write, pickle.dumps(answer))
            os._exit(0)
        os.close(write)

    def result(self, bound: float = BOUND) -> Any:
        """Return what the work returned."""
        answered = select.select([self._read], [], [], bound)[0]
        if not answered:
            os.kill(self.pid, signal.SIGKILL)
        answer = os.read(self._read, 1 << 16)
        os.close(self._read)
        os.waitpid(self.pid, 0)
        assert answered, f"the forked child did nothing within {bound:g} s"
        kind, value = pickle.loads(answer)
        assert kind == "returned", value
        return value


def in_fork(work: Callable[[], Any]) -> Any:
    return Forked(work).result()


def payload_of(sub: Subscriber[bytes], timeout: float = 0) -> bytes | None:
    with sub.receive(timeout=timeout) as data:
        return data


# -- states -------------------------------------------------------------------------------------------------


def test_fork_before_anything_was_opened(path: pathlib.Path, env: Environment) -> None:
    assert in_fork(lambda: env.new_publisher().send(b"of the child")) == 1
    assert payload_of(env.new_subscriber("sub")) == b"of the child"


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.COMMIT, Durability.PROCESS])
def test_fork_after_everything_was_used(path: pathlib.Path, env: Environment, durability: Durability) -> None:
    control = env.open_control()
    control.configure(durability=durability)
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send(b"before")
    assert payload_of(sub) == b"before"

    def work() -> tuple[bytes | None, bytes | None, int]:
        first = payload_of(sub)
        pub.send_many([b"of the child", b"for the parent"])
        return first, payload_of(sub), len(control.check())

    for _ in range(3):
        pub.send(b"for the child")
        assert in_fork(work) == (b"for the child", b"of the child", 0)
        assert payload_of(sub) == b"for the parent"
        assert payload_of(sub) is None


def test_fork_inside_a_receive_block(path: pathlib.Path, env: Environment) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send_many([b"held", b"for the child"])
    block = sub.receive_message(timeout=0)
    message = block.__enter__()
    assert message is not None

    def work() -> tuple[int, bytes | None, bytes | None]:
        # What the parent holds is not the child's, neither to settle nor to give back.
        refusals = 0
        for settle in (message.ack, message.nack, lambda: message.reject("no"), lambda: message.extend(1)):
            try:
                settle()
            except LeaseLostError:
                refusals += 1
        block.__exit__(None, None, None)
        data = payload_of(sub)
        sub.close()
        env.close()
        with Environment(path) as again:
            return refusals, data, payload_of(again.new_subscriber("sub"))

    assert in_fork(work) == (4, b"for the child", None)
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.leased, figures.settled) == (1, 1)
    block.__exit__(None, None, None)
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.deliveries, figures.redelivered, figures.settled, figures.lag) == (2, 0, 2, 0)


def test_exception_of_a_child_in_a_receive_block_gives_nothing_back(path: pathlib.Path, env: Environment) -> None:
    env.new_publisher().send(b"held")
    sub = env.new_subscriber("sub")

    def work() -> None:
        try:
            raise ValueError("of the child")
        except ValueError as error:
            block.__exit__(ValueError, error, error.__traceback__)

    block = sub.receive(timeout=0)
    assert block.__enter__() == b"held"
    in_fork(work)
    (figures,) = env.open_control().statistics().subscribers
    assert figures.leased == 1
    block.__exit__(None, None, None)
    assert payload_of(sub) is None


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_fork_inside_a_view(path: pathlib.Path, env: Environment, size: int) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    data = os.urandom(size)
    pub.send(data)
    block = sub.receive_view(timeout=0)
    view = block.__enter__()
    assert view is not None

    def work() -> tuple[bool, bytes | None, bool]:
        before = bytes(view) == data
        # Using the queue, the child opens it anew, and lets go of the memory that it inherited.
        pub.send(b"of the child")
        got = payload_of(sub)
        with pytest.raises(ValueError, match="released"):
            bytes(view)
        block.__exit__(None, None, None)
        return before, got, True

    assert in_fork(work) == (True, b"of the child", True)
    # The child's end has not ended the parent's read transaction: its pages are not used again.
    for _ in range(20):
        pub.send(bytes(size))
        assert in_fork(lambda: len(payload_of(sub) or b"")) == size
    assert bytes(view) == data
    block.__exit__(None, None, None)
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.settled, figures.lag, figures.redelivered) == (22, 0, 0)


def test_fork_inside_a_loop(path: pathlib.Path, env: Environment) -> None:
    env.new_publisher().send_many([b"%d" % number for number in range(20)])
    sub = env.new_subscriber("sub")
    seen = []
    with sub.messages(batch=5, timeout=0) as loop:
        for message in loop:
            seen.append(message.data)
            if message.data == b"2":
                # The child's loop goes on with messages of its own.
                assert in_fork(lambda: [next(loop).data for _ in range(2)]) == [b"5", b"6"]
    # The child ended without an acknowledgement, so its messages came, too, and those of the parent only once.
    assert seen[:5] == [b"0", b"1", b"2", b"3", b"4"]
    assert sorted(map(int, seen)) == list(range(20))
    assert payload_of(sub) is None


def test_fork_while_another_thread_waits(path: pathlib.Path, env: Environment, children: Children) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        future = pool.submit(payload_of, sub, BOUND)
        support.wait_until(lambda: support.armed_bells(path) == 1, "the thread waits")
        assert in_fork(lambda: payload_of(sub)) is None
        assert support.armed_bells(path) == 1
        assert not future.done()
        sender = children.new()
        sender.do(support.open_publisher, path)
        sender.do(support.send, b"for the thread")
        assert future.result(BOUND) == b"for the thread"
        # And the child's own waiting, side by side with it.
        future = pool.submit(payload_of, sub, BOUND)
        support.wait_until(lambda: support.armed_bells(path) == 1, "the thread waits")
        forked = Forked(lambda: payload_of(sub, BOUND))
        support.wait_until(lambda: support.armed_bells(path) == 2, "the child waits")
        pub.send_many([b"x", b"x"])
        assert forked.result() == b"x"
        assert future.result(BOUND) == b"x"


def test_fork_with_a_watched_descriptor(path: pathlib.Path, env: Environment, children: Children) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    descriptor = sub.fileno()

    def work() -> tuple[bool, bytes | None]:
        own = sub.fileno()
        pub.send(b"of the child")
        readable = bool(select.select([own], [], [], BOUND)[0])
        data = payload_of(sub)
        sub.close()
        return readable, data

    assert in_fork(work) == (True, b"of the child")
    assert payload_of(sub) is None
    assert not select.select([descriptor], [], [], 0)[0]
    sender = children.new()
    sender.do(support.open_publisher, path)
    sender.do(support.send, b"for the parent")
    assert select.select([descriptor], [], [], BOUND)[0]
    assert payload_of(sub) == b"for the parent"


def test_grandchildren(path: pathlib.Path, env: Environment) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send(b"held")
    message = sub.get(timeout=0)
    assert message is not None

    def work(depth: int) -> list[bytes | None]:
        pub.send(b"%d" % depth)
        mine = sub.get(timeout=0)
        assert mine is not None
        below = in_fork(lambda: work(depth - 1)) if depth else []
        mine.ack()
        return [mine.data, *below]

    assert in_fork(lambda: work(3)) == [b"3", b"2", b"1", b"0"]
    message.ack()
    assert payload_of(sub) is None


# -- busy threads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_forks_under_busy_threads(path: pathlib.Path, env: Environment, durability: Durability) -> None:
    control = env.open_control()
    control.configure(durability=durability)
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    stop = threading.Event()

    def publish(name: bytes) -> int:
        number = 0
        # However seldom its turn comes, it sends something.
        while not stop.is_set() or number < 15:
            pub.send(name)
            number += 1
        return number

    def consume() -> int:
        number = 0
        while not stop.is_set():
            with sub.receive(timeout=0.01) as data:
                number += data is not None
        return number

    with concurrent.futures.ThreadPoolExecutor() as pool:
        publishing = [pool.submit(publish, b"a"), pool.submit(publish, b"b")]
        consuming = pool.submit(consume)
        try:
            ids = [in_fork(lambda: pub.send(b"of a child")) for _ in range(30)]
        finally:
            stop.set()
        published = sum(future.result(BOUND) for future in publishing)
        consumed = consuming.result(BOUND)
    assert ids == sorted(set(ids))
    assert published >= 30
    figures = control.statistics()
    assert figures.published == published + 30
    assert figures.subscribers[0].settled == consumed
    assert figures.subscribers[0].redelivered == 0
    assert figures.subscribers[0].lag == figures.published - consumed
    assert control.check() == []


# -- multiprocessing ---------------------------------------------------------------------------------------------


def relay(pub: Publisher, sub: Subscriber[bytes], env: Environment) -> None:
    with sub.receive(timeout=BOUND) as data:
        assert data is not None
    pub.send(data + b", answered")
    env.new_publisher().send(b"by the environment")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(path: pathlib.Path, env: Environment, method: str) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send_many([b"held", b"question"])
    message = sub.get(timeout=0)
    assert message is not None
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=relay, args=(pub, sub, env))
    process.start()
    process.join(BOUND)
    assert process.exitcode == 0
    message.ack()
    assert payload_of(sub) == b"question, answered"
    assert payload_of(sub) == b"by the environment"
    assert payload_of(sub) is None


# -- ends of the child ----------------------------------------------------------------------------------------------

SCRIPT = """
import os, sys
import persipubsub

end = sys.argv[2]
env = persipubsub.Environment(sys.argv[1])
pub, sub = env.new_publisher(), env.new_subscriber("sub")
message = sub.get(timeout=0)
loop = sub.messages(batch=1, timeout=0)
handled = next(loop)
block = sub.receive_view(timeout=0)
view = block.__enter__()
pid = os.fork()
if not pid:
    if sys.argv[3] == "used":
        pub.send(b"of the child")
        mine = sub.get(timeout=0)
        mine.ack()
    if end == "hard":
        os._exit(0)
    elif end == "exit":
        sys.exit(0)
    elif end == "exception":
        raise ValueError("of the child")
    elif end == "close":
        loop.close()
        sub.close()
        pub.close()
        env.close()
        env.close()
else:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (1 if end == "exception" else 0), status
    assert bytes(view) == b"viewed"
    block.__exit__(None, None, None)
    figures = env.open_control().statistics().subscribers[0]
    assert figures.leased == 2, figures
    message.ack()
    assert next(loop, None) is None
    loop.close()
    figures = env.open_control().statistics().subscribers[0]
    assert (figures.lag, figures.redelivered) == (0, 0), figures
    env.close()
    print("undisturbed")
"""


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("end", ["hard", "exit", "exception", "close", "end"])
def test_every_end_of_a_child_leaves_the_parent_alone(path: pathlib.Path, end: str, used: str) -> None:
    with Environment(path) as env:
        # One for each of the three ways in which the parent holds a message.
        env.new_publisher().send_many([b"held", b"looped", b"viewed"])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path, end, used],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
    )
    assert (done.returncode, done.stdout) == (0, "undisturbed\n"), done.stderr
    assert ("ValueError: of the child" in done.stderr) == (end == "exception")
    assert done.stderr.count("Traceback") == (end == "exception")
