"""A process that dies with messages in its hands is told of, once."""

import logging
import pathlib
import sys

import pytest

from persipubsub import Environment
from tests.process.support import BOUND, Children, get, open_subscriber


def test_a_takeover_is_one_record(
    path: pathlib.Path, env: Environment, children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    env.new_publisher().send_many([b"one", b"two"])
    idle, busy = children.new(), children.new()
    for child in (idle, busy):
        child.do(open_subscriber, path)
    assert busy.do(get, 0) is not None
    assert idle.do(get, 0) is not None
    with env.new_subscriber("sub") as sub, caplog.at_level(logging.DEBUG, "persipubsub"):
        assert sub.get(timeout=0) is None
        assert caplog.records == []
        pid = busy.pid
        busy.kill()
        message = sub.get(timeout=BOUND)
        assert message is not None
        assert message.data == b"one"
        assert sub.get(timeout=0) is None
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        found = {name: getattr(record, name) for name in ("event", "queue", "subscriber", "messages", "owner_pid")}
        assert found == {
            "event": "takeover",
            "queue": str(path),
            "subscriber": "sub",
            "messages": 1,
            "owner_pid": pid,
        }
        assert pathlib.Path(sys.executable).name in record.__dict__["owner_command"]
        # One that dies without holding anything is no news.
        message.ack()
        caplog.clear()
        owner = children.new()
        owner.do(open_subscriber, path)
        owner.do(get, 0)
        owner.kill()
        assert sub.get(timeout=0.1) is None
        assert caplog.records == []
