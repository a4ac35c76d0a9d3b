"""An interrupt at any moment acknowledges nothing that was not handled, and leaves nothing locked or held."""

import pathlib
import random

import pytest

from persipubsub import Durability
from tests.crash import failpoints, planted
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
    where, wrap = planted.PLANTED["acknowledge on exception"]
    owner, name = failpoints.find(where)
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    bench = Bench(tmp_path / "queue", children.new("forkserver"), Durability.PROCESS)
    moments = range(bench.count("receive"), 0, -20)
    assert any(bench.trial("receive", nth)[1] for nth in moments)
    bench.close()
