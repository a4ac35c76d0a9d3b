"""What is logged: each event exactly one record, with the documented level and fields; else nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persipubsub import Durability, Environment, QueueFullError, Retention, Strategy, SubscriberSettings
from tests.contract.support import Queue, rest, run_all

#: The fields that every record has; all others are those of its event.
_PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    logger, recorder = logging.getLogger("persipubsub"), Recorder()
    logger.addHandler(recorder)
    logger.setLevel(logging.DEBUG)
    yield recorder.records
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(recorder)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _PLAIN}


def the_one(records: list[logging.LogRecord], level: int) -> dict[str, Any]:
    """Return the fields of the only record, but for the queue, whose name stands in its text, too."""
    (record,) = records
    assert (record.name, record.levelno) == ("persipubsub", level)
    found = fields(record)
    queue = found.pop("queue")
    assert record.getMessage().startswith(f"Queue {queue}: ")
    assert record.getMessage().endswith(".")
    return found


@pytest.mark.needs("exact_counters")
@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_an_overflow_is_a_warning(queue: Queue, strategy: Strategy, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a"], max_messages=4, strategy=strategy)
    queue.fill(5, size=3)
    assert the_one(records, logging.WARNING) == {
        "event": "prune",
        "cause": "overflow",
        "messages": 2,
        "payload_bytes": 6,
    }


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize(("read", "level"), [(False, logging.INFO), (True, logging.DEBUG)])
def test_messages_that_grew_too_old_are_news_only_if_unread(
    queue: Queue, read: bool, level: int, records: list[logging.LogRecord]
) -> None:
    queue.deploy(["a"], message_timeout=60, retention=Retention.LOG)
    queue.fill(3)
    if read:
        rest(queue.sub())
    queue.clock.go(61)
    queue.fill(1)
    assert the_one(records, level) == {"event": "prune", "cause": "timeout", "messages": 3, "message_timeout": 60}


@pytest.mark.needs("turned_clock")
def test_a_held_message_that_grew_too_old_is_news(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a"], message_timeout=60)
    queue.fill(1)
    held = queue.take()
    queue.clock.go(61)
    queue.fill(1)
    assert the_one(records, logging.INFO)["messages"] == 1
    held.ack()


@pytest.mark.needs("exact_counters")
def test_a_log_that_drops_what_all_have_read_is_no_news(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a"], max_messages=2, retention=Retention.LOG)
    queue.fill(2)
    rest(queue.sub())
    queue.fill(1, size=5)
    assert the_one(records, logging.DEBUG) == {
        "event": "prune",
        "cause": "consumed",
        "messages": 1,
        "payload_bytes": 1,
    }


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("way", ["nack", "reject", "lease"])
def test_a_dead_letter_is_a_warning(queue: Queue, way: str, records: list[logging.LogRecord]) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=1)})
    queue.fill(1)
    message = queue.take(lease=5.0 if way == "lease" else None)
    if way == "nack":
        message.nack(reason="bad")
    elif way == "reject":
        message.reject("bad")
    else:
        queue.clock.go(6)
        queue.take_nothing()
    assert the_one(records, logging.WARNING) == {
        "event": "dead_letter",
        "subscriber": "a",
        "message_id": 1,
        "deliveries": 1,
        "reason": "lease ended" if way == "lease" else "bad",
    }


def test_a_queue_without_subscribers_is_a_warning(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy([])
    queue.fill(2)
    assert the_one(records, logging.WARNING) == {"event": "unrouted"}


@pytest.mark.needs("turned_clock")
def test_what_is_not_committed_is_not_logged(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy({"a": SubscriberSettings(max_deliveries=1)})
    queue.fill(1)
    held = queue.take(lease=5.0)
    queue.clock.go(6)
    assert queue.sub().peek() is None  # it would be a dead letter now
    assert records == []
    queue.take_nothing()
    assert len(records) == 1
    assert held.id == 1


@pytest.mark.needs("exact_counters")
def test_a_prune_that_is_undone_is_not_logged(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a"], message_timeout=60, max_messages=4)
    queue.fill(2)
    queue.clock.go(61)
    with pytest.raises(QueueFullError):
        queue.pub.send_many([b"x"] * 5)  # it prunes what is too old, and then finds that there is never room
    assert records == []
    assert queue.control.prune_dangling_messages() == 2
    assert the_one(records, logging.INFO)["messages"] == 2


@pytest.mark.needs("exact_counters")
def test_threads_that_share_a_commit_log_each_prune_once(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a"], max_messages=4)
    run_all(*[lambda: queue.fill(25)] * 8)
    assert sum(fields(record)["messages"] for record in records) == queue.statistics().pruned_overflow
    assert len({fields(record)["cause"] for record in records}) == 1


@pytest.mark.needs("exact_counters")
def test_a_handler_may_use_the_queue(queue: Queue) -> None:
    """It runs when nothing is locked any more: here it publishes what is logged, to the same queue."""
    queue.deploy(["a"], max_messages=4)

    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            queue.pub.send(record.getMessage().encode())

    handler = Publishing()
    logging.getLogger("persipubsub").addHandler(handler)
    try:
        queue.fill(5)
    finally:
        logging.getLogger("persipubsub").removeHandler(handler)
    assert b"pruned the oldest 2 messages" in rest(queue.sub())[-1]


def test_a_day_of_work_logs_nothing(queue: Queue, records: list[logging.LogRecord]) -> None:
    queue.deploy(["a", "b"], max_messages=1000, message_timeout=3600)
    for _ in range(20):
        queue.fill(5)
        with queue.sub("a").receive_many(3, timeout=0):
            pass
        with pytest.raises(ValueError), queue.sub("a").receive(timeout=0):
            raise ValueError("comes again")
        queue.take("b").nack(delay=1)
        for message in queue.sub("b").messages(timeout=0):
            message.send(b"more") if message.id == 1 else None
        queue.clock.go(2)
        rest(queue.sub("a"))
        rest(queue.sub("b"))
        other = queue.join()
        other.new_subscriber("a").get(timeout=0)
        other.close()
    queue.control.remove_subscriber("b")
    queue.control.prune_dangling_messages()
    assert records == []


def test_a_map_that_grows_is_told(tmp_path: Path, records: list[logging.LogRecord]) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"}, durability=Durability.PROCESS, map_size=1 << 20)
        env.new_publisher().send(bytes(3 << 20))
        found = the_one(records, logging.INFO)
    assert found["event"] == "growth"
    assert 1 << 20 <= found["map_bytes_before"] < 4 << 20  # a map is never shorter than its file
    assert found["map_bytes"] > 4 << 20
