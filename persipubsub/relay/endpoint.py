"""A queue at one end of a relay: opened, closed after a failure, and opened again."""

import os

from persipubsub.control import Control
from persipubsub.engine.opening import opener_for
from persipubsub.environment import Environment
from persipubsub.errors import UnsupportedByEngineError
from persipubsub.limits import Durability

Queue = Environment | str | os.PathLike[str]
"""An open environment, which stays its owner's, or where a queue is."""


class Endpoint:
    """Opens a queue as often as it takes."""

    def __init__(self, queue: Queue, create: bool) -> None:
        """Open nothing yet.

        :raise OpenError: it is neither a path nor a location that an engine knows
        """
        self._given: Environment | None = None
        if isinstance(queue, Environment):
            self._given = queue
            self.location = queue.location
        else:
            opener = opener_for(queue)
            #: Where the queue is, without secrets.
            self.location = opener.location
            self._address = opener.address
        self._create = create
        self._environment: Environment | None = None
        #: Whether the queue was there once: from then on its absence is an outage, not a mistake.
        self.found = False

    def open(self) -> tuple[Environment, Control]:
        """Open the queue; if it is to be created, and is not there, deploy it first.

        :raise QueueNotFoundError: nothing is deployed there
        """
        environment = self._environment = self._given or Environment(self._address)
        control = _deployed(environment) if self._create and not self.found else environment.open_control()
        self.found = True
        return environment, control

    def close(self) -> None:
        """Let go of the queue."""
        environment, self._environment = self._environment, None
        if environment is not None and self._given is None:
            environment.close()


def _deployed(environment: Environment) -> Control:
    try:
        return environment.new_control()
    except UnsupportedByEngineError:
        # Servers that do not prove that they sync have this durability alone.
        return environment.new_control(durability=Durability.PROCESS)
