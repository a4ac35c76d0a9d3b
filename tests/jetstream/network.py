"""A network of a few hosts on this machine, whose cables can be pulled.

Every host is a network namespace, linked by a bridge to the namespace of this process. All of it vanishes with this
process, which therefore has to run in namespaces of its own: ``command_of_its_own`` says how.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests.process.support import eventually

_TOOLS = ("ip", "unshare", "nsenter")


def missing() -> str | None:
    """Say what lacks to have such a network; ``None`` if nothing does."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"there is no {', '.join(lacking)} (packages iproute2 and util-linux)"
    done = subprocess.run([*command_of_its_own(), "true"], capture_output=True, text=True)
    return f"no network namespaces: {done.stderr.strip()}" if done.returncode else None


def command_of_its_own() -> list[str]:
    """Return what a command is to be preceded by, to run in a network of its own whose processes end with it."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]


class Host:
    """A host: what runs there is begun by ``prefix``."""

    def __init__(self, number: int) -> None:
        """Link it to the bridge."""
        self.address = f"10.77.0.{number}"
        self._cable = f"cable{number}"
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own, its = (f"/proc/{pid}/ns/net" for pid in ("self", self._holder.pid))
        if not eventually(lambda: os.readlink(its) != os.readlink(own)):
            raise RuntimeError("the network namespace never came")
        pid = str(self._holder.pid)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", pid)
        ip("link", "set", self._cable, "master", "bridge", "up")
        self._ip("addr", "add", f"{self.address}/24", "dev", "eth0")
        for name in ("lo", "eth0"):
            self._ip("link", "set", name, "up")

    @property
    def prefix(self) -> list[str]:
        """Return what a command is to be preceded by, to run on this host."""
        return ["nsenter", "-t", str(self._holder.pid), "--net"]

    def cut_off(self) -> None:
        """Pull the cable: nothing comes in or goes out, and nobody is told."""
        ip("link", "set", self._cable, "down")

    def part_from(self, others: Sequence["Host"]) -> None:
        """Let it reach some others no more, nor they it; the rest can still reach both."""
        for other in others:
            self._ip("route", "add", "blackhole", f"{other.address}/32")

    def heal(self) -> None:
        """Undo both."""
        ip("link", "set", self._cable, "up")
        self._ip("route", "flush", "type", "blackhole")

    def _ip(self, *words: str) -> None:
        subprocess.run([*self.prefix, "ip", *words], check=True)

    def close(self) -> None:
        """Remove it."""
        self._holder.kill()
        self._holder.wait()


def build(count: int) -> list[Host]:
    """Link so many hosts to a bridge in the network of this process, which has to be its own.

    :raise RuntimeError: it is not
    """
    if subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.count("\n") > 1:
        raise RuntimeError(f"this is the network of others; start with: {' '.join(command_of_its_own())}")
    ip("link", "set", "lo", "up")
    ip("link", "add", "bridge", "type", "bridge")
    ip("addr", "add", "10.77.0.254/24", "dev", "bridge")
    ip("link", "set", "bridge", "up")
    return [Host(number) for number in range(1, count + 1)]


def ip(*words: str) -> None:
    """Configure the network of this process."""
    subprocess.run(["ip", *words], check=True, stdout=sys.stderr)
