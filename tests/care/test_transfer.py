"""Exports and imports: everything there and back, wholly or not at all."""

import datetime
import io
import json
import pathlib
from typing import Any

import pytest

from persipubsub import (
    Environment,
    FormatVersionError,
    HighWaterMark,
    MessageError,
    QueueExistsError,
    QueueFullError,
    Retention,
    SettingsError,
    Strategy,
    care,
)
from tests.care.support import deliveries, left_over, picture


def export(queue: pathlib.Path) -> bytes:
    stream = io.BytesIO()
    with Environment(queue) as env:
        env.open_control().export(stream)
    return stream.getvalue()


def test_there_and_back(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    seen: list[int] = []
    written = export(queue)
    done = care.import_queue(io.BytesIO(written), tmp_path / "new", progress=seen.append)
    assert picture(tmp_path / "new") == picture(queue)
    assert done.messages == len(picture(queue)["messages"]) == seen[-1]
    with Environment(queue) as old, Environment(tmp_path / "new") as new:
        assert old.open_control().statistics().identity != new.open_control().statistics().identity
        # Ids go on where they stood, so that nothing new takes an old one's.
        assert new.new_publisher().send(b"next") == old.new_publisher().send(b"next")
    assert deliveries(tmp_path / "new", "a") == deliveries(queue, "a")
    assert deliveries(tmp_path / "new", "b") == deliveries(queue, "b")


def test_what_is_held_comes_back(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Environment(queue) as env, env.new_subscriber("a") as a:
        held = a.get_many(2, timeout=0)
        with a.receive_to_top(timeout=0) as newest:
            care.import_queue(io.BytesIO(export(queue)), tmp_path / "new")
    found = deliveries(tmp_path / "new", "a")
    assert [(message_id, count) for message_id, _, count, _ in found[:2]] == [(message.id, 2) for message in held]
    # What was taken ahead of the others waits at its place again.
    assert found[-1][1:3] == (newest, 1)
    assert [message_id for message_id, *_ in found] == sorted(message_id for message_id, *_ in found)


def test_lines_are_for_people_and_scripts(queue: pathlib.Path) -> None:
    lines = [json.loads(line) for line in export(queue).splitlines()]
    kinds = [line["is"] for line in lines]
    assert (kinds[0], kinds[-1]) == ("queue", "end")
    first = next(line for line in lines if line["is"] == "message" and line.get("text") == "text")
    assert first["headers"] == {"number": "1"}
    assert first["binary_headers"] == {"raw": "/g=="}
    assert first["topic"] == "x.y"
    assert any(line.get("base64") == "/wAgYnl0ZXM=" for line in lines)


def test_a_queue_in_use(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What is acknowledged while an export runs does not matter to it, and what is sent meanwhile is in it."""
    with Environment(queue) as env:
        env.new_publisher().send_many([b"more"] * 2000)
        control = env.open_control()

        def meanwhile(number: int) -> None:
            control.purge("a")
            control.purge("b")
            env.new_publisher().send(b"sent meanwhile")

        stream = io.BytesIO()
        control.export(stream, meanwhile)
    stream.seek(0)
    care.import_queue(stream, tmp_path / "new")
    new = picture(tmp_path / "new")
    assert new["subscribers"]["c"][1] >= 2000
    assert new["messages"][-1][1] == b"sent meanwhile"


@pytest.mark.parametrize("part", ["line", "end", "half a line", "subscriber"])
def test_a_cut_export_makes_nothing(queue: pathlib.Path, tmp_path: pathlib.Path, part: str) -> None:
    lines = export(queue).splitlines(keepends=True)
    cut = {
        "line": lines[:5],
        "end": lines[:-1],
        "half a line": [*lines[:5], lines[5][:20]],
        "subscriber": [line for line in lines if not line.startswith(b'{"is":"subscriber"')],
    }[part]
    with pytest.raises(MessageError, match=r"nothing was created|cut off"):
        care.import_queue(io.BytesIO(b"".join(cut)), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert left_over(tmp_path) == []


def _changed(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


def test_what_is_no_export(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    lines = export(queue).splitlines(keepends=True)
    for wrong in (b"", b"hello\n", b"{}\n", lines[1], b"\xff\n", _changed(lines[0], version="x")):
        with pytest.raises(MessageError, match="no export"):
            care.import_queue(io.BytesIO(wrong), tmp_path / "new")
    with pytest.raises(FormatVersionError, match="upgrade"):
        care.import_queue(io.BytesIO(_changed(lines[0], version=2, more=1)), tmp_path / "new")
    for number, wrong in ((2, _changed(lines[1], id=-1)), (2, _changed(lines[1], id="1")), (3, lines[1])):
        with pytest.raises(MessageError, match=r"nothing was created|Line 3"):
            care.import_queue(io.BytesIO(b"".join([*lines[:number], wrong, *lines[number:]])), tmp_path / "new")
    with pytest.raises(MessageError):
        care.import_queue(io.BytesIO(b"".join(lines) + lines[-1]), tmp_path / "new")
    with pytest.raises(QueueExistsError):
        care.import_queue(io.BytesIO(b"".join(lines)), queue)
    assert not (tmp_path / "new").exists()


def test_other_subscribers(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    care.import_queue(io.BytesIO(export(queue)), tmp_path / "new", subscribers=["x"])
    assert len(deliveries(tmp_path / "new", "x")) == len(picture(queue)["messages"]) - 1  # one is delayed
    with pytest.raises(SettingsError, match="subscribers"):
        care.import_queue(io.BytesIO(export(queue)), tmp_path / "none", subscribers=[])
    assert not (tmp_path / "none").exists()
    with Environment(queue) as env:
        env.open_control().configure(retention=Retention.LOG)
    care.import_queue(io.BytesIO(export(queue)), tmp_path / "log", subscribers=[])
    assert picture(tmp_path / "log")["messages"] == picture(queue)["messages"]


def test_messages_for_another_queue(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    written = export(queue)
    number = len(picture(queue)["messages"])
    with Environment(tmp_path / "other") as env:
        env.new_control({"x"})
        env.new_publisher().send(b"before")
        seen: list[int] = []
        done = care.import_messages(io.BytesIO(written), env, progress=seen.append)
        assert (done.messages, done.known, done.expired, seen) == (number, 0, 0, [number])
        again = care.import_messages(io.BytesIO(written), env)
        assert (again.messages, again.known) == (0, number)
    messages = picture(tmp_path / "other")["messages"]
    assert [message[1:4] for message in messages[1:]] == [message[1:4] for message in picture(queue)["messages"]]
    # What was to be delayed still is.
    assert len(deliveries(tmp_path / "other", "x")) == number


def test_an_interrupted_import_goes_on(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Environment(queue) as env:
        env.new_publisher().send_many([b"m%d" % number for number in range(1200)])
    written = export(queue)
    number = len(picture(queue)["messages"])

    def interrupt(done: int) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    with Environment(tmp_path / "other") as env:
        control = env.new_control({"x"})
        with pytest.raises(KeyboardInterrupt):
            care.import_messages(io.BytesIO(written), env, progress=interrupt)
        assert control.statistics().messages == 1000
        done = care.import_messages(io.BytesIO(written), env)
        assert (done.messages, done.known) == (number - 1000, 1000)
    assert [m[1] for m in picture(tmp_path / "other")["messages"]] == [m[1] for m in picture(queue)["messages"]]
    lines = written.splitlines(keepends=True)
    with Environment(tmp_path / "third") as env:
        env.new_control({"x"})
        with pytest.raises(MessageError, match="cut off"):
            care.import_messages(io.BytesIO(b"".join(lines[:-1])), env)


def test_what_expired_and_what_does_not_fit(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    lines = export(queue).splitlines(keepends=True)
    soon = [_changed(line, expires_ns=1) if json.loads(line).get("text") == "expiring" else line for line in lines]
    with Environment(tmp_path / "other") as env:
        env.new_control({"x"})
        done = care.import_messages(io.BytesIO(b"".join(soon)), env)
        assert done.expired == 1
        assert b"expiring" not in [message.data for message in env.browse()]
    with Environment(tmp_path / "small") as env:
        control = env.new_control({"x"}, HighWaterMark(max_messages=2), Strategy.REJECT)
        with pytest.raises(QueueFullError):
            care.import_messages(io.BytesIO(b"".join(lines)), env)
        assert control.statistics().messages == 0


def test_times_are_kept(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    care.import_queue(io.BytesIO(export(queue)), tmp_path / "new")
    moment = picture(tmp_path / "new")["messages"][0][4]
    assert isinstance(moment, datetime.datetime)
    with Environment(tmp_path / "new") as env:
        assert next(env.browse(moment)).sent == moment
