"""All ways out of a block, a loop, a coroutine and a batch: only what was handled to the end is acknowledged."""

import asyncio
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from persipubsub import Environment, Subscriber, SubscriberSettings, aio
from tests.hazards.trials import Trial
from tests.process.support import Here, eventually

#: Who is handled so often without success is a dead letter.
DELIVERIES = 3


Leave = Callable[[Any], object]


class HandlerError(Exception):
    """Of a handler."""


class NoExceptionError(BaseException):
    """Derives from what nobody catches."""


def _raise(error: BaseException) -> Leave:
    def leave(message: Any) -> object:
        raise error

    return leave


#: Ways to leave a handler, and whether the message is done with.
EXITS: dict[str, tuple[Leave, bool]] = {
    "the end": (lambda message: None, True),
    "ack": (lambda message: message.ack(), True),
    "exception": (_raise(HandlerError()), False),
    "base exception": (_raise(NoExceptionError()), False),
    "KeyboardInterrupt": (_raise(KeyboardInterrupt()), False),
    "SystemExit": (lambda message: sys.exit(1), False),
    "GeneratorExit": (_raise(GeneratorExit()), False),
    "StopIteration": (_raise(StopIteration()), False),
    "cancelled": (_raise(asyncio.CancelledError()), False),
    "nack": (lambda message: message.nack(), False),
    "_exit": (lambda message: os._exit(0), False),
    "killed": (lambda message: os.kill(os.getpid(), 9), False),
}
DEADLY = ("_exit", "killed")
#: A coroutine that is closed cannot wait until its message was given back: that is done meanwhile.
LATER = ("in_a_coroutine", "GeneratorExit")


def in_a_block(path: pathlib.Path, leave: Leave) -> None:
    """Handle a message in a ``with`` block."""
    with Environment(path) as env, env.new_subscriber("sub").receive_message(timeout=0) as message:
        assert message is not None
        leave(message)


def in_a_loop(path: pathlib.Path, leave: Leave) -> None:
    """Handle a message in a loop over messages."""
    with Environment(path) as env, env.new_subscriber("sub").messages(timeout=0) as loop:
        for message in loop:
            leave(message)
            if leave is EXITS["nack"][0]:
                break  # else it comes again in this very loop


def in_a_generator(path: pathlib.Path, leave: Leave) -> None:
    """Handle a message inside of a generator that is closed."""

    def handle(sub: Subscriber[bytes]) -> Iterator[int]:
        with sub.receive_message(timeout=0) as message:
            assert message is not None
            leave(message)
            yield message.id

    with Environment(path) as env:
        for _ in handle(env.new_subscriber("sub")):
            pass


def in_a_coroutine(path: pathlib.Path, leave: Leave) -> None:
    """Handle a message in an ``async with`` block."""

    async def handle() -> None:
        async with aio.Environment(path) as env:
            sub = await env.new_subscriber("sub")
            async with sub.receive_many(1, timeout=0) as payloads:
                assert payloads
                leave(_Payload())

    asyncio.run(handle())


class _Payload:
    """Stands for a message where only payloads are given: the block settles it, or gives it back for an exception."""

    def ack(self) -> None:
        pass

    def nack(self) -> None:
        raise HandlerError


def in_a_batch(path: pathlib.Path, leave: Leave) -> None:
    """Handle a batch in a ``with`` block."""
    with Environment(path) as env, env.new_subscriber("sub").receive_many(5, timeout=0) as payloads:
        assert len(payloads) == 1
        leave(_Payload())


FORMS = {each.__name__: each for each in (in_a_block, in_a_loop, in_a_generator, in_a_coroutine, in_a_batch)}


def handle_once(here: Here, path: pathlib.Path, form: str, way: str) -> str:
    """Handle the message; return what came out of the block."""
    try:
        FORMS[form](path, EXITS[way][0])
    except BaseException as error:  # noqa: BLE001 - the trial judges it
        return type(error).__name__
    return ""


def is_given_back(env: Environment) -> bool:
    """Tell whether nobody holds a message."""
    (figures,) = env.open_control().statistics().subscribers
    return figures.leased == 0


def exits(trial: Trial) -> None:
    """Leave a handler in one of the ways until the message is done with, or a dead letter."""
    for form in FORMS:
        for way, (_, done) in EXITS.items():
            path = trial.folder / f"{form} {way}"
            with Environment(path) as env:
                env.new_control({"sub": SubscriberSettings(max_deliveries=DELIVERIES)}, durability=trial.durability)
                env.new_publisher().send(b"x")
            child = trial.child()
            for number in range(1 if done else DELIVERIES):
                child.start(handle_once, path, form, way)
                if way in DEADLY:
                    child.ended()
                    child = trial.child()
                else:
                    child.returned()
                with Environment(path) as env:
                    if (form, way) == LATER:
                        eventually(functools.partial(is_given_back, env))
                    (figures,) = env.open_control().statistics().subscribers
                wrong = (figures.settled > 0) != done and not (figures.dead and number == DELIVERIES - 1)
                trial.expect(not wrong, f"{form}, {way}, {number}: wrongly settled")
                trial.expect(not figures.leased or way in DEADLY, f"{form}, {way}: still held")
            with Environment(path) as env:
                sub = env.new_subscriber("sub")
                trial.expect(sub.get(timeout=0) is None, f"{form}, {way}: it comes again")
                dead = len(list(env.open_control().dead_letters("sub")))
                trial.expect(dead == (not done), f"{form}, {way}: {dead} dead letters")
            child.kill()
            trial.tries += 1
