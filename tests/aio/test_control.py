"""Opening, administrating and looking, in asyncio."""

import asyncio
import json
from pathlib import Path

import pytest

import persipubsub
import persipubsub.config
from persipubsub import (
    ClosedError,
    HighWaterMark,
    PositionError,
    Retention,
    SettingsError,
    Strategy,
    SubscriberSettings,
    aio,
)
from tests.aio.support import eventually, figures, in_loop, is_waiting

EXPORTED = "Environment Control Publisher Subscriber Message Messages Receiving DeadLetters Worker run"
#: What only makes sense without asyncio: a descriptor to select, and the property of 1.0.
MISSING = {"Subscriber": {"fileno"}}


def test_exports_are_frozen() -> None:
    assert aio.__all__ == EXPORTED.split()


@pytest.mark.parametrize(
    "name", ["Environment", "Control", "Publisher", "Subscriber", "Message", "Messages", "DeadLetters"]
)
def test_same_names_as_without_asyncio(name: str) -> None:
    def names(kind: type) -> set[str]:
        return {member for member in dir(kind) if not member.startswith("_")}

    plain: type = getattr(persipubsub, name)
    here: type = getattr(aio, name)
    assert names(here) == names(plain) - MISSING.get(name, set())


@in_loop
async def test_control(location: str) -> None:
    async with aio.Environment(location) as env:
        control = await env.new_control({"a", "b"})
        assert await control.is_initialized()
        await control.add_subscriber("c", "first", max_deliveries=2)
        assert await control.subscriber_ids() == {"a", "b", "c"}
        await control.configure_subscriber("c", lease=5.0)
        assert (await control.subscribers())["c"] == SubscriberSettings(max_deliveries=2, lease=5.0)
        await control.set_high_water_mark(HighWaterMark(max_messages=100))
        await control.set_hwm(HighWaterMark(max_messages=200))
        await control.set_strategy(Strategy.REJECT)
        settings = await control.configure(retention=Retention.LOG)
        assert settings == await control.settings()
        assert (settings.high_water_mark.max_messages, settings.strategy) == (200, Strategy.REJECT)
        with pytest.raises(SettingsError):
            await control.configure(colour="red")
        await (await env.new_publisher()).send_many([b"1", b"2"])
        await control.pause_subscriber("c")
        assert (await figures(control, "c")).paused
        await control.resume_subscriber("c")
        assert await control.purge("c") == 2
        assert await control.remove_subscriber("c")
        assert await control.prune_dangling_messages() == 0
        assert await control.check() == []
        await control.init({"d"})
        await control.clear_all_subscribers()
        assert await control.subscriber_ids() == set()
        async with control:
            pass
        with pytest.raises(ClosedError):
            await control.settings()


@in_loop
async def test_dead_letters(location: str) -> None:
    async with aio.Environment(location) as env:
        control, sub = await env.open_control(), await env.new_subscriber("a")
        await (await env.new_publisher()).send_many([b"1", b"2", b"3"])
        for message in await sub.get_many(3):
            await message.reject("bad")
        dead = await control.dead_letters("a")
        ids = [letter.id async for letter in dead]
        assert (dead.subscriber, len(ids)) == ("a", 3)
        assert await dead.discard(ids[0]) == 1
        assert await dead.requeue(ids[1:2]) == 1
        assert [letter.id async for letter in dead] == ids[2:]


@in_loop
async def test_browse(location: str) -> None:
    async with aio.Environment(location) as env:
        pub = await env.new_publisher()
        ids = await pub.send_many([str(number).encode() for number in range(150)])
        assert [message.id async for message in env.browse()] == list(ids)
        assert [message.id async for message in env.browse(ids[10], limit=2)] == list(ids[10:12])
        with pytest.raises(PositionError):
            await anext(env.browse("middle"))
        following = env.browse("latest", follow=True)
        waiting: asyncio.Task[object] = asyncio.ensure_future(anext(following))
        await eventually(lambda: any(line._watched for line in env._shared.lines))
        await pub.send(b"new")
        assert (await waiting).data == b"new"  # type: ignore[attr-defined]
        last = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await last


@in_loop
async def test_from_config(tmp_path: Path) -> None:
    file = tmp_path / "persipubsub.json"
    file.write_text(json.dumps({"queues": {"frames": {"subscribers": ["a"]}}}))
    persipubsub.config.deploy(persipubsub.config.load(file))
    async with aio.Environment.from_config(file, "frames") as env:
        assert await (await env.open_control()).subscriber_ids() == {"a"}
        assert env.location == str(env.path)
        assert "frames" in repr(env)


def test_environment_serves_one_loop_after_another(location: str) -> None:
    env = aio.Environment(location)

    async def exchange() -> None:
        sub = await env.new_subscriber("a")
        waiting = asyncio.create_task(sub.get(None))
        await is_waiting(waiting)
        await (await env.new_publisher()).send(b"frame")
        message = await waiting
        assert message is not None
        await message.ack()
        await sub.close()

    asyncio.run(exchange())
    asyncio.run(exchange())
    asyncio.run(env.close())
