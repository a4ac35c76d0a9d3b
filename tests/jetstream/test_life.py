"""Forks, the end of the process, ephemeral subscribers, asyncio, descriptors and deployment files."""

import asyncio
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from persipubsub import Durability, Environment, aio, config
from persipubsub.engine.jetstream import link as link_module
from persipubsub.engine.jetstream import roster
from persipubsub.errors import ConfigError, LeaseLostError, UnsupportedByEngineError
from tests.jetstream.servers import Server
from tests.process.support import BOUND, wait_until

PROCESS = Durability.PROCESS


def test_a_forked_child_reconnects_and_leaves_the_parent_alone(env: Environment) -> None:
    pub, sub = env.new_publisher(), env.new_subscriber("a")
    pub.send_many([b"parent", b"child"])
    held = sub.get(timeout=0)
    assert held is not None
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(LeaseLostError, match="parent"):
                held.ack()
            with sub.receive(timeout=BOUND) as payload:
                assert payload == b"child"
            pub.send(b"from the child")
            env.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    held.ack()
    with sub.receive(timeout=BOUND) as payload:
        assert payload == b"from the child"
    assert env.open_control().statistics().messages == 0


def test_the_end_of_the_process_gives_back_what_it_held(url: str, env: Environment) -> None:
    env.new_publisher().send(b"x")
    code = (
        "import sys, persipubsub\n"
        "env = persipubsub.Environment(sys.argv[1])\n"
        "message = env.new_subscriber('a').get(timeout=100)\n"
        "print(message.id)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=BOUND, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1", "")
    message = env.new_subscriber("a").get(timeout=0)
    assert message is not None
    assert message.delivery_count == 2


def test_nothing_is_left_running_where_the_server_does_not_answer_at_the_end(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(link_module._alive)
    other = Environment(env._connection.opener.address)
    assert other.new_subscriber("a").get(timeout=0) is None
    (link,) = set(link_module._alive) - before

    async def silent(timeout: int) -> None:
        raise TimeoutError

    monkeypatch.setattr(link.client, "flush", silent)
    other.close()
    assert link._loop.is_closed()
    assert asyncio.all_tasks(link._loop) == set()


def test_an_ephemeral_subscriber_vanishes_with_its_owner(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    control = env.open_control()
    address = env._connection.opener.address
    with Environment(address) as owner:
        owner.open_control().add_subscriber("b", ephemeral=True)
        assert control.subscriber_ids == {"a", "b"}
    assert control.subscriber_ids == {"a"}
    # One whose owner was killed goes when its signs of life are too old.
    monkeypatch.setattr(roster, "BEAT", 1.0)
    lost = Environment(address)
    lost.open_control().add_subscriber("c", ephemeral=True)
    engine = lost._connection.engine()
    engine._session.ephemeral.clear()  # type: ignore[attr-defined]
    other = env._connection.engine()
    wait_until(
        lambda: other._run(roster.sweep(other._session)) is None and control.subscriber_ids == {"a"},  # type: ignore[attr-defined]
        "the lost subscriber is removed",
    )
    lost.close()


def test_asyncio_unchanged(url: str) -> None:
    async def main() -> list[bytes]:
        async with aio.Environment(url) as env:
            await env.new_control({"a"}, durability=PROCESS)
            pub, sub = await env.new_publisher(), await env.new_subscriber("a")

            async def later() -> None:
                await asyncio.sleep(0.1)
                await asyncio.gather(*[pub.send(b"%d" % number) for number in range(50)])

            sending = asyncio.create_task(later())
            async with sub.receive(timeout=BOUND) as first:
                assert first is not None
            await sending
            waiting = asyncio.create_task(sub.get(timeout=None))
            async with sub.messages(timeout=0) as messages:
                found = [message.data async for message in messages]
            taken = await waiting
            assert taken is not None
            await taken.ack()
            return [first, taken.data, *found]

    assert sorted(asyncio.run(main())) == sorted(b"%d" % number for number in range(50))


def test_a_descriptor_is_readable_while_a_message_may_be_there(env: Environment) -> None:
    sub = env.new_subscriber("a")
    assert sub.get(timeout=0) is None
    descriptor = sub.fileno()
    assert select.select([descriptor], [], [], 0)[0] == []
    env.new_publisher().send(b"x")
    assert select.select([descriptor], [], [], 20)[0] == [descriptor]
    with sub.receive(timeout=0) as payload:
        assert payload == b"x"
    assert sub.get(timeout=0) is None
    assert select.select([descriptor], [], [], 0)[0] == []


def test_a_killed_deployment_is_completed(server: Server, url: str) -> None:
    from persipubsub.engine.jetstream import deploying, stored
    from persipubsub.engine.jetstream.link import Link
    from persipubsub.engine.jetstream.location import parse
    from persipubsub.engine.jetstream.names import Names
    from persipubsub.limits import Settings

    location = parse(url)
    link, names = Link(location), Names(location.queue)
    begun = stored.Stored(identity="0" * 36, settings=Settings(durability=PROCESS), deployed=False)
    link.run(link.manage(lambda js: js.add_stream(stored.stream_config(names, begun, 1))))
    link.close()
    with Environment(url) as env:
        assert not env._connection.opener.exists()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deploying, "_OTHER", 0.1)
            assert env.new_control({"a"}, durability=PROCESS).subscriber_ids == {"a"}


def test_deployment_from_a_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "persipubsub.json"

    def write(**fields: object) -> config.Config:
        frames = {"engine": server.url, "replicas": 1, **fields}
        file.write_text(json.dumps({"queues": {"by-file": frames}}))
        return config.load(file)

    with pytest.raises(UnsupportedByEngineError, match="full"):
        config.deploy(write(subscribers=["a"]))
    with pytest.raises(UnsupportedByEngineError, match="full"):
        config.plan(write(subscribers=["a"]))
    first = config.deploy(write(subscribers=["a"], durability="process"))
    assert [row.action.value for row in first.rows] == ["create", "create"]
    assert first.rows[0].as_dict()["path"] == f"{server.url}/by-file"
    assert not config.deploy(write(subscribers=["a"], durability="process")).differs
    again = config.deploy(
        write(subscribers={"a": {"lease": 3}, "b": {}}, durability="process", strategy="reject"), prune=True
    )
    assert [row.action.value for row in again.rows] == ["change", "change", "create"]
    config.deploy(write(subscribers=["b"], durability="process", strategy="reject"), prune=True)
    with Environment.from_config(file, "by-file") as env:
        assert set(env.open_control().subscribers) == {"b"}
        assert env.new_publisher().send(b"x") == 1

    async def send() -> int:
        async with aio.Environment.from_config(file, "by-file") as environment:
            return await (await environment.new_publisher()).send(b"y")

    assert asyncio.run(send()) == 2
    with pytest.raises(ConfigError, match="engine"):
        config.load(write(engine="ftp://x").file)
