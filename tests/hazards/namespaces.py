"""Processes of different containers: equal process ids, ids that are given again, and networks of their own."""

import time

from persipubsub import Environment
from tests.hazards.trials import Trial, store_of
from tests.process.contained import BEHIND_INIT, FIRST, Contained
from tests.process.support import BOUND, armed_bells, wait_until

#: Whoever is woken is there sooner, in seconds; whoever is not sleeps for minutes.
WOKEN = 10.0


def contained(trial: Trial) -> None:
    """Let two have the same id, let one get the id of a reader that died, and wake across networks."""
    with Environment(trial.path) as env:
        env.new_control({"sub"}, durability=trial.durability)
        pub = env.new_publisher()
        pub.send(b"read me")
        made: list[Contained] = []

        def contain(*namespaces: str, init: tuple[str, ...] = FIRST) -> Contained:
            made.append(Contained(trial.path, *namespaces, init=init, bugs=trial.bugs))
            return made[-1]

        try:
            init = trial.source.choice((FIRST, BEHIND_INIT))
            first, second = contain("--pid", init=init), contain("--pid", init=init)
            pid = first.do("open")
            answer = second.do("open")
            named = (
                isinstance(answer, list) and answer[0] == "PidCollisionError" and "share a PID namespace" in answer[1]
            )
            trial.expect(named, f"equal ids: {answer}")
            first.do("send", "still here")
            trial.expect(first.do("take", 0) == ["read me", 1], "equal ids: the first is disturbed")
            first.do("ack")
            first.kill()
            trial.expect(second.do("open") == pid, "equal ids: the second cannot come when the first has gone")
            second.kill()
            trial.tries += 1

            keeper = contain("--pid")
            dead = keeper.do("die_while_reading")
            trial.expect(f" {dead} " in store_of(env).env.readers(), "the dead reader has no place")
            answer = keeper.do("reopen_as", dead)
            trial.expect(answer == [dead, 0], f"an id is given again: [id, places] is {answer}, the dead was {dead}")
            keeper.kill()
            trial.tries += 1

            sleeper = contain("--net")
            sleeper.do("be_patient")
            sleeper.do("open")
            trial.expect(sleeper.do("take", 0)[0] == "still here", "another network: the message is lost")
            sleeper.do("ack")
            sleeper.start("take", 300)
            wait_until(lambda: armed_bells(trial.path), "it asks to be woken", BOUND)
            began = time.monotonic()
            pub.send(b"wake up")
            trial.expect(sleeper.answer() == ["wake up", 1], "another network: another message")
            sleeper.do("ack")
            took = time.monotonic() - began
            trial.note("longest wait to be woken, s", took)
            trial.expect_soon(took, WOKEN, "another network: not woken")
            trial.tries += 1
        finally:
            for one in made:
                one.kill()
    trial.check()
