"""What the figures were measured on."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

import lmdb
import msgspec

ROOT = Path(__file__).resolve().parents[1]


class Machine(msgspec.Struct):
    """The machine, the moment, and the versions that all systems share."""

    date: str
    processor: str
    processors: int
    memory_gib: float
    system: str
    python: str
    lmdb: str
    file_system: str
    load: float
    revision: str


def describe(folder: Path) -> Machine:
    """Describe this machine; ``folder`` is where the queues are."""
    return Machine(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        processors=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        lmdb=f"py-lmdb {lmdb.__version__}, LMDB {'.'.join(map(str, lmdb.version()))}",
        file_system=_file_system(folder),
        load=round(os.getloadavg()[0], 2),
        revision=_revision(),
    )


def _processor() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the file system that ``folder`` is on."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    mounts = [line.split()[1:3] for line in lines]
    fitting = [(len(point), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(fitting)[1] if fitting else "unknown"


def _revision() -> str:
    """Return the revision of the project, with a plus if the checkout differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "persipubsub") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
