#!/usr/bin/env python3
"""Run every check that a change must pass; exit with 0 only if all of them do.

The tests come last, and pytest's summary is the last line of the output.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = "persipubsub"


#: Where every line and branch is to be tested; what only a fork or a race comes by is left to the last percent.
CORE = "persipubsub/engine/local/*,persipubsub/delivery/*"
CORE_FLOOR = 99

#: Processes that share the tests out among themselves: more of them than this wait for each other, and for the disk.
MOST_WORKERS = 4


def run(*arguments: str | Path, output: list[str] | None = None) -> bool:
    """Run Python with ``arguments``, show what it prints (and add it to ``output``); return whether it succeeded."""
    # Contracts on hot paths are checked only with ICONTRACT_SLOW; the tests are to see them.
    environment = {**os.environ, "ICONTRACT_SLOW": "true", "PYTHONUNBUFFERED": "1"}
    # The tests start thousands of processes, each of which would compile all that it imports.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if output is not None:
                output.append(line.rstrip())
    return process.returncode == 0


def check_format(overwrite: bool) -> bool:
    """Check that every Python file is formatted, or format them all."""
    return run("-m", "ruff", "format", *([] if overwrite else ["--diff"]), ".")


def check_lint(overwrite: bool) -> bool:
    """Lint every Python file; mend what can be mended safely when asked to."""
    return run("-m", "ruff", "check", *(["--fix"] if overwrite else []), ".")


def check_types() -> bool:
    """Check the types strictly."""
    return run("-m", "mypy", "--strict")


def check_contracts() -> bool | None:
    """Lint the contracts, where the linter runs."""
    if sys.version_info >= (3, 12):
        print("pyicontract-lint cannot read the standard library of Python 3.12 and later; Python 3.11 runs this step.")
        return None
    return run("-c", "import sys, icontract_lint.main; sys.exit(icontract_lint.main.main())", PACKAGE)


def check_package() -> bool:
    """Build the source distribution and from it the wheel; check that both are whole and the README renders."""
    with tempfile.TemporaryDirectory() as folder:
        if not run("-m", "build", "--no-isolation", "--outdir", folder):
            return False
        built = sorted(Path(folder).iterdir())
        wheel = next(path for path in built if path.suffix == ".whl")
        with zipfile.ZipFile(wheel) as archive:
            packed = set(archive.namelist())
        sources = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and path.suffix != ".pyc")
        missing = {path.relative_to(ROOT).as_posix() for path in sources} - packed
        if missing:
            print(f"The wheel lacks {', '.join(sorted(missing))}; see package_data in setup.py and MANIFEST.in.")
        return run("-m", "twine", "check", "--strict", *built) and not missing


def check_doctests() -> bool:
    """Run the examples of the docstrings and of the README."""
    return run("-m", "pytest", "-q", "--doctest-modules", "--doctest-glob=*.rst", PACKAGE, "README.rst")


def check_docs() -> bool:
    """Build the documentation; a warning, such as a reference to what does not exist, fails it."""
    with tempfile.TemporaryDirectory() as folder:
        return run(
            "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-E", "-b", "html", "-d", f"{folder}/read", "docs", folder
        )


def workers() -> int:
    """Return in how many processes the tests run: one for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def check_tests(closing: list[str]) -> bool:
    """Run the tests in several processes under branch coverage; put pytest's summary into ``closing``."""
    run("-m", "coverage", "erase")
    output: list[str] = []
    # Neighbours stay in one process, so that they share servers; who is done early takes over from the other's end.
    shared_out = ("-n", str(workers()), "--dist", "worksteal")
    passed = run("-m", "coverage", "run", "-m", "pytest", *shared_out, output=output)
    closing.extend([line for line in output if re.search(r"\bin \d+\.\d+s\b", line)][-1:])
    # The floor of the whole stands in pyproject.toml. A long table would hide which tests failed, and why.
    print(
        "coverage in %, of all and of the core; `python -m coverage report` shows the lines that are missing:",
        flush=True,
    )
    report = ("-m", "coverage", "report", "--format=total")
    covered = run("-m", "coverage", "combine", "--quiet") and run(*report)
    covered = covered and run(*report, f"--include={CORE}", f"--fail-under={CORE_FLOOR}")
    return passed and covered


def main() -> int:
    """Run the chosen steps; return the exit status."""
    arguments = argparse.Namespace()
    closing: list[str] = []
    steps: dict[str, Callable[[], bool | None]] = {
        "format": lambda: check_format(arguments.overwrite),
        "lint": lambda: check_lint(arguments.overwrite),
        "types": check_types,
        "contracts": check_contracts,
        "package": check_package,
        "doctests": check_doctests,
        "docs": check_docs,
        "tests": lambda: check_tests(closing),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overwrite", action="store_true", help="format the files, and mend what the linter can")
    parser.add_argument(
        "--only", nargs="+", choices=steps, metavar="STEP", help=f"run only these of: {', '.join(steps)}"
    )
    parser.add_argument("--skip", nargs="+", choices=steps, metavar="STEP", default=[], help="leave these out")
    parser.parse_args(namespace=arguments)

    outcomes: dict[str, str] = {}
    failed = False
    for name, step in steps.items():
        if name in arguments.skip or (arguments.only and name not in arguments.only):
            continue
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        good = step()
        failed = failed or good is False
        outcome = {True: "ok", False: "FAILED", None: "left out"}[good]
        outcomes[name] = f"{outcome:<8} {time.monotonic() - start:6.1f} s"
    print("---")
    for name, outcome in outcomes.items():
        print(f"{name:<10} {outcome}")
    print("\n".join(closing), end="\n" if closing else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
