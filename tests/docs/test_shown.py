"""What pages show without running it is at least possible: commands have these options, code and JSON can be read."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from persipubsub.cli.app import app
from tests.docs.pages import DOCS, ROOT, blocks, pages

#: Pages that are not run as a whole.
SHOWN = [
    *sorted(set(DOCS.rglob("*.rst")) - set(pages())),
    *sorted(path for path in ROOT.glob("*.rst")),
    *sorted((ROOT / "examples").rglob("*.rst")),
]
ROOT_COMMAND: Any = typer.main.get_command(app)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[str]:
    """Return the lines that call the program, of blocks and of sentences."""
    found = []
    for block in blocks(page):
        if block.language in ("shell", "console"):
            text = block.text.replace("\\\n", " ")
            found += [line.strip().removeprefix("$ ") for line in text.splitlines()]
    text = " ".join(page.read_text(encoding="utf-8").split())
    found += re.findall(r"(?<!`)``(persipubsub [^`]+)``", text)
    return [line for line in found if line.startswith("persipubsub ")]


def lacking(line: str) -> str | None:
    """Return what a command line has that the program has not."""
    words = shlex.split(re.split(r" [|><#]| 2>|\.\.\.|…", line)[0])[1:]
    command = ROOT_COMMAND
    while words and hasattr(command, "commands"):
        if words[0] == "--help":
            return None
        inner = command.commands.get(words.pop(0))
        if inner is None:
            return "a command that does not exist"
        command = inner
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    unknown = {word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)} - known
    return f"the options {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_commands_exist(page: Path) -> None:
    wrong = {line: what for line in commands(page) if (what := lacking(line)) is not None}
    assert not wrong


def test_the_look_at_commands_sees_what_is_wrong() -> None:
    assert sum(len(commands(page)) for page in SHOWN) > 40
    assert lacking("persipubsub backup queue there") is None
    assert lacking("persipubsub dead-letters list queue --json | cat --nothing") is None
    assert lacking("persipubsub save queue") == "a command that does not exist"
    assert lacking("persipubsub backup --hot queue") == "the options --hot"


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_code_can_be_read(page: Path) -> None:
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "python" and ">>>" not in block.text:
            compile(block.text, where, "exec")
