"""The gate lets many transactions in, or one who wants to be alone, and nobody is kept out for good."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from persipubsub.engine.local.gate import Gate
from tests.process.support import BOUND, wait_until

#: Seconds after which one gives up who cannot have what he waits for.
SHORT = 0.02


Elsewhere = Callable[[Callable[[], Any]], "Future[Any]"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Give a gate, through which anybody may go at the end."""
    gate = Gate()
    yield gate
    with gate.alone(0) as granted:
        assert granted
    assert gate.hold(0)
    gate.release()
    with gate:
        pass


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Give what runs something in another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def is_alone(gate: Gate, timeout: float = SHORT) -> bool:
    with gate.alone(timeout) as granted:
        return granted


def pass_through(gate: Gate) -> None:
    with gate:
        pass


def test_who_is_inside_twice_has_to_leave_twice(gate: Gate, elsewhere: Elsewhere) -> None:
    gate.enter()
    with gate:
        pass
    assert gate.level() == 1
    assert elsewhere(lambda: is_alone(gate)).result(BOUND) is False
    gate.leave()
    assert elsewhere(lambda: is_alone(gate)).result(BOUND) is True


def test_who_could_not_be_alone_keeps_nobody_out(gate: Gate, elsewhere: Elsewhere) -> None:
    with gate:
        waiting = elsewhere(lambda: is_alone(gate))
        entering = [elsewhere(lambda: pass_through(gate)) for _ in range(3)]
        assert waiting.result(BOUND) is False
        assert not wait(entering, BOUND).not_done


@pytest.mark.parametrize("leave", [Gate.leave, lambda gate: gate.go_back(0)])
def test_who_waits_to_be_alone_is_told_when_the_last_one_has_left(
    gate: Gate, elsewhere: Elsewhere, leave: Callable[[Gate], None]
) -> None:
    gate.enter()
    waiting = elsewhere(lambda: is_alone(gate, 2 * BOUND))
    wait_until(lambda: gate._closed_by is not None, "it waits")
    leave(gate)
    assert waiting.result(BOUND) is True


def test_two_are_alone_one_after_the_other(gate: Gate, elsewhere: Elsewhere) -> None:
    with gate.alone(BOUND) as granted:
        assert granted
        assert elsewhere(lambda: is_alone(gate)).result(BOUND) is False
        next_one = elsewhere(lambda: is_alone(gate, BOUND))
        entering = elsewhere(lambda: pass_through(gate))
        assert is_alone(gate), "who is alone may be so once more"
        assert wait([next_one, entering], SHORT).not_done == {next_one, entering}
    assert next_one.result(BOUND) is True
    entering.result(BOUND)


def test_who_is_alone_inside_a_transaction_of_its_own_is_not(gate: Gate) -> None:
    with gate:
        assert not is_alone(gate, BOUND)
    with gate.alone(BOUND), gate:
        assert not is_alone(gate, BOUND)


def test_a_fork_waits_for_transactions_but_not_for_views(gate: Gate, elsewhere: Elsewhere) -> None:
    with gate.view():
        with gate:
            assert not gate.hold(SHORT)
        assert gate.hold(BOUND)
        entering = elsewhere(lambda: pass_through(gate))
        assert wait([entering], SHORT).not_done
        gate.release()
        entering.result(BOUND)


def test_a_fork_waits_for_whoever_is_alone(gate: Gate, elsewhere: Elsewhere) -> None:
    begun, ended = threading.Event(), threading.Event()

    def be_alone() -> None:
        with gate.alone(BOUND):
            begun.set()
            ended.wait(BOUND)

    moving = elsewhere(be_alone)
    assert begun.wait(BOUND)
    assert not gate.hold(SHORT)
    ended.set()
    assert gate.hold(BOUND)
    gate.release()
    moving.result(BOUND)


class Interrupted(set[object]):
    """A set at which Ctrl-C arrives when something is taken out for the first time."""

    times = 1

    def discard(self, element: object) -> None:
        self.times -= 1
        if self.times >= 0:
            raise KeyboardInterrupt
        super().discard(element)


def test_an_interrupt_at_the_end_of_a_view_leaves_nobody_inside(gate: Gate, elsewhere: Elsewhere) -> None:
    gate._views = Interrupted()
    with pytest.raises(KeyboardInterrupt), gate.view():
        pass
    assert gate.level() == 0
    assert elsewhere(lambda: is_alone(gate)).result(BOUND) is True
    with gate:
        assert not gate.hold(SHORT), "a transaction passed for a view"
