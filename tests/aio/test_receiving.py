"""Receiving in all its forms, and the loop over messages."""

import asyncio
import gc
import time

import pytest

from persipubsub import ClosedError, LeaseLostError, MessageError, SettingsError, SubscriberError, aio, serializers
from tests.aio.support import Cancelling, eventually, figures, in_loop, is_waiting, nothing_leased, wait_for_thread
from tests.process.support import BOUND


@in_loop
async def test_leaving_acknowledges_and_raising_gives_back(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send_many([b"", b"two"])

        async def fail() -> None:
            async with sub.receive_message() as message:
                assert message is not None
                raise ValueError("too dark")

        with pytest.raises(ValueError, match="too dark"):
            await fail()
        async with sub.receive_message(lease=30) as message:
            assert message is not None
            assert (message.data, message.delivery_count, message.last_error) == (b"", 2, "ValueError: too dark")
            await message.extend(60)
        async with sub.receive_many(10) as msgs:
            assert msgs == [b"two"]
        async with sub.receive(timeout=0) as nothing:
            assert nothing is None
        async with sub.receive_view(timeout=0) as view:
            assert view is None


@in_loop
async def test_view_and_top(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send_many([b"one", b"two", b"three"])
        async with sub.receive_view() as view:
            assert view is not None
            assert bytes(view) == b"one"
        async with sub.receive_to_top() as msg:
            assert msg == b"three"
        assert await sub.get(timeout=0) is None


@in_loop
async def test_block_is_entered_once(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send(b"one")
        block = sub.receive()
        async with block:
            with pytest.raises(SubscriberError, match="entered already"):
                async with block:
                    pass


@in_loop
async def test_timeouts(location: str) -> None:
    async with aio.Environment(location) as env:
        sub = await env.new_subscriber("a")
        start = time.monotonic()
        assert await sub.get(timeout=0.1) is None
        # The second stands in line behind the first, and has a deadline of its own.
        for got in await asyncio.gather(sub.get(timeout=0.2), sub.get(timeout=0.1), sub.get(timeout=0)):
            assert got is None
        assert 0.3 <= time.monotonic() - start < BOUND
        for wrong in (-1, float("nan"), "soon"):
            with pytest.raises(SettingsError):
                sub.receive(timeout=wrong)  # type: ignore[arg-type]
            with pytest.raises(SettingsError):
                sub.messages(timeout=wrong)  # type: ignore[arg-type]
            with pytest.raises(SettingsError):
                await sub.get(timeout=wrong)  # type: ignore[arg-type]


@in_loop
async def test_what_becomes_due_wakes(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send(b"later", delay=0.2)
        message = await sub.get(timeout=BOUND)
        assert message is not None
        await message.nack(delay=0.1)
        again = await sub.get(timeout=BOUND)
        assert again is not None
        await again.reject("enough")
        control = await env.open_control()
        dead = await control.dead_letters("a")
        assert [letter.reason async for letter in dead] == ["enough"]


@in_loop
async def test_by_hand(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a", serializers.json_loads)
        await pub.send_many([b"{}", b"broken", b"[1]"])
        seen = await sub.peek()
        assert seen is not None
        with pytest.raises(LeaseLostError, match="only looked at"):
            await seen.ack()
        assert sub.identifier == "a"
        popped = await sub.pop()
        assert popped is not None
        assert popped.data == {}
        first = await sub.get()
        assert first is not None
        assert first.data == [1]  # what cannot be decoded was passed over
        assert await sub.ack([first.id]) == 1
        with pytest.raises(LeaseLostError):
            await first.ack()
        with pytest.raises(MessageError):
            await first.nack(delay=-1)
        await sub.seek("latest")
        assert await sub.get(timeout=0) is None
        await sub.close()
        with pytest.raises(ClosedError):
            await sub.get(timeout=0)
        await sub.close()


# -- the loop ------------------------------------------------------------------------------------------


@in_loop
async def test_loop_acknowledges_and_leaving_it_gives_back(location: str) -> None:
    async with aio.Environment(location) as env:
        control, pub, sub = await env.open_control(), await env.new_publisher(), await env.new_subscriber("a")
        await pub.send_many([b"1", b"2", b"3", b"4"])
        async with sub.messages(batch=3) as messages:
            async for message in messages:
                if message.data == b"2":
                    break
        seen = await figures(control)
        assert (seen.settled, seen.leased, seen.lag) == (1, 0, 3)
        loops = []

        async def fail() -> None:
            async with sub.messages(timeout=0) as messages:
                loops.append(messages)
                async for _ in messages:
                    raise ValueError("too dark")

        with pytest.raises(ValueError, match="too dark"):
            await fail()
        rest = [(message.data, message.last_error) async for message in sub.messages(timeout=0)]
        assert rest == [(b"2", "ValueError: too dark"), (b"3", None), (b"4", None)]
        await loops[0].close()
        with pytest.raises(ClosedError):
            await anext(loops[0])


@in_loop
async def test_loop_with_a_deserializer_and_steps(location: str) -> None:
    async with aio.Environment(location) as env:
        pub = await env.new_publisher(serializer=serializers.json_dumps)
        sub, other = await env.new_subscriber("a", serializers.json_loads), await env.new_subscriber("b")
        await pub.send_many([1, 2, 3])
        async for message in sub.messages(timeout=0):
            if message.topic is None:
                message.send(b"0", topic="next")
        control = await env.open_control()
        assert ((await figures(control)).lag, (await figures(control, "b")).lag) == (0, 6)
        async with other.receive_many(10) as msgs:
            assert msgs == [b"1", b"2", b"3", b"0", b"0", b"0"]


@in_loop
async def test_waiting_loop_gets_what_comes(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        messages = aiter(sub.messages())
        for data in (b"1", b"2"):
            waiting = asyncio.ensure_future(anext(messages))
            await is_waiting(waiting)
            await pub.send(data)
            assert (await waiting).data == data
        await messages.close()
        assert (await figures(await env.open_control())).lag == 1


@in_loop
async def test_loop_goes_on_after_a_cancelled_wait(location: str) -> None:
    """What was handled is acknowledged, nothing else is held meanwhile."""
    async with aio.Environment(location) as env:
        control, pub, sub = await env.open_control(), await env.new_publisher(), await env.new_subscriber("a")
        await pub.send_many([b"1", b"2", b"3"])
        for how in ("before", "between", "after"):
            messages = aiter(sub.messages(batch=2))
            first = await anext(messages)
            # The batch is short of one that is given back, so that the next step needs the thread.
            messages._resting = True
            task = asyncio.create_task(Cancelling(env, 1, how).run(messages.__anext__()))
            await asyncio.wait([task])
            assert task.cancelled()
            await asyncio.sleep(0)
            wait_for_thread(env)
            async with aio.Environment(location) as other:
                await nothing_leased(control)
                assert await (await other.new_subscriber("a")).ack(first.id) == 0, how
            following = await anext(messages)
            assert (following.id, following.delivery_count) == (first.id + 1, 1)
            await messages.close()
            await sub.seek("first" if how == "after" else following.id)
            await pub.send(b"more")


@in_loop
async def test_end_of_the_task_ends_its_loop(location: str) -> None:
    """Even if the traceback of the cancellation, and with it the loop, is kept."""
    async with aio.Environment(location) as env:
        control, pub, sub = await env.open_control(), await env.new_publisher(), await env.new_subscriber("a")
        await pub.send_many([b"1", b"2", b"3"])
        kept: list[BaseException] = []
        entered = asyncio.Event()

        async def consume() -> None:
            messages = sub.messages()
            try:
                async for _ in messages:
                    entered.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                kept.append(error)
                raise

        task = asyncio.create_task(consume())
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        await nothing_leased(control)
        assert kept
        kept.clear()


@in_loop
async def test_lost_subscriber_gives_back(location: str) -> None:
    async with aio.Environment(location) as env:
        control, pub = await env.open_control(), await env.new_publisher()
        await pub.send_many([b"1", b"2"])

        async def lose() -> None:
            sub = await env.new_subscriber("a")
            assert await sub.get() is not None
            assert await sub.get() is not None
            assert await sub.get(timeout=0.01) is None

        await lose()
        gc.collect()
        await nothing_leased(control)
        assert (await figures(control)).waiting + (await figures(control)).lag > 0
        await eventually(lambda: not env._shared.connection.has_jobs)
