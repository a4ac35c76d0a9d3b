"""Stop an ``async for`` loop on SIGTERM: finish the message in hand, or give it back at once."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from persipubsub import Durability, aio


async def until(stopping: asyncio.Event, messages: aio.Messages[bytes]) -> AsyncIterator[aio.Message[bytes]]:
    """Give messages until ``stopping`` is set; the wait for the next one is cancelled then."""
    stop = asyncio.create_task(stopping.wait())
    while not stopping.is_set():
        following = asyncio.ensure_future(anext(messages))
        await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            following.cancel()
            await asyncio.wait({following})
            return
        message = following.result()
        yield message
        if stopping.is_set():
            # Only asking for the next one acknowledges, and nobody asks any more.
            await message.ack()
    stop.cancel()


async def finish(sub: aio.Subscriber[bytes]) -> None:
    """Handle messages; at SIGTERM finish the one in hand."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with sub.messages() as messages:
        async for message in until(stopping, messages):
            await handle(message)


async def give_back(sub: aio.Subscriber[bytes]) -> None:
    """Handle messages; at SIGTERM give back the one in hand."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with sub.messages() as messages:
        async for message in messages:
            await handle(message)


async def handle(message: aio.Message[bytes]) -> None:
    """Do some work; the third and the fifth message take so long that somebody stops the program."""
    print("began", message.data.decode())
    if message.data in (b"3", b"5"):
        os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    print("ended", message.data.decode())


async def main() -> None:
    """Run the loop twice, and show what is left."""
    with tempfile.TemporaryDirectory() as folder:
        async with aio.Environment(Path(folder) / "queue") as env:
            await env.new_control({"worker"}, durability=Durability.PROCESS)
            await (await env.new_publisher()).send_many([str(number).encode() for number in range(1, 8)])
            sub = await env.new_subscriber("worker")
            await finish(sub)
            print("stopped")
            try:
                await asyncio.create_task(give_back(sub))
            except asyncio.CancelledError:
                print("stopped")
            rest = await sub.get_many(10, timeout=0)
            print("left:", *[message.data.decode() for message in rest])
            print("why:", rest[0].last_error)


if __name__ == "__main__":
    asyncio.run(main())
