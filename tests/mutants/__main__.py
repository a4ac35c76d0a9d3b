"""Try mutants of the core."""

import argparse
import ast
import collections
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
from tests.mutants.reach import Reach, lines_of
from tests.mutants.warm import HUNG, KILLED, SURVIVED, Answer, Warm

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
CORE = pathlib.Path("persipubsub", "engine", "local")
#: What takes, settles, publishes, prunes, waits, writes, and what these stand on.
# fmt: off
MODULES = (
    "take", "taker", "settle", "publish", "prune", "returning", "holds", "work", "batches", "blocks", "doom",
    "gaps", "deadletters", "jobs", "removal", "roster", "owners", "store", "gate", "writing", "committing", "writelock",
    "reading", "waiting", "sharing", "posts", "board", "bells", "living", "look",
)
# fmt: on
#: Tried by tests that run in one process, and reach the line.
# fmt: off
_UNIT = (
    "publisher", "subscriber", "handles", "doom", "removal", "operations", "limits", "costs", "space", "map", "files",
    "naming", "format", "translate", "control",
)
_PROCESSES = (
    "waking", "sharing", "stuck_writer", "leases", "fork", "roster", "work", "takeover_log", "traces", "opening",
    "growth",
)
# fmt: on
_NEAR = (
    "tests/model/test_stateful.py::test_the_engines_agree",
    *(f"tests/unit/test_{name}.py" for name in _UNIT),
    "tests/contract",
)
#: Tried by real processes, as far as these survive; which of them reach a line is not known.
_FAR = tuple(f"tests/process/test_{name}.py" for name in _PROCESSES)
#: The contract holds for other engines, too; costs are counted over many thousand messages.
_FILTER = "not jetstream and not memory"
_EXAMPLES, _SEED = 30, 1
_OPTIONS = ["-q", "-k", _FILTER, "-p", "no:cacheprovider", "-p", "no:cov", "-p", "no:xdist", "-p", "no:benchmark"]
#: Seconds in which tests of processes have to end, and the least.
_PATIENCE, _MORE = 3, 120.0
#: Lines that are shown of tests that fail on the original.
_LAST = 30


@dataclasses.dataclass
class Mutant:
    """A change, and what became of it."""

    module: str
    number: int
    line: int
    fate: str
    #: The test that noticed it, and its last words.
    by: str
    why: str
    diff: list[str]
    seconds: float
    #: How many tests reach it.
    tests: int


class Copy:
    """A copy of the sources, in which one module at a time is changed."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Copy them."""
        self.path = folder / "sources"
        shutil.copytree(
            REPOSITORY, self.path, ignore=shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info")
        )
        self.queues = folder / "queues"
        self.transcript = folder / "transcript"
        self.environment = {"PERSIPUBSUB_EXAMPLES": str(_EXAMPLES), "PERSIPUBSUB_SEED": str(_SEED), **os.environ}
        self.environment |= {"PYTHONPATH": str(self.path), "ICONTRACT_SLOW": "true"}

    def run(self, arguments: Sequence[str], bound: float | None) -> int | None:
        """Run pytest in the copy, in an interpreter of its own; return its status, None if it hangs."""
        command = [sys.executable, "-m", "pytest", *_OPTIONS, "--basetemp", str(self.queues), *arguments]
        with (
            open(self.transcript, "wb") as log,
            subprocess.Popen(
                command, cwd=self.path, env=self.environment, stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                return process.wait(bound)
            except subprocess.TimeoutExpired:
                return None
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def reach(self, tests: Sequence[str], path: pathlib.Path) -> Reach:
        """Run the tests on what is not changed, and note what they reach.

        :raise RuntimeError: none was run
        """
        plugin = ["-p", "tests.mutants.reach", "--reach", str(path), "--reach-of", str(self.path / CORE)]
        self.run([*plugin, *tests], None)
        if not path.exists():
            last = self.transcript.read_text(errors="replace").splitlines()[-_LAST:]
            raise RuntimeError("\n".join(["The tests do not run on the sources as they are:", *last]))
        return Reach.read(path)

    def last_words(self) -> tuple[str, str]:
        """Return which test failed first, and how."""
        for line in self.transcript.read_text(errors="replace").splitlines():
            if line.startswith(("FAILED ", "ERROR ")):
                name, _, why = line.partition(" ")[2].partition(" - ")
                return name, why
        return "", "it ends by itself"


class Trials:
    """Tries one mutant after another."""

    def __init__(self, sources: Copy, near: Reach, far: Reach, tests: Sequence[str], bound: float) -> None:
        """Start the pytest that has collected the tests; spend ``bound`` seconds on a half of those for one mutant."""
        self._sources = sources
        self._near, self._far = near, far
        self._bound = bound
        #: Tests that noticed a change, and pass without one.
        self._sound: set[str] = set()
        queues = ["--basetemp", str(sources.queues.with_name("warm-queues"))]
        self._warm = Warm(sources.path, sources.environment, [*_OPTIONS, *queues, *tests])
        # What was compiled is read by all that follow; they write nothing, for a changed module must not stay.
        sources.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def end(self) -> None:
        """End it."""
        self._warm.end()

    def try_mutant(self, name: str, number: int) -> Mutant:
        """Change one place, run the tests that reach it, then those of processes, and change it back."""
        module = self._sources.path / CORE / f"{name}.py"
        source = module.read_text()
        tree, line = changes.mutate(source, number)
        changed = ast.unparse(tree)
        began = time.monotonic()
        for compiled in module.parent.glob(f"__pycache__/{name}.*"):
            compiled.unlink()
        near = self._near.tests(name, lines_of(source, line))
        answer = Answer(SURVIVED)
        far = self._far.tests(name, lines_of(source, line))
        far += [test for test in self._far.all() if test not in far]
        for reach, tests in ((self._near, near), (self._far, far)):
            while answer.fate == SURVIVED:
                module.write_text(changed)
                try:
                    answer = self._try(module, source, tree, reach.first(tests, self._bound))
                finally:
                    module.write_text(source)
                if not answer.by or self._is_sound(module, source, reach, answer.by):
                    break
                tests.remove(answer.by)
                answer = Answer(SURVIVED)
        told = list(changes.difference(source, changed))
        took = round(time.monotonic() - began, 2)
        return Mutant(name, number, line, answer.fate, answer.by, answer.why, told, took, len(near))

    def _try(self, module: pathlib.Path, source: str, tree: ast.Module, tests: dict[str, float]) -> Answer:
        if not tests:
            return Answer(SURVIVED)
        answer = self._warm.ask(module, source, tree, tests)
        if answer.patched:
            return answer
        code = self._sources.run(["-x", "--timeout", "120", *tests], _PATIENCE * sum(tests.values()) + _MORE)
        if code is None:
            return Answer(HUNG, why="it hangs")
        return Answer(KILLED, *self._sources.last_words()) if code else Answer(SURVIVED)

    def _is_sound(self, module: pathlib.Path, source: str, reach: Reach, test: str) -> bool:
        """Tell whether a test passes on what is not changed: another notices nothing."""
        if test not in self._sound and test in reach.seconds:
            if self._warm.ask(module, source, None, {test: reach.seconds[test]}).fate != SURVIVED:
                print(f"fails without a change, and is left out: {test}", flush=True)
                return False
            self._sound.add(test)
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants and show the survivors; return 0, for a survivor is to be judged by a reader."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--modules", nargs="+", default=MODULES, metavar="NAME", help="of the local engine")
    parser.add_argument("--seed", type=int, default=1, help="the same seed tries the same (%(default)d)")
    parser.add_argument("--number", type=int, default=50, help="how many of all mutants (%(default)d)")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME:NUMBER", help="these mutants, no others")
    parser.add_argument("--tests", nargs="+", default=_NEAR, help="what runs in one process (%(default)s)")
    parser.add_argument("--far", nargs="*", default=_FAR, help="what starts processes, for survivors (%(default)s)")
    parser.add_argument("--bound", type=float, default=float("inf"), help="seconds of either, for one mutant")
    parser.add_argument("--reach", type=pathlib.Path, help="keep what the tests reach in this folder, and use it again")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to this file")
    parser.add_argument("--folder", type=pathlib.Path, help="where the copy is made: best in memory")
    given = parser.parse_args(arguments)
    chosen, possible = choose(given.modules, given.seed, given.number)
    if given.only:
        chosen = [(name, int(number)) for name, _, number in (one.partition(":") for one in given.only)]
    print(f"seed {given.seed}: {len(chosen)} of {possible} mutants of {', '.join(given.modules)}", flush=True)
    mutants: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=given.folder, ignore_cleanup_errors=True) as name:
        sources = Copy(pathlib.Path(name))
        kept = given.reach or pathlib.Path(name)
        near = reached(sources, given.tests, kept / "near.json")
        far = reached(sources, given.far, kept / "far.json")
        trials = Trials(sources, near, far, [*given.tests, *given.far], given.bound)
        try:
            for module, number in chosen:
                mutant = trials.try_mutant(module, number)
                mutants.append(mutant)
                show(mutant)
                if given.json is not None:
                    write(given.json, given.seed, possible, mutants)
        finally:
            trials.end()
    fates = collections.Counter(mutant.fate for mutant in mutants)
    noticed = fates[KILLED] + fates[HUNG]
    print(
        f"{noticed} of {len(mutants)} noticed ({noticed / max(1, len(mutants)):.0%}), {fates[HUNG]} of them by the "
        f"bound of a test; {fates[SURVIVED]} survived"
    )
    return 0


def choose(modules: Sequence[str], seed: int, number: int) -> tuple[list[tuple[str, int]], int]:
    """Return a sample of all mutants and how many there are; the first of them are a sample, too."""
    possible = [
        (name, nth) for name in modules for nth in range(changes.count((REPOSITORY / CORE / f"{name}.py").read_text()))
    ]
    return random.Random(seed).sample(possible, min(number, len(possible))), len(possible)


def reached(sources: Copy, tests: Sequence[str], path: pathlib.Path) -> Reach:
    """Find out what tests reach, unless it was kept; tell what fails on the original, and so notices nothing."""
    if not tests:
        return Reach({}, {}, [])
    began = time.monotonic()
    found = Reach.read(path) if path.exists() else sources.reach(tests, path)
    print(f"the original: {len(found.seconds)} tests, {time.monotonic() - began:.0f} s", flush=True)
    for name in found.failed:
        print(f"    fails on the sources as they are, and is left out: {name}", flush=True)
    return found


def show(mutant: Mutant) -> None:
    """Print what became of a mutant."""
    noticed = f"; {mutant.by}: {mutant.why}" if mutant.fate != SURVIVED else ""
    place = f"{mutant.module}:{mutant.line} ({mutant.number})"
    print(f"{mutant.fate}: {place}, {mutant.tests} tests, {mutant.seconds:.1f} s{noticed}", flush=True)
    if mutant.fate == SURVIVED:
        print("\n".join(f"    {line}" for line in mutant.diff), flush=True)


def write(path: pathlib.Path, seed: int, possible: int, mutants: list[Mutant]) -> None:
    """Write all that is known so far."""
    report = {"seed": seed, "possible": possible, "mutants": list(map(dataclasses.asdict, mutants))}
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
