"""Two revisions of the package, measured side by side."""

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from benchmarks.ratios import advantage
from benchmarks.report import absences, facts, measured_figures, number, table
from benchmarks.results import Results
from benchmarks.runner import Contestant
from benchmarks.systems.base import Role, System

#: The name of a revision that stands for the files as they are.
WORKING = "."


@contextlib.contextmanager
def revisions(names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Unpack revisions of the package into folders of their own; ``.`` stands for the files as they are.

    :raise BenchmarkError: there is no such revision
    """
    if len(set(names)) != len(names):
        raise BenchmarkError(f"{names[0]} would be compared with itself; give two revisions.")
    with tempfile.TemporaryDirectory(prefix="persipubsub-revisions-") as folder:
        sources = {}
        for number_, name in enumerate(names):
            sources[name] = ROOT if name == WORKING else _unpack(name, Path(folder) / str(number_))
        yield sources


def _unpack(name: str, folder: Path) -> Path:
    done = subprocess.run(
        ["git", "-C", ROOT, "archive", "--format=tar", name, "persipubsub"], capture_output=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"There is no revision {name!r} of the package: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def label(system: str, revision: str) -> str:
    """Return what a system of a revision is called."""
    return f"{system}@{revision}"


def contestants(systems: Sequence[System], sources: dict[str, Path]) -> list[Contestant]:
    """Return each system of ours in each revision, and the others once.

    :raise BenchmarkError: none is ours
    """
    ours = [system for system in systems if system.role is Role.OURS]
    if not ours:
        raise BenchmarkError("Only systems of ours have revisions; name one of them, or leave --systems out.")
    return [Contestant(label(system.name, name), system, source) for system in ours for name, source in sources.items()]


def text(results: Results, first: str, second: str) -> str:
    """Return what the second revision does better or worse than the first."""
    lines: list[tuple[str, ...]] = [("figure", "system", first, second, "unit", "")]
    for _, figure in measured_figures(results):
        for system in results.values[figure.key]:
            name, _, revision = system.rpartition("@")
            if revision != first:
                continue
            before = results.spread(figure.key, system)
            after = results.spread(figure.key, label(name, second))
            if before is None or after is None:
                continue
            gain = advantage(figure, after.median, before.median)
            apart = after.lowest > before.highest or after.highest < before.lowest
            verdict = "same" if not apart else "better" if gain > 1 else "worse"
            lines.append(
                (
                    figure.key,
                    name,
                    number(before.median),
                    number(after.median),
                    figure.unit,
                    f"{gain:.2f} x ({verdict})",
                )
            )
    return "\n".join([*facts(results), *absences(results), "", *table(lines)])
