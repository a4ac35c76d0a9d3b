"""One sampler for many listeners."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from persipubsub import Environment
from persipubsub.watch.dashboard.app import Dashboard
from persipubsub.watch.dashboard.hub import Hub
from persipubsub.watch.dashboard.security import Access
from persipubsub.watch.sampling import QueueView
from persipubsub.watch.source import Source
from persipubsub.watch.watching import Watch
from tests.process.support import BOUND
from tests.watch.support import fill


async def event(stream: AsyncIterator[bytes]) -> tuple[str, Any]:
    """Return the next event: its name and what it carries."""
    async with asyncio.timeout(BOUND):
        text = (await anext(stream)).decode()
    fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
    return fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else fields


class Counting(Watch):
    """Counts how often it looks."""

    looks = 0

    def sample(self, patience: float = 1.0) -> list[QueueView]:
        self.looks += 1
        return super().sample(patience)


def test_all_listeners_share_one_sampler_and_begin_with_the_history(tmp_path: Path) -> None:
    fill(tmp_path / "orders")
    watch = Counting([Source("orders", tmp_path / "orders")])

    async def main() -> None:
        hub = Hub(watch, 3600)
        sampling = asyncio.create_task(hub.run())
        streams = [hub.stream() for _ in range(50)]
        for stream in streams:
            assert await event(stream) == ("", {"retry": "2000"})
            name, (view,) = await event(stream)
            assert (name, view["name"], view["state"], view["messages"]) == ("state", "orders", "ok", 5)
            assert len(view["times"]) == len(view["subscribers"][0]["lag_history"]) == 1
        assert (hub.listeners, watch.looks) == (50, 1)
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert hub.listeners == 0
        sampling.cancel()

    asyncio.run(main())
    watch.close()


def test_then_only_what_is_new_is_told_and_who_is_slow_skips(tmp_path: Path) -> None:
    fill(tmp_path / "orders")
    watch = Counting([Source("orders", tmp_path / "orders")])

    async def main() -> None:
        hub = Hub(watch, 0.01)
        sampling = asyncio.create_task(hub.run())
        stream = hub.stream()
        await event(stream)
        _, (first,) = await event(stream)
        with Environment(tmp_path / "orders") as environment:
            environment.new_publisher().send(b"one more")
        looks = watch.looks
        async with asyncio.timeout(BOUND):
            while watch.looks < looks + 5:
                await asyncio.sleep(0.001)
        name, (view,) = await event(stream)
        assert (name, view["messages"], view["times"]) == ("sample", 6, [])
        assert view["subscribers"][0]["lag_history"] == []
        assert view["at"] > first["at"]
        sampling.cancel()

    asyncio.run(main())
    watch.close()


def test_signs_of_life_and_the_end() -> None:
    watch = Watch([])

    async def main() -> None:
        hub = Hub(watch, 3600, heartbeat=0.01)
        stream = hub.stream()
        await event(stream)
        assert await event(stream) == ("heartbeat", {})
        hub.close()
        assert [one async for one in stream] == []

    asyncio.run(main())
    watch.close()


def test_streams_end_when_nobody_looks_any_more(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Watch):
        def sample(self, patience: float = 1.0) -> list[QueueView]:
            raise ZeroDivisionError

    watch = Broken([])
    dashboard = Dashboard(Hub(watch, 3600), Access(None, False, 1), ["localhost"])

    async def main() -> None:
        stream = dashboard.hub.stream()
        await event(stream)
        async with dashboard.lifespan(Starlette()), asyncio.timeout(BOUND):
            assert [one async for one in stream] == []

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    watch.close()
    assert "start it again" in caplog.text
