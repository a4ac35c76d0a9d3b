"""The queue for asyncio: the same names, with ``async with``, ``async for`` and ``await``.

>>> import asyncio
>>> from persipubsub import aio
>>> async def main():
...     async with aio.Environment("memory:") as env:
...         control = await env.new_control(subscriber_ids={"worker"})
...         await (await env.new_publisher()).send(b"hello")
...         async with (await env.new_subscriber("worker")).receive(timeout=1) as msg:
...             print(msg)
>>> asyncio.run(main())
b'hello'

No thread is blocked while a task waits: the loop watches a descriptor. Transactions run on a thread
of each Environment. A task that is cancelled at any ``await`` has acknowledged its message, or gives
it back at once. An Environment belongs to one event loop.

Programs on trio, or on anyio over trio, use the synchronous classes through their threads
(``anyio.to_thread.run_sync``); on anyio over asyncio these here work as they are.
"""

from persipubsub.aio.control import Control, DeadLetters
from persipubsub.aio.environment import Environment
from persipubsub.aio.iteration import Messages
from persipubsub.aio.message import Message
from persipubsub.aio.publisher import Publisher
from persipubsub.aio.receiving import Receiving
from persipubsub.aio.subscriber import Subscriber
from persipubsub.aio.worker import Worker, run

__all__ = [
    "Environment",
    "Control",
    "Publisher",
    "Subscriber",
    "Message",
    "Messages",
    "Receiving",
    "DeadLetters",
    "Worker",
    "run",
]
