"""Coming from RabbitMQ."""

import threading

import pytest

import persipubsub
from persipubsub import Draft, HighWaterMark, QueueFullError, Retention, SettingsMismatchError, Strategy
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks, page_of, rows_of


@pytest.fixture
def logs(queue: Queue) -> Queue:
    """Return a queue with the subscriber "all"."""
    queue.deploy(("all",))
    return queue


@checks("exchange_declare, queue_declare(durable=True)")
def test_declaring(logs: Queue) -> None:
    logs.env.new_control({"all"}).close()
    with pytest.raises(SettingsMismatchError):
        logs.env.new_control(strategy=Strategy.REJECT)


@checks('queue_bind(queue, exchange, "*.error")')
def test_binding(logs: Queue) -> None:
    logs.control.add_subscriber("errors", topic_filter="*.error")
    logs.control.add_subscriber("kernel", topic_filter="kernel.>")
    for topic in ("kernel.error", "kernel.net.error", "cron.error", "kernel"):
        logs.send(topic.encode(), topic=topic)
    assert rest(logs.sub("errors")) == [b"kernel.error", b"cron.error"]
    assert rest(logs.sub("kernel")) == [b"kernel.error", b"kernel.net.error"]
    assert len(rest(logs.sub("all"))) == 4


@checks(
    "basic_publish with confirm_delivery",
    'BasicProperties(headers=…, expiration="60000", message_id=…)',
    "a delayed message: by a plugin",
)
def test_publishing(logs: Queue, clock: FakeClock) -> None:
    publisher = logs.pub
    draft = Draft(b"1", topic="t", headers={"a": "b"}, expires_in=60, deduplication_id="one")
    assert [publisher.send(draft) for _ in range(2)] == [1, 1]
    message = logs.take("all")
    assert (message.headers, message.topic) == ({"a": "b"}, "t")
    message.ack()
    logs.send(b"old", expires_in=60)
    logs.send(b"later", delay=60)
    clock.go(61)
    assert rest(logs.sub("all")) == [b"later"]


@checks("basic_consume, start_consuming", "basic_qos(prefetch_count=10)")
def test_consuming(logs: Queue) -> None:
    logs.fill(20)
    with logs.sub("all").messages(batch=10, timeout=0) as messages:
        next(messages)
        assert logs.figures("all").leased == 10
    assert logs.figures("all").lag == 20
    seen: list[int] = []
    worker: persipubsub.Worker[bytes]

    def handle(message: persipubsub.Message[bytes]) -> None:
        seen.append(message.id)
        if message.id == 20:
            worker.stop()

    worker = persipubsub.Worker(handle, logs.sub("all"))
    thread = threading.Thread(target=worker.run)
    thread.start()
    thread.join(60)
    assert seen == list(range(1, 21))


@checks("basic_get(queue)", "basic_ack(tag), basic_nack(tag, requeue=True)", "basic_reject(tag, requeue=False)")
def test_settling(logs: Queue) -> None:
    logs.send(b"1")
    logs.take("all").nack()
    message = logs.take("all")
    assert message.delivery_count == 2
    message.reject("bad")
    logs.take_nothing("all")
    assert [letter.reason for letter in logs.control.dead_letters("all")] == ["bad"]
    logs.send(b"2")
    logs.take("all").ack()
    assert logs.statistics().messages == 0


@checks("x-max-length with x-overflow: drop-head, reject-publish")
def test_overflow(logs: Queue) -> None:
    logs.control.set_high_water_mark(HighWaterMark(max_messages=2))
    logs.send(b"1", b"2", b"3")
    assert logs.retained() == [2, 3]
    for strategy in (Strategy.REJECT, Strategy.BLOCK):
        logs.control.set_strategy(strategy)
        with pytest.raises(QueueFullError):
            logs.pub.send(b"4", timeout=0)


@checks("x-delivery-limit, x-dead-letter-exchange")
def test_dead_letters(logs: Queue) -> None:
    logs.control.configure_subscriber("all", max_deliveries=2)
    logs.send(b"1")
    for _ in range(2):
        logs.take("all").nack(reason="no network")
    dead = logs.control.dead_letters("all")
    assert [letter.data for letter in dead] == [b"1"]
    assert dead.requeue() == 1
    assert rest(logs.sub("all")) == [b"1"]


@checks("an exclusive queue", "a connection that is lost: its messages are delivered again", "queue_purge(queue)")
def test_connections(logs: Queue) -> None:
    logs.send(b"1")
    other = logs.join()
    other.open_control().add_subscriber("mine", ephemeral=True)
    subscriber = other.new_subscriber("all")
    held = subscriber.get(timeout=0)
    assert held is not None
    logs.take_nothing("all")
    other.close()
    assert logs.control.subscriber_ids == {"all"}
    logs.take("all").nack()
    assert logs.control.purge("all") == 1
    logs.take_nothing("all")


@checks("an acknowledgement that takes longer than the consumer timeout: the channel is closed")
def test_a_long_time(logs: Queue, clock: FakeClock) -> None:
    logs.send(b"1")
    message = logs.take("all")
    clock.go(30 * 24 * 3600)
    logs.take_nothing("all")
    message.ack()
    logs.send(b"2")
    late = logs.take("all", lease=30)
    clock.go(30)
    assert logs.take("all").id == late.id


@checks("a message that was consumed: gone", "consume and publish in one step: transactions of a channel")
def test_more_than_a_broker(logs: Queue) -> None:
    logs.control.configure(retention=Retention.LOG)
    logs.send(b"1")
    message = logs.take("all")
    message.send(b"2")
    assert logs.retained() == [1]
    message.ack()
    assert rest(logs.sub("all")) == [b"2"]
    logs.sub("all").seek("first")
    assert rest(logs.sub("all")) == [b"1", b"2"]


@checks("several machines, several languages")
def test_the_page_says_what_is_not() -> None:
    assert dict(rows_of(page_of("from_rabbitmq")))["several machines, several languages"].startswith("no: ")
