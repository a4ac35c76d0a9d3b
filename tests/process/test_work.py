"""``persipubsub work``: processes that are kept alive, and that stop gracefully."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from persipubsub import Environment
from tests.process.support import BOUND, state_of, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: Handlers as a program has them: they write down what they did; a message may ask for more.
HANDLERS = """
import asyncio, os, pathlib

from tests.process.support import wait_until

def note(what):
    with open("notes", "a") as stream:
        stream.write(f"{os.getpid()} {what}\\n")

def handle(message):
    text = message.data.decode()
    note(f"began {text}")
    if text == "wait":
        wait_until(pathlib.Path("go").exists, "it may go on")
    if text == "die" and message.delivery_count == 1:
        os._exit(3)
    note(f"ended {text}")

async def handle_async(message):
    note(f"began {message.data.decode()}")
    await asyncio.sleep(0)
    note(f"ended {message.data.decode()}")

async def hang(message):
    note("began hang")
    await asyncio.Event().wait()
"""


class Work:
    """A running ``persipubsub work``."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "persipubsub.cli", "work", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.printed = ""

    def notes(self) -> list[list[str]]:
        """Return what the handlers wrote: process id, "began" or "ended", and the message."""
        with contextlib.suppress(FileNotFoundError):
            return [line.split() for line in (self.folder / "notes").read_text().splitlines()]
        return []

    def done(self, what: str) -> set[str]:
        return {note[2] for note in self.notes() if note[1] == what}

    def pids(self) -> set[int]:
        return {int(note[0]) for note in self.notes()}

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Stop it; return what it said."""
        self.process.send_signal(number)
        self.printed, said = self.process.communicate(timeout=BOUND)
        return said


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Return a working directory with a deployed queue and handlers; at the end nothing is leased."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    document = {"root": "queues", "queues": {"jobs": {"subscribers": ["worker"]}}}
    (tmp_path / "persipubsub.json").write_text(json.dumps(document))
    with Environment(tmp_path / "queues" / "jobs") as env:
        (tmp_path / "queues").mkdir()
        control = env.new_control({"worker"})
        yield tmp_path
        assert control.check() == []


def arguments(handler: str, *more: str) -> list[str]:
    return [handler, "--config", "persipubsub.json", "--queue", "jobs", "--subscriber", "worker", *more]


def is_alive(pid: int) -> bool:
    try:
        return state_of(pid) != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handler", ["handlers:handle", "handlers:handle_async"])
def test_handles_and_stops(folder: pathlib.Path, handler: str, number: signal.Signals) -> None:
    with Environment(folder / "queues" / "jobs") as env:
        env.new_publisher().send_many([str(each).encode() for each in range(20)])
        work = Work(folder, *arguments(handler, "--processes", "2", "--concurrency", "3"))
        wait_until(lambda: len(work.done("ended")) == 20, "all are handled")
        said = work.end(number)
        assert work.process.returncode == 0
        assert said.count("started worker") == 2
        assert "Traceback" not in said
        assert env.open_control().statistics().subscribers[0].lag == 0
        wait_until(lambda: not any(map(is_alive, work.pids())), "nobody is left")


def test_stop_lets_the_handler_finish(folder: pathlib.Path) -> None:
    with Environment(folder / "queues" / "jobs") as env:
        env.new_publisher().send(b"wait")
        work = Work(folder, *arguments("handlers:handle"))
        wait_until(lambda: work.done("began"), "it is being handled")
        work.process.send_signal(signal.SIGTERM)
        (folder / "go").touch()
        work.end()
        assert work.done("ended") == {"wait"}
        figures = env.open_control().statistics().subscribers[0]
        assert (figures.settled, figures.redelivered) == (1, 0)


def test_what_does_not_finish_in_time_is_given_back(folder: pathlib.Path) -> None:
    with Environment(folder / "queues" / "jobs") as env:
        env.new_publisher().send(b"hang")
        work = Work(folder, *arguments("handlers:hang", "--grace", "0"))
        wait_until(lambda: work.done("began"), "it is being handled")
        work.end()
        assert work.process.returncode == 0
        with env.new_subscriber("worker").receive_message(timeout=BOUND) as message:
            assert message is not None
            assert message.delivery_count == 2


def test_who_dies_is_replaced(folder: pathlib.Path) -> None:
    with Environment(folder / "queues" / "jobs") as env:
        pub = env.new_publisher()
        work = Work(folder, *arguments("handlers:handle"))
        pub.send(b"die")
        wait_until(lambda: work.done("ended") == {"die"}, "another one handles it")
        pub.send(b"one")
        wait_until(lambda: "one" in work.done("ended"), "the work goes on")
        last = int(work.notes()[-1][0])
        os.kill(last, signal.SIGKILL)
        pub.send(b"two")
        wait_until(lambda: "two" in work.done("ended"), "the work goes on again")
        said = work.end()
        assert "ended with status 3" in said
        assert "was killed by SIGKILL" in said
        assert said.count("started worker") == 3
        assert env.open_control().statistics().subscribers[0].lag == 0


def test_workers_end_with_their_supervisor(folder: pathlib.Path) -> None:
    with Environment(folder / "queues" / "jobs") as env:
        env.new_publisher().send(b"one")
        work = Work(folder, *arguments("handlers:handle_async", "--processes", "2"))
        wait_until(lambda: work.done("ended"), "one is handled")
        work.process.kill()
        work.process.communicate(timeout=BOUND)
        wait_until(lambda: not any(map(is_alive, work.pids())), "nobody is left")


@pytest.mark.parametrize(
    ("handler", "more", "expected"),
    [
        ("handlers", [], "module:function"),
        ("nowhere:handle", [], "cannot be imported"),
        ("handlers:nothing", [], "no function 'nothing'"),
        ("handlers:handle", ["--subscriber", "nobody"], "no subscriber 'nobody'"),
        ("handlers:handle", ["--queue", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said_once(folder: pathlib.Path, handler: str, more: list[str], expected: str) -> None:
    work = Work(folder, *arguments(handler, *more))
    _, said = work.process.communicate(timeout=BOUND)
    assert work.process.returncode == 2
    assert expected in said
    assert len(said.splitlines()) == 1


def test_json_tells_of_every_process(folder: pathlib.Path) -> None:
    """A script reads who started, died and stopped; people are not told twice."""
    with Environment(folder / "queues" / "jobs") as env:
        env.new_publisher().send_many([b"die", b"one"])
        # The only queue of the deployment file here need not be named.
        work = Work(folder, "handlers:handle", "--subscriber", "worker", "--json")
        wait_until(lambda: work.done("ended") == {"die", "one"}, "both are handled")
        said = work.end()
    events = [json.loads(line) for line in work.printed.splitlines()]
    assert [event["event"] for event in events] == ["started", "died", "started", "stopped"]
    assert [event["pid"] for event in events[:2]] == [events[0]["pid"]] * 2
    assert events[1]["status"] == 3
    assert events[1]["follows"] > 0
    assert events[3]["status"] == 0
    assert "started worker" not in said
