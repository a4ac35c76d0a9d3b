"""What holds on JetStream where it declares that it differs; a test for each of these declarations."""

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from persipubsub import (
    Durability,
    Environment,
    HighWaterMark,
    LeaseLostError,
    MessageTooLargeError,
    QueueFullError,
    Retention,
    Strategy,
    UnsupportedByEngineError,
)
from persipubsub.engine.jetstream.engine import CAPABILITIES
from tests.jetstream.conftest import ACK_WAIT
from tests.process.support import BOUND, patiently, wait_until

PROCESS = Durability.PROCESS


def test_every_difference_has_a_test() -> None:
    lacking = {name for name, has in msgspec.structs.asdict(CAPABILITIES).items() if not has}
    assert {name for name in globals() if name.startswith("test_")} >= {f"test_{name}" for name in lacking}


def test_atomic_staging(url: str) -> None:
    """What is staged is published first, then the message is acknowledged; another attempt publishes nothing twice."""
    with Environment(url) as env:
        env.new_control({"a"}, retention=Retention.LOG, durability=PROCESS)
        env.new_publisher().send(b"in")
        sub = env.new_subscriber("a")
        message = sub.get(timeout=0)
        assert message is not None
        message.send(b"out")
        # As if this process died between the two.
        engine: Any = env._connection.engine()
        (hold,) = engine._session.holds.all()
        engine._run(engine._publisher.put(message._staged, [f"s.{hold.arrival.consumer}.{message.id}.0"]))
        message.ack()
        assert [each.data for each in env.browse()] == [b"in", b"out"]


@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_halving(url: str, strategy: Strategy) -> None:
    """``prune_first`` drops only what is needed; ``prune_last`` refuses the newest."""
    with Environment(url) as env:
        env.new_control({"a"}, HighWaterMark(max_messages=4), strategy, durability=PROCESS)
        pub = env.new_publisher()
        pub.send_many([b"1", b"2", b"3", b"4"])
        if strategy is Strategy.PRUNE_FIRST:
            pub.send(b"5")
            assert [each.data for each in env.browse()] == [b"2", b"3", b"4", b"5"]
        else:
            with pytest.raises(QueueFullError, match="4 messages"):
                pub.send(b"5")
            assert [each.data for each in env.browse()] == [b"1", b"2", b"3", b"4"]


def test_exact_counters(url: str) -> None:
    with Environment(url) as env:
        control = env.new_control({"a"}, HighWaterMark(max_messages=1), durability=PROCESS)
        env.new_publisher().send_many([b"1"])
        env.new_publisher().send_many([b"2"])
        found = control.statistics()
        assert (found.messages, found.published) == (1, 2)
        # What cannot be known is not shown as nothing.
        assert (found.pruned_overflow, found.pruned_timeout, found.deduplicated, found.unrouted) == (None,) * 4
        (figures,) = found.subscribers
        assert (figures.lost, figures.expired, figures.owners) == (None,) * 3


def test_sees_death(url: str) -> None:
    """A message of a process that does not answer comes again after the ack wait."""
    with Environment(url) as first, Environment(url) as second:
        first.new_control({"a"}, durability=PROCESS)
        first.new_publisher().send(b"x")
        sub = first.new_subscriber("a")
        held = sub.get(timeout=0)
        assert held is not None
        # As if it were stopped: nobody tells the server that the message is in progress.
        engine = first._connection.engine()
        first_loop = engine._link  # type: ignore[attr-defined]
        gate = threading.Event()
        first_loop.soon(gate.wait)
        again = second.new_subscriber("a").get(timeout=20 * ACK_WAIT)
        gate.set()
        assert again is not None
        assert (again.id, again.delivery_count) == (held.id, 2)
        with pytest.raises(LeaseLostError):
            held.ack()
        again.ack()


def test_late_settlement(env: Environment) -> None:
    """A bounded lease that has ended settles nothing, taken over or not; the message comes again at once."""
    env.new_publisher().send(b"x")
    held = env.new_subscriber("a").get(timeout=0, lease=0.05)
    assert held is not None
    again = env.new_subscriber("a").get(timeout=BOUND)
    assert again is not None
    assert (again.delivery_count, again.last_error) == (2, "lease ended")
    with pytest.raises(LeaseLostError, match="1"):
        held.ack()
    again.ack()


def test_exclusive_newest(env: Environment) -> None:
    """Another receiver may get the newest as well; what was settled comes to nobody any more."""
    env.new_publisher().send_many([b"1", b"2", b"3"])
    sub = env.new_subscriber("a")
    with sub.receive_to_top(timeout=0) as newest:
        assert newest == b"3"
        with env.new_subscriber("a").receive_to_top(timeout=0) as other:
            assert other == b"3"
    assert sub.get(timeout=0) is None
    assert env.open_control().statistics().messages == 0


def test_requeues_in_place(env: Environment) -> None:
    """A dead letter comes again as a new message, behind those that wait, for this subscriber alone."""
    control = env.open_control()
    control.add_subscriber("b")
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send(b"bad", topic="t", headers={"k": "v"})
    message = sub.get(timeout=0)
    assert message is not None
    message.reject("broken")
    pub.send(b"newer")
    (dead,) = control.dead_letters("a")
    assert (dead.id, dead.data, dead.reason, dead.topic) == (1, b"bad", "broken", "t")
    assert control.dead_letters("a").requeue() == 1
    assert list(control.dead_letters("a")) == []
    found = sub.get_many(5, timeout=0)
    assert [(each.id, each.data, each.topic) for each in found] == [(2, b"newer", None), (3, b"bad", "t")]
    assert (found[1].headers, found[1].last_error, found[1].delivery_count) == ({"k": "v"}, "broken", 1)
    assert [each.data for each in env.new_subscriber("b").get_many(5, timeout=0)] == [b"bad", b"newer"]


def test_keeps_unmatched(url: str) -> None:
    """What no subscriber's filter matches is not kept at all."""
    with Environment(url) as env:
        control = env.new_control([], durability=PROCESS)
        control.add_subscriber("a", topic_filter="wanted.>")
        pub = env.new_publisher()
        pub.send(b"1")
        pub.send(b"2", topic="wanted.x")
        assert [each.id for each in env.browse()] == [2]


def test_tells_holders(env: Environment) -> None:
    """What is settled by its id is settled, though its holder elsewhere does not learn of it."""
    env.new_publisher().send(b"x")
    held = env.new_subscriber("a").get(timeout=0)
    assert held is not None
    with Environment(env._connection.opener.address) as other:
        assert other.new_subscriber("a").ack(held.id) == 1
        assert other.open_control().statistics().messages == 0
    held.ack()


def test_ordered_returns(env: Environment) -> None:
    """What was given back comes before what is new, in the order in which it was given back."""
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send_many([b"1", b"2", b"3", b"4"])
    first, second = sub.get_many(2, timeout=0)
    second.nack()
    first.nack()
    found = [sub.get(timeout=0) for _ in range(4)]
    assert [each.data for each in found if each is not None] == [b"2", b"1", b"3", b"4"]


def test_counts_payload(url: str) -> None:
    """Bytes are those that are stored, with subject and headers."""
    with Environment(url) as env:
        control = env.new_control({"a"}, HighWaterMark(max_bytes=1000), Strategy.REJECT, durability=PROCESS)
        env.new_publisher().send(b"x" * 100)
        assert 100 < control.statistics().payload_bytes < 500
        with pytest.raises(QueueFullError, match="headers included"):
            env.new_publisher().send(b"x" * 900)
        with pytest.raises(MessageTooLargeError, match="max_bytes"):
            env.new_publisher().send(b"x" * 1001)


def test_forgets_ids(env: Environment) -> None:
    pub, control = env.new_publisher(), env.open_control()
    first = pub.send(b"x", deduplication_id="d")
    control.clear_all_subscribers()
    control.add_subscriber("a")
    assert pub.send(b"x", deduplication_id="d") == first


def test_any_size(env: Environment) -> None:
    """What the server cannot take is refused before anything is stored, with what to do."""
    pub = env.new_publisher()
    with pytest.raises(UnsupportedByEngineError, match="1000"):
        pub.send_many([b"x"] * 1001)
    with pytest.raises(MessageTooLargeError, match="max_payload"):
        pub.send(b"x" * 2**20)
    with pytest.raises(MessageTooLargeError, match="headers"):
        pub.send(b"x", headers={"k": "v" * 60_000})
    assert len(pub.send_many([b"x"] * 1000)) == 1000
    assert list(pub.send_many([b"y"])) == [1001]


def test_what_belongs_to_a_disk_is_refused(env: Environment, tmp_path: Path) -> None:
    engine = env._connection.engine()
    for refused in (
        lambda: engine.backup(tmp_path / "copy"),
        engine.compact,
        lambda: engine.export(1, 1, lambda record: None),
    ):
        with pytest.raises(UnsupportedByEngineError, match="on NATS"):
            refused()


def test_the_command_line_takes_the_url(url: str, env: Environment) -> None:
    for command, expected in (
        (["send", url, "hello"], "1"),
        (["tail", url], "hello"),
        (["check", url], ""),
        (["status", url], "a"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "persipubsub.cli", *command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert expected in done.stdout


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"durability": Durability.FULL}, "sync_interval"),
        ({"durability": Durability.COMMIT}, "sync_interval"),
        ({}, "durability"),
        ({"durability": PROCESS, "map_size": 2**20}, "map_size"),
        ({"durability": PROCESS, "group_access": True}, "group_access"),
        ({"durability": PROCESS, "max_message_bytes": 2**21}, "max_payload"),
        ({"durability": PROCESS, "high_water_mark": HighWaterMark(message_timeout=0.01)}, "message_timeout"),
        ({"durability": PROCESS, "deduplication_window": 0.01}, "deduplication_window"),
    ],
)
def test_what_is_missing_is_refused_at_deployment(url: str, settings: dict[str, object], named: str) -> None:
    with Environment(url) as env:
        with pytest.raises(UnsupportedByEngineError, match=named):
            env.new_control({"a"}, **settings)  # type: ignore[arg-type]
        assert not env._connection.opener.exists()
        control = env.new_control({"a"}, durability=PROCESS)
        if settings:
            with pytest.raises(UnsupportedByEngineError, match=named):
                control.configure(**settings)
            assert control.settings.durability is PROCESS


def test_time(url: str) -> None:
    """Delays, expiry, the message timeout and the deduplication window, by the clocks of the servers and of ours."""
    patiently(lambda factor: see_time(url.replace("?", f"-{factor:g}?"), factor))


def see_time(url: str, factor: float) -> None:
    """Let times pass, so many times longer than it needs where nothing else runs."""
    mark = HighWaterMark(message_timeout=2 * factor)
    with Environment(url) as env:
        env.new_control({"a"}, mark, durability=PROCESS, deduplication_window=0.2 * factor)
        pub, sub, control = env.new_publisher(), env.new_subscriber("a"), env.open_control()
        delayed = pub.send(b"delayed", delay=0.4 * factor)
        assert sub.get(timeout=0) is None
        assert control.statistics().subscribers[0].delayed == 1
        message = sub.get(timeout=BOUND)
        assert message is not None
        assert (message.id, message.delivery_count) == (delayed, 1)
        message.nack(delay=0.3 * factor, reason="later")
        assert sub.get(timeout=0) is None
        message = sub.get(timeout=BOUND)
        assert message is not None
        assert (message.delivery_count, message.last_error) == (2, "later")
        message.ack()
        pub.send(b"short", expires_in=0.05)
        pub.send(b"kept")
        first = pub.send(b"once", deduplication_id="d")
        assert pub.send(b"once", deduplication_id="d") == first
        wait_until(lambda: pub.send(b"again", deduplication_id="d") != first, "the time of deduplication is over")
        assert [each.data for each in sub.get_many(3, timeout=0)] == [b"kept", b"once", b"again"]
        wait_until(lambda: control.statistics().messages == 0, "all is removed")


def test_what_dies_of_crashes(env: Environment) -> None:
    """A message whose handlers never come back is dead after as many deliveries as are allowed."""
    control = env.open_control()
    control.configure_subscriber("a", max_deliveries=2)
    env.new_publisher().send(b"x")
    for count in (1, 2):
        message = env.new_subscriber("a").get(timeout=20, lease=0.01)
        assert message is not None
        assert message.delivery_count == count
    wait_until(
        lambda: env.new_subscriber("a").get(timeout=0) is None and control.statistics().subscribers[0].dead == 1,
        "the message is dead",
    )
    (dead,) = control.dead_letters("a")
    assert (dead.delivery_count, dead.reason) == (2, "lease ended")


def test_a_dead_letter_is_logged_where_a_handler_may_use_the_queue(env: Environment) -> None:
    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            env.new_publisher().send(f"{record.__dict__['event']} {record.__dict__['message_id']}".encode())

    env.new_publisher().send(b"bad")
    message = env.new_subscriber("a").get(timeout=0)
    assert message is not None
    handler = Publishing(logging.WARNING)
    logging.getLogger("persipubsub").addHandler(handler)
    try:
        message.reject("broken")
    finally:
        logging.getLogger("persipubsub").removeHandler(handler)
    with env.new_subscriber("a").receive(timeout=0) as payload:
        assert payload == b"dead_letter 1"


def test_a_long_handler_keeps_its_message(env: Environment) -> None:
    """Without a bound, a lease lasts longer than the ack wait."""
    env.new_publisher().send(b"x")
    held = env.new_subscriber("a").get(timeout=0)
    assert held is not None
    assert env.new_subscriber("a").get(timeout=2.5 * ACK_WAIT) is None
    held.ack()
    assert env.open_control().statistics().messages == 0
