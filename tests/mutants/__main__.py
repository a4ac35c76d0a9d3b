"""Try mutants of the core."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.mutants import changes

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
CORE = pathlib.Path("persipubsub", "engine", "local")
#: What takes, settles, publishes, prunes, waits and writes.
MODULES = ("take", "settle", "publish", "prune", "returning", "holds", "writelock", "waiting", "sharing")
#: Those that only several processes try.
_SHARED = ("writelock", "waiting", "sharing")
_FAST = (
    "tests/model/test_stateful.py",
    "tests/unit/test_publisher.py",
    "tests/unit/test_subscriber.py",
    "tests/unit/test_doom.py",
    "tests/contract",
)
_OF_PROCESSES = (
    "tests/process/test_waking.py",
    "tests/process/test_stuck_writer.py",
    "tests/process/test_sharing.py",
    "tests/process/test_leases.py",
)
_EXAMPLES = 15
#: The contract holds for other engines, too.
_FILTER = "not jetstream and not memory"
#: A mutant may take as many times as long as the original, and some seconds.
_PATIENCE, _MORE = 2, 20.0

#: Lines that are shown of tests that fail on the original.
_LAST = 30

KILLED, SURVIVED, HUNG = "killed", "survived", "hung"


@dataclasses.dataclass
class Mutant:
    """A change, and what became of it."""

    module: str
    number: int
    line: int
    fate: str
    diff: list[str]
    seconds: float


class Copy:
    """A copy of the sources, in which one module at a time is changed."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Copy them."""
        self.path = folder / "sources"
        self._patience: float | None = None
        for name in ("persipubsub", "tests"):
            shutil.copytree(REPOSITORY / name, self.path / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", self.path)
        self._queues = folder / "queues"
        self._transcript = folder / "transcript"

    def run(self, tests: Sequence[str]) -> tuple[str, float]:
        """Run tests in the copy; return what became of it, and the seconds."""
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", _FILTER]
        command += ["--basetemp", str(self._queues), "--timeout", "60", *tests]
        environment = os.environ | {"PYTHONPATH": str(self.path), "PERSIPUBSUB_EXAMPLES": str(_EXAMPLES)}
        began = time.monotonic()
        with (
            open(self._transcript, "wb") as log,
            subprocess.Popen(
                command, cwd=self.path, env=environment, stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                fate = KILLED if process.wait(self._patience) else SURVIVED
            except subprocess.TimeoutExpired:
                fate = HUNG
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        return fate, time.monotonic() - began

    def try_original(self, tests: Sequence[str]) -> float:
        """Run the tests on what is not changed; return the seconds.

        :raise RuntimeError: they fail
        """
        self._patience = None
        fate, took = self.run(tests)
        if fate != SURVIVED:
            last = self._transcript.read_text(errors="replace").splitlines()[-_LAST:]
            raise RuntimeError("\n".join(["The tests fail on the sources as they are:", *last]))
        self._patience = _PATIENCE * took + _MORE
        return took

    def try_mutant(self, module: pathlib.Path, number: int, tests: Sequence[str]) -> Mutant:
        """Change one place, run the tests, and change it back."""
        source = (self.path / module).read_text()
        changed, line = changes.change(source, number)
        (self.path / module).write_text(changed)
        try:
            fate, took = self.run(tests)
        finally:
            (self.path / module).write_text(source)
        return Mutant(str(module), number, line, fate, list(changes.difference(source, changed)), round(took, 1))


def tests_of(module: str, tests: Sequence[str]) -> Sequence[str]:
    """Return the tests that are to notice a change of a module."""
    return tests or ((*_OF_PROCESSES, *_FAST) if module in _SHARED else _FAST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants and show the survivors; return 0, for a survivor is to be judged by a reader."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--modules", nargs="+", default=MODULES, metavar="NAME", help="of the local engine")
    parser.add_argument("--seed", type=int, default=1, help="the same seed tries the same (%(default)d)")
    parser.add_argument("--number", type=int, default=50, help="how many of all mutants (%(default)d)")
    parser.add_argument("--tests", nargs="+", default=(), help="run these tests instead of the fast ones")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to this file")
    parser.add_argument("--folder", type=pathlib.Path, help="where the copy is made: best in memory")
    given = parser.parse_args(arguments)
    possible = [
        (name, number)
        for name in given.modules
        for number in range(changes.count((REPOSITORY / CORE / f"{name}.py").read_text()))
    ]
    chosen = random.Random(given.seed).sample(possible, min(given.number, len(possible)))
    chosen.sort(key=lambda one: (given.modules.index(one[0]) if one[0] in given.modules else 0, one[1]))
    print(f"seed {given.seed}: {len(chosen)} of {len(possible)} mutants of {', '.join(given.modules)}", flush=True)
    mutants: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=given.folder, ignore_cleanup_errors=True) as name:
        sources = Copy(pathlib.Path(name))
        tried: Sequence[str] | None = None
        for module, number in chosen:
            tests = tests_of(module, given.tests)
            if tests != tried:
                tried = tests
                print(f"the original: {sources.try_original(tests):.0f} s", flush=True)
            mutant = sources.try_mutant(CORE / f"{module}.py", number, tests)
            mutants.append(mutant)
            print(f"{mutant.fate}: {module}:{mutant.line} ({number}), {mutant.seconds:.0f} s", flush=True)
            if mutant.fate == SURVIVED:
                print("\n".join(f"    {line}" for line in mutant.diff), flush=True)
            if given.json is not None:
                report = {
                    "seed": given.seed,
                    "possible": len(possible),
                    "mutants": list(map(dataclasses.asdict, mutants)),
                }
                given.json.write_text(json.dumps(report, indent=2) + "\n")
    survivors = sum(mutant.fate == SURVIVED for mutant in mutants)
    noticed = len(mutants) - survivors
    print(f"{noticed} of {len(mutants)} noticed ({noticed / max(1, len(mutants)):.0%}), {survivors} survived")
    return 0


if __name__ == "__main__":
    sys.exit(main())
