"""Run the rows and print the scorecard."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from tests.soak import machine
from tests.soak.protocol import Outcome, Row
from tests.soak.registry import rows

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
#: Seconds that a row may take beyond its budget, for what it has to bring to an end; then it counts as hung.
GRACE = 180.0
#: Runs one row.
COMMAND = [sys.executable, "-m", "tests.soak.one"]
_MOST_SHOWN = 10


def run_row(row: Row, seed: int, seconds: float, folder: pathlib.Path, grace: float = GRACE) -> Outcome:
    """Run a row in a session of its own; what ends it from outside is a finding."""
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"{row.id}-", dir=folder))
    result, transcript = folder / f"{work.name}.json", folder / f"{work.name}.log"
    command = [*COMMAND, row.id, str(seed), str(seconds), str(work), str(result)]
    with open(transcript, "wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(seconds + grace)
            ended = f"the row ended with {code}"
        except subprocess.TimeoutExpired:
            ended = f"the row hung: it was not over {grace:g} s after its time"
        finally:
            # Its processes, if it left any: it is the leader of their group.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    if result.exists():
        return Outcome(**json.loads(result.read_text()))
    # One finding less: what is shown has to end with the error.
    last = transcript.read_text(errors="replace").strip().splitlines()[1 - _MOST_SHOWN :]
    return Outcome(0, [ended, *last])


def report(row: Row, outcome: Outcome, took: float) -> dict[str, Any]:
    """Return what the JSON file says of a row."""
    return {
        "id": row.id,
        "meaning": row.meaning,
        "target": row.target,
        "durability": row.durability,
        "aim": row.aim,
        "reached": outcome.trials >= row.aim,
        "stands": outcome.stands,
        "bound": outcome.bound,
        "seconds": round(took, 1),
        **dataclasses.asdict(outcome),
    }


def lines(row: Row, outcome: Outcome, took: float) -> list[str]:
    """Return what the scorecard says of a row."""
    figures = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in outcome.figures.items()
    )
    shown = [
        f"{'stands' if outcome.stands else 'FAILED':<7} {row.id}: {row.meaning}",
        f"        target: {row.target}",
        f"        durability: {row.durability}; {took:.0f} s",
    ]
    if outcome.bound is not None:
        shown.append(f"        0 failures in {outcome.trials}: below {outcome.bound:.3%} each, at 95 % confidence")
    else:
        shown.append(f"        {len(outcome.findings)} findings in {outcome.trials} trials")
    if row.aim:
        far = "reached" if outcome.trials >= row.aim else f"{outcome.trials / row.aim:.0%} of it"
        shown.append(f"        aim before a release: {row.aim} trials; {far}")
    if figures:
        shown.append(f"        {figures}")
    shown.extend(f"        ! {finding}" for finding in outcome.findings[:_MOST_SHOWN])
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows; return the exit status."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes, altogether (%(default)g)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed tries the same (random, and printed)")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to this file")
    parser.add_argument("--rows", nargs="+", choices=known, metavar="ROW", help="only these rows")
    parser.add_argument("--folder", type=pathlib.Path, help="where the queues are made: their filesystem is tried")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    given = parser.parse_args(arguments)
    chosen = [known[name] for name in given.rows or known]
    if given.list:
        for row in chosen:
            print(f"{row.id}: {row.meaning}")
        return 0
    seed = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    shares = sum(row.share for row in chosen)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=given.folder, ignore_cleanup_errors=True) as name:
        where = machine.describe(pathlib.Path(name))
        print(f"seed {seed}, {given.minutes:g} minutes")
        print("\n".join(f"{key}: {value}" for key, value in where.items()), flush=True)
        reports = []
        for row in chosen:
            began = time.monotonic()
            outcome = run_row(row, seed, given.minutes * 60 * row.share / shares, pathlib.Path(name))
            took = time.monotonic() - began
            reports.append(report(row, outcome, took))
            print("\n".join(lines(row, outcome, took)), flush=True)
    failed = [one["id"] for one in reports if not one["stands"]]
    if given.json is not None:
        given.json.write_text(
            json.dumps({"seed": seed, "minutes": given.minutes, "machine": where, "rows": reports}, indent=2) + "\n"
        )
    print(
        f"{len(reports) - len(failed)} of {len(reports)} rows stand" + (f"; not: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
