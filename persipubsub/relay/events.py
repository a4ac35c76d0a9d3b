"""What a relay logs: each event is one record, with fields besides its text.

``docs/logging.rst`` lists the events, their levels and their fields.
"""

import logging
from typing import Any

from persipubsub.arguments import reason_of

logger = logging.getLogger("persipubsub")


class Log:
    """Logs the events of one relay."""

    def __init__(self, source: str, target: str) -> None:
        """Log nothing yet; the name comes once it is known."""
        self.name = ""
        self._fields = {"source": source, "target": target}

    def opened(self) -> None:
        """Tell that both queues are open."""
        self._log(
            logging.INFO,
            "Relay %s: opened %s and %s.",
            (self._fields["source"], self._fields["target"]),
            {"event": "relay_opened"},
        )

    def failed(self, error: BaseException, failures: int, delay: float) -> None:
        """Tell that an attempt failed, and when the next one follows."""
        reason = reason_of(error)
        self._log(
            logging.WARNING,
            "Relay %s: attempt %d failed, the next one follows in %.1f s: %s",
            (failures, delay, reason),
            {"event": "relay_failed", "failures": failures, "delay": round(delay, 3), "reason": reason},
        )

    def recovered(self, failures: int) -> None:
        """Tell that it goes on after failures."""
        self._log(
            logging.INFO,
            "Relay %s: goes on after %d failed attempts.",
            (failures,),
            {"event": "relay_recovered", "failures": failures},
        )

    def full(self, error: BaseException) -> None:
        """Tell that the target has no room."""
        reason = reason_of(error)
        self._log(logging.WARNING, "Relay %s: waits for room: %s", (reason,), {"event": "relay_full", "reason": reason})

    def standing_by(self) -> None:
        """Tell that somebody else is at work, or was a moment ago."""
        self._log(
            logging.INFO, "Relay %s: stands by, somebody else holds its messages.", (), {"event": "relay_standby"}
        )

    def rejected(self, message_id: int, error: BaseException) -> None:
        """Tell that the target does not take a message."""
        reason = reason_of(error)
        self._log(
            logging.ERROR,
            "Relay %s: message %d of %s cannot be forwarded and becomes a dead letter there: %s",
            (message_id, self._fields["source"], reason),
            {"event": "relay_rejected", "message_id": message_id, "reason": reason},
        )

    def ended(self, forwarded: int) -> None:
        """Tell that it came to its end."""
        self._log(
            logging.INFO,
            "Relay %s: ended, %d messages were forwarded.",
            (forwarded,),
            {"event": "relay_ended", "forwarded": forwarded},
        )

    def hangs(self, grace: float) -> None:
        """Tell that a call does not return."""
        self._log(
            logging.WARNING,
            "Relay %s: did not come to its end within %g s.",
            (grace,),
            {"event": "relay_hangs", "grace": grace},
        )

    def _log(self, level: int, text: str, arguments: tuple[object, ...], fields: dict[str, Any]) -> None:
        logger.log(level, text, self.name, *arguments, extra={"relay": self.name, **self._fields, **fields})
