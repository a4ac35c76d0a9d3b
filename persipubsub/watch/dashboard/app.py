"""What the dashboard answers."""

import asyncio
import contextlib
import functools
import logging
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from persipubsub.errors import PersipubsubError, QueueNotFoundError, UnknownSubscriberError
from persipubsub.watch.dashboard.hub import Hub
from persipubsub.watch.dashboard.page import page
from persipubsub.watch.dashboard.security import Access, Guard
from persipubsub.watch.preview import VIEWS, View, preview, summary
from persipubsub.watch.source import Shown, Source

T = TypeVar("T")
logger = logging.getLogger("persipubsub")

#: Bytes of a request that changes something.
_MOST_BODY = 1 << 20
#: A cookie lasts so many seconds.
_COOKIE_AGE = 30 * 86400


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be done with dead letters; ids are text, as browsers cannot count so far. ``None`` means all."""

    action: Literal["requeue", "discard"]
    subscriber: str
    ids: list[str] | None


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _for_page(message: Shown, view: View) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "sent": message.sent,
        "topic": message.topic,
        "headers": {
            summary(name.encode()): summary(value if isinstance(value, bytes) else value.encode())
            for name, value in message.headers.items()
        },
        "size": message.size,
        "summary": summary(message.data),
        "preview": preview(message.data, view),
        "subscriber": message.subscriber,
        "died": message.died,
        "delivery_count": message.delivery_count,
        "reason": message.reason,
    }


class Dashboard:
    """The application: a page, a stream of what is new, and what the page asks for besides."""

    def __init__(self, hub: Hub, access: Access, hosts: Iterable[str]) -> None:
        """Answer requests for ``hosts`` with what ``hub`` sees, as far as ``access`` allows."""
        self.hub = hub
        self._access = access
        routes = [
            Route("/", self._index),
            Route("/login", self._login, methods=["POST"]),
            Route("/events", self._seen(self._events)),
            Route("/api/session", self._seen(self._session)),
            Route("/api/queues/{name:path}/messages", self._seen(self._messages)),
            Route("/api/queues/{name:path}/dead-letters", self._seen(self._dead_letters), methods=["GET"]),
            Route("/api/queues/{name:path}/dead-letters", self._seen(self._change), methods=["POST"]),
        ]
        app = Starlette(
            routes=routes,
            lifespan=self.lifespan,
            exception_handlers={PersipubsubError: _failed, HTTPException: _refused},
        )
        self.app: ASGIApp = Guard(app, hosts)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Look at the queues while the application runs."""
        sampling = asyncio.create_task(self.hub.run())
        sampling.add_done_callback(_ended)
        try:
            yield
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling

    # -- who comes in -------------------------------------------------------------------------

    def _seen(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Let only those in who may look."""

        @functools.wraps(handler)
        async def checked(request: Request) -> Response:
            if not self._access.may_look(request.headers):
                raise HTTPException(401, "Open the page with the token that the dashboard printed when it started.")
            return await handler(request)

        return checked

    async def _index(self, request: Request) -> Response:
        given = request.query_params.get("token")
        if given is not None:
            # Not to be left in the address, where it is seen and remembered.
            return self._let_in(given)
        if not self._access.may_look(request.headers):
            return _page("login.html", 401)
        return _page("index.html")

    async def _login(self, request: Request) -> Response:
        form = urllib.parse.parse_qs((await _body(request)).decode("utf-8", "replace"))
        return self._let_in(form.get("token", [""])[0].strip())

    def _let_in(self, given: str) -> Response:
        if not self._access.is_token(given):
            return _page("login.html", 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._access.cookie_name, self._access.cookie, max_age=_COOKIE_AGE, httponly=True, samesite="strict"
        )
        return response

    # -- what there is to see -----------------------------------------------------------------

    async def _session(self, request: Request) -> Response:
        return _json({"interval": self.hub.interval, "change_token": self._access.change_token})

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self.hub.stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _messages(self, request: Request) -> Response:
        view = _view(request)
        found = await _in_thread(self._source(request).last_messages)
        return _json([_for_page(message, view) for message in found])

    async def _dead_letters(self, request: Request) -> Response:
        view = _view(request)
        found = await _in_thread(self._source(request).dead_letters)
        return _json([_for_page(letter, view) for letter in found])

    # -- what can be changed ------------------------------------------------------------------

    async def _change(self, request: Request) -> Response:
        if not self._access.allow_changes:
            raise HTTPException(403, "This dashboard is read-only; start it with --allow-changes.")
        if not self._access.may_change(request.headers):
            raise HTTPException(403, "Changes are accepted from the page of this dashboard alone; load it again.")
        source = self._source(request)
        try:
            change = msgspec.json.decode(await _body(request), type=Change)
            ids = None if change.ids is None else [int(text) for text in change.ids]
        except ValueError as error:
            raise HTTPException(400, f"This change cannot be understood: {error}") from error
        act = source.requeue if change.action == "requeue" else source.discard
        return _json({"number": await _in_thread(act, change.subscriber, ids)})

    def _source(self, request: Request) -> Source:
        name = request.path_params["name"]
        try:
            return self.hub.queues.sources[name]
        except KeyError:
            raise HTTPException(404, f"There is no queue {name!r} on this dashboard.") from None


def _ended(sampling: "asyncio.Task[None]") -> None:
    if not sampling.cancelled():
        logger.error("The dashboard looks at the queues no more; start it again.", exc_info=sampling.exception())


def _page(name: str, status: int = 200) -> Response:
    found = page(name)
    return HTMLResponse(found.html, status, {"content-security-policy": found.policy})


def _view(request: Request) -> View:
    view = request.query_params.get("view", "auto")
    if view not in VIEWS:
        raise HTTPException(400, f"There is no view {view!r}; there are: {', '.join(VIEWS)}.")
    return view


async def _body(request: Request) -> bytes:
    body, size = b"", 0
    # What is too much is still read, or the browser would see a broken connection instead of the answer.
    async for chunk in request.stream():
        size += len(chunk)
        body = body + chunk if size <= _MOST_BODY else b""
    if size > _MOST_BODY:
        raise HTTPException(413, f"At most {_MOST_BODY} bytes are accepted.")
    return body


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def _refused(request: Request, error: Exception) -> Response:
    status, text = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return _json({"error": text}, status)


async def _failed(request: Request, error: Exception) -> Response:
    missing = isinstance(error, (QueueNotFoundError, UnknownSubscriberError))
    return _json({"error": str(error)}, 404 if missing else 409)
