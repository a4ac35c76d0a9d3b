"""The files that are streamed: where they are, and what they were before anybody touched them."""

import hashlib
import json
import os
import pathlib
import stat
import sysconfig
from collections.abc import Iterator

import msgspec

from persipubsub.errors import PersipubsubError

#: Folders of the standard library that hold other people's code, or no sources.
_NOT_STANDARD = ("site-packages", "dist-packages", "__pycache__")


class Original(msgspec.Struct, frozen=True):
    """A file before it was sent; ``path`` is relative to the folder."""

    path: str
    size: int
    sha256: str


class NothingToSendError(PersipubsubError):
    """The folder has no files, or one that cannot be read."""


def standard_library() -> pathlib.Path:
    """Return the folder of the Python standard library's own sources."""
    return pathlib.Path(sysconfig.get_path("stdlib"))


def collect(folder: pathlib.Path | None) -> tuple[pathlib.Path, list[Original]]:
    """Return the folder and what is in every regular file below it, in the order of the paths.

    ``None`` stands for the ``*.py`` files of the standard library. Symbolic links are not followed.

    :raise NothingToSendError: there is no such folder, no file in it, or a file cannot be read
    """
    root = standard_library() if folder is None else folder
    if not root.is_dir():
        raise NothingToSendError(f"{root} is not a folder; give a folder with files.")
    originals = []
    try:
        for path in sorted(_walk(root, standard=folder is None)):
            data = read(root, path)
            originals.append(Original(path, len(data), hashlib.sha256(data).hexdigest()))
    except OSError as error:
        raise NothingToSendError(f"{error.filename} cannot be read: {error.strerror}; choose another folder.") from None
    if not originals:
        raise NothingToSendError(f"There are no files in {root}; give a folder with files.")
    return root, originals


def _walk(root: pathlib.Path, *, standard: bool) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        if standard:
            subfolders[:] = [name for name in subfolders if name not in _NOT_STANDARD]
        for name in names:
            path = os.path.join(folder, name)
            if (name.endswith(".py") or not standard) and stat.S_ISREG(os.lstat(path).st_mode):
                yield os.path.relpath(path, root)


def read(root: pathlib.Path, path: str) -> bytes:
    """Return the bytes of a file."""
    return (root / path).read_bytes()


def write_manifest(file: pathlib.Path, originals: list[Original]) -> None:
    """Write down the originals for the publishers."""
    # json and not msgspec: the name of a file may be no Unicode text, and json keeps what os.fsdecode made of it.
    file.write_text(json.dumps([msgspec.structs.astuple(original) for original in originals]), encoding="ascii")


def read_manifest(file: pathlib.Path) -> list[Original]:
    """Return what :func:`write_manifest` wrote."""
    return [Original(*row) for row in json.loads(file.read_text(encoding="ascii"))]
