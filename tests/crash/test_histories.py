"""What threads and processes see, acting at once, a queue that does one thing after another could have shown."""

import pathlib

import pytest

from persipubsub import Durability
from tests.crash import histories, linear
from tests.process import support
from tests.process.support import Children

#: Histories in one of which a planted bug must show.
MOST = 20


@pytest.mark.parametrize("durability", list(Durability))
def test_histories_are_linearizable(tmp_path: pathlib.Path, durability: Durability) -> None:
    children = Children()
    try:
        crowd = [children.new("forkserver") for _ in range(3)]
        for seed in range(3):
            path = tmp_path / str(seed)
            histories.deploy(path, durability)
            history = histories.record(crowd, path, seed, 60)
            kinds = {operation.kind for operation in history}
            assert kinds == {linear.SEND, linear.TAKE, linear.ACK, linear.NACK, linear.SETTLE}
            assert linear.explain(history) is None
            for child in crowd:
                child.do(histories.close)
            support.assert_sound(path)
    finally:
        children.end()


@pytest.mark.parametrize("bug", ["the living taken for dead", "newest first", "acknowledgements forgotten"])
def test_checker_finds(tmp_path: pathlib.Path, bug: str) -> None:
    children = Children()
    try:
        # Where they take turns by chance, nothing shows; so they get more chances.
        for seed in range(MOST):
            crowd = [children.new("forkserver") for _ in range(2)]
            path = tmp_path / str(seed)
            histories.deploy(path, Durability.PROCESS)
            if linear.explain(histories.record(crowd, path, seed, 120, [bug])) is not None:
                return
        pytest.fail(f"no history of {MOST} shows the bug")
    finally:
        children.end()
