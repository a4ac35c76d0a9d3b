"""A trace crosses from one process to another with the message."""

import pathlib
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from persipubsub import tracing
from tests.process.support import BOUND, Children, Here, open_publisher, open_subscriber, send


def start_tracing(here: Here) -> None:
    here.exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(here.exporter))
    tracing.instrument(provider)


def handle(here: Here) -> None:
    with here.sub.receive(timeout=BOUND) as msg:
        assert msg == b"crossing"


def exported(here: Here) -> list[tuple[str, int, int, list[int]]]:
    """Return name, trace, id and links of each span."""
    found: list[Any] = list(here.exporter.get_finished_spans())
    return [
        (span.name, span.context.trace_id, span.context.span_id, [link.context.span_id for link in span.links])
        for span in found
    ]


def test_a_trace_crosses_processes(path: pathlib.Path, children: Children) -> None:
    publisher, subscriber = children.new(), children.new()
    for child in (publisher, subscriber):
        child.do(start_tracing)
    publisher.do(open_publisher, path)
    subscriber.do(open_subscriber, path)
    subscriber.start(handle)
    publisher.do(send, b"crossing")
    subscriber.returned()
    ((sent, trace_id, sent_id, _),) = publisher.do(exported)
    ((processed, same_trace, _, links),) = subscriber.do(exported)
    assert (sent, processed) == ("send queue", "process queue")
    assert same_trace == trace_id
    assert links == [sent_id]
