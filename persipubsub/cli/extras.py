"""Commands whose extra is not installed."""

import contextlib
from collections.abc import Iterator

from persipubsub.errors import PersipubsubError


@contextlib.contextmanager
def needing(extra: str, *modules: str) -> Iterator[None]:
    """Say how to install what an import inside the block does not find.

    :raise PersipubsubError: one of ``modules`` is not installed
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in modules:
            raise
        raise PersipubsubError(
            f"This command needs {error.name}; install it with: pip install 'persipubsub[{extra}]'"
        ) from error
