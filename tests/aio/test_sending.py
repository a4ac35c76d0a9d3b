"""Sends share commits, errors go to who caused them, and the event loop never waits."""

import asyncio
import functools
import logging
import threading
from pathlib import Path
from typing import Any

import icontract
import pytest

from persipubsub import (
    Environment,
    HighWaterMark,
    MessageTooLargeError,
    MessageTypeError,
    QueueFullError,
    QueueNotFoundError,
    Strategy,
    UnknownSubscriberError,
    aio,
    serializers,
)
from persipubsub.message import Draft
from tests.aio.support import eventually, figures, in_loop, is_waiting
from tests.process.support import BOUND


def transactions(environment: aio.Environment) -> int:
    """Return the number of the last write transaction."""
    engine: Any = environment._shared.connection.engine()
    number: int = engine._store.last_transaction()
    return number


@in_loop
async def test_a_thousand_concurrent_sends_take_few_transactions(tmp_path: Path) -> None:
    async with aio.Environment(tmp_path / "queue") as env:
        await env.new_control({"a"})
        pub = await env.new_publisher()
        before = transactions(env)
        ids = await asyncio.gather(*[pub.send(f"message {number}".encode()) for number in range(1000)])
        assert transactions(env) - before <= 5
        # In the order of the calls.
        assert ids == list(range(ids[0], ids[0] + 1000))
        sub = await env.new_subscriber("a")
        async with sub.receive_many(1000, timeout=0) as msgs:
            assert msgs == [f"message {number}".encode() for number in range(1000)]


@in_loop
async def test_errors_go_to_the_right_caller(location: str) -> None:
    async with aio.Environment(location) as env:
        await (await env.open_control()).configure(max_message_bytes=10)
        pub = await env.new_publisher()
        msgs = [b"x" * (11 if number % 7 == 3 else 5) for number in range(50)]
        results = await asyncio.gather(*[pub.send(msg) for msg in msgs], return_exceptions=True)
        for msg, result in zip(msgs, results, strict=True):
            assert isinstance(result, MessageTooLargeError if len(msg) > 10 else int)
        stored = [message.data async for message in env.browse()]
        assert stored == [msg for msg in msgs if len(msg) <= 10]


@in_loop
async def test_full_queue_rejects_those_beyond_the_mark(location: str) -> None:
    async with aio.Environment(location) as env:
        control = await env.open_control()
        await control.configure(high_water_mark=HighWaterMark(max_messages=20), strategy=Strategy.REJECT)
        pub = await env.new_publisher()
        results = await asyncio.gather(*[pub.send(b"x") for _ in range(50)], return_exceptions=True)
        assert [type(result) for result in results] == [int] * 20 + [QueueFullError] * 30


@in_loop
async def test_blocked_send_waits_for_room(location: str) -> None:
    async with aio.Environment(location) as env:
        control = await env.open_control()
        await control.remove_subscriber("b")
        await control.configure(high_water_mark=HighWaterMark(max_messages=1), strategy=Strategy.BLOCK)
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        await pub.send(b"first")
        with pytest.raises(QueueFullError):
            await pub.send(b"second", timeout=0)
        with pytest.raises(QueueFullError, match="No room came within"):
            await pub.send(b"second", timeout=0.05)
        blocked = asyncio.create_task(pub.send(b"second"))
        given_up = asyncio.create_task(pub.send(b"never"))
        await is_waiting(blocked)
        given_up.cancel()
        assert (await sub.pop(timeout=0)).data == b"first"  # type: ignore[union-attr]
        await blocked
        assert (await sub.pop(timeout=0)).data == b"second"  # type: ignore[union-attr]
        assert await sub.get(timeout=0) is None


@in_loop
async def test_closing_a_publisher_ends_its_waits(location: str) -> None:
    async with aio.Environment(location) as env:
        control = await env.open_control()
        await control.configure(high_water_mark=HighWaterMark(max_messages=1), strategy=Strategy.BLOCK)
        pub = await env.new_publisher()
        await pub.send(b"first")
        blocked = asyncio.create_task(pub.send(b"second"))
        await is_waiting(blocked)
        await pub.close()
        with pytest.raises(ValueError, match="was closed"):
            await blocked


@in_loop
async def test_send_many(location: str) -> None:
    async with aio.Environment(location) as env:
        pub = await env.new_publisher()
        assert await pub.send_many([]) == range(0)
        ids = await pub.send_many([b"one", Draft(b"two", topic="t")], headers={"key": "value"})
        assert list(ids) == [ids[0], ids[0] + 1]
        one, two = [message async for message in env.browse(limit=2)]
        assert (one.headers, one.topic, two.data, two.topic) == ({"key": "value"}, None, b"two", "t")
        autosync = await env.new_publisher(autosync=True, serializer=serializers.json_dumps)
        assert autosync.autosync
        assert len(await autosync.send_many([{"a": 1}, [2]])) == 2


@in_loop
async def test_what_is_wrong_is_told_before_anything_is_stored(location: str) -> None:
    async with aio.Environment(location) as env:
        pub = await env.new_publisher()
        with pytest.raises(MessageTypeError):
            await pub.send("text")
        with pytest.raises(UnknownSubscriberError, match="'a', 'b'"):
            await env.new_subscriber("c")
        assert [message async for message in env.browse()] == []
    async with aio.Environment("memory:nowhere") as nowhere:
        with pytest.raises(QueueNotFoundError):
            await nowhere.new_publisher()


@in_loop
async def test_buffer_may_change_after_a_cancelled_send(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")
        buffer = bytearray(b"before")
        task = asyncio.create_task(pub.send(buffer))
        await asyncio.sleep(0)
        task.cancel()
        buffer[:] = b"after!"
        await asyncio.wait([task])
        message = await sub.pop(timeout=0)
        assert message is None or message.data == b"before"


@in_loop
async def test_loop_runs_while_a_writer_is_held_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody keeps the write lock: sends wait, everything else in the loop goes on."""
    async with aio.Environment(tmp_path / "queue") as env:
        await env.new_control({"a"})
        pub = await env.new_publisher()
        engine: Any = env._shared.connection.engine()
        with engine._store.writer.turn:
            sends = [asyncio.create_task(pub.send(b"x")) for _ in range(10)]
            for _ in range(100):
                await asyncio.sleep(0)
            assert not any(task.done() for task in sends)
        assert len(await asyncio.gather(*sends)) == 10
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@in_loop
async def test_waiting_blocks_no_thread_however_many_wait(location: str) -> None:
    async with aio.Environment(location) as env:
        pub, sub = await env.new_publisher(), await env.new_subscriber("a")

        async def consume() -> bytes | None:
            async with sub.receive(BOUND) as msg:
                return msg

        before = threading.active_count()
        tasks = [asyncio.create_task(consume()) for _ in range(200)]
        await is_waiting(*tasks)
        # One that lets a descriptor be readable when something becomes due; however many wait.
        assert threading.active_count() <= before + 1
        await pub.send_many([str(number).encode() for number in range(200)])
        assert sorted(map(int, await asyncio.gather(*tasks))) == list(range(200))  # type: ignore[arg-type]


@in_loop
async def test_contracts_are_checked_for_every_concurrent_call(location: str) -> None:
    @icontract.require(lambda number: number > 0)
    def checked(number: int) -> int:
        return number

    async with aio.Environment(location) as env:
        # In the context of this task a contract has been checked before.
        assert checked(1) == 1
        violating = functools.partial(checked, 0)
        results = await asyncio.gather(*[env._shared.thread.run(violating) for _ in range(10)], return_exceptions=True)
        assert [type(result) for result in results] == [icontract.ViolationError] * 10


@in_loop
async def test_both_worlds_at_one_queue(location: str) -> None:
    with Environment(location) as plain:
        async with aio.Environment(location) as env:
            sub = await env.new_subscriber("a")
            waiting = asyncio.create_task(sub.get(None))
            await is_waiting(waiting)
            plain.new_publisher().send(b"from a thread")
            message = await waiting
            assert message is not None
            await message.nack(delay=3600, reason="later")
            control = await env.open_control()
            assert (await figures(control)).delayed == 1
            await eventually(lambda: plain.open_control().statistics().subscribers[0].delayed == 1)
