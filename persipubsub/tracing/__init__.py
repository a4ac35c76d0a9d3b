"""Traces by OpenTelemetry; needs the extra ``otel`` (opentelemetry-api).

::

    from persipubsub import tracing

    tracing.instrument()

From then on every send carries its trace context in the headers of the message (W3C ``traceparent`` and
``tracestate``, or whatever propagators are configured), and every handler runs in a span that is linked to
the one of the send, in whatever process. Spans are named as OpenTelemetry's conventions for messaging say;
``docs/monitoring.rst`` lists them.

Before ``instrument`` is called, and after ``uninstrument``, no code of this package runs with a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"Tracing needs {_error.name}; install it with: pip install 'persipubsub[otel]'", name=_error.name
    ) from None

from persipubsub.message import Received
from persipubsub.tracing import hooks, spans

__all__ = ["instrument", "process", "uninstrument"]


def instrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Trace what all publishers and subscribers of this process send and handle, in threads and in asyncio.

    Calling it again only changes the provider. Traced are ``send``, ``send_many`` and ``message.send``; the
    ``receive`` blocks, the loop over ``messages()`` and workers. Where messages are taken by hand (``get``,
    ``pop``), use ``process``.

    :param tracer_provider: the global one of OpenTelemetry, if it is left out
    """
    spans.use(tracer_provider)
    hooks.install()


def uninstrument() -> None:
    """Trace nothing any more; blocks that were entered before end their spans."""
    hooks.remove()


@contextmanager
def process(*messages: Received[Any]) -> Iterator[trace.Span]:
    """Give a span in which messages are handled that were taken by hand.

    >>> import persipubsub
    >>> from persipubsub import tracing
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     message = env.new_subscriber("worker").get(timeout=0)
    ...     with tracing.process(message) as span:
    ...         message.ack()
    """
    with spans.processed(messages) as span:
        yield span
