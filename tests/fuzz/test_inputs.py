"""Configurations, names and messages of any kind: taken as they are, or refused by an error of ours."""

import json
import pathlib
import random
import resource
from collections.abc import Callable

import pytest

from persipubsub import ConfigError, Environment, MessageTooLargeError, config
from tests.faults.crew import Hand
from tests.fuzz import inputs


def judge_configs(folder: pathlib.Path, number: int) -> inputs.Read:
    hand = Hand(bound=100)
    try:
        found: inputs.Read = hand.do(inputs.judge_configs, folder / "queues.json", 1, number, 100.0)
        return found
    finally:
        hand.end()


def test_a_random_configuration_is_read_or_refused(tmp_path: pathlib.Path) -> None:
    """Also one that is cut off after any byte; all in little memory."""
    found = judge_configs(tmp_path, 1500)
    assert found.findings == []
    assert found.tried > 1500
    source, refused = random.Random(1), 0
    for _ in range(300):
        (tmp_path / "queues.json").write_bytes(inputs.text_of(source))
        try:
            config.load(tmp_path / "queues.json")
        except ConfigError:
            refused += 1
    assert 100 < refused < 300


def test_a_configuration_that_is_cut_anywhere_is_refused(tmp_path: pathlib.Path) -> None:
    text = json.dumps(inputs.VALID).encode()
    for length in range(len(text)):
        (tmp_path / "queues.json").write_bytes(text[:length])
        with pytest.raises(ConfigError):
            config.load(tmp_path / "queues.json")


@pytest.mark.parametrize(
    ("bug", "finding"),
    [(lambda: bytes(2 * inputs.MEMORY), "MemoryError"), (lambda: json.loads("{"), "JSONDecodeError")],
)
def test_what_reading_must_not_do_is_seen(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bug: Callable[[], object], finding: str
) -> None:
    def load_wrongly(file: pathlib.Path) -> None:
        bug()
        load(file)

    load = config.load
    monkeypatch.setattr(config, "load", load_wrongly)
    assert finding in "\n".join(judge_configs(tmp_path, 1).findings)


def test_any_name_is_itself_or_refused(queue_path: pathlib.Path) -> None:
    source = random.Random(1)
    assert inputs.judge_subscribers(queue_path, [inputs.name_of(source) for _ in range(300)]) == []


def test_any_message_comes_as_it_was_sent_or_is_refused(queue_path: pathlib.Path) -> None:
    assert inputs.judge_messages(queue_path, random.Random(1), 600) == []


def test_a_large_message_is_refused_before_anything_is_copied(queue_path: pathlib.Path) -> None:
    with Environment(queue_path) as env:
        env.new_control({"a"}, max_message_bytes=1 << 20)
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        large = bytes(64 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for size in (0, 1, (1 << 20) - 1, 1 << 20):
            pub.send(large[:size])
            message = sub.pop(timeout=0)
            assert message is not None
            assert len(message.data) == size
        for size in ((1 << 20) + 1, 64 << 20):
            with pytest.raises(MessageTooLargeError):
                pub.send(memoryview(large)[:size])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
        assert env.open_control().statistics().published == 4
