"""Who may use a queue: credentials files of an operator, tokens, and certificates of clients."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from persipubsub import Durability, Environment, OpenError, QueuePermissionError, config
from tests.jetstream.servers import Server, running
from tests.jetstream.tokens import Operator, Party, write_credentials
from tests.process.support import BOUND

PROCESS = Durability.PROCESS


@pytest.fixture(scope="module")
def operator() -> Operator:
    """Return who vouches for accounts."""
    return Operator()


@pytest.fixture(scope="module")
def guarded(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that lets in only those for whom the operator's accounts vouch."""
    with running(tmp_path_factory.mktemp("guarded"), operator.config) as server:
        yield server


def use(url: str) -> None:
    """Deploy a queue, send and take."""
    with Environment(url) as env:
        env.new_control({"a"}, durability=PROCESS)
        env.new_publisher().send_many([b"x", b"y"])
        subscriber = env.new_subscriber("a")
        for wanted in (b"x", b"y"):
            with subscriber.receive(timeout=BOUND) as payload:
                assert payload == wanted


def test_right_credentials(operator: Operator, guarded: Server, tmp_path: Path) -> None:
    file = write_credentials(tmp_path / "app.creds", operator.account)
    use(f"{guarded.url}/right?credentials={file}")
    with Environment(f"{guarded.url}/right?credentials={file}") as env:
        assert str(file) not in repr(env) + env.location


def test_a_deployment_file_names_the_credentials(operator: Operator, guarded: Server, tmp_path: Path) -> None:
    write_credentials(tmp_path / "app.creds", operator.account)
    write_credentials(tmp_path / "stranger.creds", Party("account"))

    def loaded(credentials: str) -> config.Config:
        queue = {"engine": guarded.url, "credentials": credentials, "durability": "process", "subscribers": ["a"]}
        (tmp_path / "queues.json").write_text(json.dumps({"queues": {"filed": queue}}))
        return config.load(tmp_path / "queues.json")

    with pytest.raises(QueuePermissionError):
        config.deploy(loaded("stranger.creds"))
    assert config.deploy(loaded("app.creds")).differs
    with Environment.from_config(tmp_path / "queues.json", "filed") as env:
        assert env.new_publisher().send(b"x") == 1


def test_wrong_credentials(operator: Operator, guarded: Server, tmp_path: Path) -> None:
    files = {
        "": None,
        "of a stranger": write_credentials(tmp_path / "stranger.creds", Party("account")),
        "with the key of another": write_credentials(tmp_path / "key.creds", operator.account, Party("user")),
        "expired": write_credentials(tmp_path / "expired.creds", operator.account, ends=-60),
    }
    for what, file in files.items():
        url = f"{guarded.url}/wrong" + (f"?credentials={file}" if file else "")
        with Environment(url) as env, pytest.raises(QueuePermissionError, match="credentials file") as caught:
            env.new_control({"a"}, durability=PROCESS)
        assert "SU" not in str(caught.value), what


def test_credentials_that_are_none(guarded: Server, tmp_path: Path) -> None:
    file = tmp_path / "none.creds"
    good = write_credentials(tmp_path / "app.creds", Party("account")).read_text()
    for text in ("", "nothing\n", good.partition("\n\n")[0], "\0\xff" * 100):
        file.write_text(text)
        with (
            Environment(f"{guarded.url}/wrong?credentials={file}") as env,
            pytest.raises(OpenError, match=r"holds no token .* with its key"),
        ):
            env.new_control({"a"}, durability=PROCESS)


def test_an_account_without_jetstream(operator: Operator, guarded: Server, tmp_path: Path) -> None:
    file = write_credentials(tmp_path / "poor.creds", operator.poor_account)
    with Environment(f"{guarded.url}/poor?credentials={file}") as env, pytest.raises(OpenError, match="not enabled"):
        env.new_control({"a"}, durability=PROCESS)


def test_a_user_who_may_not_use_jetstream(operator: Operator, guarded: Server, tmp_path: Path) -> None:
    file = write_credentials(tmp_path / "little.creds", operator.account, pub={"deny": ["$JS.API.>"]})
    with (
        Environment(f"{guarded.url}/little?credentials={file}") as env,
        pytest.raises(QueuePermissionError, match="may use JetStream"),
    ):
        env.new_control({"a"}, durability=PROCESS)


def test_a_token(tmp_path: Path) -> None:
    with running(tmp_path, "authorization { token: right }") as server:
        use(f"{server.url}/q?token=right")
        for wrong in ("?token=wrong", ""):
            with Environment(f"{server.url}/q{wrong}") as env, pytest.raises(QueuePermissionError, match="the token"):
                env.new_publisher()


def test_certificates_of_clients(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair(authority.issue_cert("127.0.0.1"), tmp_path / "server")
    pair(authority.issue_cert("app@example.com"), tmp_path / "app")
    pair(stranger.issue_cert("app@example.com"), tmp_path / "stranger")
    config = f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key", '
    config += f'ca_file: "{tmp_path}/ca.pem", verify: true }}'
    with running(tmp_path, config) as server:
        url = f"{server.url}/q?tls_ca={tmp_path}/ca.pem"
        use(f"{url}&tls_cert={tmp_path}/app.pem&tls_key={tmp_path}/app.key")
        for wrong in (f"&tls_cert={tmp_path}/stranger.pem&tls_key={tmp_path}/stranger.key", ""):
            with Environment(url + wrong) as env, pytest.raises(OpenError, match="tls_cert"):
                env.new_publisher()
    with (
        Environment(f"{url}&tls_cert={tmp_path}/app.pem&tls_key={tmp_path}/server.key") as env,
        pytest.raises(OpenError, match=r"TLS files .*server\.key"),
    ):
        env.new_publisher()


def pair(issued: trustme.LeafCert, path: Path) -> None:
    """Write a certificate and its key."""
    issued.cert_chain_pems[0].write_to_path(path.with_suffix(".pem"))
    issued.private_key_pem.write_to_path(path.with_suffix(".key"))
