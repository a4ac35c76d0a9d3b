"""An interrupt at any moment acknowledges nothing that was not handled, and leaves nothing locked or held."""

import pathlib
import random

import pytest

from persipubsub import Durability, Environment
from persipubsub.delivery import iteration
from tests.crash import planted
from tests.crash.interrupts import ACTS, Bench
from tests.process.support import Children

#: So many moments of each operation are tried here; the long run tries them all.
_SAMPLE = 45


@pytest.mark.parametrize("act", ACTS)
def test_interrupts(tmp_path: pathlib.Path, children: Children, act: str) -> None:
    bench = Bench(tmp_path / "queue", children.new("forkserver"), Durability.PROCESS)
    count = bench.count(act)
    assert count > 50
    moments = random.Random(act).sample(range(1, count + 1), _SAMPLE)
    # The moments differ a little from one time to the next: the last ones may not come.
    reached = 0
    for nth in moments:
        came, findings = bench.trial(act, nth)
        reached += came
        assert findings == []
    assert reached > _SAMPLE // 2
    bench.close()


def test_bench_finds(tmp_path: pathlib.Path, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant_for(monkeypatch, "acknowledge on exception")
    bench = Bench(tmp_path / "queue", children.new("forkserver"), Durability.PROCESS, patience=6.0)
    moments = range(bench.count("receive"), 0, -20)
    assert any(bench.trial("receive", nth)[1] for nth in moments)
    bench.close()


def test_an_interrupt_after_looking_at_the_clock(queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loop has handed over belongs to it until its acknowledgement is noted."""

    class Clock:
        @staticmethod
        def monotonic() -> float:
            raise KeyboardInterrupt

    with Environment(queue_path) as env:
        control = env.new_control({"sub"}, durability=Durability.PROCESS)
        env.new_publisher().send(b"message")
        loop = env.new_subscriber("sub").messages(timeout=0)
        next(loop)
        with monkeypatch.context() as patch:
            patch.setattr(iteration, "time", Clock)
            with pytest.raises(KeyboardInterrupt):
                next(loop)
        loop.close()
        (figures,) = control.statistics().subscribers
        assert (figures.leased, figures.lag) == (0, 1)
