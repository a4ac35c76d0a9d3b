"""Fixtures that every test may use."""

from pathlib import Path

import pytest


@pytest.fixture
def queue_path(tmp_path: Path) -> Path:
    """Return where a queue may be deployed; nothing is there yet."""
    return tmp_path / "queue"
