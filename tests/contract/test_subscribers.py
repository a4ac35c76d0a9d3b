"""Subscribers: added, changed, paused, purged and removed, while publishers run and others consume."""

import threading

import pytest

from persipubsub import (
    Control,
    IdentifierError,
    PositionError,
    SettingsError,
    SettingsMismatchError,
    Strategy,
    SubscriberSettings,
    UnknownSubscriberError,
)
from tests.contract.support import Queue, ids_of, rest, run_all
from tests.process.support import BOUND


def test_added_and_removed_at_the_next_operation_of_everybody(queue: Queue) -> None:
    queue.deploy(["a"])
    pub = queue.join().new_publisher()
    pub.send(b"1")
    queue.control.add_subscriber("b")
    pub.send(b"2")
    assert queue.control.remove_subscriber("a")
    assert not queue.control.remove_subscriber("a")
    pub.send(b"3")
    assert queue.control.subscriber_ids == {"b"}
    assert rest(queue.sub("b")) == [b"2", b"3"]
    assert queue.retained() == []


def test_adding_again_changes_nothing(queue: Queue) -> None:
    queue.deploy()
    control = queue.control
    control.add_subscriber("b", lease=30, max_deliveries=5, topic_filter="x.>")
    queue.send(b"1", topic="x.1")
    control.add_subscriber("b", lease=30)
    control.add_subscriber("b", start="latest")
    assert queue.lag("b") == (1, 0, 0)
    for different in (
        {"lease": 31.0},
        {"lease": None},
        {"max_deliveries": None},
        {"topic_filter": None},
        {"ephemeral": True},
    ):
        with pytest.raises(SettingsMismatchError, match=next(iter(different))):
            control.add_subscriber("b", **different)
    assert control.subscribers["b"] == SubscriberSettings(lease=30, max_deliveries=5, topic_filter="x.>")


def test_a_removed_subscriber_that_comes_back_starts_anew(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(3)
    taken = queue.sub("a").get_many(3, timeout=0)
    taken[0].nack(delay=60)
    taken[1].reject("no")
    queue.sub("a").ack(99)
    queue.control.remove_subscriber("a")
    queue.control.add_subscriber("a")
    queue.fill(1)
    figures = queue.figures("a")
    assert (figures.waiting, figures.leased, figures.delayed, figures.dead, figures.settled) == (1, 0, 0, 0, 0)
    assert queue.take("a").id == 4


def test_an_open_subscriber_that_was_removed_is_told(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    sub = queue.sub("a")
    queue.control.remove_subscriber("a")
    for call in (
        lambda: sub.get(timeout=0),
        lambda: sub.pop(timeout=0),
        sub.peek,
        lambda: sub.ack(1),
        lambda: sub.seek("first"),
        lambda: next(sub.messages(timeout=0)),
        lambda: sub.receive_to_top(timeout=0).__enter__(),
    ):
        with pytest.raises(UnknownSubscriberError, match="'b'"):
            call()


def test_a_waiting_subscriber_that_is_removed_is_told(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    sub = queue.sub("a")
    told: list[str] = []
    began = threading.Event()

    def consume() -> None:
        began.set()
        try:
            sub.get(timeout=BOUND)
        except UnknownSubscriberError as error:
            told.append(str(error))

    def remove() -> None:
        assert began.wait(BOUND)
        queue.control.remove_subscriber("a")
        queue.fill(1)

    run_all(consume, remove)
    assert "'b'" in told[0]


def test_subscribers_come_and_go_while_publishers_run(queue: Queue) -> None:
    queue.deploy(["stays"])
    count = 60
    halves = threading.Barrier(3)

    def publish() -> None:
        pub = queue.env.new_publisher()
        for number in range(count):
            if number == count // 2:
                halves.wait(BOUND)
            pub.send(b"x")

    def come_and_go() -> None:
        control = queue.env.open_control()
        for _ in range(8):
            control.add_subscriber("guest", start="first")
            control.remove_subscriber("guest")
        halves.wait(BOUND)
        control.add_subscriber("late")

    run_all(publish, publish, come_and_go)
    stays = queue.sub("stays").get_many(1000, timeout=0)
    assert ids_of(stays) == list(range(1, 2 * count + 1))
    late = ids_of(queue.sub("late").get_many(1000, timeout=0))
    assert late == list(range(2 * count + 1 - len(late), 2 * count + 1))
    for message in stays:
        message.ack()


@pytest.mark.needs("forgets_ids")
def test_clear_then_send(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    pub, sub = queue.pub, queue.sub("a")
    pub.send_many([b"x"] * 3, deduplication_id=None)
    pub.send(b"x", deduplication_id="d")
    held = sub.get(timeout=0)
    assert held is not None
    queue.control.clear_all_subscribers()
    assert queue.control.subscriber_ids == set()
    assert queue.retained() == []
    assert queue.statistics().payload_bytes == 0
    assert pub.send(b"unrouted") == 5
    with pytest.raises(UnknownSubscriberError, match="none"):
        held.ack()
    with pytest.raises(UnknownSubscriberError, match="none"):
        sub.get(timeout=0)
    queue.control.add_subscriber("a")
    assert pub.send(b"routed", deduplication_id="d") == 6
    assert rest(sub) == [b"routed"]


@pytest.mark.needs("exact_counters")
def test_purge_settles_all_that_nobody_holds(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(6)
    held, delayed, ready = queue.sub("a").get_many(3, timeout=0)
    delayed.nack(delay=60)
    ready.nack()
    queue.sub("a").ack(5)
    assert queue.control.purge("a") == 4
    assert queue.control.purge("a") == 0
    assert queue.lag("a") == (0, 1, 0)
    assert queue.figures("a").settled == 5
    held.ack()
    assert queue.lag("b") == (6, 0, 0)
    queue.fill(1)
    assert queue.take("a").id == 7


@pytest.mark.needs("any_size")
def test_purge_of_a_long_backlog_deletes_it(queue: Queue) -> None:
    queue.deploy()
    queue.pub.send_many([b"x"] * 3500)
    assert queue.control.purge("a") == 3500
    assert queue.retained() == []


@pytest.mark.needs("any_size")
def test_removing_the_last_that_needs_a_long_backlog_deletes_it(queue: Queue) -> None:
    queue.deploy(["a", "slow"])
    queue.pub.send_many([b"x"] * 3500)
    rest(queue.sub("a"))
    assert queue.control.remove_subscriber("slow")
    assert queue.retained() == []


def test_a_paused_subscriber_gets_nothing_and_keeps_its_backlog(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(2)
    held = queue.take("a")
    queue.control.pause_subscriber("a")
    queue.control.pause_subscriber("a")
    sub = queue.sub("a")
    assert queue.figures("a").paused
    assert not queue.figures("b").paused
    assert sub.get(timeout=0) is None
    assert sub.pop(timeout=0) is None
    assert sub.peek() is None
    with sub.receive_to_top(timeout=0) as data:
        assert data is None
    assert [message.id for message in sub.messages(timeout=0)] == []
    held.ack()
    queue.fill(1)
    assert queue.lag("a") == (2, 0, 0)
    assert rest(queue.sub("b")) == [b"x"] * 3
    queue.control.resume_subscriber("a")
    assert ids_of(queue.sub("a").get_many(5, timeout=0)) == [2, 3]


def test_resuming_wakes_who_waits(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    queue.control.pause_subscriber("a")
    received: list[bytes | None] = []
    began = threading.Event()

    def consume() -> None:
        began.set()
        with queue.sub().receive(timeout=BOUND) as data:
            received.append(data)

    def resume() -> None:
        assert began.wait(BOUND)
        queue.env.open_control().resume_subscriber("a")

    run_all(consume, resume)
    assert received == [b"x"]


def test_an_ephemeral_subscriber_vanishes_with_its_environment(queue: Queue) -> None:
    queue.deploy(["a"])
    other = queue.join()
    other.open_control().add_subscriber("guest", ephemeral=True)
    assert queue.control.subscribers["guest"].ephemeral
    queue.fill(3)
    rest(queue.sub("a"))
    held = other.new_subscriber("guest").get(timeout=0)
    assert held is not None
    assert queue.retained() == [1, 2, 3]
    other.close()
    assert queue.control.subscriber_ids == {"a"}
    queue.fill(1)
    rest(queue.sub("a"))
    assert queue.retained() == []


def test_whether_a_subscriber_is_ephemeral_is_for_good(queue: Queue) -> None:
    queue.deploy(["a"])
    queue.control.add_subscriber("guest", ephemeral=True)
    with pytest.raises(SettingsMismatchError, match="ephemeral"):
        queue.control.configure_subscriber("a", ephemeral=True)
    with pytest.raises(SettingsMismatchError, match="ephemeral"):
        queue.control.configure_subscriber("guest", ephemeral=False)


@pytest.mark.needs("turned_clock")
def test_other_settings_hold_from_the_next_take_on(queue: Queue) -> None:
    queue.deploy()
    queue.fill(2)
    sub = queue.join().new_subscriber("a")
    assert queue.control.configure_subscriber("a", max_deliveries=1, lease=5) == SubscriberSettings(
        max_deliveries=1, lease=5
    )
    first = sub.get(timeout=0)
    assert first is not None
    queue.clock.go(6)
    second = sub.get(timeout=0)
    assert second is not None
    assert second.id == 2
    assert queue.figures().dead == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease": 0},
        {"lease": -1},
        {"lease": float("nan")},
        {"lease": "5"},
        {"max_deliveries": 0},
        {"max_deliveries": 1.5},
        {"max_deliveries": True},
        {"ephemeral": 1},
    ],
    ids=repr,
)
def test_subscriber_settings_that_make_no_sense_change_nothing(queue: Queue, wrong: dict[str, object]) -> None:
    queue.deploy()
    name = next(iter(wrong))
    with pytest.raises(SettingsError, match=name):
        queue.control.configure_subscriber("a", **wrong)
    with pytest.raises(SettingsError, match=name):
        queue.control.add_subscriber("b", **wrong)  # type: ignore[arg-type]
    assert queue.control.subscribers == {"a": SubscriberSettings()}
    with pytest.raises(SettingsError, match="no_such"):
        queue.control.configure_subscriber("a", no_such=1)


NAMES = ["", "x" * 256, "é" * 128, "a\0b", "a\nb", "\x7f", "\x85", "\ud800", 5, None, b"bytes"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_identifier_that_breaks_the_rules_is_refused(queue: Queue, name: str) -> None:
    queue.deploy()
    control = queue.control
    for call in (
        lambda: control.add_subscriber(name),
        lambda: control.remove_subscriber(name),
        lambda: control.purge(name),
        lambda: control.dead_letters(name),
        lambda: control.pause_subscriber(name),
        lambda: control.configure_subscriber(name, lease=1),
        lambda: queue.env.new_subscriber(name),
    ):
        with pytest.raises(IdentifierError, match="identifier"):
            call()
    assert control.subscriber_ids == {"a"}


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "é" * 127, "data_db", "meta_db", "queue_db", "queue/a", "queue/", "a b", "../..", "日本", "\u202e"],
)
def test_any_other_identifier_is_fine_and_clashes_with_nothing(queue: Queue, name: str) -> None:
    queue.deploy(["a", name])
    queue.fill(2)
    assert rest(queue.sub(name)) == [b"x", b"x"]
    assert rest(queue.sub("a")) == [b"x", b"x"]
    assert queue.control.remove_subscriber(name)
    assert queue.control.subscriber_ids == {"a"}


def test_an_unknown_subscriber_is_refused_and_the_known_are_named(queue: Queue) -> None:
    queue.deploy(["left", "right"])
    control = queue.control
    for call in (
        lambda: queue.env.new_subscriber("typo"),
        lambda: control.purge("typo"),
        lambda: control.pause_subscriber("typo"),
        lambda: control.resume_subscriber("typo"),
        lambda: control.configure_subscriber("typo", lease=1),
        lambda: control.dead_letters("typo"),
    ):
        with pytest.raises(UnknownSubscriberError, match=r"'typo'.*'left', 'right'"):
            call()


def test_a_start_is_checked_before_anything_changes(queue: Queue) -> None:
    queue.deploy()
    with pytest.raises(PositionError):
        queue.control.add_subscriber("b", start=99)
    assert queue.control.subscriber_ids == {"a"}


# -- opening what exists -----------------------------------------------------------------------------


def test_opening_with_the_same_or_no_arguments(queue: Queue) -> None:
    queue.deploy(["a", "b"], strategy=Strategy.REJECT, max_messages=5)
    other = queue.join()
    assert isinstance(other.new_control(), Control)
    assert other.new_control({"b", "a"}, strategy=Strategy.REJECT).subscriber_ids == {"a", "b"}


def test_opening_with_other_arguments_names_the_difference(queue: Queue) -> None:
    queue.deploy(["a", "b"], strategy=Strategy.REJECT)
    other = queue.join()
    with pytest.raises(SettingsMismatchError, match="strategy is 'reject', not 'block'"):
        other.new_control(strategy=Strategy.BLOCK)
    with pytest.raises(SettingsMismatchError, match="no subscriber 'c'"):
        other.new_control({"a", "b", "c"})
    with pytest.raises(SettingsMismatchError, match="'b' besides"):
        other.new_control({"a"})
    with pytest.raises(SettingsMismatchError, match="lease of 'a'"):
        other.new_control({"a": SubscriberSettings(lease=5), "b": SubscriberSettings()})
    assert queue.control.subscriber_ids == {"a", "b"}
    assert queue.control.settings.strategy is Strategy.REJECT


def test_init_of_version_1(queue: Queue) -> None:
    control = queue.deploy(["a"])
    assert control.is_initialized()
    queue.fill(1)
    control.init({"a", "b"}, strategy=Strategy.REJECT)
    assert control.subscriber_ids == {"a", "b"}
    assert control.settings.strategy is Strategy.REJECT
    assert queue.lag("a") == (1, 0, 0)


def test_who_leaves_gives_back_whatever_was_removed_meanwhile(queue: Queue) -> None:
    queue.deploy(["a", "b", "c"])
    leaving = queue.join()
    queue.fill(1)
    held = [leaving.new_subscriber(identifier).get(timeout=0) for identifier in "abc"]
    assert None not in held
    for identifier in "ab":
        queue.control.remove_subscriber(identifier)
    queue.control.add_subscriber("b")
    leaving.close()
    again = queue.take("c")
    assert (again.delivery_count, again.last_error) == (2, None)  # given back, not left by the dead
