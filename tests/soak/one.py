"""Run one row in this process: ``python -m tests.soak.one ROW SEED SECONDS FOLDER RESULT``; the result is JSON."""

import dataclasses
import json
import pathlib
import sys

from tests.soak.registry import rows


def main() -> None:
    """Run the row that the command line names."""
    name, seed, seconds, folder, result = sys.argv[1:]
    outcome = rows()[name].run(int(seed), float(seconds), pathlib.Path(folder))
    pathlib.Path(result).write_text(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main()
