"""A lease lasts as long as its owner: it ends with a killed one at once, and never with a slow one."""

import os
import pathlib
import signal
import statistics
import time
from collections.abc import Callable
from itertools import islice

import pytest

from persipubsub import Environment
from tests.process import support
from tests.process.support import Child, ChildError, Children, Here

ROUNDS = 7


def new_consumer(children: Children, path: pathlib.Path, method: str = "spawn") -> Child:
    child = children.new(method)
    child.do(support.open_subscriber, path)
    return child


def test_message_of_a_killed_holder_goes_at_once_to_one_that_waits(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    waiter = new_consumer(children, path)
    waiter.do(support.be_patient)
    pub = env.new_publisher()
    latencies: list[float] = []

    def latency() -> float:
        for number in range(ROUNDS):
            holder = new_consumer(children, path, "forkserver")
            pub.send(b"%d" % number)
            data, count, _ = holder.do(support.get, 0)
            assert (data, count) == (b"%d" % number, 1)
            waiter.start(support.get_and_ack, support.PATIENT)
            support.wait_until_asleep(waiter, path)
            began = time.monotonic_ns()
            holder.signal(signal.SIGKILL)
            data, count, woke = waiter.returned()
            assert (data, count) == (b"%d" % number, 2)
            latencies.append((woke - began) / 1e9)
        return statistics.median(latencies[-ROUNDS:])

    support.in_time(latency, 0.3, "the other has it")
    rounds = len(latencies)
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.deliveries, figures.redelivered, figures.settled, figures.lag) == (2 * rounds, rounds, rounds, 0)


def test_several_waiters_get_what_a_killed_holder_held(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    env.new_publisher().send_many([b"0", b"1"])
    holder = new_consumer(children, path)
    holder.do(get_many, 2)
    waiters = [new_consumer(children, path), new_consumer(children, path)]
    for number, waiter in enumerate(waiters):
        waiter.start(support.get, support.PATIENT)
        support.wait_until_asleep(waiter, path, bells=number + 1)
    holder.kill()
    got = [waiter.returned() for waiter in waiters]
    assert sorted((data, count) for data, count, _ in got) == [(b"0", 2), (b"1", 2)]


def get_many(here: Here, number: int) -> list[tuple[bytes, int]]:
    here.messages = here.sub.get_many(number, timeout=0)
    return [(message.data, message.delivery_count) for message in here.messages]


# -- who is alive is not robbed -------------------------------------------------------------------------


def test_stopped_holder_is_not_robbed(path: pathlib.Path, env: Environment, children: Children) -> None:
    env.new_publisher().send(b"slow")
    holder, waiter = new_consumer(children, path), new_consumer(children, path)
    holder.do(support.get, 0)
    holder.stop()
    assert waiter.do(support.get, 1.0) is None
    holder.signal(signal.SIGCONT)
    holder.do(support.ack)
    assert waiter.do(support.get, 0) is None
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.deliveries, figures.redelivered, figures.settled, figures.lag) == (1, 0, 1, 0)


def test_another_owner_of_the_same_process_is_not_robbed(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    """A fork, a second Environment and its end: none of them is the end of the owner."""
    env.new_publisher().send(b"held")
    message = env.new_subscriber("sub").get(timeout=0)
    assert message is not None
    waiter = new_consumer(children, path)
    with Environment(path) as other:
        assert other.new_subscriber("sub").get(timeout=0) is None
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert waiter.do(support.get, 0.2) is None
    message.ack()
    assert waiter.do(support.get, 0) is None


# -- bounded leases ---------------------------------------------------------------------------------------


def test_bounded_lease_ends_and_a_late_ack_changes_nothing(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    env.new_publisher().send(b"slow")
    holder, waiter = new_consumer(children, path), new_consumer(children, path)
    began = time.monotonic_ns()
    holder.do(support.get, 0, 0.3)
    waiter.do(support.be_patient)
    waiter.start(support.get, support.PATIENT)
    data, count, woke = waiter.returned()
    assert (data, count) == (b"slow", 2)
    assert (woke - began) / 1e9 > 0.29
    before = env.open_control().statistics().subscribers
    with pytest.raises(ChildError, match="LeaseLostError"):
        holder.do(support.ack)
    after = env.open_control().statistics().subscribers
    assert after == before
    assert after[0].leased == 1
    # Giving back what one has lost takes it from nobody either.
    holder.do(support.close)
    waiter.do(support.ack)
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.settled, figures.lag) == (1, 0)


def test_bounded_lease_of_a_killed_holder_does_not_wait_for_its_end(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    env.new_publisher().send(b"held")
    holder, waiter = new_consumer(children, path), new_consumer(children, path)
    holder.do(support.get, 0, 3600.0)
    waiter.do(support.be_patient)
    waiter.start(support.get, support.PATIENT)
    support.wait_until_asleep(waiter, path)
    holder.kill()
    assert waiter.returned()[1] == 2


# -- other ends ---------------------------------------------------------------------------------------------


def exit_hard(here: Here) -> None:
    os._exit(3)


def abort(here: Here) -> None:
    os.abort()


def leave(child: Child) -> None:
    assert child.leave() == 0


def leave_hard(child: Child) -> None:
    child.start(exit_hard)
    assert child.leave() == 3


def leave_by_abort(child: Child) -> None:
    child.start(abort)
    assert child.leave() == -signal.SIGABRT


def leave_by_closing(child: Child) -> None:
    child.do(support.close)


@pytest.mark.parametrize("end", [leave, leave_hard, leave_by_abort, leave_by_closing])
def test_every_end_gives_back(
    path: pathlib.Path, env: Environment, children: Children, end: Callable[[Child], None]
) -> None:
    env.new_publisher().send(b"held")
    holder, waiter = new_consumer(children, path), new_consumer(children, path)
    holder.do(support.get, 0)
    waiter.start(support.get, support.PATIENT)
    support.wait_until_asleep(waiter, path)
    end(holder)
    data, count, _ = waiter.returned()
    assert (data, count) == (b"held", 2)


# -- batches ----------------------------------------------------------------------------------------------------


def loop_over(here: Here, handed: int, batch: int) -> list[bytes]:
    """Ask for the first ``handed`` messages of a loop, and stay in the handler of the last."""
    here.loop = here.sub.messages(batch=batch, timeout=0)
    return [message.data for message in islice(here.loop, handed)]


@pytest.mark.parametrize(("handed", "number"), [(1, 5), (4, 10), (5, 5)])
def test_those_of_a_batch_that_were_never_handed_over_come_for_the_first_time(
    path: pathlib.Path, env: Environment, children: Children, handed: int, number: int
) -> None:
    everything = [b"%d" % index for index in range(number)]
    env.new_publisher().send_many(everything)
    holder = new_consumer(children, path)
    assert holder.do(loop_over, handed, number) == everything[:handed]
    assert env.new_subscriber("sub").get(timeout=0) is None
    holder.kill()
    got = env.new_subscriber("sub").get_many(number, timeout=support.BOUND)
    assert [message.data for message in got] == everything
    assert [message.delivery_count for message in got] == [2] * handed + [1] * (number - handed)
    assert all(message.last_error is None for message in got[handed:])
    for message in got:
        message.ack()
    (figures,) = env.open_control().statistics().subscribers
    assert (figures.deliveries, figures.redelivered) == (number + handed, handed)
    assert (figures.settled, figures.lag) == (number, 0)


def test_asking_for_the_next_batch_settles_the_one_before(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    env.new_publisher().send_many([b"%d" % index for index in range(8)])
    holder = new_consumer(children, path)
    holder.do(loop_over, 5, 4)
    holder.kill()
    got = env.new_subscriber("sub").get_many(10, timeout=support.BOUND)
    assert [(message.data, message.delivery_count) for message in got] == [(b"4", 2), (b"5", 1), (b"6", 1), (b"7", 1)]
    for message in got:
        message.ack()
