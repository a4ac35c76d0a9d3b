"""What the README shows beside its Python examples, which the gate runs as doctests."""

import re
import textwrap
from pathlib import Path
from typing import Any

import typer.main

from persipubsub.cli.app import app
from persipubsub.configfile.reading import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    pattern = rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(match).strip() for match in re.findall(pattern, README, re.MULTILINE)]


def test_continuous_integration_runs_the_test_line() -> None:
    lines = [block for block in blocks("shell") if "venv" in block]
    assert len(lines) == 2
    assert all("\n" not in line for line in lines)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == lines[1]
    assert lines[1] in (ROOT / "CONTRIBUTING.rst").read_text(encoding="utf-8")


def test_the_deployment_is_valid(tmp_path: Path) -> None:
    (snippet,) = blocks("json")
    (tmp_path / "queues.json").write_text(snippet, encoding="utf-8")
    config = load(tmp_path / "queues.json")
    assert set(config.queues) == {"frames", "orders"}
    assert config.queues["orders"].subscribers["billing"].settings.lease == 30.0


def test_the_table_has_every_command() -> None:
    section = README.partition("Command line\n---")[2].partition("Each has ``--help``")[0]
    command: Any = typer.main.get_command(app)
    assert set(re.findall(r"``([a-z-]+)``", section)) == set(command.commands)


def test_it_reads_the_same_on_the_index_of_packages() -> None:
    """There links to files beside it would lead nowhere: it names them, and they are there."""
    assert set(re.findall(r"<([^<>\s]+)>`_", README)) == set(re.findall(r"<(https://[^<>\s]+)>`_", README))
    named = re.findall(r"^``([^`\s]+)``  ", README.partition("Where to go\n---")[2], re.MULTILINE)
    assert len(named) > 5
    grafted = re.findall(r"^(?:graft|include) (.+)$", (ROOT / "MANIFEST.in").read_text(encoding="utf-8"), re.MULTILINE)
    for name in named:
        assert (ROOT / name).exists(), name
        assert name.partition("/")[0] in " ".join(grafted).split(), f"{name} is not in the source distribution"


def test_the_code_to_start_with_fits_on_a_screen() -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 24
