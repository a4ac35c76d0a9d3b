"""The high-water mark: never above it after a send, every loss counted and shown."""

import logging
import threading
from functools import partial

import pytest

from persipubsub import (
    Durability,
    HighWaterMark,
    MessageTooLargeError,
    QueueFullError,
    Retention,
    SettingsError,
    Strategy,
)
from tests.contract.support import Queue, ids_of, rest, run_all
from tests.process.support import BOUND, wait_until

BOTH = pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
REFUSING = pytest.mark.parametrize("strategy", [Strategy.REJECT, Strategy.BLOCK])


@pytest.mark.needs("halving")
@pytest.mark.parametrize("mark", [1, 2, 3, 4, 10, 11])
@BOTH
def test_a_prune_leaves_half_of_the_mark(queue: Queue, strategy: Strategy, mark: int) -> None:
    queue.deploy(max_messages=mark, strategy=strategy)
    ids = queue.fill(mark)
    assert queue.retained() == ids
    assert queue.statistics().pruned_overflow == 0
    newest = queue.fill(1)
    kept = min(mark // 2, mark - 1)
    assert queue.retained() == ([*ids[mark - kept :]] if strategy is Strategy.PRUNE_FIRST else ids[:kept]) + newest
    assert queue.statistics().pruned_overflow == mark - kept
    assert queue.figures().lost == mark - kept
    assert queue.figures().waiting == kept + 1


@pytest.mark.needs("halving")
@pytest.mark.parametrize("mark", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("stored", ["none", "half", "all"])
@BOTH
def test_a_batch_prunes_as_far_as_it_needs(queue: Queue, strategy: Strategy, mark: int, stored: str) -> None:
    there = {"none": 0, "half": mark // 2, "all": mark}[stored]
    queue.deploy(max_messages=mark, strategy=strategy)
    for size in range(1, mark + 1):
        queue.control.purge("a")
        before = queue.fill(there)
        lost = queue.statistics().pruned_overflow or 0
        batch = list(queue.pub.send_many([b"x"] * size))
        kept = there if there + size <= mark else min(mark // 2, mark - size)
        expected = before[there - kept :] if strategy is Strategy.PRUNE_FIRST else before[:kept]
        assert queue.retained() == expected + batch
        assert len(queue.retained()) <= mark
        assert queue.statistics().pruned_overflow == lost + there - kept


@pytest.mark.needs("counts_payload")
def test_a_batch_above_the_mark_is_refused_and_nothing_happens(queue: Queue) -> None:
    queue.deploy(max_messages=3, max_bytes=10)
    queue.fill(2)
    with pytest.raises(QueueFullError, match="max_messages"):
        queue.pub.send_many([b"x"] * 4)
    with pytest.raises(MessageTooLargeError, match="max_bytes"):
        queue.pub.send_many([b"xxxxxx"] * 2)
    with pytest.raises(QueueFullError, match="max_messages"):
        queue.pub.send_many([b"xxxxxx"] * 4)  # above both
    with pytest.raises(MessageTooLargeError, match="max_bytes"):
        queue.pub.send(b"x" * 11)
    assert queue.retained() == [1, 2]
    assert queue.statistics().pruned_overflow == 0


@pytest.mark.needs("counts_payload")
@BOTH
def test_the_limit_of_bytes_holds_too(queue: Queue, strategy: Strategy) -> None:
    queue.deploy(max_bytes=100, strategy=strategy)
    ids = queue.fill(10, size=10)
    assert queue.statistics().payload_bytes == 100
    newest = queue.send(b"y")
    assert queue.retained() == (ids[5:] if strategy is Strategy.PRUNE_FIRST else ids[:5]) + newest
    assert queue.statistics().payload_bytes == 51
    largest = queue.send(b"z" * 100)
    assert queue.retained() == largest
    assert queue.statistics().payload_bytes == 100
    empty = queue.send(b"", b"")
    assert queue.retained() == largest + empty


@pytest.mark.needs("halving")
def test_both_limits_at_once(queue: Queue) -> None:
    queue.deploy(max_bytes=100, max_messages=10)
    queue.fill(10)
    large = queue.fill(1, size=99)
    assert queue.statistics().payload_bytes <= 100
    assert queue.retained()[-1:] == large
    assert queue.retained() == [10, 11]


@pytest.mark.needs("halving")
@BOTH
def test_a_prune_is_logged_once(queue: Queue, strategy: Strategy, caplog: pytest.LogCaptureFixture) -> None:
    queue.deploy(["a", "b"], max_messages=10, strategy=strategy)
    queue.fill(10)
    with caplog.at_level(logging.WARNING, "persipubsub"):
        queue.fill(1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "5 messages" in record.getMessage()


@pytest.mark.needs("exact_counters")
def test_losses_are_counted_for_those_who_needed_the_messages(queue: Queue) -> None:
    queue.deploy(["all", "half", "none"], max_messages=4)
    queue.fill(4)
    rest(queue.sub("none"))
    queue.take("half").ack()
    queue.fill(1)
    assert queue.statistics().pruned_overflow == 2
    assert [queue.figures(name).lost for name in ("all", "half", "none")] == [2, 1, 0]
    for name, count in (("all", 3), ("half", 3), ("none", 1)):
        assert len(rest(queue.sub(name))) == count
    assert [queue.figures(name).lost for name in ("all", "half", "none")] == [2, 1, 0]


@pytest.mark.needs("halving")
def test_what_was_consumed_before_somebody_went_back_is_not_lost(queue: Queue) -> None:
    queue.deploy(["a", "b"], max_messages=7)
    queue.fill(6)
    held, *others = queue.sub("a").get_many(3, timeout=0)
    for message in others:
        message.ack()
    assert len(rest(queue.sub("b"))) == 6
    queue.sub("a").seek(held.id)
    assert queue.retained() == [1, 4, 5, 6]
    queue.pub.send_many([b"x"] * 7)
    assert queue.statistics().pruned_overflow == 4
    assert [queue.figures(name).lost for name in ("a", "b")] == [4, 0]


@pytest.mark.needs("halving")
def test_the_gap_is_shown_where_it_happened(queue: Queue) -> None:
    queue.deploy(max_messages=10)
    queue.fill(10)
    assert queue.take().missed == 0
    queue.fill(1)
    messages = queue.sub().get_many(20, timeout=0)
    assert ids_of(messages) == [6, 7, 8, 9, 10, 11]
    assert [message.missed for message in messages] == [4, 0, 0, 0, 0, 0]
    messages[0].nack()
    assert queue.take().missed == 4  # the gap stays with the message that shows it


@pytest.mark.needs("halving")
def test_a_gap_of_prune_last_is_shown_where_it_happened(queue: Queue) -> None:
    queue.deploy(max_messages=10, strategy=Strategy.PRUNE_LAST)
    queue.fill(11)
    messages = queue.sub().get_many(20, timeout=0)
    assert ids_of(messages) == [1, 2, 3, 4, 5, 11]
    assert [message.missed for message in messages] == [0, 0, 0, 0, 0, 5]


@pytest.mark.needs("exact_counters")
def test_many_prunes_under_an_idle_subscriber_add_up(queue: Queue) -> None:
    queue.deploy(["idle", "busy"], max_messages=10)
    busy = queue.sub("busy")
    for _ in range(10):
        queue.fill(5)
        rest(busy)
    stored = queue.figures("idle").waiting
    assert stored == len(queue.retained()) == 10
    assert queue.figures("idle").lost == 40
    first = queue.take("idle")
    assert first.missed == 40
    assert queue.figures("busy").lost == 0


@pytest.mark.needs("turned_clock")
@BOTH
def test_pruning_takes_leased_and_delayed_messages_as_well(queue: Queue, strategy: Strategy) -> None:
    queue.deploy(max_messages=4, strategy=strategy)
    queue.fill(4)
    taken = queue.sub().get_many(4, timeout=0)
    taken[0].nack(delay=60)
    taken[3].nack()
    queue.fill(1)
    figures = queue.figures()
    assert figures.lost == 2
    assert figures.lag == 3
    for message in taken:
        message.ack()
    queue.clock.go(61)
    found = queue.sub().get_many(10, timeout=0)
    assert ids_of(found) == ([4, 5] if strategy is Strategy.PRUNE_FIRST else [1, 5])
    assert queue.figures().lost == 2


@pytest.mark.needs("halving", "turned_clock")
def test_what_was_pruned_does_not_become_due(queue: Queue) -> None:
    queue.deploy(max_messages=4, strategy=Strategy.PRUNE_LAST)
    queue.fill(4)
    first, *others = queue.sub().get_many(4, timeout=0)
    for message in others:
        message.nack(delay=1)
    first.nack()
    queue.fill(1)
    queue.clock.go(2)
    again = queue.take()
    assert again.id == 1
    assert queue.control.check() == []
    assert queue.figures().lost == 2
    assert ids_of(queue.sub().get_many(4, timeout=0)) == [2, 5]


@pytest.mark.needs("halving")
def test_the_newest_is_found_below_what_was_pruned(queue: Queue) -> None:
    queue.deploy(max_messages=4, strategy=Strategy.PRUNE_LAST)
    queue.fill(4)
    for message in queue.sub().get_many(4, timeout=0):
        message.nack()
    queue.fill(1)
    queue.sub().ack(5)
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"x"
    assert queue.lag() == (0, 0, 0)


@pytest.mark.needs("halving")
def test_what_a_loop_has_yet_to_hand_over_may_be_pruned(queue: Queue) -> None:
    queue.deploy(max_messages=4)
    queue.fill(4)
    with queue.sub().messages(timeout=0) as messages:
        message = next(iter(messages))
        assert message.id == 1
        queue.fill(1)
        assert queue.retained() == [3, 4, 5]
    assert queue.figures().lost == 2
    assert queue.lag() == (3, 0, 0)


@pytest.mark.needs("turned_clock")
@REFUSING
def test_a_full_queue_refuses_and_changes_nothing(queue: Queue, strategy: Strategy) -> None:
    queue.deploy(max_messages=2, strategy=strategy)
    queue.fill(2)
    before = queue.counted()
    with pytest.raises(QueueFullError, match="2 messages"):
        queue.pub.send(b"x", timeout=0)
    with pytest.raises(QueueFullError):
        queue.pub.send_many([b"x", b"x"], timeout=0)
    assert queue.counted() == before
    queue.take().ack()
    assert queue.fill(1) == [3]
    queue.take().reject("the dead make room as well")
    assert queue.fill(1) == [4]


@pytest.mark.needs("counts_payload")
@REFUSING
def test_a_full_queue_of_bytes_refuses(queue: Queue, strategy: Strategy) -> None:
    queue.deploy(max_bytes=10, strategy=strategy)
    queue.fill(2, size=5)
    with pytest.raises(QueueFullError):
        queue.pub.send(b"x", timeout=0)
    assert queue.pub.send(b"", timeout=0) == 3
    rest(queue.sub())
    assert queue.pub.send(b"x" * 10, timeout=0) == 4


def test_block_waits_until_its_timeout(queue: Queue) -> None:
    queue.deploy(max_messages=1, strategy=Strategy.BLOCK)
    queue.fill(1)
    with pytest.raises(QueueFullError, match="No room came within"):
        queue.pub.send(b"x", timeout=0.05)
    assert queue.retained() == [1]


@pytest.mark.parametrize("timeout", [None, BOUND])
@pytest.mark.parametrize("how", ["ack", "purge", "reject", "clear", "configure", "seek", "remove", "pop", "id"])
def test_block_goes_on_once_there_is_room(queue: Queue, timeout: float | None, how: str) -> None:
    queue.deploy(["a", "b"], max_messages=1, strategy=Strategy.BLOCK)
    queue.fill(1)
    rest(queue.sub("b"))
    held = queue.take() if how in ("ack", "reject") else None
    began = threading.Event()
    sent: list[int] = []

    def publish() -> None:
        pub = queue.env.new_publisher()
        began.set()
        sent.append(pub.send(b"late", timeout=timeout))

    def make_room() -> None:
        assert began.wait(BOUND)
        if held is not None:
            held.ack() if how == "ack" else held.reject("no")
        elif how == "purge":
            queue.control.purge("a")
        elif how == "clear":
            queue.control.clear_all_subscribers()
        elif how == "configure":
            queue.limit(max_messages=2)
        elif how == "seek":
            queue.sub().seek("latest")
        elif how == "remove":
            queue.control.remove_subscriber("a")
        elif how == "pop":
            queue.sub().pop(timeout=0)
        else:
            queue.sub().ack(1)

    run_all(publish, make_room)
    assert sent == [2]


def test_block_under_load_loses_nothing_and_never_exceeds_the_mark(queue: Queue) -> None:
    queue.deploy(max_messages=3, strategy=Strategy.BLOCK)
    received: list[bytes] = []

    def consume() -> None:
        sub = queue.env.new_subscriber("a")
        while len(received) < 120:
            with sub.receive_many(2, timeout=BOUND) as payloads:
                assert queue.statistics().messages <= 3
                received.extend(payloads)

    def publish(name: int) -> None:
        pub = queue.env.new_publisher()
        for number in range(20):
            pub.send_many([b"%d %d" % (name, number)] * 2)

    run_all(consume, *[partial(publish, name) for name in range(3)])
    assert len(received) == 120
    assert not queue.statistics().pruned_overflow
    assert not queue.figures().lost


def test_closing_a_publisher_ends_its_wait(queue: Queue) -> None:
    queue.deploy(max_messages=1, strategy=Strategy.BLOCK)
    queue.fill(1)
    pub = queue.pub
    outcome: list[object] = []

    def publish() -> None:
        try:
            outcome.append(pub.send(b"x"))
        except ValueError as error:
            outcome.append(type(error).__name__)

    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: pub._room._waiters, "a publisher waits for room")
    pub.close()
    thread.join(BOUND)
    assert outcome == ["ClosedError"]


@pytest.mark.needs("halving")
def test_other_limits_hold_from_the_next_operation_on(queue: Queue) -> None:
    queue.deploy()
    pub = queue.join().new_publisher()
    pub.send_many([b"x"] * 10)
    queue.limit(max_messages=5)
    assert queue.statistics().messages == 10
    pub.send(b"x")
    assert queue.retained() == [9, 10, 11]
    queue.control.set_strategy(Strategy.REJECT)
    pub.send_many([b"x"] * 2)
    with pytest.raises(QueueFullError):
        pub.send(b"x")
    queue.limit()
    pub.send_many([b"x"] * 20)
    assert queue.statistics().messages == 25
    assert queue.control.configure(max_message_bytes=3).max_message_bytes == 3
    with pytest.raises(MessageTooLargeError, match="max_message_bytes"):
        pub.send(b"xxxx")


@pytest.mark.needs("halving")
def test_smaller_limits_prune_to_half_of_themselves(queue: Queue) -> None:
    queue.deploy()
    queue.fill(10)
    queue.limit(max_messages=5)
    queue.fill(1)
    assert queue.retained() == [9, 10, 11]
    assert queue.figures().lost == 8


@pytest.mark.needs("turned_clock")
def test_without_limits_nothing_is_lost(queue: Queue) -> None:
    queue.deploy()
    settings = queue.control.settings
    assert settings.high_water_mark == HighWaterMark(None, None, 30 * 1024**3)
    assert (settings.strategy, settings.retention) == (Strategy.PRUNE_FIRST, Retention.CONSUMED)
    queue.pub.send_many([b"x"] * 3000)
    queue.clock.go(3650 * 86400)
    queue.fill(1)
    assert len(rest(queue.sub())) == 3001


@pytest.mark.parametrize(
    "wrong",
    [
        {"high_water_mark": HighWaterMark(max_messages=0)},
        {"high_water_mark": HighWaterMark(max_messages=-1)},
        {"high_water_mark": HighWaterMark(max_messages=2.5)},  # type: ignore[arg-type]
        {"high_water_mark": HighWaterMark(max_bytes=0)},
        {"high_water_mark": HighWaterMark(message_timeout=0)},
        {"high_water_mark": HighWaterMark(message_timeout=float("nan"))},
        {"high_water_mark": 5},
        {"strategy": "prune_first"},
        {"retention": "log"},
        {"durability": None},
        {"max_message_bytes": 0},
        {"max_message_bytes": 2**32},
        {"deduplication_window": -1},
        {"lock_timeout": 0},
        {"no_such_setting": 1},
    ],
    ids=repr,
)
def test_settings_that_make_no_sense_change_nothing(queue: Queue, wrong: dict[str, object]) -> None:
    queue.deploy()
    before = queue.control.settings
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        queue.control.configure(**wrong)
    assert queue.control.settings == before


def test_the_durability_of_a_shared_queue_cannot_change_silently(durable: Queue) -> None:
    durable.deploy()
    assert durable.control.settings.durability is durable.durability
    others = [kind for kind in Durability if kind is not durable.durability]
    for kind in others:
        durable.control.configure(durability=kind)
        assert durable.join().open_control().settings.durability is kind
        durable.fill(1)
    assert len(rest(durable.sub())) == 2
