"""``persipubsub top`` as it runs in a terminal that knows nothing but escape sequences, as over SSH."""

import contextlib
import fcntl
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pyte
import pytest

from persipubsub.cli import app as cli
from tests.process.support import BOUND
from tests.watch.support import fill

REPOSITORY = pathlib.Path(__file__).parents[2]


class Terminal:
    """A process in a terminal of 80 columns and 24 lines."""

    def __init__(self, *arguments: str) -> None:
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self._end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "persipubsub.cli", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
            start_new_session=True,
        )
        os.close(other)

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    def press(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < deadline, f"{what}; the screen shows:\n{self.text}"
            self._take(0.1)

    def _take(self, timeout: float) -> bool:
        readable, _, _ = select.select([self._end], [], [], timeout)
        if not readable:
            return False
        try:
            data = os.read(self._end, 65536)
        except OSError:  # Linux says so when the other end is closed
            return False
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@contextlib.contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    found = Terminal(*arguments)
    try:
        yield found
    finally:
        found.close()


def test_keys_alone_lead_through_everything(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "orders")
    with terminal("top", str(tmp_path), "--interval", "0.2") as top:
        top.until(lambda: "orders" in top.text and "█" in top.text, "the queue is shown")
        top.until(lambda: "Quit" in top.text.splitlines()[-1], "and the keys")
        # Typed ahead, as over a slow line.
        top.press(b"jj\r")
        top.until(lambda: "Dead letters" in top.text, "Enter opens it")
        top.press(b"4")
        top.until(lambda: "card declined" in top.text, "its dead letters are shown")
        top.press(b"d")
        top.until(lambda: "gone for good" in top.text, "it asks before it discards")
        top.press(b"y")
        top.until(lambda: "discarded 1 of worker" in top.text, "it is discarded")
        top.press(b"q")
        top.until(lambda: top.process.poll() is not None, "it ends")
        assert top.process.returncode == 0


def test_without_a_terminal_there_is_an_error(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "orders")
    with open(os.devnull) as nothing:
        result = subprocess.run(
            [sys.executable, "-m", "persipubsub.cli", "top", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=nothing,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("persipubsub: error: `persipubsub top` needs a terminal")
    assert result.stderr.count("\n") == 1
    # Where the queues are is looked at first.
    assert cli.run(["top", "--config", str(tmp_path / "missing.json")]) == 2
    assert "missing.json" in capfd.readouterr().err


@pytest.mark.parametrize(("command", "module"), [("top", "textual"), ("dashboard", "starlette")])
def test_a_missing_extra_is_named(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    module: str,
) -> None:
    for name in [name for name in sys.modules if name.startswith((f"persipubsub.watch.{command}", module))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.run([command, str(tmp_path)]) == 2
    assert f"pip install 'persipubsub[{command}]'" in capfd.readouterr().err
