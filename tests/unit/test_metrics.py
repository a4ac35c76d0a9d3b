"""Metrics, as Prometheus reads them: over HTTP, with its own parser, of real queues."""

import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from persipubsub import Control, Environment, HighWaterMark, SettingsError, SubscriberSettings
from persipubsub.cli import app as cli
from persipubsub.metrics import QueueCollector
from tests.process.support import patiently

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]
ROOT = Path(__file__).parents[2]


def parse(text: str) -> Figures:
    """Return the figures by name and labels."""
    figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name.removeprefix("persipubsub_"), frozenset(sample.labels.items())
            assert key not in figures
            figures[key] = sample.value
    return figures


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def scrape(collector: QueueCollector) -> Figures:
    registry = CollectorRegistry()
    registry.register(collector)
    return parse(generate_latest(registry).decode())


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Environment]:
    with Environment(tmp_path / "frames") as env:
        env.new_control({"a": SubscriberSettings(max_deliveries=1), "b": SubscriberSettings()})
        yield env


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give what starts the exporter and returns its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> str:
        command = [sys.executable, "-c", "from persipubsub.cli import main; main()", "metrics", "--port", "0"]
        process = subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line
        return found.group()

    yield start
    for process in processes:
        process.terminate()
        process.communicate()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
        return text


def test_the_exporter_serves_all_queues_of_a_configuration(env: Environment, tmp_path: Path, serve: Serve) -> None:
    config = tmp_path / "queues.json"
    config.write_text('{"root": ".", "queues": {"frames": {}, "later": {"subscribers": ["x"]}}}')
    url = serve("--config", config)
    assert url.startswith("http://127.0.0.1:")
    env.new_publisher().send_many([b"one", b"four"])
    text = fetch(url)
    figures = parse(text)
    assert figures[of("up", queue="frames")] == 1
    assert figures[of("up", queue="later")] == 0
    assert figures[of("messages", queue="frames")] == 2
    assert figures[of("payload_bytes", queue="frames")] == 7
    assert figures[of("published_messages_total", queue="frames")] == 2
    assert figures[of("subscriber_lag_messages", queue="frames", subscriber="b")] == 2
    assert "# TYPE persipubsub_published_messages_total counter" in text
    assert "# TYPE persipubsub_messages gauge" in text
    # It is deployed now, and needs no restart.
    with Environment(tmp_path / "later") as later:
        later.new_control({"x"})
    assert parse(fetch(url))[of("up", queue="later")] == 1


def test_the_exporter_takes_paths(env: Environment, serve: Serve) -> None:
    assert parse(fetch(serve(env.location)))[of("up", queue=env.location)] == 1


def test_every_figure(env: Environment) -> None:
    control = env.open_control()
    control.configure(high_water_mark=HighWaterMark(message_timeout=3600, max_messages=5, max_bytes=1000))
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send_many([b"12345678"] * 5)
    pub.send(b"prunes three")
    message = sub.get(timeout=0)
    assert message is not None
    message.reject("bad")
    sub.pop(timeout=0)
    held = sub.get(timeout=0)
    assert held is not None
    with pytest.raises(ValueError), env.new_subscriber("b").receive(timeout=0):
        raise ValueError("again")
    again = env.new_subscriber("b").get(timeout=0)
    assert again is not None
    pub.send(b"late", delay=1000, deduplication_id="x")
    pub.send(b"late", delay=1000, deduplication_id="x")
    assert sub.get(timeout=0) is None
    control.pause_subscriber("b")
    figures = scrape(QueueCollector({"q": env}))

    def queue(name: str, **labels: str) -> float:
        return figures.pop(of(name, queue="q", **labels))

    def a(name: str, **labels: str) -> float:
        return figures.pop(of(f"subscriber_{name}", queue="q", subscriber="a", **labels))

    def b(name: str, **labels: str) -> float:
        return figures.pop(of(f"subscriber_{name}", queue="q", subscriber="b", **labels))

    statistics = control.statistics()
    assert (queue("up"), queue("messages"), queue("payload_bytes")) == (1, 4, 8 * 2 + 12 + 4)
    assert (queue("limit_messages"), queue("limit_payload_bytes"), queue("limit_message_age_seconds")) == (
        5,
        1000,
        3600,
    )
    assert (queue("published_messages_total"), queue("deduplicated_messages_total")) == (7, 1)
    assert (queue("pruned_messages_total", cause="overflow"), queue("pruned_messages_total", cause="timeout")) == (3, 0)
    assert queue("unrouted_messages_total") == 0
    assert queue("queue_created_timestamp_seconds") == pytest.approx(statistics.created_ns / 1e9)
    assert queue("file_bytes") == statistics.file_bytes
    assert queue("filesystem_free_bytes") > 0
    assert 0 < queue("oldest_message_age_seconds") < 60
    assert 0 < queue("scrape_duration_seconds") < 60
    assert (a("lag_messages"), a("waiting_messages"), a("leased_messages"), a("delayed_messages")) == (2, 0, 1, 1)
    assert (a("dead_letters"), a("owners"), a("paused")) == (1, 1, 0)
    assert (a("delivered_messages_total"), a("settled_messages_total"), a("redelivered_messages_total")) == (3, 1, 0)
    assert (a("lost_messages_total", cause="overflow"), a("lost_messages_total", cause="expired")) == (3, 0)
    assert (b("lag_messages"), b("waiting_messages"), b("leased_messages"), b("delayed_messages")) == (4, 3, 1, 0)
    assert (b("dead_letters"), b("owners"), b("paused")) == (0, 1, 1)
    assert (b("delivered_messages_total"), b("settled_messages_total"), b("redelivered_messages_total")) == (2, 0, 1)
    assert (b("lost_messages_total", cause="overflow"), b("lost_messages_total", cause="expired")) == (3, 0)
    assert a("last_taken_timestamp_seconds") == pytest.approx((statistics.subscribers[0].last_taken_ns or 0) / 1e9)
    assert a("last_settled_timestamp_seconds") == pytest.approx((statistics.subscribers[0].last_settled_ns or 0) / 1e9)
    assert b("last_taken_timestamp_seconds") > 0
    assert not figures


def test_a_queue_that_fails_does_not_break_the_scrape(env: Environment, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("no queue")
    closed = Environment("memory:")
    closed.new_control({"x"})
    closed.close()
    figures = scrape(
        QueueCollector({"good": env, "missing": tmp_path / "no", "other": tmp_path / "other", "shut": closed})
    )
    up = {name: figures[of("up", queue=name)] for name in ("good", "missing", "other", "shut")}
    assert up == {"good": 1, "missing": 0, "other": 0, "shut": 0}
    assert of("messages", queue="good") in figures
    assert of("messages", queue="missing") not in figures
    assert not (tmp_path / "no").exists()


def test_a_queue_that_hangs_does_not_hold_up_the_scrape(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who has little time misses the good queue on a busy machine, too.
    patiently(lambda factor: see_one_hang(env, monkeypatch, 0.3 * factor))


def see_one_hang(env: Environment, monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
    """Scrape a queue that hangs, and one that does not."""
    with Environment("memory:") as hanging:
        hanging.new_control({"x"})
        asked, release = threading.Semaphore(0), threading.Event()

        open_control = hanging.open_control

        def hang() -> Control:
            asked.release()
            release.wait()
            return open_control()

        monkeypatch.setattr(hanging, "open_control", hang)
        collector = QueueCollector({"hanging": hanging, "good": env}, timeout=timeout)
        try:
            for _ in range(2):
                figures = scrape(collector)
                assert figures[of("up", queue="hanging")] == 0
                assert figures[of("up", queue="good")] == 1
            assert asked.acquire(blocking=False)
            assert not asked.acquire(blocking=False)  # one attempt at a time
        finally:
            release.set()
            for thread in threading.enumerate():
                if thread.name == "persipubsub-metrics":
                    thread.join()
        assert scrape(collector)[of("up", queue="hanging")] == 1


def test_a_counter_does_not_fall_when_deliveries_are_undone(env: Environment) -> None:
    collector = QueueCollector({"q": env})
    env.new_publisher().send_many([b"x"] * 20)
    delivered = of("subscriber_delivered_messages_total", queue="q", subscriber="b")
    with env.new_subscriber("b").messages(batch=20) as messages:
        for message in messages:
            if message.id == 15:
                assert scrape(collector)[delivered] == 20
                break
    assert env.open_control().statistics().subscribers[1].deliveries == 15
    assert scrape(collector)[delivered] == 20
    # A new subscriber of the name begins anew.
    control = env.open_control()
    control.remove_subscriber("b")
    control.add_subscriber("b")
    assert scrape(collector)[delivered] == 0


def test_labels_are_escaped(tmp_path: Path) -> None:
    with Environment(tmp_path / "q") as env:
        env.new_control({'a "quoted" \\ name, é'})
        figures = scrape(QueueCollector({'q"\\': env}))
    assert figures[of("subscriber_lag_messages", queue='q"\\', subscriber='a "quoted" \\ name, é')] == 0


def test_names_follow_the_conventions(env: Environment) -> None:
    env.new_subscriber("b").get(timeout=0)
    for name, _ in scrape(QueueCollector({"q": env})):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    for family in QueueCollector({"q": env}).describe():
        # The parser of families takes the suffix off; what is no counter must not have it.
        assert not family.name.endswith("_total")
        assert family.documentation.endswith(".")


def test_registering_reads_nothing(tmp_path: Path) -> None:
    CollectorRegistry(auto_describe=True).register(QueueCollector({"q": tmp_path / "nowhere"}))


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_without_meaning_is_refused(timeout: float) -> None:
    with pytest.raises(SettingsError, match="timeout"):
        QueueCollector({}, timeout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "no.json"], "no.json"),
        (["q", "--queue", "x"], "not both"),
        (["q", "--port", "70000"], "65535"),
        (["q", "--address", "192.0.2.1", "--port", "0"], "192.0.2.1"),
    ],
)
def test_wrong_use_of_the_command(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["metrics", *arguments]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_without_the_extra_it_is_named(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "persipubsub.metrics")
    assert cli.run(["metrics", "q"]) == 2
    assert "pip install 'persipubsub[metrics]'" in capfd.readouterr().err
    for name in [name for name in sys.modules if name.startswith("prometheus_client.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="persipubsub\\[metrics\\]"):
        __import__("persipubsub.metrics")
