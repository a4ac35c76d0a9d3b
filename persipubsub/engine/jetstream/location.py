"""Where a queue on NATS is, and how to get in: the parts of a ``nats://`` URL.

::

    nats://user:password@host1:4222,host2:4222/queue?replicas=3&credentials=/etc/nats/app.creds

=================  ==================================================================================
parameter          meaning
=================  ==================================================================================
``replicas``       servers of a cluster that keep the queue, 1 to 5; only used when it is created
``ack_wait``       seconds until a message of a dead process is delivered again; used when a subscriber is added
``credentials``    path of a credentials file (JWT and seed)
``token``          a token
``tls_ca``         path of the certificates of authorities that sign the servers' certificates
``tls_cert``       path of this client's certificate
``tls_key``        path of its key
``monitor``        URL of a server's monitoring endpoint, to prove durability; separate several by commas
=================  ==================================================================================

``tls://`` instead of ``nats://`` asks for TLS with the authorities that the system knows.
"""

import dataclasses
import math
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from persipubsub.errors import IdentifierError, OpenError
from persipubsub.names import encode_name

SCHEMES = ("nats://", "tls://")
DEFAULT_PORT = 4222
DEFAULT_ACK_WAIT = 10.0
MOST_REPLICAS = 5
_PATHS = ("credentials", "tls_ca", "tls_cert", "tls_key")
_PARAMETERS = (*_PATHS, "replicas", "ack_wait", "token", "monitor")
_MONITOR = re.compile(r"^(https?):/+")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """The parts of the URL; ``shown`` has no secrets in it and goes into messages."""

    shown: str
    servers: tuple[str, ...]
    queue: str
    user: str | None = None
    password: str | None = None
    token: str | None = None
    replicas: int = 1
    ack_wait: float = DEFAULT_ACK_WAIT
    credentials: str | None = None
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    monitors: tuple[str, ...] = ()


def is_location(text: str) -> bool:
    """Tell whether ``text`` is a URL of this engine.

    >>> is_location("nats://127.0.0.1/frames"), is_location("queues/frames")
    (True, False)
    """
    return text.startswith(SCHEMES)


def parse(text: str) -> Location:
    """Take a URL apart.

    >>> parse("nats://me:secret@127.0.0.1/frames?replicas=3").shown
    'nats://127.0.0.1:4222/frames'

    :raise OpenError: it is malformed; names the part
    """
    url = urlsplit(text)
    login, _, hosts = url.netloc.rpartition("@")
    shown_hosts = [host if re.search(r":[0-9]+$", host) else f"{host}:{DEFAULT_PORT}" for host in hosts.split(",")]
    path = url.path.removeprefix("/")
    shown = f"{url.scheme}://{','.join(shown_hosts)}/{path}"
    for host in hosts.split(","):
        if not _HOST.fullmatch(host):
            raise OpenError(f"{shown} names no server where {host!r} stands; write nats://host:{DEFAULT_PORT}/queue.")
    queue = unquote(path)
    if not queue or "/" in queue:
        raise OpenError(f"{shown} names no queue; write nats://host:{DEFAULT_PORT}/queue.")
    try:
        encode_name(queue, "queue name")
    except IdentifierError as error:
        raise OpenError(f"{shown}: {error}") from None
    given = _parameters(url.query, shown)
    user, _, password = login.partition(":")
    return Location(
        shown=shown,
        servers=tuple(f"{url.scheme}://{host}" for host in shown_hosts),
        queue=queue,
        user=unquote(user) or None,
        password=unquote(password) or None,
        token=given.get("token"),
        replicas=int(_number(given, "replicas", 1, MOST_REPLICAS, "1", shown)),
        ack_wait=_number(given, "ack_wait", 0.1, 3600, str(DEFAULT_ACK_WAIT), shown),
        credentials=given.get("credentials"),
        tls=url.scheme == "tls" or any(name in given for name in ("tls_ca", "tls_cert", "tls_key")),
        tls_ca=given.get("tls_ca"),
        tls_cert=given.get("tls_cert"),
        tls_key=given.get("tls_key"),
        monitors=tuple(_MONITOR.sub(r"\1://", each) for each in given.get("monitor", "").split(",") if each),
    )


def _parameters(query: str, shown: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise OpenError(f"{shown} has no parameter {name!r}; there are: {', '.join(sorted(_PARAMETERS))}.")
        if name in given or not value:
            raise OpenError(f"{shown} gives {name!r} {'twice' if name in given else 'no value'}; give it one value.")
        given[name] = value
    return given


def _number(given: dict[str, str], name: str, low: float, high: float, default: str, shown: str) -> float:
    text = given.get(name, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    whole = name == "replicas"
    if not low <= value <= high or (whole and value != int(value)):
        raise OpenError(f"{shown}: {name} must be a number from {low:g} to {high:g}, but is {text!r}.")
    return value
