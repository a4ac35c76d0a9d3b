"""Spans of messages, as OpenTelemetry's conventions for messaging describe them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from persipubsub.engine import forking
from persipubsub.engine.messages import Entry
from persipubsub.errors import MessageTooLargeError
from persipubsub.message import Received, decode_headers, encode_headers

Attributes = dict[str, str | int]

_tracer: trace.Tracer | None = None


def use(provider: trace.TracerProvider | None) -> None:
    """Make spans with ``provider`` from now on; with the global one if it is ``None``."""
    global _tracer
    _tracer = trace.get_tracer("persipubsub", tracer_provider=provider)


def tracer() -> trace.Tracer:
    """Return what makes spans."""
    return _tracer or trace.get_tracer("persipubsub")


def _describe(operation: str, location: str) -> tuple[str, Attributes]:
    """Return the name of a span and what every span of ours says; a queue is known by the name of its directory."""
    queue = os.path.basename(location.rstrip("/")) or location
    return f"{operation} {queue}", {
        "messaging.system": "persipubsub",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


def fail(span: Span, error: BaseException) -> None:
    """Say in a span what went wrong."""
    if span.is_recording():
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    """Make a span the current one in this block, and end it with the block."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:
            fail(span, error)
            raise


# -- the way out -----------------------------------------------------------------------------------


class Sending:
    """Entries on their way into a queue: with the context of the span in their headers."""

    def __init__(self, span: Span, entries: Sequence[Entry]) -> None:
        """Send ``entries`` in ``span``."""
        self._span = span
        self.entries = entries

    def done(self, ids: list[int]) -> list[int]:
        """Note the ids that they were given, and return them."""
        if len(ids) == 1:
            self._span.set_attribute("messaging.message.id", str(ids[0]))
        return ids


@contextmanager
def sending(location: str, entries: Sequence[Entry]) -> Iterator[Sending]:
    """Give a span in which ``entries`` are sent.

    What has a context in its headers already keeps it: the span is linked to that.
    """
    name, attributes = _describe("send", location)
    if len(entries) == 1:
        attributes["messaging.message.body.size"] = entries[0].size
    else:
        attributes["messaging.batch.message_count"] = len(entries)
    links = [link for entry in entries for link in _links(decode_headers(entry.headers))]
    kind = SpanKind.CLIENT if links and len(links) == len(entries) else SpanKind.PRODUCER
    with _current(tracer().start_span(name, kind=kind, attributes=attributes, links=links)) as span:
        yield Sending(span, inject(entries))


def inject(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries with the current context in the headers of all that have none."""
    carrier: dict[str, str | bytes] = {}
    propagate.inject(carrier)
    if not carrier:
        return list(entries)
    alone = encode_headers(carrier)
    return [
        msgspec.structs.replace(entry, headers=_joined(entry.headers, carrier) if entry.headers else alone)
        for entry in entries
    ]


def _joined(encoded: bytes, carrier: Mapping[str, str | bytes]) -> bytes:
    headers = decode_headers(encoded)
    if _links(headers):
        return encoded
    try:
        return encode_headers({**headers, **carrier})
    except MessageTooLargeError:
        # A message that goes out without its context is better than one that does not.
        return encoded


@contextmanager
def creating(message: Received[Any]) -> Iterator[None]:
    """Give a span in which a message is made that goes out with the acknowledgement of another."""
    name, attributes = _describe("create", message._holder.connection.location)
    with _current(tracer().start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)):
        yield


# -- the way in ------------------------------------------------------------------------------------


def _carrier(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if isinstance(value, str)}


def _links(headers: Mapping[str, str | bytes]) -> list[Link]:
    """Return a link to the span that a message comes from, if it tells."""
    if not headers:
        return []
    origin = trace.get_current_span(propagate.extract(_carrier(headers), Context())).get_span_context()
    return [Link(origin)] if origin.is_valid else []


class Processing:
    """A span in which messages are handled; it is the current one from its beginning to its end.

    The end may come anywhere: in another thread, in another task, or when the object is lost. So the context
    before is put back only where the span is still the current one.
    """

    def __init__(self, messages: Sequence[Received[Any]]) -> None:
        """Begin. Without a span around it, a single message goes on with the trace that it comes from."""
        self._generation = forking.generation
        first = messages[0]
        name, attributes = _describe("process", first._holder.connection.location)
        attributes["messaging.consumer.group.name"] = first.subscriber
        if len(messages) == 1:
            attributes["messaging.message.id"] = str(first.id)
            attributes["messaging.message.body.size"] = first.size
        else:
            attributes["messaging.batch.message_count"] = len(messages)
        links = [link for message in messages for link in _links(message.headers)]
        self._before = around = context.get_current()
        if len(messages) == 1 and not trace.get_current_span().get_span_context().is_valid:
            around = propagate.extract(_carrier(first.headers), around)
        self.span = tracer().start_span(name, around, kind=SpanKind.CONSUMER, attributes=attributes, links=links)
        context.attach(trace.set_span_in_context(self.span, around))
        self._ended = False

    def end(self, error: BaseException | None = None) -> None:
        """End the span; a second time has no effect."""
        if self._ended:
            return
        self._ended = True
        if trace.get_current_span() is self.span:
            context.attach(self._before)
        # A forked child leaves the spans of its parent alone.
        if self._generation == forking.generation:
            if error is not None:
                fail(self.span, error)
            self.span.end()

    def __del__(self) -> None:
        if hasattr(self, "_ended"):
            self.end()


@contextmanager
def processed(messages: Sequence[Received[Any]]) -> Iterator[Span]:
    """Give a span in which ``messages`` are handled."""
    processing = Processing(messages)
    try:
        yield processing.span
    except BaseException as error:
        processing.end(error)
        raise
    finally:
        processing.end()
