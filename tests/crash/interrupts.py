"""Interrupts an operation by KeyboardInterrupt at every line or bytecode of the library, and looks at what is left."""

import gc
import os
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import persipubsub
from persipubsub import Durability, Environment, Subscriber
from tests.process.support import BOUND, Child, Here

_OURS = os.path.dirname(str(persipubsub.__file__))
LINE, OPCODE = "line", "opcode"

Log = list[str]


class Interruption:
    """Raises KeyboardInterrupt in this thread at the nth event, or counts them."""

    def __init__(self, kind: str, nth: int) -> None:
        """Interrupt at ``nth``; 0: never."""
        self.count = 0
        self.where = ""
        self._kind = kind
        self._nth = nth

    def trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        """Be told of a frame, and of its events if it is one of ours."""
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes = self._kind == OPCODE
        if event == self._kind:
            self.count += 1
            if self.count == self._nth:
                sys.settrace(None)
                name = os.path.relpath(frame.f_code.co_filename, _OURS)
                self.where = f"{name}:{frame.f_lineno} ({frame.f_code.co_qualname})"
                raise KeyboardInterrupt
        return self.trace


# -- what is interrupted ----------------------------------------------------------------------------------


def receive(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Handle a message in a block."""
    with sub.receive(timeout=0) as data:
        assert data == b"message"
        log.append("handled")


def receive_view(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Handle a message where it lies."""
    with sub.receive_view(timeout=0) as data:
        assert data is not None
        assert bytes(data) == b"message"
        log.append("handled")


def loop(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Handle messages in a loop."""
    with sub.messages(timeout=0) as messages:
        for message in messages:
            assert message.data == b"message"
            log.append("handled")


def get(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Handle a message by hand."""
    message = sub.get(timeout=0)
    assert message is not None
    log.append("handled")
    message.ack()


def send(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Send; what there was before is not touched."""
    env.new_publisher().send(b"more")
    log.append("sent")


ACTS: dict[str, Callable[[Environment, Subscriber[bytes], Log], None]] = {
    "receive": receive,
    "receive_view": receive_view,
    "loop": loop,
    "get": get,
    "send": send,
}


# -- the other process ------------------------------------------------------------------------------------


def join(here: Here, path: pathlib.Path) -> None:
    """Open the queue."""
    here.env = Environment(path)
    here.pub, here.sub = here.env.new_publisher(), here.env.new_subscriber("sub")


def put(here: Here) -> None:
    """Send the message that is to be handled."""
    here.pub.send(b"message")


def take(here: Here, timeout: float) -> list[bytes]:
    """Take what there is, waiting so long for the first."""
    found = []
    while message := here.sub.get(timeout=timeout if not found else 0):
        found.append(message.data)
        message.ack()
    return found


class Bench:
    """A queue, a process beside, and trials."""

    def __init__(self, path: pathlib.Path, other: Child, durability: Durability) -> None:
        """Deploy the queue."""
        self._env = Environment(path)
        control = self._env.new_control({"sub"}, durability=durability, lock_timeout=2.0)
        control.configure_subscriber("sub", max_deliveries=None)
        self._sub = self._env.new_subscriber("sub")
        self._other = other
        other.do(join, path)

    def close(self) -> None:
        """Close the queue."""
        self._env.close()

    def count(self, act: str, kind: str) -> int:
        """Return how many events there are in an operation."""
        for _ in range(2):  # the first time other lines are run
            counting = self._try(act, kind, 0)[0]
        self._other.do(take, 0)
        return counting.count

    def _try(self, act: str, kind: str, nth: int) -> tuple[Interruption, Log, BaseException | None]:
        interruption, log = Interruption(kind, nth), Log()
        if act != "send":
            self._other.do(put)
        before = sys.gettrace()
        raised: BaseException | None = None
        sys.settrace(interruption.trace)
        try:
            ACTS[act](self._env, self._sub, log)
        except BaseException as error:  # noqa: BLE001 - it is judged
            raised = error.with_traceback(None)
        finally:
            sys.settrace(before)
        return interruption, log, raised

    def trial(self, act: str, kind: str, nth: int) -> tuple[bool, list[str]]:
        """Interrupt an operation at its nth event; return whether it came so far, and what is wrong then."""
        interruption, log, raised = self._try(act, kind, nth)
        gc.collect()
        reached = bool(interruption.where)
        findings: list[str] = []
        if not isinstance(raised, KeyboardInterrupt | None):
            findings.append(f"{type(raised).__name__}: {raised}")
        if reached and raised is None and "__del__" not in interruption.where:
            findings.append("the interrupt was swallowed")
        try:
            self._env.new_publisher().send(b"next")
            there = self._other.do(take, BOUND / 3)
            while b"next" not in there or (b"message" not in there and act != "send" and "handled" not in log):
                more = self._other.do(take, BOUND / 6)
                if not more:
                    break
                there += more
        except Exception as error:  # noqa: BLE001 - what was left locked, for example
            findings.append(f"nobody gets on: {error}")
            return reached, [f"{act}, {kind} {nth}, {interruption.where}: {finding}" for finding in findings]
        if "next" not in {data.decode() for data in there}:
            findings.append(f"the next message did not arrive: {there}")
        if act == "send":
            number = there.count(b"more")
            if number > 1 or ("sent" in log and number != 1):
                findings.append(f"sent and there {number} times")
        else:
            number = there.count(b"message")
            if number > 1 or (number == 0 and "handled" not in log):
                findings.append(f"not handled, but {number} times there")
            if raised is None and number:
                findings.append("handled without an interrupt, and there again")
        return reached, [f"{act}, {kind} {nth}, {interruption.where}: {finding}" for finding in findings]
