"""What a relay moves, and how it arrives."""

import datetime

import pytest

from persipubsub import Draft, Environment, HighWaterMark, Retention, Strategy
from persipubsub.errors import (
    IdentifierError,
    OpenError,
    PositionError,
    QueueNotFoundError,
    SettingsError,
    SettingsMismatchError,
)
from persipubsub.relay import Relay, RelayState
from persipubsub.relay.trail import SENT, TRAIL, Step, steps_of
from tests.process.support import patiently, wait_until
from tests.relay.support import NAME, forward, numbered, payloads, received, relay_of, running, subscribers, wait_for


def test_everything_arrives_in_order(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target, batch=7)
    relay.prepare()
    source.new_publisher().send_many(numbered(100))
    assert relay.run(drain=True) == 100
    assert payloads(target) == numbered(100)
    status = relay.status()
    assert (status.forwarded, status.forwarded_bytes, status.failures, status.lag) == (100, 190, 0, 0)
    assert status.state is RelayState.STOPPED
    assert relay.run(drain=True) == 0
    assert payloads(target) == []


def test_it_begins_with_what_is_retained(source: Environment, target: Environment) -> None:
    source.open_control().configure(retention=Retention.LOG)
    source.new_publisher().send_many(numbered(3))
    forward(source, target)
    assert payloads(target) == numbered(3)


def test_it_can_begin_with_what_comes(source: Environment, target: Environment) -> None:
    source.open_control().configure(retention=Retention.LOG)
    source.new_publisher().send_many(numbered(3))
    relay = relay_of(source, target, start="latest")
    relay.prepare()
    source.new_publisher().send(b"new")
    relay.run(drain=True)
    assert payloads(target) == [b"new"]


def test_all_about_a_message_arrives(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    message_id = source.new_publisher().send(b"\0\1", headers={"camera": "left", "key": b"\xff"}, topic="a.b")
    (retained,) = source.browse()
    relay.run(drain=True)
    (message,) = received(target)
    assert (message.data, message.topic) == (b"\0\1", "a.b")
    assert (message.headers["camera"], message.headers["key"]) == ("left", b"\xff")
    identity = source.open_control().statistics().identity
    assert steps_of(message.headers) == [Step(identity, message_id)]
    assert datetime.datetime.fromisoformat(str(message.headers[SENT])) == retained.sent
    assert message.expires is None


def test_the_rest_of_the_time_to_live_arrives(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    before = datetime.datetime.now(datetime.UTC)
    source.new_publisher().send(b"soon stale", expires_in=100)
    relay.run(drain=True)
    took = (datetime.datetime.now(datetime.UTC) - before).total_seconds()
    (message,) = received(target)
    assert message.expires is not None
    seconds = (message.expires - before).total_seconds()
    assert 99 < seconds < 101 + took


def test_a_delayed_message_is_forwarded_when_it_is_due(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    publisher = source.new_publisher()

    def forwarded(factor: float) -> None:
        publisher.send(b"later", delay=0.3 * factor)
        publisher.send(b"now")
        with running(relay):
            assert wait_for(target, 2) == [b"now", b"later"]

    patiently(forwarded)


def test_it_waits_for_messages_and_shows_what_it_does(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    assert relay.status().state is RelayState.STOPPED
    with running(relay):
        wait_until(lambda: NAME in str(subscribers(source)), "the relay has its subscriber")
        for number in numbered(3):
            source.new_publisher().send(number)
            assert wait_for(target, 1) == [number]
        wait_until(lambda: relay.status().forwarded == 3, "it counts")
        assert relay.status().last_forwarded_ns is not None
        assert relay.status().retry_in is None
    assert relay.status().state is RelayState.STOPPED


def test_it_leaves_no_bookmark_after_a_clean_end(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send(b"message")
    relay.run(drain=True)
    assert subscribers(target) == ["reader"]
    assert subscribers(source) == [f"relay/{NAME}"]
    assert payloads(target) == [b"message"]
    assert target.open_control().statistics().messages == 0


def test_the_name_is_the_targets_identity(source: Environment, target: Environment) -> None:
    relay = Relay(source, target)
    relay.prepare()
    assert relay.status().name == target.open_control().statistics().identity
    assert subscribers(source) == [f"relay/{relay.status().name}"]


def test_a_filter_of_the_deployment_holds(source: Environment, target: Environment) -> None:
    source.open_control().add_subscriber(f"relay/{NAME}", max_deliveries=None, topic_filter="alarm.>")
    publisher = source.new_publisher()
    for topic in ("alarm.fire", "debug.noise", "alarm.water", None):
        publisher.send(b"m", topic=topic)
    forward(source, target)
    assert [message.topic for message in received(target)] == ["alarm.fire", "alarm.water"]


def test_a_subscriber_that_gives_up_is_refused(source: Environment, target: Environment) -> None:
    source.open_control().add_subscriber(f"relay/{NAME}")
    with pytest.raises(SettingsMismatchError, match="max_deliveries null"):
        forward(source, target)


# -- cycles -----------------------------------------------------------------------------------------


def test_two_relays_in_both_directions_do_not_play_ping_pong(source: Environment, target: Environment) -> None:
    source.open_control().add_subscriber("reader")
    there, back = relay_of(source, target), relay_of(target, source, name="back")
    there.prepare()
    back.prepare()
    source.new_publisher().send(b"from the source")
    target.new_publisher().send(b"from the target")
    for _ in range(3):
        there.run(drain=True)
        back.run(drain=True)
    assert sorted(payloads(source)) == sorted(payloads(target)) == [b"from the source", b"from the target"]
    assert there.status().turned_back == back.status().turned_back == 1
    assert there.status().forwarded == back.status().forwarded == 1


def test_a_ring_ends_where_it_began() -> None:
    with Environment("memory:") as one, Environment("memory:") as two, Environment("memory:") as three:
        ring = [one, two, three]
        for queue in ring:
            queue.new_control({"reader"})
        relays = [relay_of(ring[index], ring[(index + 1) % 3]) for index in range(3)]
        for relay in relays:
            relay.prepare()
        one.new_publisher().send(b"round")
        for _ in range(3):
            for relay in relays:
                relay.run(drain=True)
        arrived = [received(queue) for queue in ring]
        assert [len(messages) for messages in arrived] == [1, 1, 1]
        assert len(steps_of(arrived[2][0].headers)) == 2
        assert [relay.status().turned_back for relay in relays] == [0, 0, 1]


def test_a_header_that_is_no_trail_is_left_out(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    for value in ("nonsense", b"bytes", "a/b", "/1"):
        source.new_publisher().send(b"m", headers={TRAIL: value})
    relay.run(drain=True)
    assert [len(steps_of(message.headers)) for message in received(target)] == [1, 1, 1, 1]


def test_a_message_that_comes_by_two_relays_is_stored_once(source: Environment, target: Environment) -> None:
    one, other = relay_of(source, target), relay_of(source, target, name="other")
    one.prepare()
    other.prepare()
    source.new_publisher().send(b"m")
    one.run(drain=True)
    other.run(drain=True)
    assert payloads(target) == [b"m"]


# -- refusals ---------------------------------------------------------------------------------------


def test_what_the_target_never_takes_becomes_a_dead_letter(source: Environment, target: Environment) -> None:
    target.open_control().configure(max_message_bytes=10)
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send_many([b"one", b"x" * 11, b"two", Draft(b"h", headers={"h": "x" * 65500}), b"three"])
    relay.run(drain=True)
    assert payloads(target) == [b"one", b"two", b"three"]
    letters = list(source.open_control().dead_letters(f"relay/{NAME}"))
    assert [letter.data for letter in letters] == [b"x" * 11, b"h"]
    assert "max_message_bytes" in letters[0].reason
    assert target.location in letters[0].reason
    assert relay.status().rejected == 2
    assert relay.status().failures == 0


@pytest.mark.parametrize("strategy", [Strategy.REJECT, Strategy.BLOCK])
def test_it_waits_for_room(source: Environment, target: Environment, strategy: Strategy) -> None:
    target.open_control().configure(high_water_mark=HighWaterMark(max_messages=10), strategy=strategy)
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send_many(numbered(100))
    with running(relay):
        wait_until(lambda: relay.status().state is RelayState.FULL, "it waits for room")
        assert "QueueFullError" in str(relay.status().last_error)
        assert wait_for(target, 100) == numbered(100)
    assert relay.status().failures == 0


def test_large_messages_go_in_small_batches(source: Environment, target: Environment) -> None:
    target.open_control().configure(high_water_mark=HighWaterMark(max_bytes=50_000), strategy=Strategy.REJECT)
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send_many([bytes([number]) * 20_000 for number in range(6)])
    with running(relay):
        assert [data[0] for data in wait_for(target, 6)] == list(range(6))


def test_nothing_is_sent_where_nobody_keeps_it(source: Environment, target: Environment) -> None:
    target.open_control().remove_subscriber("reader")
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send(b"kept")
    with running(relay):
        wait_until(lambda: relay.status().failing > 1, "it waits for a reader")
        assert relay.status().state is RelayState.RETRYING
        assert "no subscriber" in str(relay.status().last_error)
        target.open_control().add_subscriber("reader")
        assert wait_for(target, 1) == [b"kept"]
        wait_until(lambda: relay.status().failing == 0, "all is well again")


# -- deployment -------------------------------------------------------------------------------------


def test_queues_that_are_missing(locations: tuple[str, str]) -> None:
    with pytest.raises(QueueNotFoundError, match=r"(?i)deploy"):
        forward(*locations)


def test_queues_are_created_if_wanted(locations: tuple[str, str]) -> None:
    with Environment(locations[0]) as source, Environment(locations[1]) as target:
        relay = relay_of(source, target, create=True)
        relay.prepare()
        assert subscribers(source) == [f"relay/{NAME}"]
        target.open_control().add_subscriber("reader")
        source.new_publisher().send(b"m")
        relay.run(drain=True)
        assert payloads(target) == [b"m"]


def test_a_queue_is_not_relayed_to_itself(locations: tuple[str, str]) -> None:
    with Environment(locations[0]) as queue:
        queue.new_control({"reader"})
        with pytest.raises(SettingsError, match="needs two queues"):
            forward(locations[0], locations[0])
        assert subscribers(queue) == ["reader"]


def test_wrong_arguments() -> None:
    for options in ({"batch": 0}, {"grace": -1}, {"signals": ["x"]}):
        with pytest.raises(SettingsError):
            Relay("memory:a", "memory:b", **options)
    with pytest.raises(IdentifierError):
        Relay("memory:a", "memory:b", name="")
    with pytest.raises(PositionError):
        Relay("memory:a", "memory:b", start="middle")
    with pytest.raises(OpenError):
        Relay("", "memory:b")


def test_it_runs_once_at_a_time(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    with running(relay):
        wait_until(lambda: relay.status().state is RelayState.IDLE, "it runs")
        with pytest.raises(SettingsError, match="runs already"):
            relay.run()
        with pytest.raises(SettingsError, match="runs already"):
            relay.prepare()


def test_it_can_run_again(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    for number in numbered(3):
        with running(relay):
            wait_until(lambda: relay.status().state is RelayState.IDLE, "it runs")
            source.new_publisher().send(number)
            assert wait_for(target, 1) == [number]
