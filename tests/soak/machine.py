"""Where a soak ran: a figure means little without it."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess

import lmdb

_HERE = pathlib.Path(__file__).parent


def filesystem(path: pathlib.Path) -> str:
    """Return the type of the filesystem that a path is on, as the kernel calls it."""
    table = pathlib.Path("/proc/self/mountinfo")
    if not table.exists():
        return f"unknown ({platform.system()})"
    found, longest = "unknown", -1
    for line in table.read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounted = pathlib.Path(before.split()[4].encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(mounted) and len(mounted.parts) >= longest:
            found, longest = after.split()[0], len(mounted.parts)
    return found


def processor() -> str:
    """Return the name of the processor."""
    table = pathlib.Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version() -> str:
    """Return our own version, with the commit if the sources know it."""
    found = importlib.metadata.version("persipubsub")
    try:
        done = subprocess.run(
            ["git", "-C", _HERE, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return found
    return f"{found} ({done.stdout.strip()})"


def describe(folder: pathlib.Path) -> dict[str, str | int | None]:
    """Return versions, machine and filesystem."""
    return {
        "persipubsub": version(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "lmdb": f"py-lmdb {lmdb.__version__}, LMDB {'.'.join(map(str, lmdb.version()))}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "filesystem": filesystem(folder),
    }
