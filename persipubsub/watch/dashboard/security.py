"""Who may see the page, and who may change something: hosts, tokens, and headers that bind the browser.

================================  ================================================================================
against                           what stands in the way
================================  ================================================================================
others on the network             a token, unless only this machine can connect
a foreign page that was made to   the ``Host`` header must name this server (DNS rebinding)
look like ours to the browser
a foreign page that sends forms   changes need a header with a token that only our page is told, and the browser
                                  must not say that the request comes from elsewhere
payloads with markup in them      the page builds text nodes alone, and may run no other script than its own
================================  ================================================================================
"""

import hashlib
import hmac
import http.cookies
import ipaddress
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persipubsub.errors import SettingsError
from persipubsub.watch.dashboard.page import policy

#: A token that is given must not be found by trying.
LEAST_TOKEN = 16
CHANGE_HEADER = "x-persipubsub-token"

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": policy(),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """What a request must show.

    :param token: asked for with every request; ``None``: nobody is asked
    :param allow_changes: let those who may look also change something
    """

    def __init__(self, token: str | None, allow_changes: bool, port: int) -> None:
        """Check the token.

        :raise SettingsError: it is too short
        """
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"The token has {len(token)} characters, which can be guessed; give at least {LEAST_TOKEN}, "
                "or leave it out and one is made."
            )
        self.allow_changes = allow_changes
        #: Browsers send the cookies of all ports of a host to each of them.
        self.cookie_name = f"persipubsub-{port}"
        self._token = token
        self._change_token = secrets.token_urlsafe(32)

    @property
    def change_token(self) -> str | None:
        """Return what changes must carry; ``None`` if there are to be none."""
        return self._change_token if self.allow_changes else None

    @property
    def cookie(self) -> str:
        """Return what a browser keeps instead of the token; it holds until the token is another one."""
        key = (self._token or "").encode()
        return hmac.new(key, b"persipubsub dashboard", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Tell whether it is the token, in a time that does not depend on how much of it is right."""
        return self._token is None or _same(given, self._token)

    def may_look(self, headers: Headers) -> bool:
        """Tell whether a request shows the token, or the cookie that stands for it."""
        if self._token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given.strip())
        try:
            cookies = http.cookies.SimpleCookie(headers.get("cookie", ""))
        except http.cookies.CookieError:
            return False
        morsel = cookies.get(self.cookie_name)
        return morsel is not None and _same(morsel.value, self.cookie)

    def may_change(self, headers: Headers) -> bool:
        """Tell whether a request comes from our own page, or from a program that was told the token."""
        if not self.allow_changes or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return False
        return _same(headers.get(CHANGE_HEADER, ""), self._change_token)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


class Guard:
    """Lets no request in that is meant for another host, and no answer out without the headers above."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """Guard ``app``; ``hosts`` are the names that this server goes by."""
        self._inner = app
        self._checked = TrustedHostMiddleware(app, [*hosts], www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # An address cannot be rebound: whoever names the very one that was connected to is right.
        address, port = (scope.get("server") or ("", None))[:2]
        named = f"[{address}]" if ":" in address else address
        direct = Headers(scope=scope).get("host") in (named, f"{named}:{port}")
        await (self._inner if direct else self._checked)(scope, receive, send_with_headers)
