"""The command line: ``python -m benchmarks --help``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import compare, pages, report, systems, workloads
from benchmarks.errors import BenchmarkError
from benchmarks.results import Results
from benchmarks.runner import contestants, run
from benchmarks.workloads.base import Size


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"systems: {', '.join(systems.SYSTEMS)}; workloads: {', '.join(workloads.WORKLOADS)}",
    )
    made.add_argument(
        "--systems",
        nargs="+",
        default=[],
        metavar="SYSTEM",
        help="names, beginnings of names, or ours, floors, peers, references, all; all, if left out",
    )
    made.add_argument("--workloads", nargs="+", default=[], metavar="WORKLOAD", help="all, if left out")
    made.add_argument("--rounds", type=int, metavar="N", help="how often; 5, or 1 with --quick")
    made.add_argument(
        "--quick",
        action="store_true",
        help="a look of a minute: short measurements, and of what is left out only the most telling",
    )
    made.add_argument("--folder", type=Path, help="where queues are kept: on the disk that is to be measured")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    made.add_argument(
        "--from-json",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="measure nothing, report on these figures; those of a later file stand in place of those of an earlier",
    )
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the page there")
    made.add_argument("--plots", type=Path, metavar="FOLDER", help="draw plots there")
    made.add_argument(
        "--docs",
        action="store_true",
        help="write the figures wherever the documentation of this tree shows any: docs/benchmarks.json and .md, "
        "docs/plots, docs/_figures, README.rst",
    )
    made.add_argument("--compare", nargs=2, metavar=("REV_A", "REV_B"), help="measure two revisions side by side")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args(words)
    try:
        if arguments.compare:
            return _compare(arguments)
        results = _results(arguments)
        if arguments.json:
            arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
        print(report.text(results))
        plots = _plots(results, arguments) if arguments.plots else {}
        if arguments.markdown:
            arguments.markdown.write_text(report.markdown(results, plots), encoding="utf-8")
        if arguments.docs:
            pages.write(results)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 1 if results.failures else 0


def _results(arguments: argparse.Namespace) -> Results:
    if arguments.from_json:
        results, *longer = [msgspec.json.decode(path.read_bytes(), type=Results) for path in arguments.from_json]
        for other in longer:
            results.replace(other)
        return results
    return run(
        contestants(systems.choose(arguments.systems or (systems.QUICK if arguments.quick else ["all"]))),
        _workloads(arguments),
        _rounds(arguments),
        _size(arguments),
        arguments.folder,
        say,
    )


def _compare(arguments: argparse.Namespace) -> int:
    with compare.revisions(arguments.compare) as sources:
        field = compare.contestants(
            systems.choose(arguments.systems or [f"ours-{name}" for name in systems.DURABILITIES]), sources
        )
        results = run(field, _workloads(arguments), _rounds(arguments), _size(arguments), arguments.folder, say)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(compare.text(results, *arguments.compare))
    return 1 if results.failures else 0


def _workloads(arguments: argparse.Namespace) -> list[workloads.Workload]:
    return workloads.choose(arguments.workloads or (workloads.QUICK if arguments.quick else workloads.WORKLOADS))


def _rounds(arguments: argparse.Namespace) -> int:
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    if rounds < 1:
        raise BenchmarkError(f"--rounds has to be 1 or more, but is {rounds}.")
    return int(rounds)


def _size(arguments: argparse.Namespace) -> Size:
    return Size.QUICK if arguments.quick else Size.FULL


def _plots(results: Results, arguments: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Draw the plots; return their paths as the page names them."""
    try:
        from benchmarks import plots
    except ImportError as error:  # pragma: no cover
        raise BenchmarkError(f"{error}; pip install 'persipubsub[bench]'") from error
    home = arguments.markdown.resolve().parent if arguments.markdown else Path.cwd()
    drawn = plots.draw(results, arguments.plots)
    return {
        name: (os.path.relpath(light.resolve(), home), os.path.relpath(dark.resolve(), home))
        for name, (light, dark) in drawn.items()
    }


def say(line: str) -> None:
    """Tell somebody who watches what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
