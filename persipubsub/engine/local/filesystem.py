"""What kind of filesystem a queue lies on."""

import pathlib

#: They write elsewhere what is overwritten: allocated space is no promise there.
_COPY_ON_WRITE = {"bcachefs", "btrfs", "nilfs2", "ocfs2", "zfs"}
_TABLE = pathlib.Path("/proc/self/mountinfo")


def kind(path: pathlib.Path, table: pathlib.Path = _TABLE) -> str:
    """Return the kernel's name for the type of the filesystem at ``path``; empty if it cannot be told."""
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
        real = path.resolve()
    except OSError:
        return ""
    found, depth = "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = pathlib.Path(before.split()[4].replace("\\040", " "))
        # Of several at one place the last is seen.
        if len(mounted.parts) >= depth and real.is_relative_to(mounted):
            found, depth = after.split()[0], len(mounted.parts)
    return found


def keeps_allocations(path: pathlib.Path) -> bool:
    """Tell whether space that is allocated in a file can be written, however often, though the disk is full."""
    return kind(path) not in _COPY_ON_WRITE
