"""Coming from rivulet."""

import datetime
import time

import pytest

from persipubsub import Environment, PersipubsubError, QueueManager, Retention, Strategy, SubscriberSettings
from persipubsub.serializers import json_dumps
from tests.contract.support import FakeClock, Queue, ids_of, rest
from tests.examples.support import checks


@pytest.fixture
def news(queue: Queue) -> Queue:
    """Return a channel with the client "ann"."""
    queue.deploy(("ann",), retention=Retention.LOG)
    return queue


@checks("client.write(channel, data)", "{'id', 'ts', 'src', 'data'}")
def test_writing(news: Queue, clock: FakeClock) -> None:
    assert [news.pub.send(b"rain", headers={"src": "bob"}) for _ in range(3)] == [1, 2, 3]
    message = news.take("ann")
    assert (message.id, message.data, message.headers["src"]) == (1, b"rain", "bob")
    assert message.sent.timestamp() == clock.wall / 1e9


@checks("client.subscribe(channels), IndexPolicy.CURRENT", "client.subscriptions")
def test_subscribing(news: Queue) -> None:
    news.send(b"1", b"2")
    news.take("ann").ack()
    for client in ("ann", "bob"):
        news.control.add_subscriber(client, start="latest")
    news.send(b"3")
    assert news.control.subscriber_ids == {"ann", "bob"}
    assert rest(news.sub("ann")) == [b"2", b"3"]
    assert rest(news.sub("bob")) == [b"3"]


@checks(
    "IndexPolicy.EARLIEST, IndexPolicy.LATEST",
    "replay from a sequence id",
    "EARLIEST: where the slowest client stood",
)
def test_positions(news: Queue, clock: FakeClock) -> None:
    news.send(b"1", b"2")
    clock.go(60)
    moment = datetime.datetime.fromtimestamp(clock.wall / 1e9, datetime.UTC)
    news.send(b"3", b"4")
    ann = news.sub("ann")
    assert rest(ann) == [b"1", b"2", b"3", b"4"]
    # Every client has read all, and still the first is the first.
    news.control.add_subscriber("bob", start="first")
    news.control.add_subscriber("eve", start="latest")
    assert rest(news.sub("bob")) == [b"1", b"2", b"3", b"4"]
    assert rest(news.sub("eve")) == []
    ann.seek(2)
    assert rest(ann) == [b"2", b"3", b"4"]
    ann.seek(back=1)
    assert rest(ann) == [b"4"]
    ann.seek(moment)
    assert rest(ann) == [b"3", b"4"]
    ann.seek("first")
    assert rest(ann) == [b"1", b"2", b"3", b"4"]
    ann.seek("first")
    ann.seek("latest")
    assert rest(ann) == []


@checks(
    "client.read(message_limit=512)", "a client goes on where it was: it went on behind a batch that it lost in a crash"
)
def test_reading(news: Queue) -> None:
    news.send(b"1", b"2", b"3")
    ann = news.sub("ann")
    lost = ann.get_many(2, timeout=0)
    assert [message.data for message in lost] == [b"1", b"2"]
    ann.close()  # as its process would by dying
    ann = news.sub("ann")
    messages = ann.get_many(2, timeout=0)
    assert ids_of(messages) == [1, 2]
    assert ann.ack(ids_of(messages)) == 2
    assert ids_of(ann.get_many(512, timeout=0)) == [3]


@checks("client.unsubscribe(channels)", "unsubscribe by who was not subscribed: deleted all messages")
def test_unsubscribing(news: Queue) -> None:
    news.send(b"1", b"2")
    assert not news.control.remove_subscriber("nobody")
    assert news.retained() == [1, 2]
    assert news.control.remove_subscriber("ann")
    assert news.control.subscriber_ids == set()
    assert news.retained() == [1, 2]


@checks("several channels in one read: topics", "some of the channels: a topic filter")
def test_topics(queue: Queue) -> None:
    queue.deploy({"all": SubscriberSettings(topic_filter=">")})
    queue.control.add_subscriber("some", topic_filter="news.*")
    for topic in ("news.weather", "sport", "news.stocks"):
        queue.pub.send(topic.encode(), topic=topic)
    everything = queue.sub("all").get_many(512, timeout=0)
    assert [message.topic for message in everything] == ["news.weather", "sport", "news.stocks"]
    some = queue.sub("some").get_many(512, timeout=0)
    assert [(message.topic, message.id) for message in some] == [("news.weather", 1), ("news.stocks", 3)]


@checks("two readers of one client: both got everything")
def test_two_readers(news: Queue) -> None:
    news.send(b"1", b"2")
    one, other = news.sub("ann").get(timeout=0), news.join().new_subscriber("ann").get(timeout=0)
    assert one is not None
    assert other is not None
    assert (one.data, other.data) == (b"1", b"2")


@checks("retention: never trimmed anything", "a gap in the ids of 512 or more: the reader got nothing for ever")
def test_retention_and_gaps(queue: Queue) -> None:
    queue.deploy(("ann",), retention=Retention.LOG, max_messages=1000, strategy=Strategy.PRUNE_FIRST)
    for _ in range(12):
        queue.pub.send_many([b""] * 1000)
        assert queue.statistics().messages <= 1000
    first = queue.retained()[0]
    assert first > 10_000
    message = queue.take("ann")
    assert (message.id, message.missed) == (first, first - 1)


@checks("timeout_ms: not a limit of the wait; repeating a write doubled it")
def test_timeouts_and_repetitions(news: Queue) -> None:
    before = time.monotonic()
    assert news.sub("ann").get(timeout=0.05) is None
    assert 0.05 <= time.monotonic() - before < 10
    assert [news.pub.send(b"rain", deduplication_id="rain at noon") for _ in range(2)] == [1, 1]
    assert rest(news.sub("ann")) == [b"rain"]


@checks("clients that are gone: stay in the index for ever")
def test_clients_that_are_gone(news: Queue) -> None:
    other = news.join()
    other.open_control().add_subscriber("passer-by", ephemeral=True)
    assert news.control.subscriber_ids == {"ann", "passer-by"}
    other.close()
    assert news.control.subscriber_ids == {"ann"}


@checks("list and delete channels, count and prune messages: never built")
def test_administration(manager: QueueManager) -> None:
    for name in ("news", "sport"):
        with manager.create(name, subscriber_ids={"ann"}) as env:
            env.new_publisher().send_many([b"1", b"2"])
    assert manager.names() == ["news", "sport"]
    assert manager.delete("sport")
    assert manager.names() == ["news"]
    with Environment(manager.root / "news") as env:
        control = env.open_control()
        assert control.statistics().messages == 2
        assert control.purge("ann") == 2
        assert control.statistics().messages == 0


@checks("connect(url) without a client id", "ping(), RivuletError", "data: JSON alone, bytes raised TypeError")
def test_clients_without_a_name_errors_and_data(news: Queue) -> None:
    client = news.join()
    client.open_control().add_subscriber("anybody", ephemeral=True)
    client.new_publisher(serializer=json_dumps).send({"rain": True})
    news.send(b"\xff")
    with pytest.raises(PersipubsubError):
        news.env.new_subscriber("eve")
    assert rest(client.new_subscriber("anybody")) == [b'{"rain":true}', b"\xff"]
    client.close()
    assert news.control.subscriber_ids == {"ann"}
