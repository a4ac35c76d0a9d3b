"""The queue that each test gets, once for each engine."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import Environment

_NUMBERS = itertools.count()


@pytest.fixture(params=["memory", "local"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return where a queue with the subscribers "a" and "b" is; at the end it must be sound and nothing leased."""
    where = f"memory:aio-{next(_NUMBERS)}" if request.param == "memory" else str(tmp_path / "queue")
    with Environment(where) as observer:
        control = observer.new_control({"a", "b"})
        yield where
        assert control.check() == []
        assert {figures.leased for figures in control.statistics().subscribers} <= {0}
