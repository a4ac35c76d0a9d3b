"""Fixtures that every test may use."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to find one, says nothing on a busy machine.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is to run in the background like this, and all that the tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def queue_path(tmp_path: Path) -> Path:
    """Return where a queue may be deployed; nothing is there yet."""
    return tmp_path / "queue"
