"""The machine around a queue: the filesystem it lies on, its limits, the pid namespace."""

import os
import pathlib
import re
import resource

import msgspec

#: Filesystems that other machines may write to as well: locks and maps are not coherent between them.
_NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|ceph|glusterfs|lustre|afs|gfs2|ocfs2|beegfs|virtiofs|fuse\..*|fuse")
_OCTAL = re.compile(r"\\([0-7]{3})")
MOUNTS = pathlib.Path("/proc/self/mountinfo")


class Mount(msgspec.Struct, frozen=True):
    """Where a path lies."""

    point: str
    kind: str
    source: str
    read_only: bool

    @property
    def is_network(self) -> bool:
        """Tell whether other machines may use the same files."""
        return _NETWORK.fullmatch(self.kind) is not None


def mount_of(path: pathlib.Path, mounts: pathlib.Path = MOUNTS) -> Mount | None:
    """Return the mount that a path lies on, ``None`` where the system does not tell (macOS)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best: Mount | None = None
    for line in lines:
        mount = _parse(line)
        # A later line covers an earlier one with the same mount point.
        if mount is not None and _is_below(real, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _parse(line: str) -> Mount | None:
    """Parse a line such as ``36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw``."""
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(), right.split()
    if not separator or len(fields) < 6 or len(tail) < 2:
        return None
    point, source = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), text) for text in (fields[4], tail[1]))
    options = fields[5].split(",") + (tail[2].split(",") if len(tail) > 2 else [])
    return Mount(point, tail[0], source, "ro" in options)


def open_files() -> tuple[int, int]:
    """Return how many files this process may have open, and how many the system would let it be raised to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = 2**63 - 1
    return (unlimited if soft == resource.RLIM_INFINITY else soft), (
        unlimited if hard == resource.RLIM_INFINITY else hard
    )


def pid_namespace() -> str | None:
    """Return the name of this process's pid namespace, ``None`` where there is no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
