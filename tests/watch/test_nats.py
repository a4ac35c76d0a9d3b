"""Queues on a real nats-server, watched and handled like any other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Static

from persipubsub import Durability, Environment
from persipubsub.cli import app as cli
from persipubsub.watch.sampling import State
from persipubsub.watch.source import Source
from persipubsub.watch.watching import Watch
from tests.jetstream.servers import Server, running
from tests.process.support import BOUND, wait_until
from tests.watch.serving import ask, serving
from tests.watch.test_top import Top, run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", 'authorization { user: u, password: "secret" }') as server:
        yield server


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """Return the URL of a queue with five messages: one is dead for its only subscriber, one is held."""
    url = f"nats://u:secret@127.0.0.1:{server.port}/orders?ack_wait=30"
    with Environment(url) as environment:
        environment.new_control({"worker"}, durability=Durability.PROCESS)
        environment.new_publisher().send_many([b'{"order": 1}', b"plain", b"three", b"four", b"five"])
        worker = environment.new_subscriber("worker")
        message = worker.get(timeout=BOUND)
        assert message is not None
        message.reject("card declined")
        assert worker.get(timeout=BOUND) is not None
        yield url


def test_it_is_read_and_changed(url: str, server: Server) -> None:
    source = Source("orders", url)
    watch = Watch([source])
    (view,) = watch.sample(BOUND)
    assert (view.state, view.published, view.free_bytes) == (State.OK, 5, None)
    assert "secret" not in view.location
    (worker,) = view.subscribers
    assert (worker.lag, worker.dead) == (4, 1)
    assert [message.data for message in source.last_messages(2)] == [b"five", b"four"]
    (letter,) = source.dead_letters()
    assert letter.reason == "card declined"
    assert source.requeue("worker", [letter.id]) == 1
    assert source.dead_letters() == []
    server.pause()
    (view,) = watch.sample(0.5)
    assert (view.state, view.published) == (State.BUSY, 5)
    server.go_on()
    wait_until(lambda: watch.sample(1.0)[0].state is State.OK, "it answers again")
    watch.close()


def test_a_deployment_file_leads_there(url: str, server: Server, tmp_path: Path) -> None:
    """A pathlib.Path takes the slashes of a URL for one; the queue stays open between two looks nevertheless."""
    source = Source("orders", Path(url))
    assert source.read().published == 5
    assert source._environment is not None
    assert source.location == f"nats://127.0.0.1:{server.port}/orders"
    source.close()


def test_top_shows_it(url: str, tmp_path: Path) -> None:
    async def test(top: Top) -> None:
        await top.shows("orders", "  worker", "published")
        await top.press("enter")
        await top.shows("1 Subscribers", "worker")
        await top.press("3")
        await top.shows("plain", "five")
        await top.press("4")
        await top.shows("card declined")
        assert "secret" not in top.screen
        note = top.app.screen.query_one("#note", Static)
        assert str(note.render()) == ""

    run(tmp_path / "nothing", test, Source("orders", url))


def test_the_dashboard_serves_it(url: str, tmp_path: Path) -> None:
    with serving(tmp_path / "nothing", Source("orders", url)) as server:
        messages = ask(server, "/api/queues/orders/messages").json()
        assert "five" in json.dumps(messages)
        letters = ask(server, "/api/queues/orders/dead-letters").json()
        assert "card declined" in json.dumps(letters)
        assert "secret" not in json.dumps([messages, letters])


def test_the_commands_take_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By its URL, and by its name in a deployment file; no output holds the password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIPUBSUB_CONFIG", raising=False)
    queue = {"engine": url.rpartition("/")[0], "durability": "process", "subscribers": ["worker", "second"]}
    Path("persipubsub.json").write_text(json.dumps({"queues": {"orders": queue}}))
    for arguments, said in (
        (["deploy"], "second"),
        (["send", url, "six"], "6"),
        (["send", "seven"], "7"),
        (["receive", "-s", "worker", "--timeout", str(BOUND)], "three"),
        (["status", url], "worker"),
        (["status", "--json"], r'"published": 7'),
        (["tail", "-n", "1"], "seven"),
        (["subscribers", "list"], "second"),
        (["seek", "latest", "-s", "second"], "second: 0 messages wait"),
        (["dead-letters", "list", "-s", "worker"], "card declined"),
        (["check"], "all is well"),
        (["clear", "-s", "worker", "--yes"], "dropped"),
        (["deploy", "--prune"], "unchanged"),
        (["delete", "--yes", "--force"], "deleted"),
        (["deploy"], "create"),
    ):
        capfd.readouterr()
        if arguments[0] == "delete":
            # Who has it open cannot be told; and what a file does not list any more is left alone on a server.
            assert cli.run(["delete", "--yes"]) == 2
            Path("other.json").write_text('{"queues": {}}')
            assert cli.run(["deploy", "other.json", "--prune", "--json"]) == 0
            assert json.loads(capfd.readouterr().out)["rows"] == []
        assert cli.run(arguments) == 0, capfd.readouterr()
        out, err = capfd.readouterr()
        assert re.search(said, out), (arguments, out)
        assert "secret" not in out + err
