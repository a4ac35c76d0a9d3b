"""What the page of the web service says: a stop is graceful, and the rest is done after the next start."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from examples.web_service.main import Shop, create_app
from persipubsub import Environment, aio
from tests.process.support import BOUND, wait_until


def until_billed(client: TestClient, order: int) -> None:
    wait_until(lambda: client.get(f"/orders/{order}").json()["billed"], f"order {order} is billed")


def test_orders_are_billed(tmp_path: Path) -> None:
    app = create_app(tmp_path / "orders")
    with TestClient(app) as client:
        for number in range(1, 21):
            answer = client.post("/orders", json={"item": number})
            assert (answer.status_code, answer.json()) == (202, {"order": number})
        for number in range(1, 21):
            until_billed(client, number)
        assert not client.get("/orders/21").json()["billed"]
    assert app.state.shop.billed == {number: {"item": number} for number in range(1, 21)}
    with Environment(tmp_path / "orders") as env:
        assert env.open_control().statistics().messages == 0


def test_what_is_in_hand_is_finished_and_the_rest_comes_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bill = Shop.bill
    began: list[int] = []
    all_began = threading.Event()

    async def slow(shop: Shop, message: aio.Message[Any]) -> None:
        began.append(message.id)
        if len(began) == 4:
            all_began.set()
        # Four are in hand; they go on only once the service is stopping.
        while not stopping.is_set():
            await asyncio.sleep(0.001)
        await bill(shop, message)

    stopping = threading.Event()
    monkeypatch.setattr(Shop, "bill", slow)
    app = create_app(tmp_path / "orders")
    with TestClient(app) as client:
        for number in range(10):
            client.post("/orders", json=number)
        assert all_began.wait(BOUND)
        stopping.set()
    finished = set(app.state.shop.billed)
    assert finished >= set(began[:4])
    monkeypatch.setattr(Shop, "bill", bill)
    app = create_app(tmp_path / "orders")
    with TestClient(app) as client:
        for number in {*range(1, 11)} - finished:
            until_billed(client, number)
    assert finished.isdisjoint(app.state.shop.billed)
    assert finished | set(app.state.shop.billed) == set(range(1, 11))
