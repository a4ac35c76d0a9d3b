"""Runs what a page of the documentation shows, in its order, in a folder of its own.

What a block is:

- ``.. code-block:: LANGUAGE`` with a ``:caption:`` that is a file name: the file is written.
- ``.. literalinclude:: PATH`` with such a caption: the file is copied. Both only where a command follows.
- ``.. code-block:: python`` with ``>>>``: a doctest; the blocks of a page share their names.
- ``.. code-block:: console``: each line after ``$`` is given to a shell, and must end with 0 after printing what
  follows it; ``...`` stands for anything. The caption is the name of a terminal: each is a shell of its own, which
  stays. With ``:class: goes-on`` the last command need not end: it has to print what is shown. A block without ``$``
  shows what a terminal prints meanwhile.

Other languages (text, toml, ini and so on, without a caption) are shown and not run.
"""

import contextlib
import dataclasses
import doctest
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.process.support import BOUND, eventually

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: Languages that may be shown without being run or written.
SHOWN_ONLY = {"text", "none", "ini", "toml", "c", "nginx", "yaml", "docker", "sql"}
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page; ``line`` is where it begins."""

    language: str
    argument: str
    options: dict[str, str]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that are code."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        match = re.fullmatch(r"( *)\.\. (code-block|literalinclude):: *(.*)", line)
        if match is None:
            continue
        indent = len(match[1])
        body: list[str] = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= indent:
                break
            body.append(following)
        text = textwrap.dedent("\n".join(body)).strip("\n")
        options: dict[str, str] = {}
        while option := re.match(r":([\w-]+): *(.*)\n?", text):
            options[option[1]] = option[2]
            text = text[option.end() :]
        language = match[3] if match[2] == "code-block" else ""
        found.append(Block(language, match[3], options, text.strip("\n"), number + 1))
    return found


def pages() -> list[Path]:
    """Return the pages that promise to run: the front page, the tutorial and the how-to guides."""
    return [DOCS / "index.rst", *sorted(DOCS.glob("tutorial/*.rst")), *sorted(DOCS.glob("howto/*.rst"))]


def run(page: Path, folder: Path) -> None:
    """Run all blocks of a page in ``folder``; raise an AssertionError that names the line where it differs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        terminals: dict[str, Terminal] = {}
        for block in blocks(page):
            where = f"{os.path.relpath(page, ROOT)}:{block.line}"
            caption = block.options.get("caption", "")
            if block.language == "console":
                terminal = terminals.get(caption)
                if terminal is None:
                    terminal = terminals[caption] = stack.enter_context(open_terminal(folder, len(terminals)))
                terminal.show(block, where)
            elif not block.language and caption:
                (folder / caption).write_bytes((page.parent / block.argument).read_bytes())
            elif caption:
                target = folder / caption
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text + "\n", encoding="utf-8")
            elif block.language == "python":
                _run_doctest(block, names, where)


def _run_doctest(block: Block, names: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text + "\n", names, where, where, block.line)
    assert test.examples, f"{where}: a block without >>> needs a caption, a file name"
    # A copy is made for the test, and cleared after it: keep what it defined.
    said: list[str] = []
    doctest.DocTestRunner(optionflags=_OPTIONS, verbose=False).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, "".join(said)


class Terminal:
    """A shell that a reader would have open in a window."""

    def __init__(self, shell: subprocess.Popen[bytes], commands: int, output: Path) -> None:
        self._shell = shell
        self._commands = commands
        self._output = output
        self._seen = 0
        self._count = 0

    def show(self, block: Block, where: str) -> None:
        """Type what the block shows after ``$`` and wait for what it shows as output."""
        first, *steps = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        if first.strip():
            self._expect(None, first, where)
        for number, step in enumerate(steps):
            lines = step.split("\n")
            command = lines.pop(0)
            while command.endswith("\\") and lines:
                command += "\n" + lines.pop(0)
            goes_on = block.options.get("class") == "goes-on" and number == len(steps) - 1
            self._count += 1
            mark = f"\0end {self._count} of {self._shell.pid}: "
            ending = f"printf '\\0end {self._count} of {self._shell.pid}: %d\\n' $?"
            os.write(self._commands, f"{command}\n{ending}\n".encode())
            self._expect(None if goes_on else mark, "\n".join(lines), f"{where}: {command}")

    def _expect(self, mark: str | None, wanted: str, where: str) -> None:
        """Wait for the output of a command; if it has to end (``mark``), for that too."""
        output = ""

        def is_over() -> bool:
            nonlocal output
            output = self._output.read_bytes()[self._seen :].decode()
            ended = mark is not None and re.search(re.escape(mark) + r"\d+\n", output) is not None
            return ended or _is_met(mark, wanted, output)

        eventually(is_over)
        if not _is_met(mark, wanted, output):
            raise AssertionError(
                f"{where}\nafter {BOUND:g} s, or its end; the page shows:\n{wanted}\nbut it printed:\n{output}"
            )
        self._seen += len(output.encode()) if mark is None else output.encode().index(mark.encode()) + len(f"{mark}0\n")


def _is_met(mark: str | None, wanted: str, output: str) -> bool:
    """Tell whether the output is what was wanted, and the command ended well if it has to end."""
    # Marks of commands that went on before and ended meanwhile are no output.
    said = re.sub(r"\0end \d+ of \d+: \d+\n", "", output.partition(mark)[0] if mark else output)
    matches = doctest.OutputChecker().check_output(wanted.strip() + "\n", said.strip() + "\n", _OPTIONS)
    return matches and (mark is None or f"{mark}0\n" in output)


@contextlib.contextmanager
def open_terminal(folder: Path, number: int) -> Iterator[Terminal]:
    """Start a shell in ``folder``; it and what runs in it ends with the block."""
    reader, writer = os.pipe()
    # Outside of the folder, so that no page sees it; in it stands what readers would have, too.
    output = folder.with_name(f"{folder.name}-terminal-{number}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "100",
    }
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", f"/dev/fd/{reader}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[reader],
            start_new_session=True,
        )
    os.close(reader)
    try:
        yield Terminal(shell, writer, output)
    finally:
        os.close(writer)
        # The shell and what it left running are one process group: it was started as a session of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)
        try:
            shell.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
