"""Paths that keep their meaning: after chdir, in a spawned child, and behind symbolic links."""

import os
import pathlib


def absolute(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return the absolute path; ``..`` behind a symbolic link leads where the operating system would go.

    What stands behind the last ``..`` is kept as it is given, links too. Waits for nothing, changes nothing.
    """
    given = pathlib.Path(path)
    tail: list[str] = []
    while ".." in given.parts and given.name != "..":
        tail.insert(0, given.name)
        given = given.parent
    if given.name == "..":
        try:
            given = pathlib.Path(os.path.realpath(given))
        except (OSError, ValueError):
            pass  # whoever opens it says what is wrong
    return pathlib.Path(os.path.abspath(given), *tail)
