"""The retained log: replay, seek, browse and its limits."""

import datetime
import threading

import pytest

from persipubsub import HighWaterMark, PositionError, QueueFullError, Retention, Strategy
from tests.contract.support import Queue, ids_of, rest
from tests.process.support import BOUND


def log(queue: Queue, *subscribers: str, **settings: object) -> None:
    queue.deploy(subscribers, retention=Retention.LOG, **settings)


def moment(queue: Queue) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(queue.clock.wall / 1e9, tz=datetime.UTC)


def test_a_log_keeps_what_was_consumed(queue: Queue) -> None:
    log(queue, "a")
    queue.send(b"1", b"2", b"3")
    assert rest(queue.sub()) == [b"1", b"2", b"3"]
    assert queue.retained() == [1, 2, 3]
    assert queue.control.prune_dangling_messages() == 0
    queue.sub().seek("first")
    assert rest(queue.sub()) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("size", [0, 10])
def test_a_full_log_loses_as_many_consumed_messages_as_needed(queue: Queue, size: int) -> None:
    log(queue, "a", max_messages=3, max_bytes=1000, strategy=Strategy.REJECT)
    queue.fill(3, size)
    rest(queue.sub())
    queue.fill(1, size)
    assert queue.retained() == [2, 3, 4]


@pytest.mark.needs("halving")
def test_what_limits_took_is_no_backlog_of_who_goes_back(queue: Queue) -> None:
    queue.deploy(max_messages=4, strategy=Strategy.PRUNE_LAST)
    queue.fill(5)
    first, second, last = queue.sub().get_many(3, timeout=0)
    assert ids_of([first, second, last]) == [1, 2, 5]
    second.ack()
    queue.sub().seek(4)
    assert queue.lag() == (1, 0, 0)
    assert queue.control.check() == []
    assert rest(queue.sub()) == [b"x"]


@pytest.mark.needs("counts_payload")
def test_a_log_is_filled_to_the_last_byte(queue: Queue) -> None:
    log(queue, "a", max_bytes=30, strategy=Strategy.REJECT)
    queue.fill(3, 10)
    queue.take().ack()
    queue.fill(1, 10)
    assert queue.retained() == [2, 3, 4]
    with pytest.raises(QueueFullError):
        queue.fill(1, 1)


def test_a_log_needs_no_subscriber(queue: Queue) -> None:
    log(queue)
    queue.send(b"1", b"2")
    assert queue.retained() == [1, 2]
    assert not queue.statistics().unrouted
    queue.control.add_subscriber("late", start="first")
    assert rest(queue.sub("late")) == [b"1", b"2"]


@pytest.mark.needs("turned_clock")
def test_a_subscriber_starts_where_it_is_told(queue: Queue) -> None:
    log(queue, "a")
    queue.send(b"1", b"2")
    queue.clock.go(60)
    late = moment(queue)
    queue.send(b"3", b"4")
    control = queue.control
    control.add_subscriber("latest")
    control.add_subscriber("first", start="first")
    control.add_subscriber("second", start=2)
    control.add_subscriber("time", start=late)
    control.add_subscriber("next", start=5)
    queue.send(b"5")
    assert rest(queue.sub("latest")) == [b"5"]
    assert rest(queue.sub("first")) == [b"1", b"2", b"3", b"4", b"5"]
    assert rest(queue.sub("second")) == [b"2", b"3", b"4", b"5"]
    assert rest(queue.sub("time")) == [b"3", b"4", b"5"]
    assert rest(queue.sub("next")) == [b"5"]


@pytest.mark.parametrize("start", [0, 7, -1, 2**64, "middle", "", None, 1.5, True, datetime.datetime(2024, 1, 1)])  # noqa: DTZ001
def test_a_start_that_is_not_there_is_refused(queue: Queue, start: object) -> None:
    log(queue, "a")
    queue.fill(5)
    with pytest.raises(PositionError):
        queue.control.add_subscriber("b", start=start)  # type: ignore[arg-type]
    with pytest.raises(PositionError):
        queue.sub().seek(start)  # type: ignore[arg-type]
    assert queue.control.subscriber_ids == {"a"}
    assert queue.lag() == (5, 0, 0)


@pytest.mark.needs("turned_clock")
def test_seek_goes_everywhere(queue: Queue) -> None:
    log(queue, "a", "b")
    times = []
    for number in range(6):
        times.append(moment(queue))
        queue.send(b"%d" % (number + 1))
        queue.clock.go(10)
    sub = queue.sub()

    def left() -> list[int]:
        return [int(payload) for payload in rest(sub)]

    assert left() == [1, 2, 3, 4, 5, 6]
    sub.seek("first")
    assert left() == [1, 2, 3, 4, 5, 6]
    sub.seek(4)
    assert left() == [4, 5, 6]
    sub.seek(back=2)
    assert left() == [5, 6]
    sub.seek(back=0)
    assert left() == []
    sub.seek(back=100)
    assert left() == [1, 2, 3, 4, 5, 6]
    sub.seek("first")
    sub.seek("latest")
    assert left() == []
    sub.seek(times[2])
    assert left() == [3, 4, 5, 6]
    sub.seek(times[2] + datetime.timedelta(seconds=1))
    assert left() == [4, 5, 6]
    sub.seek(moment(queue))
    assert left() == []
    sub.seek(datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC))
    assert left() == [1, 2, 3, 4, 5, 6]
    sub.seek(7)
    assert left() == []
    assert queue.lag("b") == (6, 0, 0)


def test_seek_drops_leases_and_delays_and_keeps_dead_letters(queue: Queue) -> None:
    log(queue, "a")
    queue.fill(5)
    sub = queue.sub()
    leased, delayed, given_back, dead = sub.get_many(4, timeout=0)
    delayed.nack(delay=60)
    given_back.nack()
    dead.reject("no")
    queue.sub().ack(5)
    sub.seek("first")
    assert queue.lag() == (5, 0, 0)
    assert queue.figures().dead == 1
    assert [(message.id, message.delivery_count) for message in sub.get_many(9, timeout=0)] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 1),
    ]
    assert leased.id == 1


def test_seek_back_in_a_queue_that_is_no_log(queue: Queue) -> None:
    queue.deploy(["a", "slow"])
    queue.send(b"1", b"2", b"3")
    rest(queue.sub("a"))
    queue.take("slow").ack()
    queue.sub("a").seek("first")
    assert rest(queue.sub("a")) == [b"2", b"3"]
    with pytest.raises(PositionError, match="1"):
        queue.sub("a").seek(1)
    assert queue.lag("slow") == (2, 0, 0)


def test_seek_over_what_others_hold(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(4)
    held = queue.take("b")
    rest(queue.sub("b"))
    rest(queue.sub("a"))
    assert queue.retained() == [1]
    queue.fill(2)
    queue.sub("a").seek("first")
    assert ids_of(queue.sub("a").get_many(9, timeout=0)) == [1, 5, 6]
    held.ack()
    assert queue.lag("b") == (2, 0, 0)
    queue.sub("b").seek("latest")


@pytest.mark.parametrize("arguments", [{}, {"position": 1, "back": 1}, {"back": -1}, {"back": 1.5}, {"back": True}])
def test_a_seek_that_means_nothing_is_refused(queue: Queue, arguments: dict[str, int]) -> None:
    log(queue, "a")
    queue.fill(2)
    with pytest.raises(PositionError):
        queue.sub().seek(**arguments)
    assert queue.lag() == (2, 0, 0)


@pytest.mark.needs("turned_clock")
def test_seek_finds_its_way_among_many(queue: Queue) -> None:
    log(queue, "a")
    for _ in range(100):
        queue.pub.send_many([b"x"] * 7)
        queue.clock.go(1)
    begin = moment(queue) - datetime.timedelta(seconds=100)
    for second in (0, 1, 49, 98, 99):
        queue.sub().seek(begin + datetime.timedelta(seconds=second))
        assert queue.figures().position == 7 * second + 1
        queue.sub().seek(begin + datetime.timedelta(seconds=second - 0.5))
        assert queue.figures().position == 7 * second + 1


# -- browsing ----------------------------------------------------------------------------------------


@pytest.mark.needs("turned_clock")
def test_browsing_leaves_no_trace(queue: Queue) -> None:
    log(queue, "a")
    queue.send(b"1", topic="t", headers={"h": "v"})
    queue.send(b"2", b"3")
    before = queue.counted()
    found = list(queue.env.browse())
    assert [message.data for message in found] == [b"1", b"2", b"3"]
    assert (found[0].topic, dict(found[0].headers), found[0].sent) == ("t", {"h": "v"}, moment(queue))
    assert [message.id for message in queue.env.browse(start=2)] == [2, 3]
    assert [message.id for message in queue.env.browse(start="latest")] == []
    assert [message.id for message in queue.env.browse(limit=2)] == [1, 2]
    assert [message.id for message in queue.env.browse(limit=0)] == []
    assert [message.id for message in queue.env.browse(start=0)] == [1, 2, 3]
    assert [message.id for message in queue.env.browse(start=99)] == []
    assert [message.id for message in queue.env.browse(start=moment(queue))] == [1, 2, 3]
    assert queue.counted() == before


def test_browsing_goes_on_while_the_queue_changes(queue: Queue) -> None:
    log(queue, "a")
    queue.fill(200)
    seen = []
    for message in queue.env.browse():
        seen.append(message.id)
        if message.id == 10:
            queue.control.clear_all_subscribers()
        if message.id == 64 and queue.statistics().messages == 0:
            queue.fill(2)
    assert seen == [*range(1, 65), 201, 202]


def test_following_waits_for_what_comes(queue: Queue) -> None:
    log(queue, "a")
    queue.fill(2)
    seen: list[int] = []
    caught_up = threading.Event()

    def follow() -> None:
        for message in queue.env.browse(follow=True, limit=5):
            seen.append(message.id)
            if len(seen) == 2:
                caught_up.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert caught_up.wait(BOUND)
    queue.fill(1)
    queue.pub.send_many([b"x"] * 4)
    thread.join(BOUND)
    assert seen == [1, 2, 3, 4, 5]


def test_browsing_shows_what_consumers_hold(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    held = queue.take()
    assert [message.id for message in queue.env.browse()] == [1, 2, 3]
    held.ack()
    assert [message.id for message in queue.env.browse()] == [2, 3]


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.needs("exact_counters")
def test_a_full_log_first_drops_what_everybody_has_consumed(queue: Queue) -> None:
    log(queue, "a", "b", max_messages=10)
    queue.fill(10)
    queue.sub("a").ack(range(1, 8))
    queue.sub("b").ack(range(1, 5))
    queue.fill(2)
    assert queue.retained() == list(range(3, 13))
    assert queue.figures("a").lost == queue.figures("b").lost == 0
    queue.fill(3)
    assert queue.retained()[-1] == 15
    assert len(queue.retained()) <= 10
    assert queue.figures("b").lost == len(
        [message_id for message_id in range(5, 13) if message_id not in queue.retained()]
    )


@pytest.mark.parametrize("strategy", [Strategy.REJECT, Strategy.BLOCK])
def test_a_full_log_refuses_only_for_what_is_unread(queue: Queue, strategy: Strategy) -> None:
    log(queue, "a", max_messages=3, strategy=strategy)
    queue.fill(3)
    with pytest.raises(QueueFullError):
        queue.pub.send(b"x", timeout=0)
    queue.take().ack()
    assert queue.pub.send(b"x", timeout=0) == 4
    assert queue.retained() == [2, 3, 4]
    with pytest.raises(QueueFullError):
        queue.pub.send(b"x", timeout=0)


@pytest.mark.needs("halving")
def test_what_is_held_in_a_log_is_not_consumed(queue: Queue) -> None:
    log(queue, "a", max_messages=3, strategy=Strategy.REJECT)
    queue.fill(3)
    held = queue.take()
    queue.take().ack()
    queue.fill(1)
    assert queue.retained() == [1, 3, 4]
    held.ack()
    queue.fill(1)
    assert queue.retained() == [3, 4, 5]


@pytest.mark.needs("counts_payload")
def test_the_bytes_of_a_log_are_limited(queue: Queue) -> None:
    log(queue, "a", max_bytes=100)
    queue.fill(10, size=10)
    queue.sub().ack(range(1, 6))
    queue.fill(1, size=25)
    assert queue.retained() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert queue.statistics().payload_bytes == 95
    assert queue.figures().lost == 0


@pytest.mark.needs("turned_clock")
def test_the_message_timeout_takes_from_a_log(queue: Queue) -> None:
    log(queue, "a", "b", message_timeout=100)
    queue.fill(2)
    rest(queue.sub("a"))
    queue.clock.go(60)
    queue.fill(2)
    assert queue.control.prune_dangling_messages() == 0
    queue.clock.go(60)
    assert queue.control.prune_dangling_messages() == 2
    assert queue.retained() == [3, 4]
    assert (queue.figures("a").expired, queue.figures("b").expired) == (0, 2)
    assert queue.take("b").missed == 2


@pytest.mark.needs("any_size")
def test_from_log_to_consumed_and_back(queue: Queue) -> None:
    log(queue, "a")
    queue.pub.send_many([b"x"] * 2500)
    held = queue.take()
    queue.sub().ack(range(2, 2400))
    queue.control.configure(retention=Retention.CONSUMED)
    assert queue.retained() == [1, *range(2400, 2501)]
    assert queue.lag() == (101, 1, 0)
    held.ack()
    assert len(rest(queue.sub())) == 101
    assert queue.retained() == []
    queue.control.configure(retention=Retention.LOG)
    queue.fill(2)
    rest(queue.sub())
    assert queue.retained() == [2501, 2502]


def test_a_log_without_subscribers_that_is_none_any_more_keeps_nothing(queue: Queue) -> None:
    log(queue)
    queue.fill(3)
    queue.control.configure(retention=Retention.CONSUMED)
    assert queue.retained() == []


def test_a_log_without_subscribers_is_limited_too(queue: Queue) -> None:
    log(queue, max_messages=4)
    queue.fill(10)
    assert queue.retained() == [7, 8, 9, 10]
    queue.control.set_high_water_mark(HighWaterMark(max_messages=2))
    queue.fill(1)
    assert queue.retained() == [10, 11]
