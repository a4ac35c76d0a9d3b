"""``persipubsub.testing``: what users' tests rely on, checked against the same on disk where it can be."""

import asyncio
import select
import threading
from pathlib import Path

import pytest

from persipubsub import (
    ClosedError,
    Environment,
    IdentifierError,
    OpenError,
    QueueNotFoundError,
    Retention,
    SettingsError,
    SubscriberSettings,
    aio,
    testing,
)
from tests.process.support import BOUND


def test_the_queue_has_what_was_asked_for() -> None:
    with testing.queue({"a": SubscriberSettings(lease=5)}, retention=Retention.LOG) as queue:
        control = queue.env.open_control()
        assert control.subscribers == {"a": SubscriberSettings(lease=5)}
        assert control.settings.retention is Retention.LOG
        queue.env.new_publisher().send_many([b"1", b"2"])
        assert queue.payloads("a") == [b"1", b"2"]
        assert queue.payloads("a") == []


def test_code_under_test_opens_it_by_its_location() -> None:
    with testing.queue({"a"}) as queue, Environment(queue.location) as env:
        env.new_publisher().send(b"1")
        assert queue.payloads("a") == [b"1"]
        location = queue.location
    with pytest.raises(QueueNotFoundError):
        Environment(location).new_publisher()


def test_two_queues_are_two() -> None:
    with testing.queue({"a"}) as one, testing.queue({"a"}) as other:
        one.env.new_publisher().send(b"1")
        assert other.payloads("a") == []


def test_everything_is_closed_at_the_end() -> None:
    with testing.queue({"a"}) as queue:
        subscriber = queue.join().new_subscriber("a")
    assert subscriber.closed
    with pytest.raises(ClosedError):
        queue.env.new_publisher()


def test_the_clock_ends_leases_and_delays() -> None:
    with testing.queue({"a"}) as queue:
        queue.env.new_publisher().send(b"1")
        subscriber = queue.env.new_subscriber("a")
        held = subscriber.get(timeout=0, lease=30)
        assert held is not None
        queue.clock.go(29.5)
        assert subscriber.get(timeout=0) is None
        queue.clock.set_wall(3600)
        assert subscriber.get(timeout=0) is None
        queue.clock.go(0.5)
        again = subscriber.get(timeout=0)
        assert again is not None
        assert again.delivery_count == 2
        again.nack(delay=10)
        assert subscriber.get(timeout=0) is None
        queue.clock.go(10)
        assert queue.payloads("a") == [b"1"]


def test_turning_the_clock_wakes_who_waits() -> None:
    with testing.queue({"a"}) as queue:
        queue.env.new_publisher().send(b"1", delay=3600)
        found: list[object] = []
        subscriber = queue.env.new_subscriber("a")
        thread = threading.Thread(target=lambda: found.append(subscriber.pop(timeout=BOUND)))
        thread.start()
        queue.clock.go(3600)
        thread.join(BOUND)
        assert not thread.is_alive()
        assert found != [None]


def test_turning_the_clock_by_hand_wakes_a_descriptor() -> None:
    with testing.queue({"a"}) as queue:
        subscriber = queue.env.new_subscriber("a")
        queue.env.new_publisher().send(b"1", delay=3600)
        descriptor = subscriber.fileno()
        assert subscriber.get(timeout=0) is None
        assert select.select([descriptor], [], [], 0)[0] == []
        queue.clock.go(3600)
        assert select.select([descriptor], [], [], BOUND)[0] == [descriptor]
        assert queue.payloads("a") == [b"1"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "1"])
def test_time_goes_forward_only(seconds: float) -> None:
    with pytest.raises(SettingsError, match="go takes"):
        testing.Clock().go(seconds)


def test_a_crash_gives_everything_to_others() -> None:
    with testing.queue({"a"}) as queue:
        queue.env.new_publisher().send_many([b"1", b"2"])
        dying = queue.join()
        subscriber = dying.new_subscriber("a")
        message = subscriber.get(timeout=0)
        assert message is not None
        dying.open_control().add_subscriber("passing", ephemeral=True)
        queue.crash(dying)
        queue.crash(dying)
        again = queue.env.new_subscriber("a").get(timeout=0)
        assert again is not None
        assert (again.data, again.delivery_count, again.last_error) == (b"1", 2, "owner died")
        with pytest.raises(ClosedError):
            message.ack()
        with pytest.raises(ClosedError):
            subscriber.get(timeout=0)
        assert queue.env.open_control().subscriber_ids == {"a"}


def test_a_crash_wakes_who_waits() -> None:
    with testing.queue({"a"}) as queue:
        queue.env.new_publisher().send(b"1")
        dying = queue.join()
        message = dying.new_subscriber("a").get(timeout=0)
        assert message is not None
        found: list[object] = []
        waiting = queue.env.new_subscriber("a")
        thread = threading.Thread(target=lambda: found.append(waiting.pop(timeout=BOUND)))
        thread.start()
        assert queue.env.open_control().statistics().subscribers[0].leased == 1
        queue.crash(dying)
        thread.join(BOUND)
        assert found
        assert found != [None]


def test_a_crash_in_the_middle_of_a_batch() -> None:
    with testing.queue({"a"}) as queue:
        queue.env.new_publisher().send_many([b"1", b"2", b"3"])
        dying = queue.join()
        loop = dying.new_subscriber("a").messages(timeout=0)
        assert next(loop).data == b"1"
        queue.crash(dying)
        subscriber = queue.env.new_subscriber("a")
        counts = [(message.data, message.delivery_count) for message in subscriber.get_many(5, timeout=0)]
        assert counts == [(b"1", 2), (b"2", 1), (b"3", 1)]


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no setting 'retain'"), testing.queue(retain=True):
        pass
    with pytest.raises(SettingsError, match="strategy"), testing.queue(strategy="reject"):
        pass
    with pytest.raises(IdentifierError), testing.queue({""}):
        pass
    with testing.queue() as queue, pytest.raises(OpenError, match="join"):
        queue.crash(Environment(tmp_path))


def test_asyncio_has_the_same_queue() -> None:
    async def main(queue: testing.Queue) -> bytes | None:
        async with aio.Environment(queue.location) as env:
            subscriber = await env.new_subscriber("a")
            await (await env.new_publisher()).send(b"1", delay=3600)
            waiting = asyncio.create_task(subscriber.pop(timeout=BOUND))
            await asyncio.sleep(0)
            queue.clock.go(3600)
            message = await waiting
            return None if message is None else message.data

    with testing.queue({"a"}) as queue:
        assert asyncio.run(main(queue)) == b"1"
