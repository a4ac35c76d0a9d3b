"""A wall clock that jumps: order, leases and what is kept do not depend on it."""

from persipubsub import Environment, LeaseLostError, Message, SubscriberSettings
from persipubsub.engine.local import opening
from tests.contract.support import FakeClock
from tests.hazards.trials import Trial

#: Jumps of the wall clock in a trial, and the farthest, in seconds.
JUMPS, FAR = 100, 10 * 365 * 86400.0
_LEASE = 10.0


def jumping(trial: Trial) -> None:
    """Set the wall clock again and again while two owners send, take, hold and settle."""
    clock, source = FakeClock(), trial.source
    real, opening.clock = opening.clock, clock
    try:
        with Environment(trial.path) as one, Environment(trial.path) as other:
            settings = {name: SubscriberSettings(max_deliveries=None) for name in ("sub", "late")}
            one.new_control(settings, durability=trial.durability)
            pub, subs = one.new_publisher(), [each.new_subscriber("sub") for each in (one, other)]
            sent: list[int] = []
            held: dict[int, tuple[Message[bytes], int]] = {}
            settled: set[int] = set()
            for _ in range(JUMPS):
                clock.set_wall(source.choice((-1, 1)) * source.uniform(0, source.choice((1.0, 3600.0, FAR))))
                clock.go(source.uniform(0, 1))
                sent += pub.send_many([b"x"] * source.randrange(1, 3))
                message = source.choice(subs).get(timeout=0, lease=_LEASE)
                if message is not None:
                    before = held.get(message.id)
                    trial.expect(before is None or before[1] <= clock.boot, f"{message.id} is held by two")
                    trial.expect(message.id not in settled, f"{message.id} came after it was settled")
                    held[message.id] = (message, clock.boot + int(_LEASE * 1e9))
                if held and source.random() < 0.6:
                    message, until = held.pop(source.choice(list(held)))
                    try:
                        message.ack()
                        settled.add(message.id)
                    except LeaseLostError:
                        trial.expect(until <= clock.boot, f"the lease of {message.id} ended before its time")
                trial.tries += 1
            clock.go(_LEASE)
            late = [message.id for message in one.new_subscriber("late").messages(timeout=0)]
            trial.expect(late == sent, f"{len(late)} of {len(sent)} came, or in another order")
            for subscriber in subs:
                settled.update(message.id for message in subscriber.messages(timeout=0))
            trial.expect(settled == set(sent), f"lost: {sorted(set(sent) - settled)[:5]}")
        trial.check()
    finally:
        opening.clock = real
