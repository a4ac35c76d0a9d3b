"""A web service that answers at once and works in the background; nothing is lost when it stops.

Serve it with any ASGI server, for example ``uvicorn --factory main:create_app`` in this folder.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from persipubsub import aio
from persipubsub.serializers import json_dumps, json_loads


class Shop:
    """Takes orders over HTTP and sends the bills from a queue."""

    def __init__(self, path: Path) -> None:
        """Keep the orders in the queue at ``path``."""
        self.path = path
        self.billed: dict[int, Any] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open the queue and run the worker as long as the service runs."""
        async with aio.Environment(self.path) as env:
            await env.new_control({"billing"})
            self.orders = await env.new_publisher(serializer=json_dumps)
            # The server handles the signals; it ends this block when it stops.
            worker = aio.Worker(self.bill, await env.new_subscriber("billing", json_loads), 4, signals=(), grace=10)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run())
                yield
                worker.stop()

    async def order(self, request: Request) -> JSONResponse:
        """Accept an order: when the client gets the answer, the order is on the disk."""
        order_id = await self.orders.send(await request.json())
        return JSONResponse({"order": order_id}, status_code=202)

    async def status(self, request: Request) -> JSONResponse:
        """Tell whether the bill was sent."""
        order_id = request.path_params["order"]
        return JSONResponse({"order": order_id, "billed": order_id in self.billed})

    async def bill(self, message: aio.Message[Any]) -> None:
        """Send a bill; when it raises, it is tried again later."""
        self.billed[message.id] = message.data


def create_app(path: Path = Path("orders")) -> Starlette:
    """Return the service."""
    shop = Shop(path)
    routes = [
        Route("/orders", shop.order, methods=["POST"]),
        Route("/orders/{order:int}", shop.status),
    ]
    app = Starlette(routes=routes, lifespan=shop.lifespan)
    app.state.shop = shop
    return app


def main() -> None:
    """Start the service, order something, and ask until it is billed."""
    from starlette.testclient import TestClient

    with tempfile.TemporaryDirectory() as folder, TestClient(create_app(Path(folder) / "orders")) as client:
        answer = client.post("/orders", json={"item": "frame", "count": 2})
        print(answer.status_code, answer.text)
        while not client.get("/orders/1").json()["billed"]:
            pass
        print(client.get("/orders/1").text)


if __name__ == "__main__":
    main()
