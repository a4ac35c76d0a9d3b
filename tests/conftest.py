"""Fixtures that every test may use."""

import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is to run in the background like this, and all that the tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def queue_path(tmp_path: Path) -> Path:
    """Return where a queue may be deployed; nothing is there yet."""
    return tmp_path / "queue"
