"""What judges promised times forgives a busy machine, and nothing else."""

import itertools

import pytest

from tests.process.support import TRIES, eventually, in_time, patiently, wait_until


def test_in_time() -> None:
    took = iter([3.0, 2.0, 0.5])
    in_time(lambda: next(took), 1.0, "it is done")
    assert list(took) == []
    late = itertools.repeat(1.0, TRIES)
    with pytest.raises(AssertionError, match=r"not within 1 s: it is done: 1\.00, 1\.00"):
        in_time(lambda: next(late), 1.0, "it is done")
    assert list(late) == []


def test_patiently() -> None:
    factors: list[float] = []

    def act(factor: float) -> None:
        factors.append(factor)
        assert factor > 1

    patiently(act)
    assert factors == [1.0, 5.0]

    def fail(factor: float) -> None:
        raise AssertionError(f"with {factor:g}, too")

    with pytest.raises(AssertionError, match="with 25, too"):
        patiently(fail)


def test_eventually() -> None:
    looks = itertools.count()
    assert eventually(lambda: next(looks) == 3)
    assert not eventually(lambda: False, 0.01)
    # However late it is, one looks.
    assert eventually(lambda: next(looks) == 4, 0)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: never"):
        wait_until(lambda: False, "never", 0.01)
