"""``persipubsub relay``: what it shows, how it ends, and its figures."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from prometheus_client import CollectorRegistry

from persipubsub import Durability, Environment
from persipubsub.cli import app as cli
from persipubsub.relay import RelayState
from persipubsub.relay.metrics import RelayCollector
from tests.process.support import BOUND, wait_until
from tests.relay.support import NAME, numbered, payloads, relay_of, subscribers, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queues(tmp_path: Path) -> Iterator[tuple[Environment, Environment]]:
    """Return two queues of this machine; the source has the relay's subscriber."""
    with Environment(tmp_path / "source") as source, Environment(tmp_path / "target") as target:
        source.new_control(durability=Durability.PROCESS)
        target.new_control({"reader"}, durability=Durability.PROCESS)
        relay_of(source, target).prepare()
        yield source, target


def command(queues: tuple[Environment, Environment], *options: str) -> list[str]:
    """Return the command line of a relay."""
    return ["relay", queues[0].location, queues[1].location, "--name", NAME, *options]


def process(arguments: list[str], **options: Any) -> "subprocess.Popen[str]":
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        text=True,
        **options,
    )


def test_drain(queues: tuple[Environment, Environment], capfd: pytest.CaptureFixture[str]) -> None:
    queues[0].new_publisher().send_many(numbered(5))
    assert cli.run(command(queues, "--drain", "--json", "--batch", "2")) == 0
    output = capfd.readouterr()
    status = json.loads(output.out.splitlines()[-1])
    assert (status["forwarded"], status["state"], status["name"], status["lag"]) == (5, "stopped", NAME, 0)
    assert status["last_forwarded"].startswith("20")
    events = [json.loads(line) for line in output.err.splitlines()]
    assert [(event["event"], event["relay"]) for event in events] == [("relay_opened", NAME), ("relay_ended", NAME)]
    assert payloads(queues[1]) == numbered(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(queues: tuple[Environment, Environment], number: signal.Signals) -> None:
    with process(command(queues), stderr=subprocess.PIPE) as relay:
        queues[0].new_publisher().send_many(numbered(5))
        assert wait_for(queues[1], 5) == numbered(5)
        relay.send_signal(number)
        _, errors = relay.communicate(timeout=BOUND)
    assert relay.returncode == 0
    assert json.loads(errors.splitlines()[-1])["event"] == "relay_ended"
    assert subscribers(queues[1]) == ["reader"]


def test_a_line_of_progress_on_a_terminal(queues: tuple[Environment, Environment]) -> None:
    mine, terminal = pty.openpty()
    with process(command(queues), stderr=terminal) as relay:
        os.close(terminal)
        queues[0].new_publisher().send_many(numbered(5))
        assert wait_for(queues[1], 5) == numbered(5)
        shown = b""

        def shows() -> bool:
            nonlocal shown
            shown += os.read(mine, 4096)
            return b"uplink: idle, 5 forwarded" in shown

        wait_until(shows, "the line tells what was forwarded")
        relay.send_signal(signal.SIGTERM)
        while True:
            try:
                shown += os.read(mine, 4096)
            except OSError:
                break
        assert relay.wait(BOUND) == 0
    os.close(mine)
    assert b"uplink: stopped, 5 forwarded" in shown


def test_a_queue_that_is_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["relay", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "error: There is no queue at" in capfd.readouterr().err.splitlines()[-1]


def test_create(tmp_path: Path) -> None:
    one, other = str(tmp_path / "a"), str(tmp_path / "b")
    with Environment(other) as target:
        target.new_control({"reader"}).close()
        assert cli.run(["relay", one, other, "--create", "--drain", "--name", NAME]) == 0
    with Environment(one) as source:
        assert subscribers(source) == [f"relay/{NAME}"]


def told_port(stream: IO[str] | None) -> str:
    """Return the address that the first line tells."""
    assert stream is not None
    return stream.readline().split()[-1]


def test_figures_are_served(queues: tuple[Environment, Environment]) -> None:
    with process(command(queues, "--metrics-port", "0"), stderr=subprocess.PIPE) as relay:
        address = told_port(relay.stderr)
        queues[0].new_publisher().send_many(numbered(5))
        wait_for(queues[1], 5)

        def served() -> bool:
            page = urllib.request.urlopen(address, timeout=BOUND).read().decode()
            return any(
                line.startswith("persipubsub_relay_forwarded_messages_total{") and line.endswith(" 5.0")
                for line in page.splitlines()
            )

        wait_until(served, "the figures tell of 5 messages")
        relay.send_signal(signal.SIGTERM)
        relay.communicate(timeout=BOUND)
    assert relay.returncode == 0


def test_a_port_that_is_taken(queues: tuple[Environment, Environment], capfd: pytest.CaptureFixture[str]) -> None:

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.run(command(queues, "--metrics-port", port)) == 2
    assert "Choose another --metrics-port" in capfd.readouterr().err


def test_all_figures(queues: tuple[Environment, Environment]) -> None:
    relay = relay_of(*queues)
    registry = CollectorRegistry()
    registry.register(RelayCollector(relay))
    labels = {"relay": NAME, "source": queues[0].location, "target": queues[1].location}

    def figure(name: str, **more: str) -> float | None:
        return registry.get_sample_value(f"persipubsub_relay_{name}", {**labels, **more})

    assert figure("lag_messages") is None
    assert figure("last_forwarded_timestamp_seconds") is None
    queues[0].new_publisher().send_many([b"12", b"345"])
    relay.run(drain=True)
    assert figure("forwarded_messages_total") == 2
    assert figure("forwarded_bytes_total") == 5
    assert figure("lag_messages") == 0
    assert figure("failures_total") == figure("failing_attempts") == figure("rejected_messages_total") == 0
    assert figure("retry_in_seconds") is figure("last_error_timestamp_seconds") is None
    assert [figure("state", state=state.value) for state in RelayState] == [0, 0, 0, 0, 0, 0, 1]


def test_the_page_about_monitoring_lists_all_figures(queues: tuple[Environment, Environment]) -> None:
    page = (ROOT / "docs/relay.rst").read_text()
    for family in RelayCollector(relay_of(*queues)).describe():
        total = "_total" if family.type == "counter" else ""
        assert f"``{family.name}{total}``" in page
        assert family.documentation in " ".join(page.split())


def test_the_page_lists_all_events() -> None:

    page = (ROOT / "docs/relay.rst").read_text()
    events = re.findall(r'"event": "(\w+)"', (ROOT / "persipubsub/relay/events.py").read_text())
    assert len(events) == 8
    for event in events:
        assert f"``{event}``" in page
