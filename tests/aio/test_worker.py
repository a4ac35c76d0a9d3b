"""Workers in tasks: handlers compete, failures come again later, and a stop is graceful."""

import asyncio
import os
import signal
from typing import Any

import pytest

from persipubsub import Backoff, SettingsError, SubscriberError, UnknownSubscriberError, aio
from tests.aio.support import figures, in_loop

SOON = Backoff(first=0.001, longest=0.01)


@in_loop
async def test_handlers_compete(location: str) -> None:
    async with aio.Environment(location) as env:
        await (await env.new_publisher()).send_many([str(number).encode() for number in range(50)])
        handled: list[bytes] = []
        together = asyncio.Barrier(5)

        async def handle(message: aio.Message[bytes]) -> None:
            if int(message.data) < 5:
                await together.wait()
            handled.append(message.data)
            if len(handled) == 50:
                worker.stop()

        worker = aio.Worker(handle, await env.new_subscriber("a"), 5)
        assert await worker.run() == 50
        assert sorted(map(int, handled)) == list(range(50))
        assert (await figures(await env.open_control())).lag == 0


@in_loop
async def test_failures_come_again_and_die(location: str) -> None:
    async with aio.Environment(location) as env:
        control = await env.open_control()
        await control.configure_subscriber("a", max_deliveries=3)
        await (await env.new_publisher()).send_many([b"bad", b"good"])
        tried: list[tuple[bytes, int]] = []

        async def handle(message: aio.Message[bytes]) -> None:
            tried.append((message.data, message.delivery_count))
            if message.data == b"bad":
                raise ValueError("too dark")

        worker = aio.Worker(handle, await env.new_subscriber("a"), backoff=SOON)
        running = asyncio.create_task(worker.run())
        while (await figures(control)).lag:
            await asyncio.sleep(0.001)
        worker.stop()
        assert await running == 1
        assert sorted(tried) == [(b"bad", 1), (b"bad", 2), (b"bad", 3), (b"good", 1)]
        assert [letter.reason async for letter in await control.dead_letters("a")] == ["ValueError: too dark"]


@in_loop
async def test_stop_lets_handlers_finish(location: str) -> None:
    async with aio.Environment(location) as env:
        await (await env.new_publisher()).send_many([b"1", b"2"])
        entered, leave = asyncio.Event(), asyncio.Event()

        async def handle(message: aio.Message[bytes]) -> None:
            entered.set()
            await leave.wait()

        worker = aio.Worker(handle, await env.new_subscriber("a"))
        running = asyncio.create_task(worker.run())
        await entered.wait()
        worker.stop()
        await asyncio.sleep(0)
        leave.set()
        assert await running == 1
        assert (await figures(await env.open_control())).waiting == 1


@pytest.mark.parametrize("how", ["grace", "cancel"])
@in_loop
async def test_what_is_not_finished_is_given_back(location: str, how: str) -> None:
    async with aio.Environment(location) as env:
        await (await env.new_publisher()).send(b"1")
        entered = asyncio.Event()

        async def handle(message: aio.Message[bytes]) -> None:
            entered.set()
            await asyncio.Event().wait()

        sub = await env.new_subscriber("a")
        worker = aio.Worker(handle, sub, 3, grace=0.01)
        running = asyncio.create_task(worker.run())
        await entered.wait()
        if how == "grace":
            worker.stop()
            assert await running == 0
        else:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        message = await sub.get(timeout=0)
        assert message is not None
        assert (message.delivery_count, message.last_error) == (2, "CancelledError")
        await message.ack()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@in_loop
async def test_signals_stop_it(location: str, number: signal.Signals) -> None:
    async with aio.Environment(location) as env:
        await (await env.new_publisher()).send(b"1")

        async def handle(message: aio.Message[bytes]) -> None:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), number)

        assert await aio.run(handle, await env.new_subscriber("a"), 2) == 1


@in_loop
async def test_what_keeps_it_from_taking_is_raised(location: str) -> None:
    async with aio.Environment(location) as env:
        sub = await env.new_subscriber("a")
        await (await env.open_control()).remove_subscriber("a")

        async def handle(message: aio.Message[bytes]) -> None:
            raise AssertionError

        with pytest.raises(UnknownSubscriberError):
            await aio.run(handle, sub, 2)


@in_loop
async def test_runs_once_at_a_time(location: str) -> None:
    async with aio.Environment(location) as env:

        async def handle(message: aio.Message[bytes]) -> None:
            raise AssertionError

        worker = aio.Worker(handle, await env.new_subscriber("a"), signals=())
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        with pytest.raises(SubscriberError, match="runs already"):
            await worker.run()
        worker.stop()
        assert await running == 0
        wrong: list[dict[str, Any]] = [{"concurrency": 0}, {"grace": -1}, {"lease": 0}, {"signals": ["TERM"]}]
        for options in wrong:
            with pytest.raises(SettingsError):
                aio.Worker(handle, await env.new_subscriber("a"), **options)
