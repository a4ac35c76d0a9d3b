"""What a queue on NATS cannot know is shown nowhere as nothing."""

import json
import subprocess
import sys

from prometheus_client import CollectorRegistry

from persipubsub import Environment
from persipubsub.metrics import QueueCollector
from persipubsub.watch import sampling


def test_metrics_leave_it_out(env: Environment) -> None:
    registry = CollectorRegistry()
    registry.register(QueueCollector({"q": env}))
    env.new_publisher().send(b"x")
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert {"persipubsub_up", "persipubsub_messages", "persipubsub_subscriber_lag_messages"} <= names
    assert not {name for name in names if "lost" in name or "owners" in name or "pruned" in name or "unrouted" in name}
    assert "persipubsub_deduplicated_messages_total" not in names


def test_status_shows_a_dash(env: Environment, url: str) -> None:
    env.new_publisher().send(b"x")
    command = [sys.executable, "-c", "from persipubsub.cli import main; main()", "status", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    row = done.stdout.splitlines()[-1].split()
    assert (row[0], row[1], row[-2:]) == ("a", "1", ["-", "-"])
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=60)
    (queue,) = json.loads(done.stdout)["queues"].values()
    assert (queue["messages"], queue["unrouted"], queue["subscribers"][0]["lost"]) == (1, None, None)


def test_a_sum_of_what_is_not_known_is_not_known() -> None:
    assert sampling._sum(1, None) is None
    assert sampling._sum(1, 2) == 3
