"""What can go wrong around a server: errors of our own, which say what to do."""

import asyncio
import contextlib
import json
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import nats
import nats.errors
import pytest
from nats.aio.msg import Msg

from persipubsub import (
    Durability,
    Environment,
    HighWaterMark,
    LeaseLostError,
    NotAQueueError,
    OpenError,
    Publisher,
    QueueNotFoundError,
    QueuePermissionError,
    QueueReplacedError,
    StorageFullError,
    Strategy,
    Subscriber,
    UnknownSubscriberError,
    UnreachableError,
    UnsupportedByEngineError,
)
from persipubsub.engine.jetstream import link
from persipubsub.engine.jetstream.translate import translate
from persipubsub.engine.opening import opener_for
from tests.jetstream.servers import Server, free_ports, running
from tests.process.support import BOUND, wait_until

PROCESS = Durability.PROCESS


def test_no_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_CONNECT", 2.0)
    (port,) = free_ports(1)
    with Environment(f"nats://127.0.0.1:{port}/q") as env, pytest.raises(UnreachableError, match=rf":{port}/q.*-js"):
        env.new_publisher()


def test_a_server_without_jetstream(tmp_path: Path) -> None:
    with (
        running(tmp_path, "jetstream: disabled") as server,
        Environment(f"{server.url}/q") as env,
        pytest.raises(OpenError, match="-js"),
    ):
        env.new_control({"a"}, durability=PROCESS)


def test_wrong_credentials_and_right_ones(tmp_path: Path) -> None:
    with running(tmp_path, "authorization { user: me, password: secret }") as server:
        address = server.url.removeprefix("nats://")
        for login in ("", "me:wrong@"):
            with (
                Environment(f"nats://{login}{address}/q") as env,
                pytest.raises(QueuePermissionError, match="refused this user") as caught,
            ):
                env.new_control({"a"}, durability=PROCESS)
            assert "wrong" not in str(caught.value)
        with Environment(f"nats://me:secret@{address}/q") as env:
            env.new_control({"a"}, durability=PROCESS)
            assert env.new_publisher().send(b"x") == 1
            assert "secret" not in repr(env) + env.location
            with pickle.loads(pickle.dumps(env)) as copy:
                assert copy.new_publisher().send(b"x") == 2


def test_a_credentials_file_that_is_not_there(server: Server) -> None:
    with (
        Environment(f"{server.url}/q?credentials=/nowhere.creds") as env,
        pytest.raises(OpenError, match=r"credentials file .*nowhere\.creds"),
    ):
        env.new_publisher()


def test_nothing_is_deployed(url: str) -> None:
    with Environment(url) as env:
        with pytest.raises(QueueNotFoundError, match="new_control"):
            env.new_publisher()
        assert not env._connection.opener.exists()


def test_a_foreign_stream_is_left_alone(server: Server) -> None:
    async def make() -> None:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="persipubsub-foreign", subjects=["foreign"])
        await client.close()

    asyncio.run(make())
    with Environment(f"{server.url}/foreign") as env, pytest.raises(NotAQueueError, match="left alone"):
        env.new_control({"a"}, durability=PROCESS)


def test_the_stream_is_deleted_underneath(env: Environment) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send(b"x")
    held = sub.get(timeout=0)
    assert held is not None
    assert opener_for(env._connection.opener.address).delete(force=True)  # type: ignore[attr-defined]
    for operation in (lambda: pub.send(b"y"), lambda: sub.get(timeout=0), env.open_control().statistics):
        with pytest.raises((QueueReplacedError, UnknownSubscriberError), match="deleted"):
            operation()
    with Environment(env._connection.opener.address) as other:
        other.new_control({"a"}, durability=PROCESS)
        with pytest.raises(QueueReplacedError, match="deployed anew"):
            _ = env.open_control().settings


def test_a_quota_is_reached(tmp_path: Path) -> None:
    with running(tmp_path, 'jetstream { store_dir: "STORE", max_file_store: 40KB }') as server:
        with Environment(f"{server.url}/big") as env, pytest.raises(StorageFullError, match="quota"):
            env.new_control({"a"}, HighWaterMark(max_bytes=2**20), durability=PROCESS)
        with Environment(f"{server.url}/small") as env:
            env.new_control({"a"}, strategy=Strategy.REJECT, durability=PROCESS)
            pub, sub = env.new_publisher(), env.new_subscriber("a")
            with pytest.raises(StorageFullError, match="quota"):
                fill(pub)
            # Reading goes on, and makes room.
            assert len(sub.get_many(3, timeout=0)) == 3


def grow(sent: list[int]) -> None:
    """Wait until more was sent."""
    before = len(sent)
    wait_until(lambda: len(sent) > before + 10, "more was sent")


def fill(publisher: Publisher) -> None:
    """Send more than the server may store."""
    for _ in range(50):
        publisher.send(b"x" * 4000)


def test_a_slow_consumer_is_told_of(env: Environment, caplog: pytest.LogCaptureFixture) -> None:
    link = env._connection.engine()._link  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, logger="persipubsub"):
        link.run(link._on_error(nats.errors.Error("nats: 'Slow Consumer'")))
    assert "slow consumer" in caplog.text
    assert "smaller batches" in caplog.text


def test_a_restart_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The server is killed and comes back while messages are sent and a subscriber waits."""
    with running(tmp_path) as server, Environment(f"{server.url}/q?ack_wait=2") as env:
        control = env.new_control({"a"}, durability=PROCESS)
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        sent: list[int] = []
        got: list[bytes] = []
        over = threading.Event()

        def publish() -> None:
            while not over.is_set():
                sent.append(pub.send(b"%d" % len(sent)))

        def consume() -> None:
            while threads[0].is_alive() or len(set(got)) < len(sent):
                # While the server is away a lease may end; then the message comes again.
                with contextlib.suppress(LeaseLostError), sub.receive(timeout=1) as payload:
                    if payload is not None:
                        got.append(payload)

        threads = [threading.Thread(target=work) for work in (publish, consume)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            grow(sent)
            server.kill()
            server.start()
        over.set()
        for thread in threads:
            thread.join(2 * BOUND)
            assert not thread.is_alive()
        assert len(set(sent)) == len(sent)
        assert set(got) == {b"%d" % number for number in range(len(sent))}
        # A server without replicas that is killed may forget acknowledgements: those messages come once more.
        wait_until(lambda: pop_all(sub) and control.statistics().subscribers[0].lag == 0, "all is settled")


def pop_all(subscriber: Subscriber[bytes]) -> bool:
    """Settle all that can be had now."""
    while subscriber.pop(timeout=0) is not None:
        pass
    return True


def test_a_server_that_stays_away(tmp_path: Path) -> None:
    with running(tmp_path) as server, Environment(f"{server.url}/q") as env:
        env.new_control({"a"}, durability=PROCESS, lock_timeout=0.3)
        pub = env.new_publisher()
        pub.send(b"x")
        server.kill()
        with pytest.raises(UnreachableError, match=r"0\.3 seconds|does not answer"):
            pub.send(b"y")


@pytest.mark.parametrize("code", [10002, 10023, 10028, 10047])
def test_quotas_by_their_numbers(code: int) -> None:
    from nats.js.errors import APIError

    assert isinstance(translate(APIError(code=400, err_code=code, description="x"), "nats://h/q"), StorageFullError)


@pytest.mark.parametrize("code", [10158, 10008])
@pytest.mark.parametrize("payloads", [[b"x"], [b"x", b"y"]])
def test_a_server_that_is_not_ready_is_asked_again(
    env: Environment, monkeypatch: pytest.MonkeyPatch, payloads: list[bytes], code: int
) -> None:
    """It still works on an earlier attempt at the same message, or has no leader at this moment."""
    client = env._connection.engine()._link.client  # type: ignore[attr-defined]
    refusal = json.dumps({"error": {"code": 503 if code == 10008 else 409, "err_code": code, "description": "not now"}})
    answers = [refusal.encode()] * 2
    request = client.request

    async def refusing(subject: str, *rest: Any, **options: Any) -> Msg:
        if answers and not subject.startswith("$JS"):
            return Msg(client, data=answers.pop())
        return cast(Msg, await request(subject, *rest, **options))

    monkeypatch.setattr(client, "request", refusing)
    assert list(env.new_publisher().send_many(payloads)) == list(range(1, len(payloads) + 1))
    assert not answers


def test_sync_always_is_proven_by_the_endpoint(tmp_path: Path) -> None:
    always = 'jetstream { store_dir: "STORE", sync_interval: always }'
    with running(tmp_path / "always", always) as server, running(tmp_path / "default") as other:
        with Environment(f"{server.url}/q") as env, pytest.raises(UnsupportedByEngineError, match="Nothing proves"):
            env.new_control({"a"})
        with (
            Environment(f"{server.url}/q") as env,
            pytest.raises(UnsupportedByEngineError, match=r"'full', the default,.* Pass durability=Durability.PROCESS"),
        ):
            env.new_control()
        with Environment(f"{server.url}/q?monitor={server.monitor}") as env:
            assert env.new_control({"a"}).settings.durability is Durability.FULL
            assert env.new_publisher().send(b"x") == 1
        for url, named in (
            (f"{other.url}/q?monitor={other.monitor}", "does not sync"),
            (f"{other.url}/q?monitor={server.monitor}", "name the endpoint of every server|prove"),
            (f"{server.url}/r?monitor=http://127.0.0.1:1", "cannot be read"),
        ):
            with Environment(url) as env, pytest.raises(UnsupportedByEngineError, match=named):
                env.new_control({"a"})


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    with running(tmp_path, f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}') as server:
        with Environment(f"{server.url}/q?tls_ca={certificate}") as env:
            env.new_control({"a"}, durability=PROCESS)
            assert env.new_publisher().send(b"x") == 1
        with (
            Environment(server.url.replace("nats:", "tls:") + "/q") as env,
            pytest.raises(OpenError, match="TLS"),
        ):
            env.new_publisher()
    with (
        Environment("nats://127.0.0.1:1/q?tls_ca=/nowhere.pem") as env,
        pytest.raises(OpenError, match=r"nowhere\.pem"),
    ):
        env.new_publisher()


def test_without_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'nats' else find(name, *rest)\n"
        "import persipubsub\n"
        "env = persipubsub.Environment('nats://h/q')\n"
        "assert not any(name.split('.')[0] == 'nats' for name in sys.modules)\n"
        "try: env.new_publisher()\n"
        "except persipubsub.OpenError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'persipubsub[nats]'" in done.stdout


@pytest.mark.parametrize(
    "url",
    [
        *("nats://", "nats://host", "nats://host/", "nats://host/a/b", "nats://ho st/q", "nats://host:x/q"),
        *("nats:///q", "nats://host/q?replicas=0", "nats://host/q?replicas=six", "nats://host/q?replicas=1.5"),
        *("nats://host/q?wrong=1", "nats://host/q?ack_wait=nan", "nats://host/q?token=", "nats://host/%00"),
        "nats://host/q?token=a&token=b",
    ],
)
def test_malformed_urls_are_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(OpenError):
        Environment(url)
