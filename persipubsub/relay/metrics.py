"""Figures of a relay for Prometheus; needs the extra ``metrics`` (prometheus_client).

They are read when they are asked for::

    from prometheus_client import REGISTRY
    from persipubsub.relay.metrics import RelayCollector

    REGISTRY.register(RelayCollector(relay))
"""

from collections.abc import Callable, Iterable
from typing import Final

from persipubsub.relay.relay import Relay
from persipubsub.relay.status import RelayState, RelayStatus

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"Metrics need {_error.name}; install it with: pip install 'persipubsub[metrics]'", name=_error.name
    ) from None

Family = CounterMetricFamily | GaugeMetricFamily

_LABELS: Final = ("relay", "source", "target")

#: Name without prefix, help, value; a name that ends in ``_total`` is a counter. ``None`` is left out.
_FIGURES: Final[tuple[tuple[str, str, Callable[[RelayStatus], float | None]], ...]] = (
    ("forwarded_messages_total", "Messages that the target has stored.", lambda status: status.forwarded),
    ("forwarded_bytes_total", "Bytes of their payload.", lambda status: status.forwarded_bytes),
    ("repeated_messages_total", "Messages found in the target already.", lambda status: status.repeated),
    ("turned_back_messages_total", "Messages that came from the target.", lambda status: status.turned_back),
    ("expired_messages_total", "Messages whose time was over before they were sent.", lambda status: status.expired),
    ("rejected_messages_total", "Messages that the target refused for ever.", lambda status: status.rejected),
    ("failures_total", "Failed attempts, of either side.", lambda status: status.failures),
    ("failing_attempts", "Failed attempts since the last that went well.", lambda status: status.failing),
    ("lag_messages", "Messages that wait in the source, as last seen; absent before.", lambda status: status.lag),
    (
        "retry_in_seconds",
        "Seconds until the next attempt; absent if none failed.",
        lambda status: status.retry_in,
    ),
    (
        "last_forwarded_timestamp_seconds",
        "When the target last stored something; absent before.",
        lambda status: None if status.last_forwarded_ns is None else status.last_forwarded_ns / 1e9,
    ),
    (
        "last_error_timestamp_seconds",
        "When something last failed; absent before.",
        lambda status: None if status.last_error_ns is None else status.last_error_ns / 1e9,
    ),
)


class RelayCollector(Collector):
    """Shows what ``Relay.status`` tells; it reads no queue and waits for nothing; safe to use from any thread.

    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> registry.register(RelayCollector(Relay("memory:edge", "memory:centre", name="uplink")))
    >>> labels = {"relay": "uplink", "source": "memory:edge", "target": "memory:centre"}
    >>> int(registry.get_sample_value("persipubsub_relay_forwarded_messages_total", labels))
    0
    """

    def __init__(self, relay: Relay) -> None:
        """Read nothing yet."""
        self._relay = relay

    def describe(self) -> Iterable[Family]:
        """Return the families without figures."""
        return [_family(name, text, _LABELS) for name, text, _ in _FIGURES] + [_state_family()]

    def collect(self) -> Iterable[Family]:
        """Return the figures of this moment."""
        status = self._relay.status()
        labels = [status.name, status.source, status.target]
        for name, text, value in _FIGURES:
            family = _family(name, text, _LABELS)
            figure = value(status)
            if figure is not None:
                family.add_metric(labels, figure)
            yield family
        states = _state_family()
        for state in RelayState:
            states.add_metric([*labels, state.value], float(state is status.state))
        yield states


def _family(name: str, text: str, labels: Iterable[str]) -> Family:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"persipubsub_relay_{name}", text, labels=list(labels))


def _state_family() -> Family:
    return _family("state", "1 for what the relay is doing, 0 for the others.", (*_LABELS, "state"))
