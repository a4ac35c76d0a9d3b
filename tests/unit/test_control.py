"""Deploying a queue, changing it, and what is refused."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

import persipubsub
from persipubsub import (
    Control,
    Durability,
    Environment,
    HighWaterMark,
    Retention,
    Settings,
    Strategy,
    SubscriberSettings,
)


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment("memory:") as environment:
        yield environment


@pytest.fixture
def control(env: Environment) -> Control:
    return env.new_control(subscriber_ids={"a", "b"})


def test_defaults(env: Environment) -> None:
    control = env.new_control()
    assert control.settings == Settings()
    assert control.subscriber_ids == set()
    assert control.is_initialized()


@pytest.mark.parametrize(
    "ids", [{"a", "b"}, ["a", "b"], ("a", "b"), {"a": SubscriberSettings(), "b": SubscriberSettings()}]
)
def test_subscribers_in_any_collection(env: Environment, ids: Any) -> None:
    assert env.new_control(ids).subscriber_ids == {"a", "b"}
    assert env.new_control(ids).subscriber_ids == {"a", "b"}


def test_all_settings(env: Environment) -> None:
    mark = HighWaterMark(message_timeout=5, max_messages=7, max_bytes=1000)
    wanted: dict[str, Any] = {
        "high_water_mark": mark,
        "strategy": Strategy.REJECT,
        "retention": Retention.LOG,
        "durability": Durability.PROCESS,
        "max_message_bytes": 100,
        "deduplication_window": 3.0,
        "lock_timeout": 2.0,
        "map_size": 2**20,
        "group_access": True,
    }
    assert env.new_control(**wanted).settings == Settings(**wanted)
    assert env.new_control(**wanted).settings == Settings(**wanted)
    assert env.new_control(high_watermark=mark).settings == Settings(**wanted)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"subscriber_ids": {"a"}}, "'b'"),
        ({"subscriber_ids": {"a", "b", "c"}}, "'c'"),
        ({"subscriber_ids": []}, "'a', 'b'"),
        ({"subscriber_ids": {"a": SubscriberSettings(lease=5), "b": SubscriberSettings()}}, "lease of 'a'"),
        ({"high_water_mark": HighWaterMark(max_messages=3)}, "high_water_mark"),
        ({"strategy": Strategy.REJECT}, "strategy is 'prune_first', not 'reject'"),
        ({"retention": Retention.LOG}, "retention"),
        ({"durability": Durability.PROCESS}, "durability"),
        ({"lock_timeout": 1.0}, "lock_timeout"),
    ],
)
def test_other_settings_than_stored_are_refused(
    env: Environment, control: Control, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(persipubsub.SettingsMismatchError) as raised:
        env.new_control(**arguments)
    assert named in str(raised.value)
    assert control.settings == Settings()
    assert control.subscriber_ids == {"a", "b"}


def test_an_ephemeral_subscriber_makes_no_difference(env: Environment, control: Control) -> None:
    control.add_subscriber("tail", ephemeral=True)
    assert env.new_control({"a", "b"}).subscriber_ids == {"a", "b", "tail"}


def test_a_queue_may_start_with_an_ephemeral_subscriber(env: Environment) -> None:
    ephemeral = SubscriberSettings(ephemeral=True)
    assert env.new_control({"a": SubscriberSettings(), "tail": ephemeral}).subscribers["tail"] == ephemeral


@pytest.mark.parametrize(
    "arguments",
    [
        {"subscriber_ids": "sub"},
        {"subscriber_ids": 5},
        {"subscriber_ids": {""}},
        {"subscriber_ids": ["a\n"]},
        {"subscriber_ids": ["x" * 256]},
        {"subscriber_ids": [7]},
        {"subscriber_ids": {"a": None}},
        {"subscriber_ids": {"a": SubscriberSettings(max_deliveries=0)}},
        {"high_water_mark": HighWaterMark(max_messages=0)},
        {"high_water_mark": 5},
        {"high_water_mark": HighWaterMark(), "high_watermark": HighWaterMark()},
        {"strategy": "prune_first"},
        {"max_message_bytes": -1},
        {"lock_timeout": 0},
        {"group_access": 1},
    ],
)
def test_what_makes_no_sense_creates_nothing(env: Environment, arguments: dict[str, Any]) -> None:
    with pytest.raises((persipubsub.SettingsError, persipubsub.IdentifierError)):
        env.new_control(**arguments)
    with pytest.raises(persipubsub.QueueNotFoundError):
        env.new_publisher()


def test_open_control_creates_nothing(env: Environment) -> None:
    with pytest.raises(persipubsub.QueueNotFoundError):
        env.open_control()
    env.new_control({"a"})
    assert env.open_control().subscriber_ids == {"a"}


def test_init_sets_and_adds(env: Environment, control: Control) -> None:
    control.init({"b", "c"}, HighWaterMark(max_messages=3), Strategy.PRUNE_LAST)
    assert control.subscriber_ids == {"a", "b", "c"}
    assert control.settings == Settings(high_water_mark=HighWaterMark(max_messages=3), strategy=Strategy.PRUNE_LAST)
    control.init()
    assert control.settings.strategy is Strategy.PRUNE_LAST


def test_changes(control: Control) -> None:
    control.set_high_water_mark(HighWaterMark(max_messages=3))
    assert control.settings.high_water_mark.max_messages == 3
    control.set_hwm(hwm=HighWaterMark(max_messages=4))
    assert control.settings.high_water_mark.max_messages == 4
    control.set_strategy(strategy=Strategy.BLOCK)
    assert control.configure(retention=Retention.LOG) == control.settings
    assert (control.settings.strategy, control.settings.retention) == (Strategy.BLOCK, Retention.LOG)


@pytest.mark.parametrize(
    "changes", [{"colour": 1}, {"strategy": "reject"}, {"high_water_mark": HighWaterMark(max_bytes=-5)}]
)
def test_wrong_changes(control: Control, changes: dict[str, Any]) -> None:
    with pytest.raises(persipubsub.SettingsError):
        control.configure(**changes)
    assert control.settings == Settings()


def test_adding_and_removing_subscribers(env: Environment, control: Control) -> None:
    control.add_subscriber("c", lease=5.0, max_deliveries=None, topic_filter="camera.*")
    wanted = SubscriberSettings(lease=5.0, max_deliveries=None, topic_filter="camera.*")
    assert control.subscribers["c"] == wanted
    control.add_subscriber("c")
    control.add_subscriber("c", lease=5.0)
    with pytest.raises(persipubsub.SettingsMismatchError, match=r"lease of 'c' is 5\.0, not None"):
        control.add_subscriber("c", lease=None)
    assert control.configure_subscriber("c", lease=None).lease is None
    assert control.subscribers["c"].lease is None
    assert control.remove_subscriber("c")
    assert not control.remove_subscriber("c")
    assert control.subscriber_ids == {"a", "b"}


@pytest.mark.parametrize(
    ("identifier", "arguments"),
    [
        ("", {}),
        ("c\0", {}),
        (5, {}),
        ("c", {"lease": 0}),
        ("c", {"lease": "5"}),
        ("c", {"max_deliveries": 0}),
        ("c", {"topic_filter": "a.>.b"}),
        ("c", {"ephemeral": 1}),
        ("c", {"start": "middle"}),
        ("c", {"start": True}),
        ("c", {"start": -1}),
        ("c", {"start": datetime.datetime(2024, 1, 1)}),  # noqa: DTZ001
        ("c", {"start": 10**9}),
    ],
)
def test_wrong_subscribers(control: Control, identifier: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises((persipubsub.IdentifierError, persipubsub.SettingsError, persipubsub.PositionError)):
        control.add_subscriber(identifier, **arguments)
    assert control.subscriber_ids == {"a", "b"}


def test_where_a_subscriber_starts(env: Environment, control: Control) -> None:
    control.configure(retention=Retention.LOG)
    ids = env.new_publisher().send_many([b"1", b"2", b"3"])
    control.add_subscriber("first", start="first")
    control.add_subscriber("second", start=ids[1])
    control.add_subscriber("latest")
    control.add_subscriber("since", start=datetime.datetime.fromtimestamp(0, datetime.UTC))
    waiting = {subscriber.identifier: subscriber.waiting for subscriber in control.statistics().subscribers}
    assert waiting == {"a": 3, "b": 3, "first": 3, "second": 2, "latest": 0, "since": 3}


def test_unknown_subscribers_are_told_the_known_ones(env: Environment, control: Control) -> None:
    for call in (
        env.new_subscriber,
        control.purge,
        control.pause_subscriber,
        control.resume_subscriber,
        control.dead_letters,
        control.configure_subscriber,
    ):
        with pytest.raises(persipubsub.UnknownSubscriberError, match="'a', 'b'"):
            call("typo")
        with pytest.raises(persipubsub.IdentifierError):
            call("")


def test_pausing(env: Environment, control: Control) -> None:
    env.new_publisher().send(b"1")
    sub = env.new_subscriber("a")
    control.pause_subscriber("a")
    assert sub.get(timeout=0) is None
    control.resume_subscriber("a")
    assert sub.get(timeout=0) is not None


def test_purging_and_clearing(env: Environment, control: Control) -> None:
    env.new_publisher().send_many([b"1", b"2"])
    assert control.purge("a") == 2
    assert env.new_subscriber("a").get(timeout=0) is None
    control.clear_all_subscribers()
    assert control.subscriber_ids == set()
    assert control.statistics().messages == 0


def test_dead_letters(env: Environment, control: Control) -> None:
    ids = env.new_publisher().send_many([b"1", b"2", b"3"], topic="t", headers={"k": "v"})
    sub = env.new_subscriber("a")
    for message in sub.get_many(3, timeout=0):
        message.reject(f"reason {message.id}")
    dead = control.dead_letters("a")
    assert dead.subscriber == "a"
    first = next(iter(dead))
    assert (first.id, first.data, first.topic, first.headers) == (ids[0], b"1", "t", {"k": "v"})
    assert (first.reason, first.delivery_count) == (f"reason {ids[0]}", 1)
    assert first.sent <= first.died
    assert "reason" in repr(first)
    assert dead.requeue(ids[1]) == 1
    assert dead.requeue([ids[1], 10**6]) == 0
    assert dead.discard([ids[0]]) == 1
    assert [letter.id for letter in dead] == [ids[2]]
    assert dead.requeue() == 1
    assert [message.delivery_count for message in sub.get_many(3, timeout=0)] == [1, 1]
    assert dead.discard() == 0
    with pytest.raises(persipubsub.MessageError):
        dead.requeue("1")  # type: ignore[arg-type]


def test_many_dead_letters_are_all_listed(env: Environment, control: Control) -> None:
    env.new_publisher().send_many([b""] * 600)
    for message in env.new_subscriber("a").get_many(600, timeout=0):
        message.reject("no")
    assert len(list(control.dead_letters("a"))) == 600


def test_pruning_and_figures(env: Environment, control: Control) -> None:
    control.set_hwm(HighWaterMark(message_timeout=0.001))
    env.new_publisher().send(b"1")
    pruned = 0
    while not pruned:
        pruned = control.prune_dangling_messages()
    assert pruned == 1
    figures = control.statistics()
    assert (figures.messages, figures.published, figures.pruned_timeout) == (0, 1, 1)
    assert control.check() == []


def test_closed(env: Environment, control: Control) -> None:
    with control:
        pass
    control.close()
    assert control.closed
    assert not control.is_initialized()
    for call in (control.statistics, control.clear_all_subscribers, control.prune_dangling_messages, control.check):
        with pytest.raises(persipubsub.ClosedError):
            call()
