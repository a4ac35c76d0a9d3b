"""The LMDB engine against the memory engine: whatever is done to both, they answer alike."""

import logging
import os

import pytest

from tests.crash import planted
from tests.model import twins


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # The fixture gives the level back: the tests that follow look at what is logged.
    caplog.set_level(logging.CRITICAL, "persipubsub")


@pytest.mark.timeout(600)
def test_the_engines_agree() -> None:
    """Look for a difference."""
    wanted = int(os.environ.get("PERSIPUBSUB_EXAMPLES", "100"))
    seed = os.environ.get("PERSIPUBSUB_SEED")
    explored = twins.explore(wanted, None if seed is None else int(seed))
    assert explored.examples >= wanted
    assert explored.steps > explored.examples
    # Where next to nothing is delivered, next to nothing is compared.
    assert explored.deliveries > explored.examples


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant_for(monkeypatch, "newest first")
    with pytest.raises(AssertionError):
        twins.explore(30, seed=3)
