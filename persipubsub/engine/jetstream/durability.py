"""Whether the servers keep the durability that is asked for.

By default nats-server confirms a message before it is on the disk, and syncs every two minutes: that survives any
death of the server's process, and a power cut only as far as other machines have replicas. With ``sync_interval:
always`` it syncs first. A client cannot see that; the server's monitoring endpoint tells.
"""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final

from persipubsub.engine.jetstream.location import Location
from persipubsub.errors import UnsupportedByEngineError
from persipubsub.limits import Durability

_TIMEOUT: Final = 5.0
_LARGEST: Final = 16 * 1024**2


def check_durability(durability: Durability, where: Location, server_id: str) -> None:
    """Refuse a durability that is not proven; this blocks while the endpoints are asked.

    :param server_id: of the server that we are connected to
    :raise UnsupportedByEngineError: it is not; says what to do
    """
    if durability is Durability.PROCESS:
        return
    advice = (
        'Pass durability=Durability.PROCESS to new_control (`"durability": "process"` in a deployment file): it '
        "survives the death of a server's process, and with replicas that of a machine. Or set `sync_interval: always` "
        "in the jetstream block of every server and prove it: nats://…/queue?monitor=http://host:8222"
    )
    if not where.monitors:
        default = ", the default," if durability is Durability.FULL else ""
        raise UnsupportedByEngineError(
            f"Nothing proves that {where.shown} syncs a message to the disk before it confirms it, as the durability "
            f"{durability.value!r}{default} promises. {advice}."
        )
    proven: set[str] = set()
    servers = 1
    for monitor in where.monitors:
        seen = _get(monitor, "varz", where)
        config = (seen.get("jetstream") or {}).get("config") or {}
        if config.get("sync_always") is not True:
            raise UnsupportedByEngineError(
                f"The server {seen.get('server_name')} at {monitor} does not sync each message (its sync_interval is "
                f"not `always`), so {where.shown} cannot keep the durability {durability.value!r}. {advice}."
            )
        proven.add(str(seen.get("server_id")))
        meta = _get(monitor, "jsz", where).get("meta_cluster") or {}
        servers = max(servers, int(meta.get("cluster_size") or 1))
    if server_id not in proven or len(proven) < servers:
        raise UnsupportedByEngineError(
            f"The monitoring endpoints prove {', '.join(sorted(proven))}, but {where.shown} has {servers} servers, "
            f"{server_id} among them: name the endpoint of every server (monitor=http://a:8222,http://b:8222)."
        )


def _get(monitor: str, page: str, where: Location) -> dict[str, Any]:
    url = f"{monitor.rstrip('/')}/{page}"
    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("it is no http URL")
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            found: dict[str, Any] = json.loads(answer.read(_LARGEST))
            return found
    except (OSError, ValueError, urllib.error.URLError, http.client.HTTPException) as error:
        raise UnsupportedByEngineError(
            f"The monitoring endpoint {url}, which is to prove the durability of {where.shown}, cannot be read: "
            f"{error}. Check the address, and that the server has an http_port."
        ) from error
