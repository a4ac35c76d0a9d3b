"""Every call that programs written for version 1.0 make, in both of its spellings."""

import importlib
import pathlib
from collections.abc import Callable, Iterator

import pytest

import persipubsub.control
import persipubsub.environment
import persipubsub.publisher
import persipubsub.queue
import persipubsub.subscriber


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return an empty directory: version 1 wanted it to exist."""
    directory = tmp_path / "queue"
    directory.mkdir()
    return directory


@pytest.fixture
def env(path: pathlib.Path) -> Iterator[persipubsub.environment.Environment]:
    with persipubsub.environment.initialize(path=path) as environment:
        yield environment
        if environment.new_control().is_initialized():
            assert environment.new_control().check() == []


Env = persipubsub.environment.Environment


@pytest.mark.parametrize("module", ["environment", "queue", "control", "publisher", "subscriber"])
def test_import_paths(module: str) -> None:
    importlib.import_module(f"persipubsub.{module}")


@pytest.mark.parametrize(
    "open_environment",
    [
        lambda path: persipubsub.environment.new_environment(path=path),
        lambda path: persipubsub.environment.initialize(path=path),
        lambda path: persipubsub.environment.Environment(path=path),
    ],
)
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_opening(
    path: pathlib.Path, open_environment: Callable[[object], Env], kind: Callable[[object], object]
) -> None:
    with open_environment(kind(path)) as env:
        assert env.path == path
        with env.new_control() as control:
            assert isinstance(control, persipubsub.control.Control)
            assert control.is_initialized()
            assert control.subscriber_ids == set()
        control.close()
    env.close()
    env.close()


def test_creating_with_keywords_of_the_code(env: Env) -> None:
    hwm = persipubsub.queue.HighWaterMark(message_timeout=10, max_messages=100, hwm_db_size=1024**3)
    control = env.new_control(
        subscriber_ids={"sub"}, high_water_mark=hwm, strategy=persipubsub.queue.Strategy.PRUNE_FIRST
    )
    assert control.subscriber_ids == {"sub"}
    stored = control.settings.high_water_mark
    assert (stored.message_timeout, stored.max_messages, stored.hwm_lmdb_size) == (10, 100, 1024**3)
    assert env.new_control().settings == control.settings


def test_creating_with_keywords_of_the_readme(env: Env) -> None:
    hwm = persipubsub.queue._HighWaterMark()
    control = env.new_control(
        subscriber_ids=["sub"], high_watermark=hwm, strategy=persipubsub.queue._Strategy.prune_last
    )
    assert control.settings.strategy is persipubsub.queue.Strategy.PRUNE_LAST
    assert env.new_control().subscriber_ids == {"sub"}


def test_creating_with_a_positional_argument(env: Env) -> None:
    assert env.new_control({"sub"}).subscriber_ids == {"sub"}


def test_defaults_are_readable() -> None:
    for name in ("DEFAULT_MESSAGE_TIMEOUT", "DEFAULT_MAX_MESSAGES", "DEFAULT_HWM_LMDB_SIZE", "DEFAULT_STRATEGY"):
        assert hasattr(persipubsub.queue, name)
    assert persipubsub.queue.HighWaterMark().hwm_lmdb_size == persipubsub.queue.DEFAULT_HWM_LMDB_SIZE


def test_init(env: Env) -> None:
    control = env.new_control()
    control.init(
        subscriber_ids={"sub"},
        high_water_mark=persipubsub.queue.HighWaterMark(max_messages=5),
        strategy=persipubsub.queue.Strategy.PRUNE_LAST,
    )
    control.init({"sub"})
    assert control.is_initialized()
    assert control.subscriber_ids == {"sub"}
    assert control.settings.high_water_mark.max_messages == 5


def test_changing_limits(env: Env) -> None:
    control = env.new_control({"sub"})
    control.set_hwm(hwm=persipubsub.queue.HighWaterMark(max_messages=4))
    control.set_strategy(strategy=persipubsub.queue.Strategy.PRUNE_LAST)
    with env.new_publisher() as pub:
        pub.send_many(msgs=[b"1", b"2", b"3", b"4"])
        pub.send(msg=b"5")
    assert control.statistics().messages == 3
    with env.new_subscriber("sub").receive_many(10, timeout=0) as found:
        assert found == [b"1", b"2", b"5"]


def test_pruning_and_clearing(env: Env) -> None:
    control = env.new_control({"sub"})
    env.new_publisher().send(msg=b"1")
    control.prune_dangling_messages()
    assert control.statistics().messages == 1
    control.clear_all_subscribers()
    assert control.subscriber_ids == set()
    assert control.statistics().messages == 0


@pytest.mark.parametrize("autosync", [False, True])
def test_publishing(env: Env, autosync: bool) -> None:
    env.new_control({"sub"})
    with env.new_publisher(autosync=autosync) as pub:
        assert isinstance(pub, persipubsub.publisher.Publisher)
        pub.send(msg=b"1")
        pub.send_many(msgs=[b"2", b"3"])
    pub.close()
    with env.new_subscriber("sub").receive_many(10, timeout=0) as found:
        assert found == [b"1", b"2", b"3"]


def test_receiving(env: Env) -> None:
    env.new_control({"sub"})
    env.new_publisher().send_many(msgs=[b"1", b"2"])
    with env.new_subscriber(identifier="sub") as sub:
        assert isinstance(sub, persipubsub.subscriber.Subscriber)
        assert sub.identifier == "sub"
        with sub.receive() as msg:
            assert msg == b"1"
        with pytest.raises(ValueError, match="x"), sub.receive(timeout=2, retries=10) as msg:  # noqa: PT012 - the block is what is tested
            assert msg == b"2"
            raise ValueError("x")
        with sub.receive(2, 10) as msg:
            assert msg == b"2"
        with sub.receive(timeout=0, retries=10) as msg:
            assert msg is None
    sub.close()


def test_receiving_to_the_top(env: Env) -> None:
    env.new_control({"sub", "other"})
    env.new_publisher().send_many(msgs=[b"1", b"2", b"3"])
    with env.new_subscriber(identifier="sub") as sub:
        with sub.receive_to_top() as msg:
            assert msg == b"3"
        with sub.receive_to_top(timeout=0, retries=10) as msg:
            assert msg is None
    with env.new_subscriber(identifier="other").receive_many(10, timeout=0) as found:
        assert found == [b"1", b"2", b"3"]


def test_a_queue_outlives_its_environment(path: pathlib.Path) -> None:
    with persipubsub.environment.Environment(path=path) as env:
        env.new_control({"sub"})
        env.new_publisher().send(msg=b"1")
    with persipubsub.environment.Environment(path=path) as env, env.new_subscriber("sub").receive() as msg:
        assert msg == b"1"
