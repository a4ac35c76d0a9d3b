"""Finds the rows: the list ``ROWS`` of every module ``tests/*/soak_rows.py``."""

import importlib
import pathlib

from tests.soak.protocol import Row

_TESTS = pathlib.Path(__file__).parent.parent
PACKAGE = "tests."


def rows() -> dict[str, Row]:
    """Return all rows by their ids.

    :raise ValueError: two have the same id
    """
    found: dict[str, Row] = {}
    for path in sorted(_TESTS.glob("*/soak_rows.py")):
        for row in importlib.import_module(f"{PACKAGE}{path.parent.name}.soak_rows").ROWS:
            if row.id in found:
                raise ValueError(f"Two rows are called {row.id!r}; one is in {path}.")
            found[row.id] = row
    return found
