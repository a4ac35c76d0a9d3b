"""``.. command-line::`` describes every command of the program, from the program itself."""

from typing import Any

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from persipubsub.cli.app import app


class CommandLine(SphinxDirective):
    """A section for each command, with what ``--help`` prints."""

    def run(self) -> list[nodes.Node]:
        """Walk over the commands."""
        return [_section(name, text) for name, text in helps()]


def helps() -> list[tuple[str, str]]:
    """Return every command by its full name, with its help: 80 columns, without colour."""
    found: list[tuple[str, str]] = []
    _walk(typer.main.get_command(app), None, "persipubsub", found)
    return found


def _walk(command: Any, parent: Any, name: str, found: list[tuple[str, str]]) -> None:
    # Typer may bring a click of its own, so the objects are asked for what they have and not for what they are.
    options = {"parent": parent, "resilient_parsing": True, "terminal_width": 80, "max_content_width": 80}
    context = command.make_context(name.rpartition(" ")[2], [], **options)
    found.append((name, command.get_help(context)))
    for sub_name, sub_command in sorted(getattr(command, "commands", {}).items()):
        _walk(sub_command, context, f"{name} {sub_name}", found)


def _section(name: str, text: str) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(name)], names=[name])
    section += nodes.title(text=name)
    section += nodes.literal_block(text, text, language="none")
    return section


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
