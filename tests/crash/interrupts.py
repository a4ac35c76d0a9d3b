"""Interrupts operations by KeyboardInterrupt wherever Python may run a signal handler, and looks at what is left."""

import dis
import functools
import gc
import os
import pathlib
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import persipubsub
from persipubsub import Durability, Environment, Subscriber
from tests.process.support import BOUND, Child, Here

_OURS = os.path.dirname(str(persipubsub.__file__))
Log = list[str]


_CALLS = {name for name in dis.opname if name.startswith("CALL") and "INTRINSIC" not in name}


@functools.cache
def _handlers(code: types.CodeType) -> list[Any]:
    parse: Any = dis._parse_exception_table  # type: ignore[attr-defined]
    return list(parse(code))


def _handler(code: types.CodeType, at: int) -> int | None:
    """Return where an exception that is raised at an instruction is handled."""
    return next((entry.target for entry in _handlers(code) if entry.start <= at < entry.end), None)


class Interruption:
    """Raises KeyboardInterrupt in this thread at the nth moment at which Python may run a signal handler, or counts.

    Those moments are: when a function begins, when a loop jumps back, and when a call of a function written in
    C has returned.
    """

    def __init__(self, nth: int) -> None:
        """Interrupt at ``nth``; 0: never."""
        self.count = 0
        self.where = ""
        self._nth = nth
        self._code: dict[types.CodeType, bytes] = {}
        #: By frame, the instruction before; and the frames whose last call was of a Python function.
        self._before: dict[types.FrameType, int] = {}
        self._callers: set[types.FrameType | None] = set()

    def trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        """Be told of a frame, and of its instructions if it is one of ours."""
        if event == "call":
            self._callers.add(frame.f_back)
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self._pass(frame)
        elif event == "opcode":
            self._step(frame)
        elif event == "return":
            self._before.pop(frame, None)
        return self.trace

    def forget(self) -> None:
        """Let go of the frames, and of what they hold."""
        self._before.clear()
        self._callers.clear()

    def _step(self, frame: types.FrameType) -> None:
        code = self._code.setdefault(frame.f_code, frame.f_code.co_code)
        at, last = frame.f_lasti, self._before.get(frame)
        self._before[frame] = at
        before = "" if last is None else dis.opname[code[last]]
        called = before in _CALLS and frame not in self._callers
        # Python raises at the call, a tracer behind it: both must be in the hands of the same handler.
        moment = last is not None and (called or "JUMP_BACKWARD" in before)
        if moment and _handler(frame.f_code, last or 0) == _handler(frame.f_code, at):
            self._pass(frame)
        if dis.opname[code[at]] in _CALLS:
            self._callers.discard(frame)

    def _pass(self, frame: types.FrameType) -> None:
        self.count += 1
        if self.count == self._nth:
            sys.settrace(None)
            name = os.path.relpath(frame.f_code.co_filename, _OURS)
            self.where = f"{name}:{frame.f_lineno} ({frame.f_code.co_qualname})"
            raise KeyboardInterrupt


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


def leave(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Leave a loop with a message in hand and another one that waits for its turn."""
    with sub.messages(timeout=0) as messages:
        for message in messages:
            assert message.data == b"message"
            break


def send(env: Environment, sub: Subscriber[bytes], log: Log) -> None:
    """Send; what there was before is not touched."""
    env.new_publisher().send(b"more")
    log.append("sent")


ACTS: dict[str, Callable[[Environment, Subscriber[bytes], Log], None]] = {
    "receive": receive,
    "receive_view": receive_view,
    "loop": loop,
    "leave": leave,
    "send": send,
}
#: How many messages there are before.
THERE = {"leave": 2, "send": 0}


# -- the other process ------------------------------------------------------------------------------------


def join(here: Here, path: pathlib.Path) -> None:
    """Open the queue."""
    here.env = Environment(path)
    here.pub, here.sub = here.env.new_publisher(), here.env.new_subscriber("sub")


def put(here: Here) -> None:
    """Send the message that is to be handled."""
    here.pub.send(b"message")


def drain(here: Here, bound: float) -> tuple[list[bytes], int]:
    """Take what there is until nothing is left and the last one has come; return it, and how many are left."""
    found: list[bytes] = []
    deadline = time.monotonic() + bound
    while True:
        message = here.sub.get(timeout=0.02)
        if message is not None:
            found.append(message.data)
            message.ack()
        else:
            (figures,) = here.env.open_control().statistics().subscribers
            if (b"next" in found and not figures.lag) or time.monotonic() > deadline:
                return found, figures.lag


class Bench:
    """A queue, a process beside, and trials."""

    def __init__(self, path: pathlib.Path, other: Child, durability: Durability, patience: float = BOUND / 2) -> None:
        """Deploy the queue; what has not come to the other process after ``patience`` seconds never comes."""
        self._patience = patience
        self._env = Environment(path)
        control = self._env.new_control({"sub"}, durability=durability, lock_timeout=patience / 2)
        control.configure_subscriber("sub", max_deliveries=None)
        self._sub = self._env.new_subscriber("sub")
        self._other = other
        other.do(join, path)

    def close(self) -> None:
        """Close the queue."""
        self._env.close()

    def count(self, act: str) -> int:
        """Return how many events there are in an operation."""
        # The first time other lines are run; what is waited for takes more of them on a busy machine.
        counts = [self._try(act, 0)[0].count for _ in range(4)]
        self._env.new_publisher().send(b"next")
        self._other.do(drain, self._patience)
        return min(counts[1:])

    def _try(self, act: str, nth: int) -> tuple[Interruption, Log, BaseException | None]:
        interruption, log = Interruption(nth), Log()
        for _ in range(THERE.get(act, 1)):
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
            interruption.forget()
        return interruption, log, raised

    def trial(self, act: str, nth: int) -> tuple[bool, list[str]]:
        """Interrupt an operation at its nth event; return whether it came so far, and what is wrong then."""
        interruption, log, raised = self._try(act, nth)
        gc.collect()
        reached = bool(interruption.where)
        findings: list[str] = []
        if not isinstance(raised, KeyboardInterrupt | None):
            findings.append(f"{type(raised).__name__}: {raised}")
        if reached and raised is None and "__del__" not in interruption.where:
            findings.append("the interrupt was swallowed")
        try:
            self._env.new_publisher().send(b"next")
            there, left = self._other.do(drain, self._patience)
        except Exception as error:  # noqa: BLE001 - what was left locked, for example
            findings.append(f"nobody gets on: {error}")
            return reached, [f"{act}, {nth}, {interruption.where}: {finding}" for finding in findings]
        if left:
            findings.append(f"{left} are held by nobody")
        if b"next" not in there:
            findings.append(f"the next message did not arrive: {there}")
        if act == "send":
            number = there.count(b"more")
            if number > 1 or ("sent" in log and number != 1):
                findings.append(f"sent and there {number} times")
        elif act == "leave":
            if there.count(b"message") != THERE[act]:
                findings.append(f"given back, and {there.count(b'message')} of {THERE[act]} are there")
        else:
            number = there.count(b"message")
            if number != 1 and (number > 1 or "handled" not in log):
                findings.append(f"not handled, but {number} times there")
            if raised is None and number:
                findings.append("handled without an interrupt, and there again")
        return reached, [f"{act}, {nth}, {interruption.where}: {finding}" for finding in findings]
