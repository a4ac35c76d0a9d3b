"""Configurations, names and messages of any kind: taken as they are, or refused by an error of ours."""

import json
import pathlib
import random
import resource

import pytest

from persipubsub import ConfigError, Environment, MessageTooLargeError, config
from tests.faults import inputs


def test_a_random_configuration_is_read_or_refused(tmp_path: pathlib.Path) -> None:
    source = random.Random(1)
    refused = 0
    for _ in range(3000):
        text = inputs.text_of(source)
        wrong = inputs.judge_config(tmp_path / "queues.json", text)
        assert not wrong, (wrong, text[:500])
        try:
            config.load(tmp_path / "queues.json")
        except ConfigError:
            refused += 1
    assert 1000 < refused < 3000


def test_a_configuration_that_is_cut_anywhere_is_refused(tmp_path: pathlib.Path) -> None:
    text = json.dumps(inputs.VALID).encode()
    for length in range(len(text)):
        (tmp_path / "queues.json").write_bytes(text[:length])
        with pytest.raises(ConfigError):
            config.load(tmp_path / "queues.json")


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
