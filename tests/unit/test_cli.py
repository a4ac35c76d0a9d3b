"""The command line, each command in a process of its own or through the same function that one calls."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from persipubsub import Environment, HighWaterMark, Strategy
from persipubsub.cli import app as cli
from tests.process.support import BOUND

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


class Result:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs commands in this process, in a working directory of its own."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: object, code: int = 0) -> Result:
        self._capfd.readouterr()
        status = cli.run([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        assert status == code, (out, err)
        if code == 2:
            assert err.startswith("persipubsub: error: ")
            assert err.count("\n") == 1
        return Result(status, out, err)


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIPUBSUB_CONFIG", raising=False)
    return Shell(capfd)


@pytest.fixture
def queue(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a queue with two subscribers, and find nothing wrong with it in the end."""
    path = tmp_path / "queue"
    with Environment(path) as environment:
        environment.new_control(subscriber_ids={"a", "b"}).close()
    yield path
    with Environment(path) as environment, environment.new_control() as control:
        assert control.check() == []


def process(*arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", "persipubsub.cli", *map(str, arguments)], env=environment, **options)


def write_config(folder: pathlib.Path, document: Any) -> pathlib.Path:
    file = folder / "persipubsub.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


# -- help and wrong use ---------------------------------------------------------------------------


def test_no_command_shows_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "deploy" in capfd.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["sned"],
        ["status", "--no-such-option"],
        ["check"],
        ["send"],
        ["receive", "queue"],
        ["receive", "queue", "--subscriber", "a", "--count", "many"],
        ["receive", "queue", "--subscriber", "a", "--count", "0"],
        ["receive", "queue", "--subscriber", "a", "--all", "--follow"],
        ["check", "queue", "--queue", "frames"],
        ["check", "--queue", "frames"],
        ["check", "missing"],
        ["status", "missing"],
        ["receive", "missing", "--subscriber", "a"],
        ["send", "missing", "message"],
        ["clear", "missing", "--yes"],
        ["receive", "queue", "--subscriber", "nobody"],
        ["seek", "queue", "--subscriber", "a"],
        ["seek", "queue", "--subscriber", "a", "sometimes"],
        ["seek", "queue", "--subscriber", "a", "999"],
        ["seek", "queue", "--subscriber", "a", "first", "--back", "1"],
        ["send", "queue", "message", "--header", "nothing"],
        ["send", "queue", "message", "--delay", "-1"],
        ["send", "queue", "message", "--topic", "a..b"],
        ["send", "queue", "one", "two", "--deduplication-id", "x"],
        ["send", "queue", "--file", "missing.txt"],
        ["send", "queue", "one", "--file", "two"],
        ["subscribers", "add", "queue"],
        ["subscribers", "add", "queue", ""],
        ["subscribers", "add", "queue", "c", "d"],
        ["subscribers", "add", "queue", "a", "--lease", "3"],
        ["subscribers", "pause", "queue", "nobody"],
        ["dead-letters", "requeue", "queue", "--subscriber", "a"],
        ["dead-letters", "requeue", "queue", "--subscriber", "a", "x"],
        ["dead-letters", "list", "queue", "--subscriber", "nobody"],
        ["deploy"],
        ["deploy", "missing.json"],
        ["demo", "missing"],
        ["demo", "queue", "--directory", "queue"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line_and_status_2(shell: Shell, queue: pathlib.Path, arguments: list[str]) -> None:
    before = sorted(os.listdir(queue.parent))
    assert shell(*arguments, code=2).out == ""
    assert sorted(os.listdir(queue.parent)) == before


def test_missing_extra_is_one_line_with_the_cure() -> None:
    code = "import sys; sys.modules['typer'] = None; from persipubsub.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "persipubsub: error: the command line needs typer; install it with: pip install 'persipubsub[cli]'\n"
    )


# -- which queue ----------------------------------------------------------------------------------


def test_queue_by_name(shell: Shell, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_config(tmp_path, {"queues": {"one": {"subscribers": ["a"]}, "two": {"path": "deep/two"}}})
    shell("deploy")
    assert shell("send", "--queue", "one", "by name").out == "1\n"
    assert "all is well" in shell("check", "--queue", "two").out
    assert "it has: one, two" in shell("check", "--queue", "three", code=2).err
    assert "one, two" in shell("check", "--config", file, code=2).err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert "persipubsub.json" in shell("check", "--queue", "one", code=2).err
    assert shell("send", "--config", file, "--queue", "one", "by file").out == "2\n"
    monkeypatch.setenv("PERSIPUBSUB_CONFIG", str(file))
    assert shell("receive", "--queue", "one", "--subscriber", "a", "--all").out == "by name\nby file\n"
    assert shell("status", "--json").json()["queues"].keys() == {"one", "two"}


def test_bad_config_shows_the_field(shell: Shell, tmp_path: pathlib.Path) -> None:
    write_config(tmp_path, {"queues": {"one": {"lock_timeout": True}}})
    assert "error: $.queues.one.lock_timeout: Expected" in shell("deploy", code=2).err
    assert sorted(os.listdir(tmp_path)) == ["persipubsub.json"]


# -- deploy and status ----------------------------------------------------------------------------


def test_deploy_shows_the_plan_and_does_it(shell: Shell, tmp_path: pathlib.Path) -> None:
    file = write_config(tmp_path, {"queues": {"one": {"subscribers": ["a", "b"]}, "two": {}}})
    dry = shell("deploy", file, "--dry-run", code=1)
    assert "create" in dry.out
    assert not (tmp_path / "queues").exists()
    assert shell("deploy", file).out == dry.out
    assert shell("deploy", file, "--dry-run").out.count("unchanged") == 4
    write_config(tmp_path, {"queues": {"one": {"subscribers": ["a"], "strategy": "reject"}}})
    plan = shell("deploy", "--json").json()
    assert [(row["action"], row["queue"], row["subscriber"]) for row in plan["rows"]] == [
        ("change", "one", None),
        ("unchanged", "one", "a"),
        ("would remove", "one", "b"),
        ("would remove", "two", None),
    ]
    assert plan["rows"][0]["details"] == ["strategy: prune_first -> reject"]
    assert "would remove" in shell("deploy", "--dry-run").out
    assert "remove" in shell("deploy", "--dry-run", "--prune", code=1).out
    shell("deploy", "--prune")
    assert os.listdir(tmp_path / "queues") == ["one"]
    assert list(shell("subscribers", "list", "--queue", "one", "--json").json()) == ["a"]


def test_deploy_takes_its_file_once(shell: Shell, tmp_path: pathlib.Path) -> None:
    file = write_config(tmp_path, {"queues": {"one": {}}})
    assert shell("deploy", "--config", file, "--dry-run", "--json", code=1).json()["rows"][0]["action"] == "create"
    shell("deploy", file, "--config", file, code=2)


def test_deploy_of_no_queues_says_so(shell: Shell, tmp_path: pathlib.Path) -> None:
    write_config(tmp_path, {"queues": {}})
    assert "no queues" in shell("deploy").out


def test_status_counts(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "one", "two", "three")
    with Environment(queue) as environment, environment.new_subscriber("a") as subscriber:
        held = subscriber.get(timeout=0)
        assert held is not None
        document = shell("status", queue, "--json").json()["queues"][str(queue)]
        table = shell("status", queue).out
    assert document["messages"] == document["published"] == 3
    a = next(row for row in document["subscribers"] if row["identifier"] == "a")
    assert (a["waiting"], a["leased"], a["lag"]) == (2, 1, 3)
    assert a["owners"][0]["pid"] == os.getpid()
    assert "3 messages" in table
    assert f"({os.getpid()}): 1" in table
    assert "\x1b" not in table


def test_status_of_what_is_not_deployed_yet(shell: Shell, tmp_path: pathlib.Path) -> None:
    write_config(tmp_path, {"queues": {"one": {}}})
    shell("deploy")
    write_config(tmp_path, {"queues": {"one": {}, "two": {}}})
    assert "two is not deployed" in shell("status").out
    assert shell("status", "--json").json()["queues"]["two"]["deployed"] is False


def test_status_watch_goes_on_until_ctrl_c(queue: pathlib.Path) -> None:
    with process("status", queue, "--json", "--watch", "--interval", 0.1, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        for _ in range(3):
            assert json.loads(watching.stdout.readline())["queues"][str(queue)]["messages"] == 0
        watching.send_signal(signal.SIGINT)
        assert watching.wait(BOUND) == 130


def test_status_watch_shows_rates(shell: Shell, queue: pathlib.Path) -> None:
    def look() -> Any:
        assert watching.stdout is not None
        return json.loads(watching.stdout.readline())["queues"][str(queue)]

    with (
        Environment(queue) as environment,
        process("status", queue, "--json", "--watch", "--interval", 0.1, stdout=subprocess.PIPE) as watching,
    ):
        assert look()["rate_in"] is None  # there is nothing to compare with
        environment.new_publisher().send(b"message")
        assert environment.new_subscriber("a").pop(timeout=0) is not None
        looks = [look()]
        while not any(one["rate_in"] for one in looks) or not any(one["subscribers"][0]["rate_out"] for one in looks):
            looks.append(look())
        assert {one["subscribers"][1]["rate_out"] for one in looks} == {0.0}
        watching.send_signal(signal.SIGINT)
        assert watching.wait(BOUND) == 130
    assert "rate_in" not in shell("status", queue, "--json").json()["queues"][str(queue)]


def test_status_watch_on_a_terminal(queue: pathlib.Path) -> None:
    parent, child = pty.openpty()
    with process("status", queue, "--watch", "--interval", 0.1, stdout=child, stderr=child) as watching:
        os.close(child)
        shown = b""
        while (
            shown.count(b"published") < 3 or b"0/s" not in shown or b"out/s" not in shown
        ):  # a short word: what is longer may be wrapped
            shown += os.read(parent, 65536)
        watching.send_signal(signal.SIGINT)
        while _read(parent):
            pass
        assert watching.wait(BOUND) == 130
    os.close(parent)


def test_status_on_a_terminal_has_colours(queue: pathlib.Path) -> None:
    parent, child = pty.openpty()
    with process("status", queue, stdout=child, stderr=child) as showing:
        os.close(child)
        shown = b""
        while chunk := _read(parent):
            shown += chunk
        assert showing.wait(BOUND) == 0
    os.close(parent)
    assert b"\x1b[1m" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


# -- send and receive -----------------------------------------------------------------------------


def test_send_and_receive_arguments(shell: Shell, queue: pathlib.Path) -> None:
    assert shell("send", queue, "grüezi", "", "--header", "k=v=w", "--topic", "x.y").out == "1\n2\n"
    assert shell("send", queue, "--quiet", "--", "--dashes").out == ""
    first = shell("receive", queue, "--subscriber", "a", "--json").json()
    assert (first["id"], first["data"], first["headers"], first["topic"]) == (1, "grüezi", {"k": "v=w"}, "x.y")
    assert first["delivery_count"] == 1
    assert shell("receive", queue, "-s", "a", "--all").out == "\n--dashes\n"
    assert shell("receive", queue, "-s", "a", "--timeout", 0, code=1).out == ""
    assert shell("receive", queue, "-s", "b", "--count", 4, "--timeout", 0, code=1).out == "grüezi\n\n--dashes\n"


def test_json_carries_bytes_that_are_no_text(shell: Shell, queue: pathlib.Path) -> None:
    with Environment(queue) as environment:
        environment.new_publisher().send(b"\xff\x00", headers={"raw": b"\xfe", "text": b"t"})
    document = shell("receive", queue, "-s", "a", "--json").json()
    assert document["base64"] == "/wA="
    assert document["headers"] == {"raw": {"base64": "/g=="}, "text": "t"}


def test_send_lines_of_stdin(queue: pathlib.Path) -> None:
    with process("send", queue, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sending:
        assert sending.stdin is not None
        assert sending.stdout is not None
        sending.stdin.write(b"first\n\xffsec")
        sending.stdin.flush()
        # A line is sent when it is there, not when the input ends.
        assert sending.stdout.readline() == b"1\n"
        sending.stdin.write(b"ond\n\nlast")
        sending.stdin.close()
        assert sending.stdout.read() == b"2\n3\n4\n"
        assert sending.wait(BOUND) == 0
    with process("receive", queue, "-s", "a", "--all", stdout=subprocess.PIPE) as receiving:
        assert receiving.stdout is not None
        assert receiving.stdout.read() == b"first\n\xffsecond\n\nlast\n"
        assert receiving.wait(BOUND) == 0


def test_more_lines_than_the_queue_holds_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "small"
    with Environment(path) as environment:
        environment.new_control(subscriber_ids={"a"}, high_water_mark=HighWaterMark(max_messages=5)).close()
    with process("send", path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sending:
        out, _ = sending.communicate(b"".join(b"%d\n" % number for number in range(12)), timeout=BOUND)
        assert sending.returncode == 0
    assert len(out.splitlines()) == 12


def test_send_and_receive_files(shell: Shell, queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "one.bin").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "two.bin").write_bytes(b"")
    assert shell("send", queue, "--file", "one.bin", "-f", tmp_path / "two.bin").out == "1\n2\n"
    listed = shell("receive", queue, "-s", "a", "--all", "--folder", "received").out.splitlines()
    assert listed == [f"received/{number:020}" for number in (1, 2)]
    assert (tmp_path / listed[0]).read_bytes() == (tmp_path / "one.bin").read_bytes()
    assert (tmp_path / listed[1]).read_bytes() == b""
    assert len(os.listdir(tmp_path / "received")) == 2
    documents = [
        json.loads(line)
        for line in shell("receive", queue, "-s", "b", "--all", "--folder", "more", "--json").out.splitlines()
    ]
    assert [document["headers"]["filename"] for document in documents] == ["one.bin", "two.bin"]
    assert documents[0]["file"] == f"more/{1:020}"


def test_what_cannot_be_written_is_not_acknowledged(shell: Shell, queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shell("send", queue, "kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f"{1:020}").mkdir()
    shell("receive", queue, "-s", "a", "--folder", "folder", code=2)
    assert shell("receive", queue, "-s", "a", "--timeout", 0).out == "kept\n"


def test_send_options(shell: Shell, queue: pathlib.Path) -> None:
    assert shell("send", queue, "once", "--deduplication-id", "x").out == "1\n"
    assert shell("send", queue, "twice", "--deduplication-id", "x").out == "1\n"
    shell("send", queue, "later", "--delay", 1000)
    shell("send", queue, "never", "--expires-in", 0.000001)
    assert shell("receive", queue, "-s", "a", "--all").out == "once\n"


def test_full_queue_is_status_1(shell: Shell, tmp_path: pathlib.Path) -> None:
    with Environment(tmp_path / "small") as environment:
        environment.new_control({"a"}, HighWaterMark(max_messages=1), Strategy.REJECT).close()
    assert shell("send", "small", "one").out == "1\n"
    assert shell("send", "small", "two", code=1).err.startswith("persipubsub: error: ")


def test_receive_follows_until_ctrl_c(shell: Shell, queue: pathlib.Path) -> None:
    with process("receive", queue, "-s", "a", "--follow", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        for text in ("one", "two"):
            shell("send", queue, text)
            assert following.stdout.readline().decode() == f"{text}\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(BOUND) == 130
        assert following.stderr.read() == b""


def test_broken_pipe_is_quiet_and_acknowledges_nothing_unwritten(shell: Shell, queue: pathlib.Path) -> None:
    with Environment(queue) as environment:
        environment.new_publisher().send_many([b"x" * 100_000] * 20)
    with process("receive", queue, "-s", "a", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as receiving:
        assert receiving.stdout is not None
        assert receiving.stderr is not None
        receiving.stdout.read(1)
        receiving.stdout.close()
        assert receiving.stderr.read() == b""
        assert receiving.wait(BOUND) == 141
    document = shell("status", queue, "--json").json()["queues"][str(queue)]
    a = next(row for row in document["subscribers"] if row["identifier"] == "a")
    assert a["waiting"] + a["delayed"] + a["leased"] == a["lag"] >= 15


# -- looking and moving ---------------------------------------------------------------------------


def test_tail_leaves_no_trace(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, *(f"m{number}" for number in range(1, 13)))
    assert shell("tail", queue).out.split() == [f"m{number}" for number in range(3, 13)]
    assert shell("tail", queue, "--count", 2).out == "m11\nm12\n"
    assert shell("tail", queue, "--start", "first", "-n", 1).out == "m1\n"
    assert shell("tail", queue, "--start", "latest").out == ""
    assert shell("tail", queue, "--start", "2001-01-01T00:00+00:00", "-n", 1).out == "m1\n"
    assert [json.loads(line)["id"] for line in shell("tail", queue, "--start", 11, "--json").out.splitlines()] == [
        11,
        12,
    ]
    shell("tail", queue, "--start", "soon", code=2)
    assert shell("receive", queue, "-s", "a").out == "m1\n"


def test_tail_follows(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "before")
    with process("tail", queue, "--follow", stdout=subprocess.PIPE) as tailing:
        assert tailing.stdout is not None
        assert tailing.stdout.readline() == b"before\n"
        shell("send", queue, "after")
        assert tailing.stdout.readline() == b"after\n"
        tailing.send_signal(signal.SIGINT)
        assert tailing.wait(BOUND) == 130


def test_seek_moves_a_subscriber(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "m1", "m2", "m3")
    assert shell("receive", queue, "-s", "a", "--all").out == "m1\nm2\nm3\n"
    shell("seek", queue, "-s", "a", "first")
    assert shell("receive", queue, "-s", "a").out == "m1\n"
    shell("seek", queue, "-s", "a", "3")
    assert shell("receive", queue, "-s", "a").out == "m3\n"
    shell("seek", queue, "-s", "a", "--back", 2)
    assert shell("receive", queue, "-s", "a").out == "m2\n"
    shell("seek", queue, "-s", "a", "2001-01-01")
    assert shell("receive", queue, "-s", "a").out == "m1\n"
    shell("seek", queue, "-s", "a", "latest")
    shell("receive", queue, "-s", "a", "--timeout", 0, code=1)


# -- administration -------------------------------------------------------------------------------


def test_subscribers(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "old")
    shell("subscribers", "add", queue, "c", "--start", "first", "--lease", 3, "--max-deliveries", 0)
    shell("subscribers", "add", queue, "c")
    shell("subscribers", "add", queue, "d", "--topic-filter", "x.>")
    listed = shell("subscribers", "list", queue, "--json").json()
    assert listed["c"] == {
        "lease": 3.0,
        "max_deliveries": None,
        "topic_filter": None,
        "ephemeral": False,
        "paused": False,
    }
    assert listed["d"]["topic_filter"] == "x.>"
    shell("subscribers", "pause", queue, "c")
    assert "paused" in shell("subscribers", "list", queue).out
    shell("receive", queue, "-s", "c", "--timeout", 0, code=1)
    shell("subscribers", "resume", queue, "c")
    assert shell("receive", queue, "-s", "c", "--timeout", 0).out == "old\n"
    shell("subscribers", "remove", queue, "c")
    shell("subscribers", "remove", queue, "c", code=1)
    assert set(shell("subscribers", "list", queue, "--json").json()) == {"a", "b", "d"}


def test_dead_letters(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "one", "two", "three")
    with Environment(queue) as environment, environment.new_subscriber("a") as subscriber:
        for message in subscriber.get_many(3, timeout=0):
            message.reject("too dark")
    lines = shell("dead-letters", "list", queue, "-s", "a", "--json").out.splitlines()
    assert [(json.loads(line)["data"], json.loads(line)["reason"]) for line in lines] == [
        ("one", "too dark"),
        ("two", "too dark"),
        ("three", "too dark"),
    ]
    assert "too dark" in shell("dead-letters", "list", queue, "-s", "a").out
    assert shell("dead-letters", "requeue", queue, "-s", "a", "2").out == "requeued 1 messages\n"
    assert shell("receive", queue, "-s", "a", "--all").out == "two\n"
    assert shell("dead-letters", "discard", queue, "-s", "a", "--all").out == "discarded 2 messages\n"
    shell("dead-letters", "discard", queue, "-s", "a", "--all", code=1)


def test_prune(shell: Shell, queue: pathlib.Path) -> None:
    assert shell("prune", queue).out == "dropped 0 messages\n"


def test_clear_asks(shell: Shell, queue: pathlib.Path) -> None:
    shell("send", queue, "one", "two")
    with process("clear", queue, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as asking:
        assert asking.stderr is not None
        assert b"--yes" in asking.stderr.read()
        assert asking.wait(BOUND) == 2
    assert shell("clear", queue, "--subscriber", "a", "--yes").out == "dropped 2 messages of 'a'\n"
    shell("receive", queue, "-s", "a", "--timeout", 0, code=1)
    assert shell("receive", queue, "-s", "b").out == "one\n"
    shell("clear", queue, "--yes")
    assert shell("subscribers", "list", queue, "--json").json() == {}


@pytest.mark.parametrize(("answer", "left", "code"), [(b"n\n", {"a", "b"}, 1), (b"y\n", set(), 0)])
def test_clear_takes_the_answer(shell: Shell, queue: pathlib.Path, answer: bytes, left: set[str], code: int) -> None:
    parent, child = pty.openpty()
    with process("clear", queue, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        os.write(parent, answer)
        assert asking.wait(BOUND) == code
    os.close(child)
    os.close(parent)
    assert set(shell("subscribers", "list", queue, "--json").json()) == left


def test_delete(shell: Shell, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    with Environment(path) as environment:
        environment.new_control({"a"})
        assert "--yes" in shell("delete", path, code=2).err
        assert "has it open" in shell("delete", path, "--yes", code=1).err
        assert path.exists()
        assert shell("delete", path, "--yes", "--force", "--json").json() == {"deleted": str(path)}
    assert not path.exists()
    shell("delete", path, "--yes", code=2)
    path.mkdir()
    (path / "mine").write_text("mine")
    shell("delete", path, "--yes", "--force", code=2)
    assert (path / "mine").exists()


def test_check_says_what_is_wrong(shell: Shell, queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert shell("check", queue).out == "all is well\n"
    assert shell("check", queue, "--json").json() == {"findings": []}
    other = tmp_path / "other"
    with Environment(other) as environment:
        environment.new_control({"a"}).close()
        environment.new_publisher().send(b"a payload to be damaged")
    data = (other / "data.mdb").read_bytes()
    assert data.count(b"a payload to be damaged") >= 1
    (other / "data.mdb").write_bytes(data.replace(b"a payload to be damaged", b"a payload that is other"))
    assert ": " in shell("check", other, code=1).out
    assert shell("check", other, "--json", code=1).json()["findings"]
