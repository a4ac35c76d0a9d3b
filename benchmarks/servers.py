"""Starts real servers on free ports of the loopback interface."""

import contextlib
import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError

#: Seconds that a server may take until it answers.
STARTING = 30.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def find_program(name: str, package: str | None = None) -> Path | None:
    """Return where a program is: in PATH, beside this Python, or in an installed package."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is not None:
        return Path(found)
    if package is None:
        return None
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == name and path.is_file():
            return path
    return None


def version_of(program: Path) -> str:
    """Return the version that a program says it is."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=STARTING, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", output)
    return found.group() if found else output.strip()


@contextlib.contextmanager
def serving(command: Sequence[str | Path], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block ends; it answers at ``port`` when the block begins.

    :raise BenchmarkError: it ended, or does not answer in time; shows what it said
    """
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            _wait_for(process, port, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STARTING)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise BenchmarkError(
        f"{process.args!r} does not answer at port {port}; it said: {log.read_text(errors='replace')[-800:]}"
    )
