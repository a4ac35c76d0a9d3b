"""Traces: from the send to the handler, through every way to send and to handle, and at no cost when off."""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from persipubsub import Backoff, Draft, Environment, Message, Worker, aio, tracing
from persipubsub.tracing import hooks
from tests.aio.support import in_loop

AT_ONCE = Backoff(first=0.001, jitter=0)
METHODS = {(owner, name): owner.__dict__[name] for owner, name, _ in hooks._HOOKS}


class Spans:
    """What was exported, in the order in which it ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def all(self, name: str | None = None) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if name in (None, span.name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    def clear(self) -> None:
        self._exporter.clear()


@pytest.fixture
def spans() -> Iterator[Spans]:
    found = Spans()
    tracing.instrument(found.provider)
    yield found
    tracing.uninstrument()
    assert not trace.get_current_span().get_span_context().is_valid, "a span was left as the current one"


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Environment]:
    with Environment(tmp_path / "orders") as env:
        env.new_control({"billing"})
        yield env


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("messaging."): value for name, value in (span.attributes or {}).items()}


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def span_id(span: ReadableSpan) -> int:
    found: int = span.context.span_id
    return found


def current() -> int:
    """Return the id of the current span, 0 if there is none."""
    return trace.get_current_span().get_span_context().span_id


def test_a_send_and_its_handler(env: Environment, spans: Spans) -> None:
    with spans.tracer.start_as_current_span("request") as request:
        message_id = env.new_publisher().send(b"frame", headers={"mine": "stays"})
    sub = env.new_subscriber("billing")
    with sub.receive_message(timeout=0) as message:
        assert message is not None
        assert message.headers["mine"] == "stays"
        assert str(message.headers["traceparent"]).startswith("00-")
        inside = current()
    sent, processed = spans.one("send orders"), spans.one("process orders")
    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.parent is not None
    assert sent.parent.span_id == request.get_span_context().span_id
    assert linked(processed) == [span_id(sent)]
    assert processed.parent is not None
    assert processed.parent.span_id == span_id(sent)
    assert processed.context.trace_id == request.get_span_context().trace_id
    assert inside == span_id(processed)
    common = {"system": "persipubsub", "destination.name": "orders", "message.id": str(message_id)}
    assert attributes(sent) == {
        **common,
        "operation.name": "send",
        "operation.type": "send",
        "message.body.size": 5,
    }
    assert attributes(processed) == {
        **common,
        "operation.name": "process",
        "operation.type": "process",
        "message.body.size": 5,
        "consumer.group.name": "billing",
    }


def test_a_batch(env: Environment, spans: Spans) -> None:
    env.new_publisher().send_many([b"one", Draft(b"two", headers={"mine": "stays"}), b"three"])
    sent = spans.one("send orders")
    assert attributes(sent)["batch.message_count"] == 3
    assert "message.id" not in attributes(sent)
    with env.new_subscriber("billing").receive_many(10, timeout=0) as payloads:
        assert payloads == [b"one", b"two", b"three"]
    processed = spans.one("process orders")
    assert attributes(processed)["batch.message_count"] == 3
    assert linked(processed) == [span_id(sent)] * 3
    assert processed.parent is None


def test_each_commit_of_autosync_is_a_send(env: Environment, spans: Spans) -> None:
    ids = env.new_publisher(autosync=True).send_many([b"one", b"two"])
    assert [attributes(span)["message.id"] for span in spans.all("send orders")] == [str(number) for number in ids]


def test_a_context_of_ones_own_is_kept(env: Environment, spans: Spans) -> None:
    parent = f"00-{1:032x}-{2:016x}-01"
    env.new_publisher().send(b"x", headers={"traceparent": parent})
    sent = spans.one("send orders")
    assert (sent.kind, linked(sent)) == (SpanKind.CLIENT, [2])
    with env.new_subscriber("billing").receive_message(timeout=0) as message:
        assert message is not None
        assert message.headers == {"traceparent": parent}
    assert linked(spans.one("process orders")) == [2]


def test_headers_that_are_full_stay_as_they_are(env: Environment, spans: Spans) -> None:
    headers = {"large": "x" * 65_500}
    env.new_publisher().send(b"x", headers=headers)
    with env.new_subscriber("billing").receive_message(timeout=0) as message:
        assert message is not None
        assert message.headers == headers


def test_a_span_around_the_handler_is_its_parent(env: Environment, spans: Spans) -> None:
    env.new_publisher().send(b"x")
    with spans.tracer.start_as_current_span("around") as around, env.new_subscriber("billing").receive(timeout=0):
        pass
    processed = spans.one("process orders")
    assert processed.parent is not None
    assert processed.parent.span_id == around.get_span_context().span_id
    assert linked(processed) == [span_id(spans.one("send orders"))]


def test_blocks_within_blocks(env: Environment, spans: Spans) -> None:
    env.new_publisher().send_many([b"one", b"two"])
    sub = env.new_subscriber("billing")
    with sub.receive(timeout=0):
        outer = current()
        with sub.receive(timeout=0):
            assert current() != outer
        assert current() == outer
    assert len(spans.all("process orders")) == 2


@pytest.mark.parametrize("way", ["receive", "receive_view", "receive_to_top", "receive_many"])
def test_an_error_in_a_block(env: Environment, spans: Spans, way: str) -> None:
    env.new_publisher().send(b"x")
    sub = env.new_subscriber("billing")
    block: Any = sub.receive_many(2, timeout=0) if way == "receive_many" else getattr(sub, way)(timeout=0)
    with pytest.raises(ValueError, match="broken"), block:
        raise ValueError("broken")
    processed = spans.one("process orders")
    assert processed.status.status_code is StatusCode.ERROR
    assert (processed.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in processed.events] == ["exception"]


def test_no_message_no_span(env: Environment, spans: Spans) -> None:
    sub = env.new_subscriber("billing")
    with sub.receive(timeout=0) as msg:
        assert msg is None
    assert list(sub.messages(timeout=0)) == []
    assert spans.all() == []


def test_a_send_that_fails(env: Environment, spans: Spans) -> None:
    env.open_control().configure(max_message_bytes=10)
    with pytest.raises(Exception, match="max_message_bytes"):
        env.new_publisher().send(bytes(11))
    sent = spans.one("send orders")
    assert sent.status.status_code is StatusCode.ERROR
    assert (sent.attributes or {})["error.type"] == "MessageTooLargeError"


def test_a_loop(env: Environment, spans: Spans) -> None:
    pub = env.new_publisher()
    ids = [pub.send(b"x") for _ in range(3)]
    seen = []
    for message in env.new_subscriber("billing").messages(timeout=0):
        seen.append(current())
        assert message.id in ids
    processed = spans.all("process orders")
    assert [span_id(span) for span in processed] == seen
    assert [linked(span) for span in processed] == [[span_id(span)] for span in spans.all("send orders")]


@pytest.mark.parametrize("leave", ["break", "close", "block", "error"])
def test_a_loop_that_is_left(env: Environment, spans: Spans, leave: str) -> None:
    env.new_publisher().send_many([b"x"] * 3)
    sub = env.new_subscriber("billing")
    if leave == "break":
        for _ in sub.messages(timeout=0):
            break
        gc.collect()
    elif leave == "close":
        loop = sub.messages(timeout=0)
        next(loop)
        loop.close()
    elif leave == "block":
        with sub.messages(timeout=0) as loop:
            next(loop)
    else:

        def fail() -> None:
            with sub.messages(timeout=0) as loop:
                next(loop)
                raise ValueError("broken")

        with pytest.raises(ValueError):
            fail()
    processed = spans.one("process orders")
    assert (processed.status.status_code is StatusCode.ERROR) == (leave == "error")
    assert not current()


def test_a_loop_that_another_thread_closes(env: Environment, spans: Spans) -> None:
    env.new_publisher().send(b"x")
    loop = env.new_subscriber("billing").messages(timeout=0)

    def take() -> None:
        next(loop)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    with spans.tracer.start_as_current_span("other"):
        before = current()
        loop.close()
        assert current() == before
    assert len(spans.all("process orders")) == 1


def test_a_worker_and_what_it_sends(env: Environment, spans: Spans) -> None:
    env.new_publisher().send(b"input")

    def handle(message: Message[bytes]) -> None:
        if message.data == b"input" and message.delivery_count == 1:
            raise ValueError("try again")
        if message.data == b"input":
            message.send(b"output")
        else:
            working.stop()

    working = Worker(handle, env.new_subscriber("billing"), backoff=AT_ONCE)
    working.run()
    failed, again, last = spans.all("process orders")
    assert failed.status.status_code is StatusCode.ERROR
    assert again.status.status_code is StatusCode.UNSET
    created = spans.one("create orders")
    assert created.kind is SpanKind.PRODUCER
    assert created.parent is not None
    assert created.parent.span_id == span_id(again)
    assert linked(last) == [span_id(created)]
    (one_trace,) = {span.context.trace_id for span in spans.all()}
    assert one_trace


def test_messages_taken_by_hand(env: Environment, spans: Spans) -> None:
    env.new_publisher().send(b"x")
    message = env.new_subscriber("billing").get(timeout=0)
    assert message is not None
    assert spans.all("process orders") == []
    with tracing.process(message) as span:
        assert current() == span.get_span_context().span_id
        message.ack()
    assert linked(spans.one("process orders")) == [span_id(spans.one("send orders"))]


# -- asyncio ---------------------------------------------------------------------------------------


async def deploy(env: aio.Environment) -> tuple[aio.Publisher, aio.Subscriber[bytes]]:
    await env.new_control({"billing"})
    return await env.new_publisher(), await env.new_subscriber("billing")


async def fail_on(sub: aio.Subscriber[bytes]) -> None:
    async with sub.receive_message(timeout=0) as taken:
        assert taken is not None
        taken.send(b"dropped")
        raise ValueError("broken")


def test_asyncio(tmp_path: Path, spans: Spans) -> None:
    async def main() -> None:
        async with aio.Environment(tmp_path / "orders") as env:
            pub, sub = await deploy(env)
            await asyncio.gather(*[pub.send(b"x") for _ in range(3)])
            await pub.send_many([b"y", b"z"])
            assert len(spans.all("send orders")) == 4
            async with sub.receive(timeout=0):
                inside = current()
            assert not current()
            assert [span_id(span) for span in spans.all("process orders")] == [inside]
            with pytest.raises(ValueError):
                await fail_on(sub)
            assert spans.all("process orders")[-1].status.status_code is StatusCode.ERROR
            spans_in_loop = []
            async with sub.messages(timeout=0) as messages:
                async for _ in messages:
                    spans_in_loop.append(current())
            assert not current()
            assert [span_id(span) for span in spans.all("process orders")[2:]] == spans_in_loop
            assert len(spans_in_loop) == 4

    asyncio.run(main())
    sent = {span_id(span) for span in spans.all("send orders")}
    for span in spans.all("process orders"):
        assert set(linked(span)) <= sent
        assert len(span.links) == 1


@in_loop
async def _work_in_asyncio(path: Path, spans: Spans) -> None:
    async with aio.Environment(path) as env:
        pub, sub = await deploy(env)
        await pub.send(b"input")

        async def handle(message: aio.Message[bytes]) -> None:
            if message.delivery_count == 1:
                raise ValueError("try again")
            working.stop()

        working = aio.Worker(handle, sub, backoff=AT_ONCE, signals=())
        await working.run()
        async for _ in sub.messages(timeout=0):
            raise AssertionError("all is acknowledged")


def test_a_worker_in_asyncio(tmp_path: Path, spans: Spans) -> None:
    _work_in_asyncio(tmp_path / "orders", spans)
    failed, again = spans.all("process orders")
    assert failed.status.status_code is StatusCode.ERROR
    assert again.status.status_code is StatusCode.UNSET
    assert linked(failed) == linked(again) == [span_id(spans.one("send orders"))]


# -- off -------------------------------------------------------------------------------------------


def lines_of_ours(operation: Callable[[], object]) -> set[str]:
    """Return the modules of tracing, ours and theirs, in which ``operation`` calls something."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(("persipubsub.tracing", "opentelemetry")):
            found.add(module)

    sys.setprofile(note)
    try:
        operation()
    finally:
        sys.setprofile(None)
    return found


def test_when_it_is_off_no_code_of_it_runs(env: Environment) -> None:
    def work() -> None:
        pub, sub = env.new_publisher(), env.new_subscriber("billing")
        pub.send_many([b"one", b"two", b"three"])
        with sub.receive_message(timeout=0) as message:
            assert message is not None
            message.send(b"more")
            assert "traceparent" not in message.headers
        for _ in sub.messages(timeout=0):
            pass

    assert lines_of_ours(work) == set()
    tracing.instrument(Spans().provider)
    try:
        assert "persipubsub.tracing.hooks" in lines_of_ours(lambda: env.new_publisher().send(b"x"))
    finally:
        tracing.uninstrument()
    with env.new_subscriber("billing").receive(timeout=0):
        pass
    assert lines_of_ours(work) == set()
    assert {(owner, name): owner.__dict__[name] for owner, name in METHODS} == METHODS


def test_a_block_that_is_left_after_the_end_of_tracing(env: Environment, spans: Spans) -> None:
    env.new_publisher().send(b"x")
    with env.new_subscriber("billing").receive(timeout=0):
        tracing.uninstrument()
    gc.collect()
    assert len(spans.all("process orders")) == 1


def test_instrumenting_twice_changes_the_provider_alone(env: Environment, spans: Spans) -> None:
    other = Spans()
    tracing.instrument(other.provider)
    env.new_publisher().send(b"x")
    assert len(other.all()) == 1
    assert spans.all() == []


def test_what_is_not_sampled_says_so_to_the_handler(env: Environment, spans: Spans) -> None:
    tracing.instrument(TracerProvider(sampler=ALWAYS_OFF))
    env.new_publisher().send(b"x")
    with env.new_subscriber("billing").receive_message(timeout=0) as message:
        assert message is not None
        flags = str(message.headers["traceparent"]).rpartition("-")[2]
        assert not int(flags, 16) & 1


def test_without_a_provider_headers_stay_empty(env: Environment) -> None:
    tracing.instrument()
    try:
        env.new_publisher().send(b"x")
        with env.new_subscriber("billing").receive_message(timeout=0) as message:
            assert message is not None
            assert message.headers == {}
    finally:
        tracing.uninstrument()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("persipubsub.tracing", "opentelemetry")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ModuleNotFoundError, match="persipubsub\\[otel\\]"):
        __import__("persipubsub.tracing")
