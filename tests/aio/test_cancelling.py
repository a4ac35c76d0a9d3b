"""Wherever a task is cancelled, its message is acknowledged or back in the queue, at once."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from persipubsub import ClosedError, Environment, aio
from tests.aio.support import Cancelling, eventually, figures, in_loop, is_waiting, nothing_leased, wait_for_thread
from tests.process.support import BOUND

Scenario = Callable[[aio.Subscriber[bytes]], Coroutine[Any, Any, None]]
MESSAGES = [b"1", b"2", b"3"]


async def receive(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive(timeout=1) as msg:
        assert msg is not None
        await asyncio.sleep(0)


async def receive_message_and_settle(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive_message(timeout=1) as message:
        assert message is not None
        message.send(b"staged")
        await message.ack()


async def receive_many(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive_many(2, timeout=1) as msgs:
        assert len(msgs) == 2
        await asyncio.sleep(0)


async def receive_to_top(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive_to_top(timeout=1) as msg:
        assert msg == MESSAGES[-1]
        await asyncio.sleep(0)


async def receive_view(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive_view(timeout=1) as view:
        assert view is not None
        assert bytes(view) in MESSAGES
        await asyncio.sleep(0)


async def get(sub: aio.Subscriber[bytes]) -> None:
    message = await sub.get(timeout=1)
    assert message is not None
    await message.ack()


async def get_many(sub: aio.Subscriber[bytes]) -> None:
    first, second = await sub.get_many(2, timeout=1)
    try:
        await first.ack()
    finally:
        await second.nack(reason="not now")


async def loop_in_block(sub: aio.Subscriber[bytes]) -> None:
    async with sub.messages(batch=2, timeout=0) as messages:
        async for _ in messages:
            await asyncio.sleep(0)


async def plain_loop(sub: aio.Subscriber[bytes]) -> None:
    async for _ in sub.messages(batch=2, timeout=0):
        await asyncio.sleep(0)


async def pop(sub: aio.Subscriber[bytes]) -> None:
    assert await sub.pop(timeout=1) is not None


SCENARIOS = [
    receive,
    receive_message_and_settle,
    receive_many,
    receive_to_top,
    receive_view,
    get,
    get_many,
    loop_in_block,
    plain_loop,
    pop,
]


@pytest.mark.parametrize("how", ["before", "between", "after", "twice"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_suspension(location: str, scenario: Scenario, how: str) -> None:
    suspensions = asyncio.run(_cancel_everywhere(location, scenario, how))
    assert suspensions >= 1


async def _cancel_everywhere(location: str, scenario: Scenario, how: str) -> int:
    """Cancel the scenario at its first suspension, its second, and so on, until it has no more; return how many."""
    async with aio.Environment(location) as env, aio.Environment(location) as other:
        pub = await env.new_publisher()
        control = await other.open_control()
        for number in itertools.count(1):
            await control.purge("a")
            await control.purge("b")
            await pub.send_many(MESSAGES)
            sub = await env.new_subscriber("a")
            before, sent = await figures(control), (await control.statistics()).published
            cancelling = Cancelling(env, number, how)
            task = asyncio.create_task(cancelling.run(scenario(sub)))
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            # The subscriber lives on, and so does the exception with its frames: neither has to end first.
            wait_for_thread(env)
            after = await nothing_leased(control)
            staged = (await control.statistics()).published - sent
            assert after.settled - before.settled + after.lag == len(MESSAGES) + staged
            assert after.dead == 0
            assert len(await sub.get_many(10, timeout=0)) == after.lag
            await sub.close()
            if cancelling.suspensions < number:
                return cancelling.suspensions
    raise AssertionError


# -- as programs cancel --------------------------------------------------------------------------------


@in_loop
async def test_waiting_is_cancelled_and_the_next_in_line_gets_the_message(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        first, second = asyncio.create_task(sub.get(None)), asyncio.create_task(sub.get(None))
        await is_waiting(first)
        first.cancel()
        await pub.send(b"frame")
        message = await second
        assert message is not None
        assert (message.data, message.delivery_count) == (b"frame", 1)
        await message.ack()
        assert first.cancelled()


@in_loop
async def test_the_handler_of_a_timeout_sees_the_message_back(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send(b"frame")

        async def handle() -> None:
            async with asyncio.timeout(None) as timeout, sub.receive():
                # The time is over once the handler has the message.
                timeout.reschedule(0)
                await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await handle()
        message = await sub.get(timeout=0)
        assert message is not None
        assert (message.delivery_count, message.last_error) == (2, "CancelledError")
        await message.ack()


@in_loop
async def test_timeouts_around_waiting_never_count_as_deliveries(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send(b"frame")
        for _ in range(30):
            task = asyncio.create_task(sub.get(None))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        message = await sub.get(timeout=0)
        assert message is not None
        assert message.delivery_count == 1
        await message.ack()


@in_loop
async def test_task_group_that_fails_gives_everything_back(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub, control = await env.new_publisher(), await env.new_subscriber("a"), await env.open_control()
        await pub.send_many(MESSAGES)
        busy: list[bytes] = []
        entered = asyncio.Event()

        async def handle() -> None:
            async with sub.receive() as msg:
                assert msg is not None
                busy.append(msg)
                if len(busy) == len(MESSAGES):
                    entered.set()
                await asyncio.Event().wait()

        async def fail() -> None:
            await entered.wait()
            raise ValueError("stop all of it")

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in MESSAGES:
                    group.create_task(handle())
                group.create_task(fail())

        with pytest.raises(ExceptionGroup):
            await all_of_them()
        assert (await figures(control)).leased == 0
        assert [message.data for message in await sub.get_many(10, timeout=0)] == MESSAGES


def test_end_of_the_event_loop(location: str) -> None:
    """``asyncio.run`` cancels what is still running, and nobody closes the environment."""
    kept: list[object] = []

    async def consume(sub: aio.Subscriber[bytes], entered: asyncio.Event) -> None:
        async for _ in sub.messages():
            entered.set()
            await asyncio.Event().wait()

    async def main() -> None:
        env = aio.Environment(location)
        await (await env.new_publisher()).send_many(MESSAGES)
        sub, entered = await env.new_subscriber("a"), asyncio.Event()
        task = asyncio.create_task(consume(sub, entered))
        await entered.wait()
        kept.extend((env, sub, task))

    asyncio.run(main())
    with Environment(location) as env, env.new_subscriber("a") as sub:
        assert [sub.pop(timeout=BOUND).data for _ in MESSAGES] == MESSAGES  # type: ignore[union-attr]
    asyncio.run(kept[0].close())  # type: ignore[attr-defined]


def test_coroutine_that_is_closed_instead_of_cancelled(location: str) -> None:
    """A coroutine that nobody drives any more gives its message back without awaiting anything."""

    async def main() -> None:
        async with aio.Environment(location) as env:
            pub, sub = await env.new_publisher(), await env.new_subscriber("a")
            await pub.send(b"frame")
            never = asyncio.get_running_loop().create_future()
            entered: list[bool] = []

            async def handle() -> None:
                async with sub.receive():
                    entered.append(True)
                    await never

            coroutine = handle()
            loop = asyncio.get_running_loop()
            while not entered:
                # What a task does, but without one.
                awaited = coroutine.send(None)
                if awaited is not None and not entered:
                    awaited._asyncio_future_blocking = False
                    done = loop.create_future()
                    awaited.add_done_callback(lambda _, done=done: done.set_result(None))
                    await done
            never._asyncio_future_blocking = False
            coroutine.close()
            message = await sub.get(timeout=0)
            assert message is not None
            assert message.delivery_count == 2
            await message.ack()

    asyncio.run(main())


@in_loop
async def test_closing_the_environment_ends_waits_and_gives_back(location: str) -> None:
    env = aio.Environment(location)
    pub, sub = await env.new_publisher(), await env.new_subscriber("a")
    waiting = asyncio.create_task(sub.get(None))
    await is_waiting(waiting)
    await env.close()
    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(ClosedError):
        await pub.send(b"frame")
    await env.close()
    assert env.closed
    assert sub.closed


@in_loop
async def test_cancelled_close_closes(location: str) -> None:
    env = aio.Environment(location)
    sub = await env.new_subscriber("a")
    await (await env.new_publisher()).send(b"frame")
    assert await sub.get(timeout=0) is not None
    task = asyncio.create_task(env.close())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await eventually(lambda: env.closed)
