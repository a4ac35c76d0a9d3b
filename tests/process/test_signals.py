"""A signal handler that uses the queue in the middle of a call of the same thread is told so, and does not hang."""

import os
import pathlib
import signal
from types import FrameType

from persipubsub import Durability, Environment, QueueBusyError
from persipubsub.engine.local.engine import LocalEngine


def test_a_signal_handler_in_the_middle_of_a_send(path: pathlib.Path, env: Environment) -> None:
    pub = env.new_publisher()
    seen: list[str] = []

    def handler(number: int, frame: FrameType | None) -> None:
        try:
            pub.send(b"from the handler")
        except QueueBusyError as error:
            seen.append(str(error))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        engine = env._connection.engine()
        assert isinstance(engine, LocalEngine)
        # The signal arrives inside the transaction.
        engine._store.write(lambda work: os.kill(os.getpid(), signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ["signal handler" in text for text in seen] == [True]
    assert pub.send(b"afterwards") == 1


def test_durability_is_noted_for_a_power_cut(path: pathlib.Path, env: Environment) -> None:
    """What a change of durability means for the next start of the machine stands in the queue at once."""
    control = env.open_control()
    control.configure(durability=Durability.PROCESS)
    assert (path / "boot").exists()
    control.configure(durability=Durability.FULL)
    assert not (path / "boot").exists()
    control.configure(durability=Durability.PROCESS)
    env.close()
    assert not (path / "boot").exists()
