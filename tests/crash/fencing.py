"""Those whose lease has ended, and whose message another has taken, cannot settle it any more."""

import pathlib
import random
from collections.abc import Callable

from persipubsub import Durability, Environment, LeaseLostError, Message
from persipubsub.engine.local import opening
from tests.contract.support import FakeClock

_LATE: list[Callable[[Message[bytes]], object]] = [
    lambda message: message.ack(),
    lambda message: message.nack(),
    lambda message: message.nack(delay=5),
    lambda message: message.reject("late"),
    lambda message: message.extend(10),
]


def late(path: pathlib.Path, seed: int, number: int) -> list[str]:
    """Let a late owner try to settle so many messages that another has taken; return what went wrong."""
    source, clock = random.Random(seed), FakeClock()
    real, opening.clock = opening.clock, clock
    findings: list[str] = []
    try:
        with Environment(path) as first, Environment(path) as second:
            control = first.new_control({"sub"}, durability=Durability.PROCESS)
            control.configure_subscriber("sub", max_deliveries=None)
            pub, slow, quick = first.new_publisher(), first.new_subscriber("sub"), second.new_subscriber("sub")
            for turn in range(number):
                pub.send(b"%d" % turn)
                mine = slow.get(timeout=0, lease=1.0)
                # Somebody sets the wall clock meanwhile, which neither ends leases nor prolongs them.
                clock.set_wall(source.uniform(-1e5, 1e5))
                if quick.get(timeout=0) is not None:
                    findings.append(f"{turn}: the lease ended with the wall clock")
                    break
                clock.go(1.5)
                others = quick.get(timeout=0, lease=1.0)
                if mine is None or others is None or (mine.id, others.delivery_count) != (others.id, 2):
                    findings.append(f"{turn}: {mine} was not followed by {others}")
                    break
                try:
                    source.choice(_LATE)(mine)
                except LeaseLostError:
                    pass
                else:
                    findings.append(f"{turn}: a late settlement was accepted")
                try:
                    others.ack()
                except LeaseLostError as error:
                    findings.append(f"{turn}: {error}")
                    break
            findings += [str(found) for found in control.check()]
    finally:
        opening.clock = real
    return findings
